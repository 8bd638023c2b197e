//! The auth hook that the flags about tokens describe.

use std::error::Error;
use std::path::{Path, PathBuf};

use tower_chat_rooms::{JwtAlgorithm, JwtAuth, JwtKeys};

use crate::tokens::Tokens;

/// Creates the hook. If its keys come from a key set, they are read again on every SIGHUP.
pub(crate) fn auth(flags: &Tokens) -> Result<JwtAuth, Box<dyn Error + Send + Sync>> {
    let in_file = |path: &Path| {
        let path = path.display().to_string();
        move |e| format!("{path}: {e}")
    };
    let mut auth = if let Some(secret) = &flags.jwt_secret {
        JwtAuth::hs256(secret).map_err(|e| format!("--jwt-secret: {e}"))?
    } else if let (Some(path), Some(algorithm)) = (&flags.jwt_public_key, &flags.jwt_algorithm) {
        let algorithm: JwtAlgorithm = algorithm.parse().map_err(|e| format!("--jwt-algorithm: {e}"))?;
        JwtAuth::from_pem(algorithm, read(path)?).map_err(in_file(path))?
    } else if let Some(path) = &flags.jwt_jwks {
        let keys = JwtKeys::parse(read(path)?).map_err(in_file(path))?;
        tokio::spawn(watch(path.clone(), keys.clone()));
        JwtAuth::from_keys(keys)
    } else {
        return Err("--jwt-public-key needs --jwt-algorithm".into());
    };
    auth = auth.with_query("token");
    if let Some(issuer) = &flags.jwt_issuer {
        auth = auth.with_issuer(issuer);
    }
    if let Some(audience) = &flags.jwt_audience {
        auth = auth.with_audience(audience);
    }
    Ok(auth)
}

/// Reads the key set again on every SIGHUP.
#[cfg(unix)]
async fn watch(path: PathBuf, keys: JwtKeys) -> std::io::Result<()> {
    let mut hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    while hangups.recv().await.is_some() {
        match read(&path).and_then(|json| Ok(keys.replace(json)?)) {
            Ok(()) => tracing::info!(keys = ?keys.ids(), "the keys were read again"),
            Err(error) => tracing::error!(%error, "the keys could not be read; the old ones stay in use"),
        }
    }
    Ok(())
}

/// There is no SIGHUP here.
#[cfg(not(unix))]
async fn watch(_: PathBuf, _: JwtKeys) {}

fn read(path: &Path) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    std::fs::read(path).map_err(|e| format!("can't read {}: {e}", path.display()).into())
}

//! The flags about tokens, and the auth hook that they describe.

use std::error::Error;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tower_chat_rooms::{JwtAlgorithm, JwtAuth, JwtKeys, OnExpiry};

/// Which tokens are taken. Without a key everybody is let in.
#[derive(Debug, Args)]
pub(crate) struct Tokens {
    /// Require JSON Web Tokens signed with this secret by HS256 (at least 32 bytes)
    #[arg(long, env = "CHAT_JWT_SECRET", hide_env_values = true, group = "key")]
    jwt_secret: Option<String>,

    /// Require JSON Web Tokens signed with the key of this public one, a PEM file
    #[arg(long, env = "CHAT_JWT_PUBLIC_KEY", value_name = "FILE", group = "key", requires = "jwt_algorithm")]
    jwt_public_key: Option<PathBuf>,

    /// The public key's algorithm: RS256, ..., ES256, ES384 or EdDSA
    #[arg(long, env = "CHAT_JWT_ALGORITHM", requires = "jwt_public_key")]
    jwt_algorithm: Option<JwtAlgorithm>,

    /// Require JSON Web Tokens signed with one of the keys in this JSON Web Key Set, a file that is
    /// read again on SIGHUP
    #[arg(long, env = "CHAT_JWT_JWKS", value_name = "FILE", group = "key")]
    jwt_jwks: Option<PathBuf>,

    /// The issuer that tokens must be from
    #[arg(long, env = "CHAT_JWT_ISSUER", requires = "key")]
    jwt_issuer: Option<String>,

    /// The audience that tokens must be for
    #[arg(long, env = "CHAT_JWT_AUDIENCE", requires = "key")]
    jwt_audience: Option<String>,

    /// What becomes of a connection whose token has expired
    #[arg(long, env = "CHAT_ON_EXPIRY", default_value = "close")]
    pub(crate) on_expiry: Expiry,
}

/// [`OnExpiry`] as a flag.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Expiry {
    /// It is closed
    Close,
    /// It leaves its room and may send a new one
    WaitForAuth,
}

impl From<Expiry> for OnExpiry {
    fn from(expiry: Expiry) -> OnExpiry {
        match expiry {
            Expiry::Close => OnExpiry::Close,
            Expiry::WaitForAuth => OnExpiry::WaitForAuth,
        }
    }
}

/// The hook, where one is wanted, and the file of its keys.
pub(crate) struct Auth {
    pub(crate) hook: Option<JwtAuth>,
    pub(crate) keys: Option<KeyFile>,
}

/// Keys in a file, to be read again.
pub(crate) struct KeyFile {
    path: PathBuf,
    keys: JwtKeys,
}

impl Tokens {
    /// What is described.
    pub(crate) fn auth(&self) -> Result<Auth, Box<dyn Error + Send + Sync>> {
        let mut file = None;
        let auth = if let Some(secret) = &self.jwt_secret {
            JwtAuth::hs256(secret)?
        } else if let (Some(path), Some(algorithm)) = (&self.jwt_public_key, self.jwt_algorithm) {
            JwtAuth::from_pem(algorithm, read(path)?).map_err(|e| format!("{}: {e}", path.display()))?
        } else if let Some(path) = &self.jwt_jwks {
            let keys = JwtKeys::parse(read(path)?).map_err(|e| format!("{}: {e}", path.display()))?;
            file = Some(KeyFile { path: path.clone(), keys: keys.clone() });
            JwtAuth::from_keys(keys)
        } else {
            return Ok(Auth { hook: None, keys: None });
        };
        let mut auth = auth.with_query("token");
        if let Some(issuer) = &self.jwt_issuer {
            auth = auth.with_issuer(issuer);
        }
        if let Some(audience) = &self.jwt_audience {
            auth = auth.with_audience(audience);
        }
        Ok(Auth { hook: Some(auth), keys: file })
    }
}

impl KeyFile {
    /// Reads the file again at every SIGHUP.
    #[cfg(unix)]
    pub(crate) async fn watch(self) -> std::io::Result<()> {
        let mut hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
        while hangups.recv().await.is_some() {
            match read(&self.path).and_then(|json| Ok(self.keys.replace(json)?)) {
                Ok(()) => tracing::info!(keys = ?self.keys.ids(), "the keys were read again"),
                Err(error) => tracing::error!(%error, "the keys could not be read; the old ones stay"),
            }
        }
        Ok(())
    }

    /// There is no such signal.
    #[cfg(not(unix))]
    pub(crate) async fn watch(self) -> std::io::Result<()> {
        std::future::pending().await
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    std::fs::read(path).map_err(|e| format!("can't read {}: {e}", path.display()).into())
}

//! TLS with rustls and the system's trusted certificates.

use std::io;
use std::sync::Arc;

use rustls_native_certs::load_native_certs;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::error::ClientError;
use crate::socket::Io;

/// Wraps connections to one host in TLS.
pub(crate) struct Tls {
    connector: TlsConnector,
    host: ServerName<'static>,
}

impl Tls {
    /// # Errors
    ///
    /// If the system trusts no certificate, or the host is not a valid name for one.
    pub(crate) async fn load(host: &str) -> Result<Tls, ClientError> {
        // Reads files, so it does not run on the runtime's own threads.
        let loading = tokio::task::spawn_blocking(load_native_certs);
        let loaded = loading.await.map_err(|e| ClientError::Config(e.to_string()))?;
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(loaded.certs);
        if added == 0 {
            let why: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
            let text =
                format!("the system trusts no certificate (install ca-certificates) {}", why.join("; "));
            return Err(ClientError::Config(text));
        }
        Tls::with(host, roots)
    }

    fn with(host: &str, roots: RootCertStore) -> Result<Tls, ClientError> {
        let refuse = |e: String| ClientError::Config(format!("can't use TLS with {host:?}: {e}"));
        let name = ServerName::try_from(host.to_owned()).map_err(|e| refuse(e.to_string()))?;
        // The application may have installed a provider. rustls panics if it has to choose one of two.
        let crypto = CryptoProvider::get_default().cloned();
        let crypto = crypto.unwrap_or_else(|| Arc::new(ring::default_provider()));
        let config = ClientConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .map_err(|e| refuse(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Tls { connector: Arc::new(config).into(), host: name })
    }

    pub(crate) async fn wrap(&self, tcp: TcpStream) -> io::Result<Box<dyn Io>> {
        Ok(Box::new(self.connector.connect(self.host.clone(), tcp).await?))
    }
}

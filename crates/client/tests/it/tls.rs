//! The client over TLS, with the test's own certificates.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tower_chat_rooms::ChatRooms;
use tower_chat_rooms_client::{Client, ClientError};

fn key(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/keys").join(file)
}

/// Chat rooms behind TLS, with a certificate for `localhost`.
async fn server() -> SocketAddr {
    let chain = vec![CertificateDer::from_pem_file(key("localhost.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(key("localhost.key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let rooms = ChatRooms::builder().build().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            // Fails for a client that doesn't trust the certificate.
            let Ok(tls) = acceptor.accept(tcp).await else { continue };
            let service = TowerToHyperService::new(rooms.service());
            tokio::spawn(async move {
                let server = Builder::new(TokioExecutor::new());
                drop(server.serve_connection_with_upgrades(TokioIo::new(tls), service).await);
            });
        }
    });
    address
}

/// In a process of its own, since the trusted certificates are read from its environment.
#[test]
fn trusts_the_systems_certificates() {
    let test = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tls::connects_with_a_test_authority", "--ignored"])
        .env("SSL_CERT_FILE", key("authority.pem"))
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&test.stdout);
    assert!(test.status.success() && output.contains("1 passed"), "{output}");
}

#[tokio::test]
#[ignore = "run by the test above, with another environment"]
async fn connects_with_a_test_authority() {
    let port = server().await.port();
    let client = Client::connect(format!("wss://localhost:{port}/chat")).name("ann").await.unwrap();
    assert!(client.sender().send("hi").await.is_ok());
    client.leave().await;
    // The certificate is not for this name.
    let other = Client::connect(format!("wss://127.0.0.1:{port}/chat"));
    let refused = other.name("ann").first_timeout(Duration::from_millis(1500)).await.unwrap_err();
    let ClientError::GaveUp { last, .. } = &refused else { panic!("{refused:?}") };
    assert!(matches!(&**last, ClientError::Unreachable(why) if why.contains("certificate")), "{refused:?}");
}

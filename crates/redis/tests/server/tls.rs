//! TLS.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tower_chat_rooms_redis::{ConnectErrorKind, Settings};

use crate::login::{check, refused};
use crate::support::{Server, TestNode, free_port, member};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn issuer() -> Issuer {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, in PEM.
fn signed_by(issuer: &Issuer) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "localhost");
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

/// A server that asks clients for certificates or not, with its port.
async fn server(issuer: &Issuer, auth_clients: &str) -> (Server, u16) {
    let (tls_port, server) = (free_port(), Server::start().await);
    let (certificate, key) = signed_by(issuer);
    let file = |name: &str, text: &str| {
        let path = server.directory().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (certificate, key, ca) =
        (file("certificate", &certificate), file("key", &key), file("ca", &issuer.pem()));
    let port_text = tls_port.to_string();
    server
        .command::<()>(&[
            "CONFIG",
            "SET",
            "tls-cert-file",
            &certificate,
            "tls-key-file",
            &key,
            "tls-ca-cert-file",
            &ca,
            "tls-auth-clients",
            auth_clients,
            "tls-port",
            &port_text,
        ])
        .await;
    (server, tls_port)
}

async fn check_works(settings: Settings) {
    let node = TestNode::connect(settings.wait_for_redis(false)).await;
    node.enter("r", member("ann"), None).await.unwrap();
    node.until_body("r", "+ann").await;
    node.close().await;
}

#[tokio::test]
async fn a_node_uses_tls_with_a_ca_of_its_own() {
    let (ours, other) = (issuer(), issuer());
    let (_server, tls_port) = server(&ours, "no").await;
    let at = |port| Settings::new(format!("rediss://localhost:{port}"));
    check_works(at(tls_port).ca_certificate(ours.pem())).await;
    for settings in [at(tls_port), at(tls_port).ca_certificate(other.pem())] {
        check(&refused(settings).await, ConnectErrorKind::Refused, "certificate of Redis at localhost");
    }
    // The name in the URL must be that of the certificate.
    let by_address = Settings::new(format!("rediss://127.0.0.1:{tls_port}")).ca_certificate(ours.pem());
    check(&refused(by_address).await, ConnectErrorKind::Refused, "use the name of the certificate");
    let without_tls = Settings::new(format!("redis://localhost:{tls_port}"));
    check(&refused(without_tls).await, ConnectErrorKind::Unreachable, "whether it wants TLS");
}

#[tokio::test]
async fn a_node_shows_its_certificate() {
    let ours = issuer();
    let (_server, port) = server(&ours, "yes").await;
    let settings = || Settings::new(format!("rediss://localhost:{port}")).ca_certificate(ours.pem());
    let (certificate, key) = signed_by(&ours);
    check_works(settings().client_certificate(certificate, key)).await;
    check(&refused(settings()).await, ConnectErrorKind::Refused, "pass one with `client_certificate`");
}

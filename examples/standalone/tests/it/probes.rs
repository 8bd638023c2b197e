//! `--metrics-listen`: metrics and probes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::standalone::Standalone;
use crate::{PATIENCE, connect, status, upgrade};

/// The whole answer to a request.
async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the server accepts");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the server reads");
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("it is text");
    answer
}

/// A server and the address of its metrics.
async fn start(flags: &[&str]) -> (Standalone, SocketAddr) {
    let flags = [&["--metrics-listen", "127.0.0.1:0"], flags].concat();
    let mut server = Standalone::start(&flags).await;
    let line = server.next_line().await;
    let address = line.strip_prefix("metrics on http://").and_then(|url| url.strip_suffix("/metrics"));
    let address = address.unwrap_or_else(|| panic!("{line} instead of the address"));
    (server, address.parse().expect("it is an address"))
}

#[tokio::test]
async fn metrics_and_probes_have_an_address_of_their_own() {
    let (server, metrics) = start(&[]).await;
    let _client = upgrade(&server).await;
    let answer = get(metrics, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let content_type = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(answer.contains(content_type), "{answer}");
    assert!(answer.contains("\nchat_rooms_connections_accepted_total 1\n"), "{answer}");
    assert!(answer.ends_with("\n# EOF\n"));
    for (path, code) in [("/healthz", "200"), ("/readyz", "200"), ("/", "404"), ("/health", "404")] {
        assert!(get(metrics, path).await.starts_with(&format!("HTTP/1.1 {code} ")), "{path}");
    }
    // Clients cannot reach them.
    for path in ["metrics", "healthz", "readyz"] {
        let request = connect(&server, format!("GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
        assert_eq!(status(request).await.expect("it answers").1, "404", "{path}");
    }
}

#[tokio::test]
async fn probes_are_answered_until_the_end_of_a_drain() {
    let (mut server, metrics) = start(&["--drain", "1h", "--ready-delay", "1h"]).await;
    let _client = upgrade(&server).await;
    server.signal("TERM");
    let unready = async { while !get(metrics, "/readyz").await.starts_with("HTTP/1.1 503 ") {} };
    timeout(PATIENCE, unready).await.expect("it is not ready while it drains");
    assert!(get(metrics, "/readyz").await.ends_with("draining\n"));
    assert!(get(metrics, "/healthz").await.starts_with("HTTP/1.1 200 "));
    let answer = get(metrics, "/metrics").await;
    assert!(answer.contains("\nchat_rooms_draining 1\n"), "{answer}");
    assert!(answer.contains("\nchat_rooms_drain_connections 1\n"), "{answer}");
    server.signal("TERM");
    assert!(server.wait().await.success());
    assert!(TcpStream::connect(metrics).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn probes_can_have_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("chat-metrics-{}.sock", std::process::id()));
    let listen = format!("unix:{}", path.display());
    let mut server = Standalone::start(&["--metrics-listen", &listen]).await;
    assert_eq!(server.next_line().await, format!("metrics on {listen}"));
    let mut stream = tokio::net::UnixStream::connect(&path).await.expect("the server accepts");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("the server reads");
    assert_eq!(status(stream).await.expect("it answers").1, "200");
    server.signal("TERM");
    assert!(server.wait().await.success());
    assert!(!path.exists(), "its file is removed");
}

//! `--drain`: clients move to other nodes before the process ends.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::standalone::Standalone;
use crate::{PATIENCE, connect, status, try_upgrade, until_closed, upgrade};

/// The status of the answer at the path `health`.
async fn health(server: &Standalone) -> String {
    let request = connect(server, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
    status(request).await.expect("the server answers").1
}

/// Waits until the health is another one, which takes a moment after a signal.
async fn until_health(server: &Standalone, expected: &str) {
    let changed = async { while health(server).await != expected {} };
    timeout(PATIENCE, changed).await.expect("the health changes");
}

#[tokio::test]
async fn clients_are_told_one_after_the_other() {
    for signal in ["TERM", "INT"] {
        let timeouts = ["--close-timeout", "1s", "--heartbeat", "1h"];
        let flags = [&["--drain", "2s", "--ready-delay", "1s"][..], &timeouts].concat();
        let mut server = Standalone::start(&flags).await;
        let mut clients: Vec<TcpStream> = Vec::new();
        for _ in 0..4 {
            clients.push(upgrade(&server).await);
        }
        assert_eq!(health(&server).await, "200");
        let begin = Instant::now();
        server.signal(signal);
        until_health(&server, "503").await;
        // It still answers, so that clients and load balancers know.
        assert_eq!(try_upgrade(&server).await.expect("it is answered").1, "503");
        let page = connect(&server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(status(page).await.expect("it is answered").1, "200");
        for client in &mut clients {
            until_closed(client).await;
        }
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(2500), "the last one is closed after 2.5 s: {took:?}");
        assert!(server.wait().await.success(), "SIG{signal}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_drain() {
    for flags in [["--drain", "1h"], ["--ready-delay", "1h"]] {
        let mut server = Standalone::start(&flags).await;
        let _clients = [upgrade(&server).await, upgrade(&server).await];
        server.signal("TERM");
        assert_eq!(server.next_line().await, "draining; a second signal ends it immediately");
        until_health(&server, "503").await;
        // It still answers.
        until_health(&server, "503").await;
        server.signal("TERM");
        assert!(server.wait().await.success());
    }
}

#[tokio::test]
async fn the_health_is_below_the_path() {
    let server = Standalone::start(&["--path", "/talk", "--drain", "0"]).await;
    let get = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        status(connect(&server, request.as_bytes()).await).await.expect("the server answers").1
    };
    assert_eq!((get("/talk/health").await, get("/health").await), ("200".into(), "404".into()));
}

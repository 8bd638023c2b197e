//! Connections that carry no WebSocket: how long they may last, and how many one address may have.

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::standalone::Standalone;
use crate::{PATIENCE, UPGRADE, connect, try_upgrade, until_closed, upgrade};

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn silent_connections_are_closed() {
    let server = Standalone::start(&["--head-timeout", "200ms"]).await;
    for bytes in [
        b"".as_slice(),
        b"P",
        &HTTP2_PREFACE[..16],
        HTTP2_PREFACE,
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut stream = connect(&server, bytes).await;
        until_closed(&mut stream).await;
    }
}

/// It requests more than the socket's buffers hold, and reads none of it.
#[tokio::test]
async fn a_client_that_reads_no_answer_is_closed() {
    let server = Standalone::start(&["--http-timeout", "200ms", "--max-connections-per-ip", "1"]).await;
    let mut reads_nothing = connect(&server, b"").await;
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let blocked = async { while reads_nothing.write_all(request).await.is_ok() {} };
    timeout(PATIENCE, blocked).await.expect("the server closes the connection");

    upgrade(&server).await;
}

#[tokio::test]
async fn one_address_has_a_limited_number_of_sockets_before_the_upgrade() {
    let server = Standalone::start(&["--max-connections-per-ip", "2"]).await;
    let mut first = connect(&server, b"").await;
    let _second = connect(&server, b"").await;
    let mut third = connect(&server, UPGRADE).await;
    until_closed(&mut third).await;

    // An upgrade makes room for another socket, but not for a third WebSocket.
    first.write_all(UPGRADE).await.expect("the server reads");
    let mut statuses = Vec::new();
    let mut open = Vec::new();
    while statuses.len() < 2 {
        // The server counts the socket for a moment after the upgrade, and closes another one at once.
        if let Some((stream, status)) = try_upgrade(&server).await {
            statuses.push(status);
            open.push(stream);
        }
    }
    assert_eq!(statuses, ["101", "429"]);
}

#[tokio::test]
async fn a_trusted_proxy_may_have_any_number_of_sockets() {
    let flags = ["--max-connections-per-ip", "2", "--trusted-proxy", "127.0.0.1"];
    let server = Standalone::start(&flags).await;
    let _silent = [connect(&server, b"").await, connect(&server, b"").await, connect(&server, b"").await];
    upgrade(&server).await;
}

/// Without a limit of its own, hyper would read 400 KiB of it and hold them.
#[tokio::test]
async fn a_request_with_a_long_head_is_refused_at_once() {
    let server = Standalone::start(&["--head-timeout", "1h", "--http-timeout", "1h"]).await;
    let mut stream = connect(&server, b"GET / HTTP/1.1\r\nHost: x\r\nX: ").await;
    // The server may close the connection while the rest is on its way.
    let _ = stream.write_all(&[b'a'; 64 * 1024]).await;
    until_closed(&mut stream).await;
}

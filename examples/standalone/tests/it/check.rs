//! `--check`, the health check of containers.

use std::net::SocketAddr;
use std::process::Output;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::standalone::Standalone;

async fn check(address: SocketAddr) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_standalone"));
    command.args(["--check", &address.to_string()]).output().await.expect("the standalone starts")
}

async fn assert_fails(address: SocketAddr, reason: &str) {
    let output = check(address).await;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).expect("errors are text");
    assert!(error.contains(reason), "{error}");
}

#[tokio::test]
async fn a_server_that_answers_passes_at_any_path() {
    for path in ["/", "/chat"] {
        let server = Standalone::start(&["--path", path]).await;
        assert!(check(server.address()).await.status.success());
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_fails() {
    let mut server = Standalone::start(&[]).await;
    server.signal("TERM");
    server.wait().await;
    assert_fails(server.address(), "no server answers at 127.0.0.1:").await;
}

#[tokio::test]
async fn a_server_that_fails_or_speaks_another_protocol_fails() {
    for (answer, reason) in [
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "answers 503"),
        ("220 mail.example ESMTP", "it does not speak HTTP/1.1"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
        let address = listener.local_addr().expect("it has an address");
        let answering = async {
            let (mut stream, _) = listener.accept().await.expect("it is asked");
            let _ = stream.read(&mut [0; 1024]).await;
            stream.write_all(answer.as_bytes()).await.expect("it reads");
        };
        tokio::join!(answering, assert_fails(address, reason));
    }
}

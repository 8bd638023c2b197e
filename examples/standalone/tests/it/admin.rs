//! The admin view on its own address.

use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::standalone::Standalone;
use crate::{PATIENCE, until_closed};

const TOKEN: &str = "a-token-of-more-than-sixteen";

/// A standalone with an admin view, and the address of that.
async fn start(flags: &[&str]) -> (Standalone, String) {
    let mut server = Standalone::start(&[&["--admin-listen", "127.0.0.1:0"], flags].concat()).await;
    let line = server.next_line().await;
    let rest = line.strip_prefix("admin view on http://").unwrap_or_else(|| panic!("{line}"));
    let address = rest.split('/').next().expect("it has a path").to_owned();
    (server, address)
}

/// The answer to a request with these header lines.
async fn ask(address: &str, method: &str, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it accepts");
    let request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("it answers");
    answer
}

#[tokio::test]
async fn without_a_token_this_machine_has_access() {
    let (_server, address) = start(&[]).await;
    for host in [&*address, "localhost:1", "127.0.0.2", "[::1]:80"] {
        let answer = ask(&address, "GET", "/nodes", &format!("Host: {host}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""actions":[]"#), "{host}: {answer}");
    }
    for headers in ["Host: evil.example\r\n", "Host: localhost.evil.example\r\n", ""] {
        let answer = ask(&address, "GET", "/nodes", headers).await;
        assert!(answer.starts_with("HTTP/1.1 40") && !answer.contains("actions"), "{headers}: {answer}");
    }
    let answer = ask(&address, "POST", "/drain", "Host: localhost\r\nX-Chat-Admin: 1\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("`--admin-allow drain`"), "{answer}");
}

#[tokio::test]
async fn with_a_token_only_requests_that_have_it_get_access() {
    let flags = ["--admin-token", TOKEN, "--admin-allow", "kick,close-room"];
    let (_server, address) = start(&flags).await;
    // "any:" and the token
    let basic = "Basic YW55OmEtdG9rZW4tb2YtbW9yZS10aGFuLXNpeHRlZW4=";
    for value in [&format!("Bearer {TOKEN}"), basic] {
        let headers = format!("Host: ops.example\r\nAuthorization: {value}\r\n");
        let answer = ask(&address, "GET", "/nodes", &headers).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{value}: {answer}");
        assert!(answer.contains(r#""actions":["kick","close-room"]"#), "{answer}");
    }
    for value in ["", "Bearer ", "Bearer a-token-of-more-than-sixteeN", "Basic YW55Og==", "Basic ?"] {
        let headers = format!("Host: localhost\r\nAuthorization: {value}\r\n");
        let answer = ask(&address, "GET", "/", &headers).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{value}: {answer}");
        assert!(answer.to_lowercase().contains("www-authenticate: basic"), "{answer}");
    }
}

#[tokio::test]
async fn other_machines_need_a_token() {
    for (flags, hint) in [
        (&["--admin-listen", "0.0.0.0:0"][..], "--admin-token"),
        (&["--admin-listen", "127.0.0.1:0", "--admin-token", "short"], "16 characters"),
        (&["--admin-listen", "127.0.0.1:0", "--admin-token", "a-token-from-a-file\n"], "visible ASCII"),
        (&["--admin-listen", "nowhere.invalid:1"], "can't listen on nowhere.invalid:1"),
        (&["--admin-listen", "3001"], "127.0.0.1:3000"),
        (&["--admin-listen", "systemd"], "unix:PATH"),
        (&["--admin-allow", "kick"], "--admin-listen"),
    ] {
        let mut command = Standalone::command(&["--listen", "127.0.0.1:0"]);
        let output = command.args(flags).stderr(Stdio::piped()).output().await.expect("it can be run");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(hint), "{flags:?}: {error}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_guarded_by_its_permissions() {
    use std::os::unix::fs::PermissionsExt;

    let path = std::env::temp_dir().join(format!("chat-admin-{}.sock", std::process::id()));
    let listen = format!("unix:{}", path.display());
    let mut server = Standalone::start(&["--admin-listen", &listen, "--socket-mode", "600"]).await;
    let line = server.next_line().await;
    assert_eq!(line, format!("admin view on {listen} (anyone who may write to the socket can use it)"));
    let file = std::fs::metadata(&path).expect("the file exists");
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    // A proxy that publishes the socket passes on a different host.
    for (host, status) in [("localhost", "200"), ("chat.example", "403")] {
        let mut stream = tokio::net::UnixStream::connect(&path).await.expect("it accepts");
        let request = format!("GET /nodes HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        assert_eq!(crate::status(stream).await.expect("it answers").1, status, "{host}");
    }
    server.signal("TERM");
    assert!(server.wait().await.success());
    assert!(!path.exists(), "its file is removed");
}

/// It requests more than the socket's buffers hold, and reads none of it. Nobody has to know the token for that.
#[tokio::test]
async fn a_client_that_reads_no_answer_is_closed() {
    let (_server, address) = start(&["--admin-token", TOKEN, "--http-timeout", "200ms"]).await;
    let mut stream = TcpStream::connect(&address).await.expect("it accepts");
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let blocked = async { while stream.write_all(&request).await.is_ok() {} };
    timeout(PATIENCE, blocked).await.expect("the server closes the connection");
}

#[tokio::test]
async fn a_silent_client_is_closed() {
    let (_server, address) = start(&["--admin-token", TOKEN, "--head-timeout", "200ms"]).await;
    for bytes in [&b""[..], b"GET / HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = TcpStream::connect(&address).await.expect("it accepts");
        stream.write_all(bytes).await.expect("it reads");
        until_closed(&mut stream).await;
    }
}

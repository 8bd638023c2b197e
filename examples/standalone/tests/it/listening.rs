//! What it can listen on, and what happens when it cannot.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;

use crate::standalone::Standalone;
use crate::{UPGRADE, fails, status};

/// A folder that is removed with its files.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("standalone-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("the folder is new");
        Folder(path)
    }

    /// A path in it for a socket, and the value of `--listen` for that.
    fn socket(&self) -> (PathBuf, String) {
        let path = self.0.join("chat.sock");
        (path.clone(), format!("unix:{}", path.display()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Everything that a server listens on, from its log.
async fn listens_on(flags: &[&str]) -> (Standalone, Vec<String>) {
    let mut command = Standalone::command(&["--log-format", "json"]);
    let mut server = Standalone::launch(command.args(flags).stderr(Stdio::piped())).await;
    while let Some(line) = server.next_log().await {
        let event: Value = serde_json::from_str(&line).expect("the log is JSON");
        if event["message"] == "started" {
            let urls = event["listen"].as_str().expect("it listens").split(", ").map(str::to_owned).collect();
            return (server, urls);
        }
    }
    panic!("it has not started");
}

/// The status of a request to a unix socket.
async fn ask(path: &Path, request: &[u8]) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(path).await.expect("the server accepts");
    stream.write_all(request).await.expect("the server reads");
    status(stream).await.expect("the server answers")
}

#[tokio::test]
async fn on_all_addresses_of_a_name_and_several_others() {
    let folder = Folder::new();
    let (path, unix) = folder.socket();
    let (_server, urls) =
        listens_on(&["--listen", "localhost:0", "--listen", &unix, "--listen", "127.0.0.1:0"]).await;
    assert!(urls.len() >= 3 && urls.contains(&unix), "{urls:?}");
    for url in urls.iter().filter_map(|url| url.strip_prefix("http://")) {
        let mut stream = TcpStream::connect(url.trim_end_matches('/')).await.expect("it accepts");
        stream.write_all(UPGRADE).await.expect("the server reads");
        assert_eq!(status(stream).await.expect("the server answers").1, "101");
    }
    assert_eq!(ask(&path, UPGRADE).await.1, "101");
}

#[tokio::test]
async fn on_ipv6_and_on_ipv4_beside_it() {
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let server = Standalone::start_at("[::1]:0", &[]).await;
    TcpStream::connect(server.address()).await.expect("it accepts");
    // `[::]` alone would include IPv4.
    let free = TcpListener::bind("[::]:0").and_then(|free| free.local_addr()).expect("a port is free");
    let (v4, v6) = (format!("0.0.0.0:{}", free.port()), format!("[::]:{}", free.port()));
    let _server = Standalone::start_at(&v4, &["--listen", &v6]).await;
    for host in ["127.0.0.1", "[::1]"] {
        let stream = TcpStream::connect(format!("{host}:{}", free.port())).await;
        stream.expect("it accepts");
    }
}

#[tokio::test]
async fn on_a_unix_socket_with_its_permissions() {
    let folder = Folder::new();
    let (path, unix) = folder.socket();
    for (flags, mode) in [(vec![], 0o660), (vec!["--socket-mode", "600"], 0o600)] {
        let mut server = Standalone::start_at(&unix, &flags).await;
        assert_eq!(server.url(), unix);
        let file = std::fs::metadata(&path).expect("the file exists");
        assert_eq!(file.permissions().mode() & 0o777, mode);
        let _open = ask(&path, UPGRADE).await;
        server.signal("TERM");
        assert!(server.wait().await.success());
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn only_a_socket_that_nobody_listens_on_is_replaced() {
    let folder = Folder::new();
    let (path, unix) = folder.socket();
    // Its file stays.
    drop(UnixListener::bind(&path).expect("the path is free"));
    let mut server = Standalone::start_at(&unix, &[]).await;
    let error = fails(&["--listen", &unix]).await;
    assert!(error.contains("another process listens there") && error.contains(&unix), "{error}");
    assert_eq!(ask(&path, UPGRADE).await.1, "101");
    // A killed server leaves the file.
    server.signal("KILL");
    server.wait().await;
    Standalone::start_at(&unix, &[]).await;

    let file = folder.0.join("file");
    std::fs::write(&file, "text").expect("it can be written");
    let error = fails(&["--listen", &format!("unix:{}", file.display())]).await;
    assert!(error.contains("is not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).expect("it is still there"), "text");
}

/// A proxy on a unix socket has no address, so it counts as one on this machine.
#[tokio::test]
async fn a_proxy_on_a_unix_socket_names_its_clients() {
    let folder = Folder::new();
    let (path, unix) = folder.socket();
    let flags = ["--max-connections-per-ip", "1", "--trusted-proxy", "127.0.0.1"];
    let _server = Standalone::start_at(&unix, &flags).await;
    let mut open = Vec::new();
    for (client, expected) in [("192.0.2.1", "101"), ("192.0.2.2", "101"), ("192.0.2.1", "429")] {
        let forwarded = format!("\r\nX-Forwarded-For: {client}\r\n\r\n");
        let request = String::from_utf8_lossy(UPGRADE).replace("\r\n\r\n", &forwarded);
        let (stream, status) = ask(&path, request.as_bytes()).await;
        assert_eq!(status, expected, "{client}");
        open.push(stream);
    }
}

/// Starts a server with these sockets, as systemd does.
fn with_sockets(socket: impl Into<OwnedFd>) -> Command {
    let mut command = Command::new("sh");
    let script = r#"LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" --listen systemd 3<&0 </dev/null"#;
    command.args(["-c", script, env!("CARGO_BIN_EXE_standalone")]).stdin(Stdio::from(socket.into()));
    command.kill_on_drop(true);
    command
}

#[tokio::test]
async fn on_sockets_from_systemd() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = socket.local_addr().expect("it has an address");
    let server = Standalone::launch(&mut with_sockets(socket)).await;
    assert_eq!(server.address(), address);
    let _open = crate::upgrade(&server).await;

    let folder = Folder::new();
    let (path, unix) = folder.socket();
    let mut server =
        Standalone::launch(&mut with_sockets(UnixListener::bind(&path).expect("it is free"))).await;
    assert_eq!(server.url(), unix);
    assert_eq!(ask(&path, UPGRADE).await.1, "101");
    server.signal("TERM");
    assert!(server.wait().await.success());
    // The file is systemd's.
    assert!(path.exists());
}

#[tokio::test]
async fn without_sockets_from_systemd_it_says_so() {
    let error = fails(&["--listen", "systemd"]).await;
    assert!(error.contains("LISTEN_FDS"), "{error}");
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    let output = with_sockets(datagrams).output().await.expect("it can be run");
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("neither a TCP nor a unix stream socket"), "{error}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let server = Standalone::start(&[]).await;
    let address = server.address().to_string();
    let error = fails(&["--listen", &address]).await;
    assert!(error.contains(&format!("can't listen on {address}")) && error.contains("--listen"), "{error}");
    for (listen, hint) in [("3000", "127.0.0.1:3000"), ("host.invalid:1", "can't listen on host.invalid:1")] {
        let error = fails(&["--listen", listen]).await;
        assert!(error.contains(hint), "{error}");
    }
}

#[tokio::test]
async fn a_path_of_any_letters_works() {
    for (flag, encoded) in [("/grün", "/gr%C3%BCn"), ("/a b", "/a%20b"), ("/聊天/", "/%E8%81%8A%E5%A4%A9/")]
    {
        let server = Standalone::start(&["--path", flag]).await;
        assert!(server.url().ends_with(encoded), "{}", server.url());
        let upgrade = String::from_utf8_lossy(UPGRADE).replace("GET / ", &format!("GET {encoded} "));
        let page = format!("GET {encoded} HTTP/1.1\r\nHost: x\r\n\r\n");
        for (request, expected) in [(&*upgrade, "101"), (&page, "200")] {
            let stream = crate::connect(&server, request.as_bytes()).await;
            assert_eq!(status(stream).await.expect("the server answers").1, expected, "{request}");
        }
    }
}

#[tokio::test]
async fn a_path_that_no_request_has_is_refused() {
    for (path, hint) in [("chat", "`/chat`"), ("/chat?x", "leave out `?x`"), ("/{room}", "one fixed path")] {
        let error = fails(&["--listen", "127.0.0.1:0", "--path", path]).await;
        assert!(error.contains("--path") && error.contains(hint), "{error}");
    }
}

//! Logging in, and errors that say what to do.

use std::os::unix::fs::symlink;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tower_chat_rooms_redis::{ConnectError, ConnectErrorKind, Node, Settings};

use crate::support::{Server, TestNode, free_port, member};

/// Rights of a node, with their user's name and password.
const USER: &str = "ACL SETUSER ann on >p@ss:w ~{chat}:* &{chat}:* +@all -@dangerous +info +client|kill";

/// Connects. Only what is unreachable would be waited for.
pub(crate) async fn refused(settings: Settings) -> ConnectError {
    Node::connect(settings.wait_for_redis(false)).await.expect_err("the server should be refused")
}

pub(crate) fn check(error: &ConnectError, kind: ConnectErrorKind, says: &str) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.contains(says), "{text} does not say {says}");
    for text in [text, format!("{error:?}")] {
        assert!(!text.contains("p@ss") && !text.contains("wrong"), "{text} says the password");
    }
}

async fn server() -> (Server, u16) {
    let port = free_port();
    let server = Server::start_with_options(&format!("--port {port}")).await;
    server.command::<()>(&USER.split(' ').collect::<Vec<_>>()).await;
    (server, port)
}

/// The node works, and its connections have this user and database.
async fn check_works(server: &Server, url: String, user: &str, database: u32) {
    let node = TestNode::connect(Settings::new(url)).await;
    node.enter("r", member("ann"), None).await.unwrap();
    node.until_body("r", "+ann").await;
    let clients: String = server.command(&["CLIENT", "LIST"]).await;
    let is_own = |line: &&str| line.contains(&format!("name=tower-chat-rooms:{}:", node.name()));
    let own: Vec<&str> = clients.lines().filter(is_own).collect();
    assert_eq!(own.len(), 2, "{clients}");
    for line in own {
        assert!(
            line.contains(&format!(" db={database} ")) && line.contains(&format!(" user={user} ")),
            "{line}"
        );
    }
    node.close().await;
}

#[tokio::test]
async fn urls_have_users_databases_and_paths() {
    let (server, port) = server().await;
    check_works(&server, format!("redis://ann:p%40ss%3Aw@127.0.0.1:{port}/2"), "ann", 2).await;
    symlink(server.socket(), server.directory().join("a b%")).unwrap();
    let path = format!("{}/a%20b%25", server.directory().display());
    check_works(&server, format!("redis+unix://{path}?db=3&user=ann&pass=p%40ss%3Aw"), "ann", 3).await;
    check_works(&server, format!("unix://{path}"), "default", 0).await;
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let (server, port) = server().await;
    let url = |login: &str, end: &str| Settings::new(format!("redis://{login}127.0.0.1:{port}{end}"));
    let address = format!("127.0.0.1:{port}");
    let error = refused(url("ann:wrong@", "")).await;
    check(&error, ConnectErrorKind::Refused, &format!("Redis at {address} refuses the user or the password"));
    let error = refused(url("ann:p%40ss%3Aw@", "/99")).await;
    check(&error, ConnectErrorKind::Refused, "number of the database");
    server.command::<()>(&["ACL", "SETUSER", "ann", "-info"]).await;
    let error = refused(url("ann:p%40ss%3Aw@", "")).await;
    check(&error, ConnectErrorKind::Refused, "the user may do too little");
    server.command::<()>(&["ACL", "SETUSER", "ann", "+info", "resetkeys", "~other:*"]).await;
    let error = refused(url("ann:p%40ss%3Aw@", "")).await;
    check(&error, ConnectErrorKind::Refused, "keys with the prefix");
    server.command::<()>(&["ACL", "SETUSER", "ann", "resetkeys", "~{chat}:*", "-publish"]).await;
    let error = refused(url("ann:p%40ss%3Aw@", "")).await;
    check(&error, ConnectErrorKind::Refused, "may publish");
    let error = refused(Settings::new(format!("redis+sentinel://{address}/main"))).await;
    check(
        &error,
        ConnectErrorKind::Settings,
        "is not a sentinel, but Redis itself; use a URL like `redis://",
    );
    let error = refused(Settings::new(format!("redis+cluster://{address}"))).await;
    check(&error, ConnectErrorKind::Refused, "belongs to no cluster");

    server.command::<()>(&["CONFIG", "SET", "requirepass", "secret"]).await;
    let error = refused(url("", "")).await;
    check(&error, ConnectErrorKind::Refused, "refuses the user or the password");
    let error = refused(Settings::new(format!("redis://127.0.0.1:{}", free_port()))).await;
    check(&error, ConnectErrorKind::Unreachable, "cannot be reached; check the URL, that it runs");
}

/// Answers each connection like an HTTP server that does not understand the request.
async fn serve_http(listener: TcpListener, answer: &'static [u8]) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer).await;
        });
    }
}

#[tokio::test]
async fn an_http_server_is_named() {
    for answer in [&b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"[..], b"<!DOCTYPE HTML>\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_http(listener, answer));
        for url in [format!("redis://{address}"), format!("redis+sentinel://{address}/main")] {
            // It fails immediately and does not wait for Redis.
            let error = Node::connect(Settings::new(url)).await.expect_err("it is not Redis");
            let says = format!("{address} is an HTTP server, not Redis");
            check(&error, ConnectErrorKind::Settings, &says);
        }
    }
}

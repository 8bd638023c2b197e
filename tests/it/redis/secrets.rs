//! What Redis learns of secrets.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::sleep;
use tower_chat_rooms::Admission;

use super::{Server, redis_cli, resumable};
use crate::support::{Client, V1Client, enter_frame};

/// Only the hash of a resume token leaves the process: who reads what is in Redis cannot take a session over.
#[tokio::test]
#[ignore = "needs redis-server and redis-cli"]
async fn redis_does_not_learn_resume_tokens() {
    let server = Server::start().await;
    let (socket, path) = (server.directory.join("socket"), server.directory.join("commands"));
    let mut monitor = Command::new("redis-cli");
    monitor.arg("-s").arg(&socket).arg("MONITOR").stdin(Stdio::null());
    let mut monitor = monitor.stdout(File::create(&path).unwrap()).spawn().unwrap();
    let commands = || std::fs::read_to_string(&path).unwrap();
    while !commands().contains("OK") {
        sleep(Duration::from_millis(10)).await;
    }
    let (one, other) = (server.node(resumable()).await, server.node(resumable()).await);
    let mut ann = V1Client::enter(&one, "ann").await;
    let mut tokens = ann.resume_tokens.clone();
    for node in [&other, &one, &one] {
        ann.disconnect().await;
        assert_eq!(ann.reconnect(node).await["resumed"], true);
        tokens.extend(ann.resume_tokens.clone());
    }
    // A session that ends without having moved.
    let (mut bob, welcome) = Client::connect_v1(&one, Admission::anonymous()).await;
    bob.send(enter_frame("bob", "r")).await;
    bob.next_of("enter").await;
    tokens.push(welcome["resume"].clone());
    bob.close().await;
    ann.connection.close().await;
    redis_cli(&socket, &["PING", "the end"]);
    while !commands().contains("the end") {
        sleep(Duration::from_millis(10)).await;
    }
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    assert!(commands().contains("{chat}:session:"));
    for token in tokens {
        let token = token.as_str().unwrap();
        assert!(token.len() == 32 && !commands().contains(token), "{token}");
    }
    for rooms in [one, other] {
        rooms.shutdown().await;
    }
}

//! The standalone server in want: it is short of files, or its clients are killed.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::PATIENCE;
use crate::server::Server;

struct Member(WebSocketStream<TcpStream>);

impl Member {
    async fn connect(server: &Server) -> Result<Member, Error> {
        let stream = TcpStream::connect(server.address()).await.expect("a connection");
        let handshake = timeout(PATIENCE, client_async(server.socket_url(), stream)).await;
        let (socket, _) = handshake.expect("the handshake is answered")?;
        Ok(Member(socket))
    }

    async fn enter(server: &Server, name: &str) -> Member {
        let mut member = Member::connect(server).await.expect("a WebSocket");
        member.enter_as(name).await;
        member
    }

    async fn enter_as(&mut self, name: &str) {
        self.say(json!({"event": "enter", "message": name, "roomId": "r"})).await;
        self.hear(|frame| frame["event"] == "enter" && frame["name"] == name).await;
    }

    async fn say(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.expect("the connection is open");
    }

    /// Waits for a frame; heartbeats are answered meanwhile.
    async fn hear(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        let heard = timeout(PATIENCE, async {
            loop {
                let message = self.0.next().await.expect("the connection goes on").expect("a sound frame");
                let Ok(frame) = serde_json::from_str::<Value>(message.to_text().expect("text")) else {
                    continue;
                };
                if frame["event"] == "heartbeat" {
                    self.say(json!({"event": "heartbeat", "message": "pong"})).await;
                } else if is_it(&frame) {
                    return frame;
                }
            }
        });
        heard.await.expect("it comes in time")
    }
}

#[tokio::test]
async fn a_server_without_a_free_file_goes_on_and_accepts_again() {
    let server = Server::start_with_files(64, &["--heartbeat", "5s"]).await;
    let mut ann = Member::enter(&server, "ann").await;
    // More than it can accept: the kernel completes them, and they wait.
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(TcpStream::connect(server.address()).await.expect("the kernel takes it"));
    }
    for n in 0..20 {
        ann.say(json!({"event": "message", "message": n})).await;
        ann.hear(|frame| frame["message"] == n).await;
    }
    drop(crowd);
    // The server refuses other connections until it has closed its ends of those connections.
    let bob = timeout(PATIENCE, async {
        loop {
            if let Ok(member) = Member::connect(&server).await {
                return member;
            }
        }
    });
    let mut bob = bob.await.expect("the server has files again");
    bob.enter_as("bob").await;
    assert_eq!(ann.hear(|frame| frame["name"] == "bob").await["num"], 2);
    bob.say(json!({"event": "message", "message": "here"})).await;
    ann.hear(|frame| frame["message"] == "here").await;
}

#[tokio::test]
async fn clients_that_are_killed_are_out_at_once() {
    let server = Server::start().await;
    let mut ann = Member::enter(&server, "ann").await;
    let mut killed = Vec::new();
    for n in 0..20 {
        killed.push(Member::enter(&server, &format!("n{n}")).await);
    }
    for member in killed {
        // Closed with bytes unread, as with a killed process: the peer is reset.
        let stream = member.0.into_inner().into_std().expect("a socket");
        drop(stream);
    }
    let last = ann.hear(|frame| frame["event"] == "out" && frame["num"] == 1);
    timeout(PATIENCE.min(Duration::from_secs(20)), last).await.expect("long before any heartbeat is missed");
}

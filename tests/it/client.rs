//! A client over duplex I/O, and what tests share.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tower_chat_rooms::{Admission, ChatRooms, ChatRoomsBuilder, RateLimits, RoomEvent};

/// Longer than any test in paused time has to wait.
const PATIENCE: Duration = Duration::from_secs(600);

const PONG: &str = r#"{"event":"heartbeat","message":"pong"}"#;

/// What comes next on a connection.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    Frame(Value),
    /// It has ended with this code.
    End(u16),
}

pub(crate) struct Client {
    pub(crate) ws: WebSocketStream<DuplexStream>,
    pub(crate) task: JoinHandle<()>,
    /// Heartbeats are answered and not shown.
    pub(crate) polite: bool,
}

impl Client {
    pub(crate) async fn connect(rooms: &ChatRooms) -> Client {
        Client::connect_as(rooms, Admission::anonymous(), 64 * 1024).await
    }

    pub(crate) async fn connect_as(rooms: &ChatRooms, admission: Admission, buffer: usize) -> Client {
        let (theirs, ours) = tokio::io::duplex(buffer);
        let rooms = rooms.clone();
        let task = tokio::spawn(async move { rooms.serve(theirs, admission).await });
        let ws = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        Client { ws, task, polite: true }
    }

    /// Connects, enters, and reads until its own enter has come.
    pub(crate) async fn enter(rooms: &ChatRooms, name: &str, room: &str) -> Client {
        let mut client = Client::connect(rooms).await;
        client.say(json!({"event": "enter", "message": name, "roomId": room})).await;
        let first = client.next().await;
        assert_eq!((&first["event"], &first["name"]), (&json!("enter"), &json!(name)));
        client
    }

    pub(crate) async fn connect_from(rooms: &ChatRooms, admission: Admission, peer: SocketAddr) -> Client {
        let (theirs, ours) = tokio::io::duplex(64 * 1024);
        let rooms = rooms.clone();
        let task = tokio::spawn(async move { rooms.serve_from(theirs, admission, Some(peer)).await });
        let ws = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        Client { ws, task, polite: true }
    }

    /// The same from an address.
    pub(crate) async fn enter_from(rooms: &ChatRooms, name: &str, peer: SocketAddr) -> Client {
        let mut client = Client::connect_from(rooms, Admission::anonymous(), peer).await;
        client.say(json!({"event": "enter", "message": name, "roomId": "r"})).await;
        assert_eq!(client.next().await["event"], "enter");
        client
    }

    /// Connects by v1, and reads the welcome.
    pub(crate) async fn connect_v1(rooms: &ChatRooms, admission: Admission) -> (Client, Value) {
        let admission = admission.with_protocol("chat-rooms.v1".parse().unwrap());
        let mut client = Client::connect_as(rooms, admission, 64 * 1024).await;
        let welcome = client.next().await;
        assert_eq!(welcome["event"], "welcome");
        (client, welcome)
    }

    pub(crate) async fn say(&mut self, value: Value) {
        self.text(value.to_string()).await;
    }

    pub(crate) async fn text(&mut self, text: impl Into<Utf8Bytes>) {
        self.ws.send(Message::Text(text.into())).await.unwrap();
    }

    /// The next frame as it came; heartbeats are answered on the way.
    pub(crate) async fn next_text(&mut self) -> String {
        match self.next_message().await {
            Message::Text(text) => text.to_string(),
            other => panic!("no text: {other:?}"),
        }
    }

    pub(crate) async fn next(&mut self) -> Value {
        serde_json::from_str(&self.next_text().await).unwrap()
    }

    /// The close code with which the connection ends; 1006 without a close frame.
    pub(crate) async fn closed(&mut self) -> u16 {
        self.closed_after().await.1
    }

    /// The frames before the close, and its code.
    pub(crate) async fn closed_after(&mut self) -> (Vec<Value>, u16) {
        let mut before = Vec::new();
        loop {
            match tokio::time::timeout(PATIENCE, self.ws.next()).await.expect("no close came") {
                Some(Ok(Message::Close(Some(frame)))) => {
                    // The closing handshake is finished before the test goes on.
                    while let Some(Ok(_)) = self.ws.next().await {}
                    let _ = self.ws.get_mut().shutdown().await;
                    return (before, frame.code.into());
                }
                Some(Ok(Message::Text(text))) => {
                    let value: Value = serde_json::from_str(&text).unwrap();
                    if value["event"] != "heartbeat" {
                        before.push(value);
                    } else if self.polite {
                        // The server may have closed meanwhile.
                        let _ = self.ws.send(Message::text(PONG)).await;
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (before, 1006),
            }
        }
    }

    /// The next frame that is no heartbeat, or the end.
    pub(crate) async fn next_or_end(&mut self) -> Next {
        match tokio::time::timeout(PATIENCE, self.ws.next()).await.expect("nothing came") {
            Some(Ok(Message::Text(text))) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                if frame["event"] != "heartbeat" {
                    return Next::Frame(frame);
                }
                // The server may have closed meanwhile.
                let _ = self.ws.send(Message::text(PONG)).await;
                Box::pin(self.next_or_end()).await
            }
            Some(Ok(Message::Close(frame))) => Next::End(frame.map_or(1005, |frame| frame.code.into())),
            Some(Ok(_)) => Box::pin(self.next_or_end()).await,
            Some(Err(_)) | None => Next::End(1006),
        }
    }

    /// Answers the heartbeats that have come. Nothing else may have.
    pub(crate) async fn answer_heartbeats(&mut self) {
        while let Some(next) = self.ws.next().now_or_never() {
            match next {
                Some(Ok(Message::Text(text))) if text.contains(r#""event":"heartbeat""#) => {
                    self.text(PONG).await;
                }
                other => panic!("not expected: {other:?}"),
            }
        }
    }

    /// Closes with a code, and waits until the connection has ended.
    pub(crate) async fn close_with(mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.ws.close(Some(frame)).await.unwrap();
        while let Some(Ok(_)) = self.ws.next().await {}
        drop(self.ws);
        self.task.await.unwrap();
    }

    async fn next_message(&mut self) -> Message {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.ws.next()).await;
            let message = next.expect("nothing came").expect("the connection ended").unwrap();
            match &message {
                Message::Text(text) if self.polite && text.contains(r#""event":"heartbeat""#) => {
                    self.text(PONG).await;
                }
                _ => return message,
            }
        }
    }

    /// Closes as a browser does.
    pub(crate) async fn leave(mut self) {
        self.ws.close(None).await.unwrap();
        while let Some(Ok(_)) = self.ws.next().await {}
        self.task.await.unwrap();
    }

    /// Vanishes without a word.
    pub(crate) async fn vanish(self) {
        drop(self.ws);
        self.task.await.unwrap();
    }
}

/// The callbacks as lines of text.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn hook(&self) -> impl Fn(RoomEvent<'_>) + Send + Sync + 'static {
        let log = self.clone();
        move |event| {
            let line = match event {
                RoomEvent::Entered(e) => format!("+ {} {} {}", e.name, e.room, e.online),
                RoomEvent::Left(e) => format!("- {} {} {} {}", e.name, e.room, e.online, e.reason),
                RoomEvent::Message(e) => format!("{} {}: {}", e.name, e.room, e.body),
                _ => return,
            };
            log.push(line);
        }
    }

    pub(crate) fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Chat rooms with default settings.
pub(crate) fn default_rooms() -> ChatRooms {
    ChatRooms::builder().build().unwrap()
}

/// Where everybody may send as much and as fast as he likes.
pub(crate) fn unhurried() -> ChatRoomsBuilder {
    ChatRooms::builder().rate_limits(
        RateLimits::default()
            .max_messages_per_second(u32::MAX)
            .max_bytes_per_second(usize::MAX)
            .max_enters_per_minute(u32::MAX)
            .max_new_rooms_per_minute(u32::MAX),
    )
}

/// Chat rooms that log their callbacks.
pub(crate) fn logged() -> (ChatRooms, Log) {
    let log = Log::default();
    (ChatRooms::builder().events(log.hook()).build().unwrap(), log)
}

/// Nothing of the engine is left but the handle.
pub(crate) fn assert_empty(rooms: &ChatRooms) {
    let stats = rooms.stats();
    assert_eq!((stats.connections, stats.rooms), (0, 0), "{stats:?}");
    assert_eq!(stats.entered, stats.left, "{stats:?}");
    assert!(rooms.rooms().is_empty());
    let report = rooms.check_consistency();
    assert_eq!((report.sessions, report.members, report.faults), (0, 0, Vec::new()));
}

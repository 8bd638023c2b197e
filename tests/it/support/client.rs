//! A WebSocket client over duplex I/O.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tower_chat_rooms::{Admission, ChatRooms};

use super::{enter_frame, events_arrive};

/// Longer than any test in paused time has to wait.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

const PONG: &str = r#"{"event":"heartbeat","message":"pong"}"#;

const BUFFER: usize = 64 * 1024;

/// What comes next on a connection.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    Frame(Value),
    /// The close code, or 1006 without a close frame.
    Closed(u16),
}

/// One connection, with the task that serves it.
pub(crate) struct Client {
    pub(crate) ws: WebSocketStream<DuplexStream>,
    pub(crate) task: JoinHandle<()>,
    /// Whether heartbeats are answered and left out of what is read. The default is true.
    pub(crate) answers_heartbeats: bool,
}

pub(crate) fn v1_admission() -> Admission {
    Admission::anonymous().with_protocol("chat-rooms.v1".parse().unwrap())
}

/// Serves a connection over duplex I/O with a buffer of this many bytes. Returns the client's end.
pub(crate) fn serve(
    rooms: &ChatRooms,
    admission: Admission,
    buffer: usize,
) -> (DuplexStream, JoinHandle<()>) {
    let (server_io, client_io) = tokio::io::duplex(buffer);
    let rooms = rooms.clone();
    (client_io, tokio::spawn(async move { rooms.serve(server_io, admission).await }))
}

impl Client {
    /// Connects as an anonymous client of the plain wire.
    pub(crate) async fn connect(rooms: &ChatRooms) -> Client {
        Client::connect_as(rooms, Admission::anonymous(), BUFFER).await
    }

    /// Connects over a pipe that holds this many bytes in each direction.
    pub(crate) async fn connect_as(rooms: &ChatRooms, admission: Admission, buffer: usize) -> Client {
        let (io, task) = serve(rooms, admission, buffer);
        Client::new(io, task).await
    }

    /// Connects from an address.
    pub(crate) async fn connect_from(rooms: &ChatRooms, admission: Admission, peer: SocketAddr) -> Client {
        let (server_io, client_io) = tokio::io::duplex(BUFFER);
        let rooms = rooms.clone();
        let task = tokio::spawn(async move { rooms.serve_from(server_io, admission, Some(peer)).await });
        Client::new(client_io, task).await
    }

    /// Connects from an address as a `chat-rooms.v1` client. Reads the welcome.
    pub(crate) async fn connect_v1_from(
        rooms: &ChatRooms,
        admission: Admission,
        peer: SocketAddr,
    ) -> (Client, Value) {
        let admission = admission.with_protocol("chat-rooms.v1".parse().unwrap());
        let mut client = Client::connect_from(rooms, admission, peer).await;
        let welcome = client.next().await;
        assert_eq!(welcome["event"], "welcome");
        (client, welcome)
    }

    /// Connects to a server whose end of the pipe is wrapped into other I/O. The pipe holds a few frames.
    pub(crate) async fn connect_through<IO>(
        rooms: &ChatRooms,
        admission: Admission,
        wrap: impl FnOnce(DuplexStream) -> IO,
    ) -> Client
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (server_io, client_io) = tokio::io::duplex(1024);
        let (rooms, io) = (rooms.clone(), wrap(server_io));
        let task = tokio::spawn(async move { rooms.serve(io, admission).await });
        Client::new(client_io, task).await
    }

    /// Connects as a `chat-rooms.v1` client, and reads the welcome.
    pub(crate) async fn connect_v1(rooms: &ChatRooms, admission: Admission) -> (Client, Value) {
        let admission = admission.with_protocol("chat-rooms.v1".parse().unwrap());
        let mut client = Client::connect_as(rooms, admission, BUFFER).await;
        let welcome = client.next().await;
        assert_eq!(welcome["event"], "welcome");
        (client, welcome)
    }

    /// Connects as a `chat-rooms.v1` client, enters the room "r" as "ann", and reads the answer and its own enter.
    /// Returns the welcome too.
    pub(crate) async fn enter_v1(rooms: &ChatRooms, admission: Admission) -> (Client, Value) {
        let (mut client, welcome) = Client::connect_v1(rooms, admission).await;
        client.send(enter_frame("ann", "r")).await;
        for event in ["entered", "enter"] {
            assert_eq!(client.next().await["event"], event);
        }
        (client, welcome)
    }

    /// Connects, enters, and reads its own enter.
    pub(crate) async fn enter(rooms: &ChatRooms, name: &str, room: &str) -> Client {
        let mut client = Client::connect(rooms).await;
        client.enter_room(name, room).await;
        client
    }

    /// Connects from an address, and enters the room "r".
    pub(crate) async fn enter_from(rooms: &ChatRooms, name: &str, peer: SocketAddr) -> Client {
        let mut client = Client::connect_from(rooms, Admission::anonymous(), peer).await;
        client.enter_room(name, "r").await;
        client
    }

    /// The client's end of a pipe after the handshake.
    pub(crate) async fn new(io: DuplexStream, task: JoinHandle<()>) -> Client {
        let ws = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
        Client { ws, task, answers_heartbeats: true }
    }

    /// A connection that has ended.
    pub(crate) async fn disconnected() -> Client {
        Client::new(tokio::io::duplex(1).0, tokio::spawn(async {})).await
    }

    /// Enters, and reads its own enter.
    async fn enter_room(&mut self, name: &str, room: &str) {
        self.send(enter_frame(name, room)).await;
        let own = self.next().await;
        assert_eq!((&own["event"], &own["name"]), (&json!("enter"), &json!(name)));
    }

    pub(crate) async fn send(&mut self, frame: Value) {
        self.send_text(frame.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: impl Into<Utf8Bytes>) {
        self.ws.send(Message::Text(text.into())).await.unwrap();
    }

    /// Sends frames so that the server finds all of them at once.
    pub(crate) async fn send_at_once(&mut self, frames: impl IntoIterator<Item = Value>) {
        for frame in frames {
            self.ws.feed(Message::text(frame.to_string())).await.unwrap();
        }
        self.ws.flush().await.unwrap();
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Value {
        serde_json::from_str(&self.next_text().await).unwrap()
    }

    /// The next frame with this event. Skips others.
    pub(crate) async fn next_of(&mut self, event: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["event"] == event {
                return frame;
            }
        }
    }

    /// The next frame as text.
    pub(crate) async fn next_text(&mut self) -> String {
        loop {
            match self.read().await.expect("the connection has ended").unwrap() {
                Message::Text(text) if self.answers_heartbeats && is_heartbeat(&text) => {
                    self.send_text(PONG).await;
                }
                Message::Text(text) => return text.to_string(),
                other => panic!("{other:?} instead of a text frame"),
            }
        }
    }

    /// The next frame that is not a heartbeat, or the end of the connection.
    pub(crate) async fn next_or_close(&mut self) -> Next {
        loop {
            match self.read().await {
                Some(Ok(Message::Text(text))) if is_heartbeat(&text) => self.try_to_answer_heartbeat().await,
                Some(Ok(Message::Text(text))) => return Next::Frame(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    return Next::Closed(frame.map_or(1005, |f| f.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Next::Closed(1006),
            }
        }
    }

    /// The code with which the server closes the connection, or 1006 without a close frame.
    pub(crate) async fn close_code(&mut self) -> u16 {
        self.frames_until_close().await.1
    }

    /// The frames before the close frame, and its code.
    pub(crate) async fn frames_until_close(&mut self) -> (Vec<Value>, u16) {
        let mut frames = Vec::new();
        loop {
            match self.read().await {
                Some(Ok(Message::Close(Some(frame)))) => {
                    // Finishes the closing handshake.
                    while let Some(Ok(_)) = self.ws.next().await {}
                    let _ = self.ws.get_mut().shutdown().await;
                    events_arrive().await;
                    return (frames, frame.code.into());
                }
                Some(Ok(Message::Text(text))) if !is_heartbeat(&text) => {
                    frames.push(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Text(_))) if self.answers_heartbeats => self.try_to_answer_heartbeat().await,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (frames, 1006),
            }
        }
    }

    /// Answers the heartbeats that have arrived. No other frame may have.
    pub(crate) async fn answer_heartbeats(&mut self) {
        while let Some(message) = self.ws.next().now_or_never() {
            match message {
                Some(Ok(Message::Text(text))) if is_heartbeat(&text) => self.send_text(PONG).await,
                other => panic!("{other:?} instead of a heartbeat"),
            }
        }
    }

    /// Closes without a code, as a browser does, and waits until the connection has ended.
    pub(crate) async fn close(self) {
        self.close_with_frame(None).await;
    }

    /// Closes with a code, and waits until the connection has ended.
    pub(crate) async fn close_with(self, code: u16) {
        self.close_with_frame(Some(CloseFrame { code: code.into(), reason: "".into() })).await;
    }

    async fn close_with_frame(mut self, frame: Option<CloseFrame>) {
        self.ws.close(frame).await.unwrap();
        while let Some(Ok(_)) = self.ws.next().await {}
        self.disconnect().await;
    }

    /// Drops the connection without a close frame, and waits until the server has noticed.
    pub(crate) async fn disconnect(self) {
        drop(self.ws);
        self.task.await.unwrap();
        events_arrive().await;
    }

    async fn read(&mut self) -> Option<Result<Message, Error>> {
        timeout(PATIENCE, self.ws.next()).await.expect("nothing was received")
    }

    /// Answers a heartbeat on a connection that the server may have closed.
    async fn try_to_answer_heartbeat(&mut self) {
        let _ = self.ws.send(Message::text(PONG)).await;
    }
}

fn is_heartbeat(text: &str) -> bool {
    text.contains(r#""event":"heartbeat""#)
}

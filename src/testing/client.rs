//! A client for tests.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::testing::connection::{Connection, Received};
use crate::testing::options::{ConnectError, ConnectOptions};
use crate::testing::session::{Session, direct_number};

/// Longer than anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(600);

/// A client for tests, of `chat-rooms.v1` or of the plain protocol. Created by
/// [`TestServer::connect`](crate::testing::TestServer::connect).
///
/// A method that waits for a frame panics if another frame comes, and shows that frame. It also panics if nothing comes
/// for ten minutes of the runtime's time. All methods skip heartbeats, which are answered in the background.
#[derive(Debug)]
pub struct TestClient {
    options: ConnectOptions,
    /// None while the connection is cut.
    connection: Option<Connection>,
    session: Session,
    /// What has been received, but not read by the test.
    unread: VecDeque<Value>,
}

impl TestClient {
    pub(super) async fn connect(options: ConnectOptions) -> Result<TestClient, ConnectError> {
        let (session, unread) = (Session::default(), VecDeque::new());
        let mut client = TestClient { options, connection: None, session, unread };
        client.open().await?;
        Ok(client)
    }

    /// Enters a room, and reads the answer. Frames that came before the answer are kept for [`next`](TestClient::next).
    /// If the server sends the client its own `enter`, this frame is read as well.
    ///
    /// Returns the frame `entered`. For a plain client, returns its own `enter`.
    ///
    /// # Panics
    /// If the server refuses the enter.
    pub async fn enter(&mut self, name: &str, room: &str) -> Value {
        self.try_enter(name, room).await.unwrap_or_else(|error| panic!("the enter was refused: {error}"))
    }

    /// As [`enter`](TestClient::enter), but returns the server's answer if it refuses the enter.
    ///
    /// # Errors
    /// The frame `error`.
    pub async fn try_enter(&mut self, name: &str, room: &str) -> Result<Value, Value> {
        self.send(json!({"event": "enter", "message": name, "roomId": room})).await;
        let entered = self.answer_to_enter(name, room).await?;
        if self.options.is_plain() {
            self.session.entered_plain(name, room);
        } else if entered["mode"] == "full" && entered["resumed"] == false && entered["hidden"] != true {
            let own = self.read().await;
            assert_eq!((&own["event"], &own["member"]), (&json!("enter"), &entered["member"]), "{own}");
        }
        Ok(entered)
    }

    /// Sends a message to the room that the client entered last.
    pub async fn say(&mut self, message: impl Into<Value>) {
        let mut frame = json!({"event": "message", "message": message.into()});
        if !self.options.is_plain() {
            frame["roomId"] = self.session.last_room().into();
        }
        self.send(frame).await;
    }

    /// Sends a frame.
    ///
    /// # Panics
    /// If the connection is cut.
    pub async fn send(&mut self, frame: Value) {
        self.connection().send(Message::text(frame.to_string()));
        // Lets the frame go out before the test goes on.
        tokio::task::yield_now().await;
    }

    /// Returns the next frame that is not a heartbeat.
    ///
    /// # Panics
    /// If the connection ends.
    pub async fn next(&mut self) -> Value {
        match self.unread.pop_front() {
            Some(frame) => frame,
            None => self.read().await,
        }
    }

    /// Reads the next frame, which must have these keys with these values. It may have others.
    pub async fn expect(&mut self, keys: Value) -> Value {
        let frame = self.next().await;
        assert!(has_all(&frame, &keys), "expected {keys}, got {frame}");
        frame
    }

    /// Skips frames up to the first that has these keys with these values.
    pub async fn skip_to(&mut self, keys: Value) -> Value {
        loop {
            let frame = self.next().await;
            if has_all(&frame, &keys) {
                return frame;
            }
        }
    }

    /// Lets time pass, and panics if anything but heartbeats is received.
    pub async fn expect_silence(&mut self, time: Duration) {
        sleep(time).await;
        self.receive_all();
        assert!(self.unread.is_empty(), "expected silence, got {:?}", self.unread);
    }

    /// Skips frames until the server closes the connection. Returns the close code, or 1006 without a close frame.
    pub async fn expect_close(&mut self) -> u16 {
        self.unread.clear();
        loop {
            match self.receive().await {
                Received::Frame(_) => {}
                Received::Closed(code) => {
                    self.connection = None;
                    return code;
                }
            }
        }
    }

    /// Cuts the connection without a close frame. It stays cut until [`restore`](TestClient::restore). You can still
    /// read what the client received before.
    pub fn cut(&mut self) {
        self.receive_all();
        self.connection = None;
    }

    /// Makes the client read nothing and answer no heartbeats, as if its network were gone. The server notices this
    /// when a heartbeat times out. Call [`go_on`](TestClient::go_on) or [`restore`](TestClient::restore) to end it.
    pub fn stall(&mut self) {
        self.receive_all();
        self.connection().set_stalled(true);
    }

    /// Ends a [`stall`](TestClient::stall).
    pub fn go_on(&mut self) {
        self.connection().set_stalled(false);
    }

    /// Connects again, and enters the same rooms. A `chat-rooms.v1` client resumes its session, and then receives the
    /// frames that it has missed. Returns whether the session was resumed. If so, the other members have not noticed
    /// the lost connection.
    ///
    /// # Panics
    /// If the server refuses the connection or an enter.
    pub async fn restore(&mut self) -> bool {
        self.cut();
        let (resume, enters) = (self.session.resume(), self.session.enters());
        self.open().await.unwrap_or_else(|error| panic!("{error}"));
        if self.options.is_plain() {
            for enter in enters {
                let text = |key: &str| enter[key].as_str().unwrap_or_default().to_owned();
                self.enter(&text("message"), &text("roomId")).await;
            }
            return false;
        }
        let is_resumed = match resume {
            Some(resume) => self.resume(resume).await,
            None => false,
        };
        for enter in enters {
            let text = |key: &str| enter[key].as_str().unwrap_or_default().to_owned();
            let (name, room) = (text("message"), text("roomId"));
            self.send(enter).await;
            if let Err(error) = self.answer_to_enter(&name, &room).await {
                panic!("the enter was refused: {error}");
            }
        }
        is_resumed
    }

    /// Leaves: closes the connection with 1000, which ends the session, and waits for the end.
    pub async fn close(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.connection().send(Message::Close(Some(frame)));
        self.expect_close().await;
    }

    /// Opens a connection, and reads the `welcome`.
    async fn open(&mut self) -> Result<(), ConnectError> {
        self.connection = Some(self.options.open().await?);
        if self.options.is_plain() {
            return Ok(());
        }
        match self.receive().await {
            Received::Frame(welcome) if welcome["event"] == "welcome" => Ok(()),
            Received::Frame(frame) => {
                Err(ConnectError::Closed { frame: Some(frame), code: self.expect_close().await })
            }
            Received::Closed(code) => Err(ConnectError::Closed { frame: None, code }),
        }
    }

    /// Resumes a session. Returns whether there is one.
    async fn resume(&mut self, frame: Value) -> bool {
        self.send(frame).await;
        loop {
            match self.receive_raw().await {
                // The session of this connection has numbered it. It comes again.
                Received::Frame(frame) if direct_number(&frame).is_some() => {}
                Received::Frame(frame) if frame["event"] == "resumed" => return self.session.resumed(&frame),
                other => panic!("expected resumed, got {other:?}"),
            }
        }
    }

    async fn answer_to_enter(&mut self, name: &str, room: &str) -> Result<Value, Value> {
        let is_plain = self.options.is_plain();
        loop {
            let frame = self.read().await;
            let is_of_room = frame["roomId"] == room;
            match frame["event"].as_str() {
                Some("noAuth") => return Err(frame),
                // A plain client gets no room id in its errors.
                Some("error") if is_plain || is_of_room => return Err(frame),
                Some("enter") if is_plain && is_of_room && frame["name"] == name => return Ok(frame),
                Some("entered") if is_of_room => return Ok(frame),
                _ => self.unread.push_back(frame),
            }
        }
    }

    /// The next frame of the connection.
    async fn read(&mut self) -> Value {
        match self.receive().await {
            Received::Frame(frame) => frame,
            Received::Closed(code) => panic!("expected a frame, but the connection was closed with {code}"),
        }
    }

    /// As [`read`](TestClient::read), or the end.
    async fn receive(&mut self) -> Received {
        loop {
            match self.receive_raw().await {
                Received::Frame(frame) if !self.session.receive(&frame) => {}
                received => return received,
            }
        }
    }

    async fn receive_raw(&mut self) -> Received {
        let next = self.connection().next();
        timeout(PATIENCE, next).await.expect("nothing was received for ten minutes")
    }

    /// Moves what has been received to `unread`.
    fn receive_all(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        while let Some(frame) = connection.try_next_frame() {
            if self.session.receive(&frame) {
                self.unread.push_back(frame);
            }
        }
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("the connection is cut: call `restore` first")
    }
}

/// Whether a frame has these keys with these values.
fn has_all(frame: &Value, keys: &Value) -> bool {
    match keys {
        Value::Object(keys) => keys.iter().all(|(key, value)| frame.get(key) == Some(value)),
        other => frame == other,
    }
}

//! A client for tests.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::testing::caller::Caller;
use crate::testing::connection::{Connection, Received};
use crate::testing::options::{ConnectError, ConnectOptions};
use crate::testing::session::{Session, direct_number};

/// Longer than anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(600);

/// A client for tests, of `chat-rooms.v1` or of the plain protocol. Created by
/// [`TestServer::connect`](crate::testing::TestServer::connect).
///
/// A method that waits for a frame panics if another frame comes, and shows that frame. It also panics if nothing comes
/// for ten minutes of the runtime's time. The panic's message names the line of your test. All methods skip heartbeats,
/// which are answered in the background.
#[derive(Debug)]
pub struct TestClient {
    options: ConnectOptions,
    /// None while the connection is cut.
    connection: Option<Connection>,
    session: Session,
    /// What has been received, but not read by the test.
    unread: VecDeque<Value>,
    /// What a failure names: the line that has called the current method.
    caller: Caller,
}

impl TestClient {
    pub(super) async fn connect(options: ConnectOptions, caller: Caller) -> Result<TestClient, ConnectError> {
        let (session, unread) = (Session::default(), VecDeque::new());
        let mut client = TestClient { options, connection: None, session, unread, caller };
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
    #[track_caller]
    pub fn enter(&mut self, name: &str, room: &str) -> impl Future<Output = Value> {
        self.caller = Caller::here();
        async move { self.do_enter(name, room).await }
    }

    /// As [`enter`](TestClient::enter), but returns the server's answer if it refuses the enter.
    ///
    /// # Errors
    /// The frame `error`.
    #[track_caller]
    pub fn try_enter(&mut self, name: &str, room: &str) -> impl Future<Output = Result<Value, Value>> {
        self.caller = Caller::here();
        async move { self.do_try_enter(name, room).await }
    }

    /// Sends a message to the room that the client entered last.
    #[track_caller]
    pub fn say(&mut self, message: impl Into<Value>) -> impl Future<Output = ()> {
        self.caller = Caller::here();
        let mut frame = json!({"event": "message", "message": message.into()});
        if !self.options.is_plain() {
            frame["roomId"] = self.session.last_room().into();
        }
        self.do_send(frame)
    }

    /// Sends a frame.
    ///
    /// # Panics
    /// If the connection is cut.
    #[track_caller]
    pub fn send(&mut self, frame: Value) -> impl Future<Output = ()> {
        self.caller = Caller::here();
        self.do_send(frame)
    }

    /// Returns the next frame that is not a heartbeat.
    ///
    /// # Panics
    /// If the connection ends.
    #[expect(clippy::should_implement_trait, reason = "it returns a future")]
    #[track_caller]
    pub fn next(&mut self) -> impl Future<Output = Value> {
        self.caller = Caller::here();
        self.do_next()
    }

    /// Reads the next frame, which must have these keys with these values. It may have others.
    #[track_caller]
    pub fn expect(&mut self, keys: Value) -> impl Future<Output = Value> {
        self.caller = Caller::here();
        async move {
            let frame = self.do_next().await;
            if !has_all(&frame, &keys) {
                self.caller.fail(format_args!("expected {keys}, got {frame}"));
            }
            frame
        }
    }

    /// Skips frames up to the first that has these keys with these values.
    #[track_caller]
    pub fn skip_to(&mut self, keys: Value) -> impl Future<Output = Value> {
        self.caller = Caller::here();
        async move {
            loop {
                let frame = self.do_next().await;
                if has_all(&frame, &keys) {
                    return frame;
                }
            }
        }
    }

    /// Lets time pass, and panics if anything but heartbeats is received.
    #[track_caller]
    pub fn expect_silence(&mut self, time: Duration) -> impl Future<Output = ()> {
        self.caller = Caller::here();
        async move {
            sleep(time).await;
            self.receive_all();
            if !self.unread.is_empty() {
                self.caller.fail(format_args!("expected silence, got {:?}", self.unread));
            }
        }
    }

    /// Skips frames until the server closes the connection. Returns the close code, or 1006 without a close frame.
    #[track_caller]
    pub fn expect_close(&mut self) -> impl Future<Output = u16> {
        self.caller = Caller::here();
        self.do_expect_close()
    }

    /// Cuts the connection without a close frame. It stays cut until [`restore`](TestClient::restore). You can still
    /// read what the client received before.
    pub fn cut(&mut self) {
        self.receive_all();
        self.connection = None;
    }

    /// Makes the client read nothing and answer no heartbeats, as if its network were gone. The server notices this
    /// when a heartbeat times out. Call [`go_on`](TestClient::go_on) or [`restore`](TestClient::restore) to end it.
    #[track_caller]
    pub fn stall(&mut self) {
        self.caller = Caller::here();
        self.receive_all();
        self.connection().set_stalled(true);
    }

    /// Ends a [`stall`](TestClient::stall).
    #[track_caller]
    pub fn go_on(&mut self) {
        self.caller = Caller::here();
        self.connection().set_stalled(false);
    }

    /// Connects again, and enters the same rooms. A `chat-rooms.v1` client resumes its session, and then receives the
    /// frames that it has missed. Returns whether the session was resumed. If so, the other members have not noticed
    /// the lost connection.
    ///
    /// Missed messages that come from a message store are in the server's answer to the enter, which this method reads, so
    /// you do not receive them. To test what a client gets back, keep a [`History`](crate::History) in the test.
    ///
    /// # Panics
    /// If the server refuses the connection or an enter.
    #[track_caller]
    pub fn restore(&mut self) -> impl Future<Output = bool> {
        self.caller = Caller::here();
        self.do_restore()
    }

    /// Leaves: closes the connection with 1000, which ends the session, and waits for the end.
    #[track_caller]
    pub fn close(mut self) -> impl Future<Output = ()> {
        self.caller = Caller::here();
        async move {
            let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            self.connection().send(Message::Close(Some(frame)));
            self.do_expect_close().await;
        }
    }

    async fn do_enter(&mut self, name: &str, room: &str) -> Value {
        match self.do_try_enter(name, room).await {
            Ok(entered) => entered,
            Err(error) => self.caller.fail(format_args!("the enter was refused: {error}")),
        }
    }

    async fn do_try_enter(&mut self, name: &str, room: &str) -> Result<Value, Value> {
        self.do_send(json!({"event": "enter", "message": name, "roomId": room})).await;
        let entered = self.answer_to_enter(name, room).await?;
        if self.options.is_plain() {
            self.session.entered_plain(name, room);
        } else if entered["mode"] == "full" && entered["resumed"] == false && entered["hidden"] != true {
            let own = self.read().await;
            if own["event"] != "enter" || own["member"] != entered["member"] {
                self.caller.fail(format_args!("expected the client's own enter, got {own}"));
            }
        }
        Ok(entered)
    }

    async fn do_send(&mut self, frame: Value) {
        self.connection().send(Message::text(frame.to_string()));
        // Lets the frame go out before the test goes on.
        tokio::task::yield_now().await;
    }

    async fn do_next(&mut self) -> Value {
        match self.unread.pop_front() {
            Some(frame) => frame,
            None => self.read().await,
        }
    }

    async fn do_expect_close(&mut self) -> u16 {
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

    async fn do_restore(&mut self) -> bool {
        self.cut();
        let (resume, enters) = (self.session.resume(), self.session.enters());
        if let Err(error) = self.open().await {
            error.fail(self.caller, self.options.request_path());
        }
        if self.options.is_plain() {
            for enter in enters {
                let text = |key: &str| enter[key].as_str().unwrap_or_default().to_owned();
                self.do_enter(&text("message"), &text("roomId")).await;
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
            self.do_send(enter).await;
            if let Err(error) = self.answer_to_enter(&name, &room).await {
                self.caller.fail(format_args!("the enter was refused: {error}"));
            }
        }
        is_resumed
    }

    /// Opens a connection, and reads the `welcome`.
    async fn open(&mut self) -> Result<(), ConnectError> {
        self.connection = Some(self.options.open(self.caller).await?);
        if self.options.is_plain() {
            return Ok(());
        }
        match self.receive().await {
            Received::Frame(welcome) if welcome["event"] == "welcome" => Ok(()),
            Received::Frame(frame) => {
                Err(ConnectError::Closed { frame: Some(frame), code: self.do_expect_close().await })
            }
            Received::Closed(code) => Err(ConnectError::Closed { frame: None, code }),
        }
    }

    /// Resumes a session. Returns whether there is one.
    async fn resume(&mut self, frame: Value) -> bool {
        self.do_send(frame).await;
        loop {
            match self.receive_raw().await {
                // The session of this connection has numbered it. It comes again.
                Received::Frame(frame) if direct_number(&frame).is_some() => {}
                Received::Frame(frame) if frame["event"] == "resumed" => return self.session.resumed(&frame),
                other => self.caller.fail(format_args!("expected resumed, got {other:?}")),
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
            Received::Closed(code) => {
                self.caller.fail(format_args!("expected a frame, but the connection was closed with {code}"))
            }
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
        match timeout(PATIENCE, next).await {
            Ok(received) => received,
            Err(_) => self.caller.fail("nothing was received for ten minutes"),
        }
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
        match &mut self.connection {
            Some(connection) => connection,
            None => self.caller.fail("the connection is cut: call `restore` first"),
        }
    }
}

/// Whether a frame has these keys with these values.
fn has_all(frame: &Value, keys: &Value) -> bool {
    match keys {
        Value::Object(keys) => keys.iter().all(|(key, value)| frame.get(key) == Some(value)),
        other => frame == other,
    }
}

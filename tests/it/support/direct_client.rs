//! A `chat-rooms.v1` client of a user, with its direct frames over all of its connections.

use futures_util::FutureExt;
use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, User};

use super::{Client, run_other_tasks};

/// What an application learns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Got {
    /// A direct frame.
    Direct(Value),
    /// This many direct frames are lost.
    Gap(u64),
    /// The session is lost, and with it any number of direct frames.
    NewSession,
}

/// A client that is in no room, and loses its connection now and then.
pub(crate) struct DirectClient {
    user: &'static str,
    pub(crate) connection: Client,
    /// Whether the connection is open, as far as the client knows.
    pub(crate) is_open: bool,
    /// The tokens that it resumes with. The oldest one is that of its session.
    tokens: Vec<Value>,
    /// The token and the id of the current connection.
    own: (Value, Value),
    /// The session that numbered `last`.
    member: Value,
    /// The number of the last direct frame.
    last: u64,
    /// Whether the answer to a resume has yet to come. Until then, it ignores direct frames.
    is_resuming: bool,
    /// What it has got so far.
    pub(crate) got: Vec<Got>,
    /// The other frames that it has got.
    pub(crate) others: Vec<Value>,
}

impl DirectClient {
    pub(crate) async fn connect(rooms: &ChatRooms, user: &'static str) -> DirectClient {
        let mut client = DirectClient {
            user,
            connection: Client::disconnected().await,
            is_open: false,
            tokens: Vec::new(),
            own: (Value::Null, Value::Null),
            member: Value::Null,
            last: 0,
            is_resuming: false,
            got: Vec::new(),
            others: Vec::new(),
        };
        client.connect_again(rooms).await;
        client
    }

    /// Opens a new connection, and sends a resume if it has a session. Drops the old connection, which the server may
    /// take for open until now.
    pub(crate) async fn connect_again(&mut self, rooms: &ChatRooms) {
        self.open(rooms).await;
        self.send_resume().await;
    }

    /// Opens a new connection without resuming yet.
    pub(crate) async fn open(&mut self, rooms: &ChatRooms) {
        let (connection, welcome) = Client::connect_v1(rooms, Admission::user(User::new(self.user))).await;
        self.connection = connection;
        self.is_open = true;
        self.own = (welcome["resume"].clone(), welcome["connection"].clone());
        self.is_resuming = !self.tokens.is_empty();
        if !self.is_resuming {
            (self.member, self.last) = (self.own.1.clone(), 0);
            self.tokens = vec![self.own.0.clone()];
        }
    }

    /// Sends the resume, if there is a session to continue.
    pub(crate) async fn send_resume(&mut self) {
        if !self.is_resuming {
            return;
        }
        let mut resume = json!({"event": "resume", "message": self.tokens});
        if self.last > 0 {
            (resume["direct"], resume["member"]) = (self.last.into(), self.member.clone());
        }
        self.connection.send(resume).await;
        self.tokens.push(self.own.0.clone());
        if self.tokens.len() > 8 {
            self.tokens.remove(1);
        }
    }

    /// Reads everything that has arrived.
    pub(crate) async fn read(&mut self) {
        self.read_up_to(usize::MAX).await;
    }

    /// Reads at most this many frames that have arrived, heartbeats included.
    pub(crate) async fn read_up_to(&mut self, max: usize) {
        run_other_tasks().await;
        for _ in 0..max {
            if !self.is_open {
                return;
            }
            let Some(next) = self.connection.next_or_close().now_or_never() else { return };
            match next {
                super::Next::Frame(frame) => self.handle(frame),
                super::Next::Closed(_) => self.is_open = false,
            }
        }
    }

    /// Handles a frame as every client should.
    fn handle(&mut self, frame: Value) {
        if frame["event"] == "resumed" {
            return self.handle_resumed(&frame);
        }
        let Some(number) = frame["direct"].as_u64() else { return self.others.push(frame) };
        if self.is_resuming {
            return;
        }
        // A real client only has to ignore numbers that are not higher.
        assert_eq!(number, self.last + 1, "{frame} after {:?}", self.got);
        self.last = number;
        self.got.push(Got::Direct(frame));
    }

    fn handle_resumed(&mut self, resumed: &Value) {
        self.is_resuming = false;
        self.tokens = vec![self.own.0.clone()];
        let member = resumed.get("member").unwrap_or(&self.own.1).clone();
        if member != self.member {
            (self.member, self.last) = (member, 0);
            self.got.push(Got::NewSession);
        }
        let start = resumed.get("direct").map_or(0, |n| n.as_u64().unwrap());
        assert!(start >= self.last, "{resumed} after {}", self.last);
        if start > self.last {
            self.got.push(Got::Gap(start - self.last));
        }
        self.last = start;
    }

    /// Drops the connection without a close frame, and waits until the server has noticed.
    pub(crate) async fn disconnect(&mut self) {
        self.is_open = false;
        std::mem::replace(&mut self.connection, Client::disconnected().await).disconnect().await;
    }

    /// What it would resume with.
    pub(crate) fn tokens(&self) -> &[Value] {
        &self.tokens
    }

    /// What it has got since the last call, with the messages instead of the whole frames.
    pub(crate) fn take(&mut self) -> Vec<Value> {
        let describe = |got| match got {
            Got::Direct(frame) => frame["message"].clone(),
            Got::Gap(n) => json!({"gap": n}),
            Got::NewSession => json!("new session"),
        };
        self.got.drain(..).map(describe).collect()
    }
}

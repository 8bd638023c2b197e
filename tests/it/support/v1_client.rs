//! A `chat-rooms.v1` client that disconnects and resumes.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tower_chat_rooms::{Admission, ChatRooms, ChatRoomsBuilder, History, Recovery};

use super::{Client, EventLog, builder, enter_frame, enter_since};

pub(crate) const RESUME_WINDOW: Duration = Duration::from_secs(10);

/// Chat rooms with a resume window and a history.
pub(crate) fn recovering(log: &EventLog) -> ChatRoomsBuilder {
    builder()
        .recovery(Recovery::default().resume_window(RESUME_WINDOW).history(History::last(100)))
        .events(log.hook())
}

pub(crate) fn recovering_rooms() -> (ChatRooms, EventLog) {
    let log = EventLog::default();
    (recovering(&log).build().unwrap(), log)
}

/// A member of the room "r" over all of its connections.
pub(crate) struct V1Client {
    /// The current connection.
    pub(crate) connection: Client,
    pub(crate) name: &'static str,
    /// What it resumes with: the token of its current connection, and those that may still be valid.
    pub(crate) resume_tokens: Vec<Value>,
    /// The position in the room log up to which it has received the room.
    pub(crate) position: Value,
}

impl V1Client {
    /// Connects, enters, and reads up to its own enter.
    pub(crate) async fn enter(rooms: &ChatRooms, name: &'static str) -> V1Client {
        let (mut connection, welcome) = Client::connect_v1(rooms, Admission::anonymous()).await;
        connection.send(enter_frame(name, "r")).await;
        let entered = connection.next().await;
        assert_eq!(
            (&entered["event"], &entered["resumed"], &entered["recovered"]),
            (&json!("entered"), &json!(false), &json!(false))
        );
        let (resume_tokens, position) = (resume_tokens_in(&welcome), position_in(&entered));
        let mut client = V1Client { connection, name, resume_tokens, position };
        let own = client.next().await;
        assert_eq!((&own["event"], &own["name"]), (&json!("enter"), &json!(name)));
        client
    }

    /// Resumes and enters again on a new connection, with its resume tokens and position, and returns the `entered`
    /// frame.
    pub(crate) async fn reconnect(&mut self, rooms: &ChatRooms) -> Value {
        self.reconnect_as(rooms, Admission::anonymous()).await
    }

    pub(crate) async fn reconnect_as(&mut self, rooms: &ChatRooms, admission: Admission) -> Value {
        let (connection, welcome) = Client::connect_v1(rooms, admission).await;
        // The server may take the old connection for open until now.
        drop(std::mem::replace(&mut self.connection, connection));
        let enter = enter_since(self.name, "r", &self.position);
        let entered = self.connection.resume_and_enter(&self.resume_tokens, enter).await;
        assert_eq!(entered["event"], "entered", "{entered}");
        self.resume_tokens = resume_tokens_in(&welcome);
        let start = position_in(&entered);
        assert!(entered["recovered"] == false || start == self.position, "{entered}");
        self.position = start;
        entered
    }

    /// The next frame. Frames of the room must come in order and without a gap.
    pub(crate) async fn next(&mut self) -> Value {
        let frame = self.connection.next().await;
        if let Some(seq) = frame["seq"].as_u64()
            && frame["event"] != "ack"
        {
            assert_eq!(Some(seq), self.position["seq"].as_u64().map(|seq| seq + 1), "{frame}");
            self.position["seq"] = seq.into();
        }
        frame
    }

    pub(crate) async fn send_message(&mut self, message: impl Into<Value>) {
        self.connection.send(json!({"event": "message", "message": message.into()})).await;
    }

    pub(crate) async fn expect_message(&mut self, message: impl Into<Value>) {
        assert_eq!(self.next().await["message"], message.into());
    }

    /// Drops the connection without a close frame, and waits until the server has noticed.
    pub(crate) async fn disconnect(&mut self) {
        std::mem::replace(&mut self.connection, Client::disconnected().await).disconnect().await;
    }

    /// Lets time pass and answers heartbeats. No other frame may arrive.
    pub(crate) async fn answer_heartbeats_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.connection.answer_heartbeats().await;
            tokio::time::sleep((end - Instant::now()).min(Duration::from_millis(200))).await;
        }
        self.connection.answer_heartbeats().await;
    }
}

/// None if the server keeps no sessions.
fn resume_tokens_in(welcome: &Value) -> Vec<Value> {
    welcome.get("resume").cloned().into_iter().collect()
}

fn position_in(entered: &Value) -> Value {
    let seq = entered["seq"].as_u64().unwrap() - entered["replayed"].as_u64().unwrap();
    json!({"epoch": entered["epoch"], "seq": seq})
}

/// Whether the session was resumed, and whether the frames missed meanwhile follow.
pub(crate) fn resumed_and_recovered(entered: &Value) -> (bool, bool) {
    (entered["resumed"].as_bool().unwrap(), entered["recovered"].as_bool().unwrap())
}

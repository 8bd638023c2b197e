//! Frames of `chat-rooms.v1` that clients send and receive.

use serde_json::{Value, json};

use tower_chat_rooms::{Admission, ChatRooms};

use super::{Client, has_shared_broker, run_other_tasks};

pub(crate) fn enter_frame(name: &str, room: &str) -> Value {
    json!({"event": "enter", "message": name, "roomId": room})
}

/// An enter with a position.
pub(crate) fn enter_since(name: &str, room: &str, since: &Value) -> Value {
    json!({"event": "enter", "message": name, "roomId": room, "since": since})
}

pub(crate) fn leave_frame(room: &str) -> Value {
    json!({"event": "leave", "roomId": room})
}

/// The answer to a leave.
pub(crate) fn left_frame(room: &str) -> Value {
    json!({"event": "left", "roomId": room})
}

/// What a client gets that the server has removed from a room.
pub(crate) fn removed_frame(room: &str, code: &str, why: &str) -> Value {
    json!({"event": "left", "roomId": room, "code": code, "message": why})
}

pub(crate) fn resume_frame<'a>(tokens: impl IntoIterator<Item = &'a Value>) -> Value {
    json!({"event": "resume", "message": tokens.into_iter().collect::<Vec<_>>()})
}

/// The rooms in the answer to a resume, sorted. There are none if no session was resumed.
pub(crate) fn rooms_in(resumed: &Value) -> Vec<&str> {
    assert_eq!(resumed["event"], "resumed", "{resumed}");
    let rooms = resumed["rooms"].as_array().unwrap();
    assert_eq!(resumed["member"].is_string(), !rooms.is_empty(), "{resumed}");
    let mut ids: Vec<&str> = rooms.iter().map(|room| room["roomId"].as_str().unwrap()).collect();
    ids.sort();
    ids
}

pub(crate) fn message_frame(room: &str, message: impl Into<Value>) -> Value {
    json!({"event": "message", "message": message.into(), "roomId": room})
}

pub(crate) fn message_with_cid(room: &str, message: impl Into<Value>, cid: &str) -> Value {
    json!({"event": "message", "message": message.into(), "roomId": room, "cid": cid})
}

impl Client {
    /// Connects as an anonymous `chat-rooms.v1` client and enters these rooms. Returns its resume token too.
    pub(crate) async fn enter_rooms(rooms: &ChatRooms, name: &str, ids: &[&str]) -> (Client, Value) {
        let (mut client, welcome) = Client::connect_v1(rooms, Admission::anonymous()).await;
        for id in ids {
            client.enter_another(name, id).await;
        }
        (client, welcome["resume"].clone())
    }

    /// Enters a room, and reads the answer and its own enter. Returns the answer.
    pub(crate) async fn enter_another(&mut self, name: &str, room: &str) -> Value {
        self.send(enter_frame(name, room)).await;
        let entered = self.next().await;
        assert_eq!(
            (&entered["event"], &entered["roomId"], &entered["resumed"]),
            (&json!("entered"), &json!(room), &json!(false)),
            "{entered}"
        );
        let own = self.next().await;
        assert_eq!(
            (&own["event"], &own["roomId"], &own["name"]),
            (&json!("enter"), &json!(room), &json!(name)),
            "{own}"
        );
        entered
    }

    /// Leaves a room, and reads the answer.
    pub(crate) async fn leave(&mut self, room: &str) {
        self.send(leave_frame(room)).await;
        assert_eq!(self.next().await, left_frame(room));
    }

    /// Sends a message to a room, and receives it.
    pub(crate) async fn say(&mut self, room: &str, message: impl Into<Value>) {
        let message = message.into();
        self.send(message_frame(room, message.clone())).await;
        self.expect_message(room, message).await;
    }

    /// The next frame is this message in this room.
    pub(crate) async fn expect_message(&mut self, room: &str, message: impl Into<Value>) {
        let frame = self.next().await;
        assert_eq!((&frame["roomId"], &frame["message"]), (&json!(room), &message.into()), "{frame}");
    }

    /// The acknowledgement of a message that the client has sent, and the message. With a broker, the message may come first.
    pub(crate) async fn next_acknowledged(&mut self) -> [Value; 2] {
        let mut frames = [self.next().await, self.next().await];
        if has_shared_broker() {
            frames.sort_by_key(|frame| frame["event"] != "ack");
        }
        assert_eq!(frames[0]["event"], "ack", "{frames:?}");
        frames
    }

    /// Asserts that no frame except heartbeats comes after all tasks have run.
    pub(crate) async fn assert_quiet(&mut self) {
        run_other_tasks().await;
        self.answer_heartbeats().await;
    }

    /// Sends resume tokens, and returns the answer.
    pub(crate) async fn resume<'a>(&mut self, tokens: impl IntoIterator<Item = &'a Value>) -> Value {
        self.send(resume_frame(tokens)).await;
        self.next_resumed().await
    }

    /// Sends resume tokens and an enter at once. Returns the answer to the enter; it tells the same as the answer to the
    /// resume.
    pub(crate) async fn resume_and_enter<'a>(
        &mut self,
        tokens: impl IntoIterator<Item = &'a Value>,
        enter: Value,
    ) -> Value {
        let room = enter["roomId"].clone();
        self.send_at_once([resume_frame(tokens), enter]).await;
        self.next_return(&room).await
    }

    /// The answers to a resume and to an enter of this room; returns the latter. Both tell whether the client was a
    /// member.
    pub(crate) async fn next_return(&mut self, room: &Value) -> Value {
        let resumed = self.next_resumed().await;
        let was_member = rooms_in(&resumed).into_iter().any(|id| room == id);
        let answer = self.next().await;
        if answer["event"] == "entered" {
            assert_eq!((&answer["roomId"], &answer["resumed"]), (room, &json!(was_member)), "{resumed}");
        }
        answer
    }

    async fn next_resumed(&mut self) -> Value {
        let resumed = self.next().await;
        assert_eq!(resumed["event"], "resumed", "{resumed}");
        resumed
    }
}

/// Removes the id of a message or of its acknowledgement.
pub(crate) fn take_id(frame: &mut Value) -> u64 {
    let id = frame.as_object_mut().and_then(|frame| frame.remove("id"));
    id.as_ref().and_then(Value::as_u64).unwrap_or_else(|| panic!("no id: {frame}, {id:?}"))
}

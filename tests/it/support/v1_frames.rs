//! Frames of `chat-rooms.v1` that clients send and receive.

use serde_json::{Value, json};

use super::Client;

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

/// The rooms in the answer to a resume. They are empty if no session was resumed.
pub(crate) fn rooms_in(resumed: &Value) -> Vec<&str> {
    assert_eq!(resumed["event"], "resumed", "{resumed}");
    let rooms = resumed["rooms"].as_array().unwrap();
    assert_eq!(resumed["member"].is_string(), !rooms.is_empty(), "{resumed}");
    rooms.iter().map(|room| room["roomId"].as_str().unwrap()).collect()
}

pub(crate) fn message_frame(room: &str, message: impl Into<Value>) -> Value {
    json!({"event": "message", "message": message.into(), "roomId": room})
}

impl Client {
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

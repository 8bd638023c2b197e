//! An auth hook whose tokens expire.

use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, ChatRoomsBuilder, Denied, Heartbeat, User};

use super::{Client, builder};

const SECOND: Duration = Duration::from_secs(1);

/// Accepts tokens such as `u1:60`, a user and a number of seconds, or `u1`, which does not expire.
async fn on_token(token: String) -> Result<User, Denied> {
    if token == "wrong" { Err(Denied::new("no such token")) } else { Ok(user_of(&token)) }
}

/// The user of such a token.
pub(crate) fn user_of(token: &str) -> User {
    match token.split_once(':') {
        Some((id, seconds)) => User::new(id).expires_in(SECOND * seconds.parse().unwrap()),
        None => User::new(token),
    }
}

/// Chat rooms with this auth hook. Heartbeats are so rare that no test has to answer them.
pub(crate) fn with_expiring_tokens() -> ChatRoomsBuilder {
    builder().auth(on_token).heartbeat(Heartbeat::every(SECOND * 86_400))
}

/// Connects as the user of this token, and enters the room "r" as "ann". Returns the resume token too.
pub(crate) async fn enter_with_token(rooms: &ChatRooms, token: &str) -> (Client, Value) {
    let (client, welcome) = Client::enter_v1(rooms, Admission::user(user_of(token))).await;
    (client, welcome["resume"].clone())
}

impl Client {
    /// Sends a token.
    pub(crate) async fn send_token(&mut self, token: &str) {
        self.send(json!({"event": "auth", "message": token})).await;
    }

    /// Sends a token, which must be accepted. Skips the frames about it in the client's rooms.
    pub(crate) async fn authenticate(&mut self, token: &str) {
        self.send_token(token).await;
        let mut answer = self.next().await;
        while answer["event"] == "state" {
            answer = self.next().await;
        }
        assert_eq!(answer["event"], "authenticated");
    }

    /// Sends a message and receives it, after everything else that was sent has been handled.
    pub(crate) async fn round_trip(&mut self) {
        self.send(json!({"event": "message", "message": "round trip"})).await;
        assert_eq!(self.next().await["message"], "round trip");
    }
}

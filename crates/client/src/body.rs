//! The objects that an application sends.

use serde::Serialize;
use serde_json::{Map, Value};
use tower_chat_rooms_protocol::SERVER_EVENTS;

use crate::error::ClientError;

/// What only the protocol sets.
const RESERVED_KEYS: [&str; 7] = ["cid", "id", "member", "name", "num", "roomId", "seq"];

/// What only the protocol sets in direct messages.
const RESERVED_DIRECT_KEYS: [&str; 4] = ["cid", "direct", "from", "to"];

/// Events of the protocol that a client sends, but not as messages to a room.
const CLIENT_EVENTS: [&str; 8] =
    ["auth", "direct", "enter", "leave", "members", "presence", "resume", "state"];

/// An object that is sent to a room or to a user.
#[derive(Debug)]
pub(crate) struct Body {
    event: String,
    /// The object without its closing brace, the event first.
    text: String,
}

impl Body {
    /// An object with an event and a message.
    pub(crate) fn of_message(event: &str, message: &(impl Serialize + ?Sized)) -> Result<Body, ClientError> {
        let message = serde_json::to_value(message).map_err(|e| ClientError::Value(e.to_string()))?;
        Body::new(event, Map::from_iter([("message".into(), message)]))
    }

    /// An object with any keys. If it has no `event`, it is a `message`.
    pub(crate) fn of_object(value: &(impl Serialize + ?Sized)) -> Result<Body, ClientError> {
        let mut object = object(value)?;
        refuse_keys(&object, &RESERVED_KEYS)?;
        match object.remove("event") {
            None => Body::new("message", object),
            Some(Value::String(event)) => Body::new(&event, object),
            Some(_) => Err(ClientError::Value("\"event\" must be a string".into())),
        }
    }

    fn new(event: &str, rest: Map<String, Value>) -> Result<Body, ClientError> {
        if CLIENT_EVENTS.contains(&event) || SERVER_EVENTS.contains(&event) {
            return Err(ClientError::Value(format!("the event {event:?} is reserved by the protocol")));
        }
        Ok(Body::of(event, rest))
    }

    fn of(event: &str, rest: Map<String, Value>) -> Body {
        let mut text = format!(r#"{{"event":{}"#, Value::from(event));
        for (key, value) in rest {
            text.push_str(&format!(",{}:{value}", Value::from(key)));
        }
        Body { event: event.into(), text }
    }

    /// A direct message.
    pub(crate) fn of_direct(message: &(impl Serialize + ?Sized)) -> Result<Body, ClientError> {
        let message = serde_json::to_value(message).map_err(|e| ClientError::Value(e.to_string()))?;
        Ok(Body::of("direct", Map::from_iter([("message".into(), message)])))
    }

    /// A direct message with any keys.
    pub(crate) fn of_direct_object(value: &(impl Serialize + ?Sized)) -> Result<Body, ClientError> {
        let mut object = object(value)?;
        refuse_keys(&object, &RESERVED_DIRECT_KEYS)?;
        match object.remove("event") {
            None => {}
            Some(event) if event == "direct" => {}
            Some(_) => {
                return Err(ClientError::Value(
                    "the \"event\" of a direct message must be \"direct\"".into(),
                ));
            }
        }
        Ok(Body::of("direct", object))
    }

    pub(crate) fn event(&self) -> &str {
        &self.event
    }

    /// The frame that publishes the object in a room, with a message id.
    pub(crate) fn message(&self, room: &str, cid: &str) -> String {
        format!(r#"{},"roomId":{},"cid":"{cid}"}}"#, self.text, Value::from(room))
    }

    /// The frame that sends the object to a user, with a message id.
    pub(crate) fn direct(&self, user: &str, cid: &str) -> String {
        format!(r#"{},"to":{},"cid":"{cid}"}}"#, self.text, Value::from(user))
    }

    /// The frame that publishes the object in a room, without a message id.
    pub(crate) fn transient(&self, room: &str) -> String {
        format!(r#"{},"roomId":{}}}"#, self.text, Value::from(room))
    }
}

fn object(value: &(impl Serialize + ?Sized)) -> Result<Map<String, Value>, ClientError> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ClientError::Value("the value is not a JSON object; pass a map or a struct".into())),
        Err(e) => Err(ClientError::Value(e.to_string())),
    }
}

/// Refuses an object with keys that the protocol reserves.
fn refuse_keys(object: &Map<String, Value>, reserved: &[&str]) -> Result<(), ClientError> {
    match reserved.iter().find(|key| object.contains_key(**key)) {
        Some(key) => Err(ClientError::Value(format!("the key {key:?} is reserved by the protocol"))),
        None => Ok(()),
    }
}

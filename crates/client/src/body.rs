//! The objects that an application sends.

use serde::Serialize;
use serde_json::{Map, Value};
use tower_chat_rooms_protocol::SERVER_EVENTS;

use crate::error::ClientError;

/// What only the protocol sets.
const RESERVED_KEYS: [&str; 6] = ["cid", "member", "name", "num", "roomId", "seq"];

/// An object that is sent to a room.
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
        let refuse = |text: String| Err(ClientError::Value(text));
        let mut object = match serde_json::to_value(value) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return refuse("the value is not a JSON object; pass a map or a struct".into()),
            Err(e) => return refuse(e.to_string()),
        };
        if let Some(key) = RESERVED_KEYS.into_iter().find(|key| object.contains_key(*key)) {
            return refuse(format!("the key {key:?} is reserved by the protocol"));
        }
        match object.remove("event") {
            None => Body::new("message", object),
            Some(Value::String(event)) => Body::new(&event, object),
            Some(_) => refuse("\"event\" must be a string".into()),
        }
    }

    fn new(event: &str, rest: Map<String, Value>) -> Result<Body, ClientError> {
        if ["auth", "enter", "leave", "resume"].contains(&event) || SERVER_EVENTS.contains(&event) {
            return Err(ClientError::Value(format!("the event {event:?} is reserved by the protocol")));
        }
        let mut text = format!(r#"{{"event":{}"#, Value::from(event));
        for (key, value) in rest {
            text.push_str(&format!(",{}:{value}", Value::from(key)));
        }
        Ok(Body { event: event.into(), text })
    }

    pub(crate) fn event(&self) -> &str {
        &self.event
    }

    /// The frame that publishes the object in a room, with a message id.
    pub(crate) fn message(&self, room: &str, cid: &str) -> String {
        format!(r#"{},"roomId":{},"cid":"{cid}"}}"#, self.text, Value::from(room))
    }

    /// The frame that publishes the object in a room, without a message id.
    pub(crate) fn transient(&self, room: &str) -> String {
        format!(r#"{},"roomId":{}}}"#, self.text, Value::from(room))
    }
}

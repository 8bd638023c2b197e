//! Frames that the host sends.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tower_chat_rooms_protocol::MAX_PROFILE_BYTES;

use crate::error::SendError;
use crate::protocol::frame;
use crate::protocol::inbound;
use crate::protocol::presence::MAX_PROFILE_DEPTH;
use crate::protocol::subprotocol::Subprotocol;

/// Serializes a value that must be a JSON object with a string `event`.
pub(crate) fn serialize(value: &impl Serialize) -> Result<String, SendError> {
    let text = serde_json::to_string(value).map_err(|e| SendError::Json(e.into()))?;
    if !text.starts_with('{') {
        return Err(SendError::NotAnObject);
    }
    if inbound::event_of(&text).is_none() {
        return Err(SendError::NoEvent);
    }
    Ok(text)
}

/// A frame for single connections.
pub(crate) struct HostFrame {
    plain: Bytes,
    v1: Bytes,
}

impl HostFrame {
    pub(crate) fn new(object: &str) -> HostFrame {
        let plain = frame::text(object.as_bytes());
        let v1 = match without_direct(object) {
            Cow::Borrowed(_) => plain.clone(),
            Cow::Owned(object) => frame::text(object.as_bytes()),
        };
        HostFrame { plain, v1 }
    }

    pub(crate) fn of(&self, subprotocol: Subprotocol) -> &Bytes {
        match subprotocol {
            Subprotocol::Plain => &self.plain,
            Subprotocol::V1 => &self.v1,
        }
    }
}

/// The same object without the key `direct`: in `chat-rooms.v1`, it is the number of a direct frame.
fn without_direct(object: &str) -> Cow<'_, str> {
    // A key may be written with escapes only where the host has put JSON text into the value.
    if !object.contains("direct") && !object.contains("\\u") {
        return object.into();
    }
    format!("{}}}", inbound::without_keys(object, &["direct"])).into()
}

/// Serializes the info of a member, which may be any JSON value. `null` is no info.
pub(crate) fn info(value: &impl Serialize) -> Result<Option<Arc<str>>, SendError> {
    let text = serde_json::to_string(value).map_err(|e| SendError::Json(e.into()))?;
    if text.len() > MAX_PROFILE_BYTES {
        return Err(SendError::InfoTooBig);
    }
    if inbound::is_deeper(&text, MAX_PROFILE_DEPTH) {
        return Err(SendError::InfoTooDeep);
    }
    Ok((text != "null").then(|| text.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_info_is_any_json_of_bounded_length() {
        for (value, text) in
            [(json!({"a": [1]}), Some("{\"a\":[1]}")), (json!("x"), Some("\"x\"")), (json!(null), None)]
        {
            assert_eq!(info(&value).unwrap().as_deref(), text);
        }
        assert!(info(&"x".repeat(MAX_PROFILE_BYTES - 2)).is_ok());
        assert!(matches!(info(&"x".repeat(MAX_PROFILE_BYTES - 1)), Err(SendError::InfoTooBig)));
        let nested = |depth| (0..depth).fold(json!(null), |value, _| json!([value]));
        assert!(info(&nested(MAX_PROFILE_DEPTH)).is_ok());
        assert!(matches!(info(&nested(MAX_PROFILE_DEPTH + 1)), Err(SendError::InfoTooDeep)));
    }

    #[test]
    fn only_objects_with_an_event_are_frames() {
        assert_eq!(serialize(&json!({"event": "x", "a": 1})).unwrap(), r#"{"a":1,"event":"x"}"#);
        for value in [json!({}), json!({"a": 1}), json!({"event": 1}), json!({"event": null})] {
            assert!(matches!(serialize(&value), Err(SendError::NoEvent)), "{value}");
        }
        for value in [json!([{"event": "x"}]), json!("event"), json!(null)] {
            assert!(matches!(serialize(&value), Err(SendError::NotAnObject)), "{value}");
        }
        let not_json = std::collections::HashMap::from([((), ())]);
        assert!(matches!(serialize(&not_json), Err(SendError::Json(_))));
    }

    #[test]
    fn the_number_of_direct_frames_is_removed() {
        for (object, want) in [
            (r#"{"event":"x","a":"\u0061"}"#, r#"{"event":"x","a":"\u0061"}"#),
            (r#"{"event":"direct","direct":1,"a":{"direct":2}}"#, r#"{"event":"direct","a":{"direct":2}}"#),
            (r#"{"event":"x","\u0064irect":1}"#, r#"{"event":"x"}"#),
        ] {
            assert_eq!(without_direct(object), want);
        }
    }
}

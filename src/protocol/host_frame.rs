//! Frames that the host sends.

use std::sync::Arc;

use serde::Serialize;
use tower_chat_rooms_protocol::MAX_PROFILE_BYTES;

use crate::error::SendError;
use crate::protocol::inbound;

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

/// Serializes the info of a member, which may be any JSON value. `null` is no info.
pub(crate) fn info(value: &impl Serialize) -> Result<Option<Arc<str>>, SendError> {
    let text = serde_json::to_string(value).map_err(|e| SendError::Json(e.into()))?;
    if text.len() > MAX_PROFILE_BYTES {
        return Err(SendError::InfoTooBig);
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
}

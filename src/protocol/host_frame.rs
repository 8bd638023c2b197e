//! Frames that the host sends.

use serde::Serialize;

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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

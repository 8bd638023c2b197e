//! A client's request for earlier messages of a room.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use super::room_field::RoomField;
use crate::ids::MessageId;
use crate::protocol::error_code::{ErrorCode, PeerError};

/// A request for earlier messages of a room.
#[derive(Debug, PartialEq)]
pub(crate) struct HistoryRequest<'a> {
    pub(crate) room: Option<RoomField<'a>>,
    /// As a message's `cid`, unparsed.
    pub(crate) cid: Option<&'a str>,
    pub(crate) keys: HistoryKeys,
}

/// Which messages a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HistoryKeys {
    pub(crate) before: Option<MessageId>,
    pub(crate) after: Option<MessageId>,
    pub(crate) limit: Option<usize>,
}

impl HistoryKeys {
    /// Parses the keys of a frame.
    pub(super) fn parse(text: &str) -> Result<HistoryKeys, PeerError> {
        let wrong = || {
            let text = "\"history\" needs as \"before\" or \"after\" the id of a message, not both, and as \"limit\" a number \
                        of messages";
            PeerError::new(ErrorCode::BadShape, text)
        };
        let keys: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text).map_err(|_| wrong())?;
        let number = |key| match keys.get(key) {
            None => Ok(None),
            Some(number) => number.get().parse::<u64>().map(Some).map_err(|_| wrong()),
        };
        let id = |key| match number(key)? {
            None => Ok(None),
            Some(number) => MessageId::from_u64(number).map(Some).ok_or_else(wrong),
        };
        let (before, after, limit) = (id("before")?, id("after")?, number("limit")?);
        match (before, after, limit) {
            (Some(_), Some(_), _) | (_, _, Some(0)) => Err(wrong()),
            _ => Ok(HistoryKeys {
                before,
                after,
                limit: limit.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_one_end() {
        let id = MessageId::from_u64(7);
        let keys = |before, after, limit| Ok(HistoryKeys { before, after, limit });
        for (text, want) in [
            (r#"{"event":"history"}"#, keys(None, None, None)),
            (r#"{"before":7,"limit":3,"other":[1]}"#, keys(id, None, Some(3))),
            (r#"{"after":7}"#, keys(None, id, None)),
        ] {
            assert_eq!(HistoryKeys::parse(text), want, "{text}");
        }
        for text in [
            r#"{"before":7,"after":7}"#,
            r#"{"before":"7"}"#,
            r#"{"before":-7}"#,
            r#"{"after":9007199254740992}"#,
            r#"{"limit":0}"#,
            r#"{"limit":1.5}"#,
        ] {
            assert_eq!(HistoryKeys::parse(text).unwrap_err().code, ErrorCode::BadShape, "{text}");
        }
    }
}

//! Direct messages: frames for all sessions of a user. Each session numbers its own.

use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::Value;

use crate::ids::ConnectionId;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::frame;
use crate::protocol::inbound::without_keys;
use crate::protocol::json::quote;

/// Keys of a client's direct message that are not relayed: the server sets them itself, or they say where to send the
/// message.
pub(super) const NOT_RELAYED: [&str; 8] = ["to", "from", "direct", "roomId", "name", "num", "seq", "member"];

/// A direct message without its number. All sessions that it is sent to share it, and identify it by its address in
/// memory.
#[derive(Debug)]
pub(crate) struct DirectFrame {
    /// The object up to its closing brace, without `direct`.
    v1: Box<str>,
    /// The object for plain clients, if it has a `direct` of its own.
    original: Option<Box<str>>,
    /// The whole frame for plain clients, once there is one: sessions keep the message for some time.
    plain: OnceLock<Bytes>,
}

impl DirectFrame {
    /// A frame of the host: a JSON object with an `event`.
    pub(crate) fn of_host(object: &str) -> DirectFrame {
        let v1 = without_keys(object, &["direct"]);
        let is_unchanged = object.strip_suffix('}') == Some(&v1);
        let original = (!is_unchanged).then(|| object.into());
        DirectFrame { v1: v1.into(), original, plain: OnceLock::new() }
    }

    /// A message from the user with this id, and with this name if it has one of its own. `body` is an object up to its
    /// closing brace, without the keys that are [`NOT_RELAYED`].
    pub(crate) fn of_user(body: &str, id: &str, name: Option<&str>) -> DirectFrame {
        let name = name.map_or(String::new(), |name| format!(r#","name":{}"#, quote(name)));
        let v1 = format!(r#"{body},"from":{{"user":{}{name}}}"#, quote(id));
        DirectFrame { v1: v1.into(), original: None, plain: OnceLock::new() }
    }

    /// A frame with this [`DirectFrame::text`], which another node has sent.
    pub(crate) fn of_text(text: &str) -> DirectFrame {
        DirectFrame { v1: text.into(), original: None, plain: OnceLock::new() }
    }

    /// The text of a user's message, for other nodes.
    pub(crate) fn text(&self) -> &str {
        &self.v1
    }

    /// Its length in bytes, without the number.
    pub(crate) fn len(&self) -> usize {
        self.v1.len()
    }

    /// The frame for plain clients.
    pub(crate) fn plain(&self) -> &Bytes {
        self.plain.get_or_init(|| match &self.original {
            Some(original) => frame::text(original.as_bytes()),
            None => frame::text(format!("{}}}", self.v1).as_bytes()),
        })
    }

    /// Appends the frame for `chat-rooms.v1` with this number.
    pub(crate) fn push_numbered(&self, out: &mut Vec<u8>, number: u64) {
        let tail = format!(r#","direct":{number}}}"#);
        frame::push_text(out, &[self.v1.as_bytes(), tail.as_bytes()]);
    }
}

/// The body of a policy's replacement for a client's message, up to its closing brace.
pub(crate) fn replacement(object: &str, cid: Option<&str>) -> String {
    let mut body = without_keys(object, &[&NOT_RELAYED[..], &["cid"]].concat());
    if let Some(cid) = cid {
        body.push_str(&format!(r#","cid":{}"#, quote(cid)));
    }
    body
}

/// `{"event":"ack","cid":CID,"reached":N}`
pub(crate) fn ack(cid: &str, reached: u64) -> String {
    format!(r#"{{"event":"ack","cid":{},"reached":{reached}}}"#, quote(cid))
}

/// The last direct frame that a client has received, according to its resume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LastDirect {
    number: u64,
    /// The session that numbered it. `None` if the client does not say.
    member: Option<ConnectionId>,
}

impl LastDirect {
    /// Reads the keys `direct` and `member` of a resume.
    pub(crate) fn of_resume(text: &str) -> Result<LastDirect, PeerError> {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let wrong = |text| PeerError::new(ErrorCode::BadShape, text);
        let number = match &value["direct"] {
            Value::Null => 0,
            number => number.as_u64().ok_or_else(|| wrong("\"direct\" must be the number of a frame"))?,
        };
        let member = match &value["member"] {
            Value::Null => None,
            Value::String(id) => id.parse().ok(),
            _ => return Err(wrong("\"member\" must be a string")),
        };
        let is_of_other_server = value["member"].is_string() && member.is_none();
        Ok(if is_of_other_server { LastDirect::default() } else { LastDirect { number, member } })
    }

    /// The number in this session; 0 if another session numbered it.
    pub(crate) fn in_session(self, session: ConnectionId) -> u64 {
        if self.member.is_none_or(|member| member == session) { self.number } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_str, json};

    use super::*;

    fn numbered(frame: &DirectFrame, number: u64) -> Value {
        let mut bytes = Vec::new();
        frame.push_numbered(&mut bytes, number);
        from_str(std::str::from_utf8(frame::payload(&bytes)).unwrap()).unwrap()
    }

    #[test]
    fn the_server_sets_the_number_of_a_host_frame() {
        let frame = DirectFrame::of_host(r#"{"direct":"x","event":"e","roomId":"r"}"#);
        assert_eq!(numbered(&frame, 7), json!({"event": "e", "roomId": "r", "direct": 7}));
        assert_eq!(frame::payload(frame.plain()), br#"{"direct":"x","event":"e","roomId":"r"}"#);
        let frame = DirectFrame::of_host(r#"{"event":"e"}"#);
        assert_eq!(numbered(&frame, 1), json!({"event": "e", "direct": 1}));
    }

    #[test]
    fn the_server_sets_the_sender() {
        let body = r#"{"event":"direct","message":{"direct":1}"#;
        let named = DirectFrame::of_user(body, "u\"1", Some("Ann"));
        let want = json!({
            "event": "direct", "message": {"direct": 1}, "from": {"user": "u\"1", "name": "Ann"}, "direct": 3,
        });
        assert_eq!(numbered(&named, 3), want);
        let unnamed = DirectFrame::of_user(body, "u", None);
        let plain: Value = serde_json::from_slice(frame::payload(unnamed.plain())).unwrap();
        assert_eq!(plain, json!({"event": "direct", "message": {"direct": 1}, "from": {"user": "u"}}));
    }

    #[test]
    fn a_replacement_has_the_cid_of_the_original() {
        let object = r#"{"event":"e","cid":"other","to":"x","from":1,"name":2,"a":3}"#;
        let body = |cid| from_str::<Value>(&format!("{}}}", replacement(object, cid))).unwrap();
        assert_eq!(body(Some("c\"")), json!({"event": "e", "a": 3, "cid": "c\""}));
        assert_eq!(body(None), json!({"event": "e", "a": 3}));
    }

    #[test]
    fn the_last_direct_frame_of_a_resume() {
        let id = ConnectionId(7);
        for (keys, want) in [
            ("", 0),
            (r#","direct":5"#, 5),
            (r#","direct":null,"member":null"#, 0),
            (r#","direct":5,"member":"7""#, 5),
            (r#","direct":5,"member":"8""#, 0),
            (r#","direct":5,"member":"of another server""#, 0),
        ] {
            let last = LastDirect::of_resume(&format!(r#"{{"event":"resume"{keys}}}"#)).unwrap();
            assert_eq!(last.in_session(id), want, "{keys}");
        }
        for keys in [r#","direct":"5""#, r#","direct":-1"#, r#","direct":1.5"#, r#","direct":5,"member":7"#] {
            let error = LastDirect::of_resume(&format!(r#"{{"event":"resume"{keys}}}"#)).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadShape, "{keys}");
        }
    }
}

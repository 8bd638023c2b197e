//! The frames that the server makes itself, and the fragment it adds to relayed ones.

use serde_json::to_string;

/// What a relayed frame gets appended before `num`: `,"name":"…","num":`, to stand between
/// the sender's object without its closing brace and the count.
pub(crate) fn name_and_num(name: &str) -> Box<str> {
    format!(r#","name":{},"num":"#, json(name)).into()
}

/// `{"event":"heartbeat","message":"ping","num":N}`
pub(crate) fn heartbeat(num: usize) -> String {
    format!(r#"{{"event":"heartbeat","message":"ping","num":{num}}}"#)
}

/// `{"event":"out","name":NAME,"num":`, to be closed by the count and a brace.
pub(crate) fn out(name: &str) -> String {
    format!(r#"{{"event":"out","name":{},"num":"#, json(name))
}

/// `{"event":"noAuth","message":REASON}`
pub(crate) fn no_auth(reason: &str) -> String {
    format!(r#"{{"event":"noAuth","message":{}}}"#, json(reason))
}

/// `{"event":"error","code":CODE,"message":TEXT}`
pub(crate) fn error(code: &str, text: &str) -> String {
    format!(r#"{{"event":"error","code":"{code}","message":{}}}"#, json(text))
}

/// A text as JSON.
pub(crate) fn json(text: &str) -> String {
    // A string always serializes; the empty one is better than a panic.
    to_string(text).unwrap_or_else(|_| "\"\"".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_str, json};

    #[test]
    fn frames_are_json_with_exactly_these_keys() {
        let name = "a\"b\\\u{1}小";
        let relayed = format!(r#"{{"event":"x"{}7}}"#, name_and_num(name));
        let out = format!("{}7}}", out(name));
        for (text, want) in [
            (relayed, json!({"event": "x", "name": name, "num": 7})),
            (out, json!({"event": "out", "name": name, "num": 7})),
            (heartbeat(3), json!({"event": "heartbeat", "message": "ping", "num": 3})),
            (no_auth(name), json!({"event": "noAuth", "message": name})),
            (error("bad_json", name), json!({"event": "error", "code": "bad_json", "message": name})),
        ] {
            assert_eq!(from_str::<Value>(&text).unwrap(), want);
        }
    }
}

//! Parses what the server sends.

use std::time::Duration;

use serde_json::{Map, Value};

/// A frame from the server.
#[derive(Debug, PartialEq)]
pub(crate) enum Incoming {
    Heartbeat,
    Welcome(Welcome),
    Entered(Entered),
    Ack {
        cid: String,
        seq: u64,
    },
    NoAuth(String),
    Authenticated,
    Error {
        code: String,
        message: String,
        cid: Option<String>,
    },
    /// The server dropped this many of the room's frames, because the client reads too slowly.
    Lagged(u64),
    /// A frame of the room or, without a `seq`, of the host to this connection only.
    Frame(Map<String, Value>),
}

/// The first frame of a connection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Welcome {
    /// Resumes the session, if the server has a resume window.
    pub(crate) resume_token: Option<String>,
    /// A connection is dead once nothing was received for this long.
    pub(crate) timeout: Duration,
    /// How often the server expects a sign of life.
    pub(crate) interval: Duration,
    pub(crate) message_bytes: usize,
    pub(crate) cid_bytes: usize,
    /// Most messages that may be unacknowledged.
    pub(crate) window: usize,
}

/// The answer to an enter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entered {
    pub(crate) name: String,
    /// The id of the session as a member of the room.
    pub(crate) member: String,
    pub(crate) epoch: String,
    pub(crate) seq: u64,
    pub(crate) num: u64,
    pub(crate) resumed: bool,
    pub(crate) recovered: bool,
    /// How many frames up to `seq` follow.
    pub(crate) replayed: u64,
}

/// Heartbeat interval and timeout in milliseconds, for a welcome without them.
const DEFAULT_HEARTBEAT: u64 = 1000;

/// Longest wait that the client grants a server, in seconds.
const MAX_RETRY: u64 = 24 * 60 * 60;

impl Incoming {
    /// Returns `None` if the text is not a JSON object with an `event`, or lacks a key that its event
    /// needs.
    pub(crate) fn parse(text: &str) -> Option<Incoming> {
        let object: Map<String, Value> = serde_json::from_str(text).ok()?;
        let event = object.get("event")?.as_str()?;
        Some(match event {
            "heartbeat" => Incoming::Heartbeat,
            "welcome" => Incoming::Welcome(Welcome::of(&object)),
            "entered" => Incoming::Entered(Entered::of(&object)?),
            "ack" => {
                let seq = object.get("seq")?.as_u64()?;
                Incoming::Ack { cid: string(&object, "cid")?, seq }
            }
            "authenticated" => Incoming::Authenticated,
            "noAuth" => Incoming::NoAuth(string(&object, "message").unwrap_or_default()),
            "error" => Incoming::Error {
                code: string(&object, "code").unwrap_or_default(),
                message: string(&object, "message").unwrap_or_default(),
                cid: string(&object, "cid"),
            },
            "lagged" => Incoming::Lagged(object.get("missed")?.as_u64()?),
            _ => Incoming::Frame(object),
        })
    }
}

impl Welcome {
    fn of(object: &Map<String, Value>) -> Welcome {
        let time = |key| {
            let ms = object.get("heartbeat").and_then(|h| h.get(key)).and_then(Value::as_u64);
            Duration::from_millis(ms.unwrap_or(DEFAULT_HEARTBEAT))
        };
        // `null` means no limit.
        let limit = |key| {
            let limit = object.get("limits").and_then(|l| l.get(key)).and_then(Value::as_u64);
            limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
        };
        Welcome {
            resume_token: string(object, "resume"),
            timeout: time("interval").saturating_add(time("timeout")),
            interval: time("interval"),
            message_bytes: limit("messageBytes"),
            cid_bytes: limit("cidBytes"),
            window: limit("cids"),
        }
    }
}

impl Entered {
    fn of(object: &Map<String, Value>) -> Option<Entered> {
        let flag = |key| object.get(key).and_then(Value::as_bool).unwrap_or(false);
        Some(Entered {
            name: string(object, "name").unwrap_or_default(),
            member: string(object, "member").unwrap_or_default(),
            epoch: string(object, "epoch")?,
            seq: object.get("seq")?.as_u64()?,
            num: object.get("num").and_then(Value::as_u64).unwrap_or(0),
            resumed: flag("resumed"),
            recovered: flag("recovered"),
            replayed: object.get("replayed").and_then(Value::as_u64).unwrap_or(0),
        })
    }
}

fn string(object: &Map<String, Value>, key: &str) -> Option<String> {
    object.get(key)?.as_str().map(Into::into)
}

/// The wait that a close frame asks for at the end of its reason: `retry in N s`.
pub(crate) fn retry_in(reason: &str) -> Option<Duration> {
    let (before, seconds) = reason.strip_suffix(" s")?.rsplit_once(' ')?;
    if !before.ends_with("retry in") {
        return None;
    }
    retry_after(seconds)
}

/// The wait in a `Retry-After` header in seconds.
pub(crate) fn retry_after(seconds: &str) -> Option<Duration> {
    if !seconds.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: u64 = seconds.parse().ok()?;
    Some(Duration::from_secs(seconds.min(MAX_RETRY)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_close_reason_may_ask_for_a_wait() {
        let secs = |n| Some(Duration::from_secs(n));
        assert_eq!(retry_in("the server restarts; retry in 5 s"), secs(5));
        assert_eq!(retry_in("retry in 0 s"), secs(0));
        assert_eq!(retry_in("retry in 99999999999 s"), secs(MAX_RETRY));
        for none in
            ["", "retry in s", "retry in -1 s", "retry in 5 s.", "5 s", "retry in 99999999999999999999 s"]
        {
            assert_eq!(retry_in(none), None, "{none}");
        }
    }

    #[test]
    fn a_limit_that_is_missing_or_null_is_no_limit() {
        let text = r#"{"event":"welcome","heartbeat":{"interval":2000,"timeout":500},
                       "limits":{"messageBytes":null,"cids":7},"resumeWindow":0}"#;
        let Some(Incoming::Welcome(welcome)) = Incoming::parse(text) else { panic!() };
        assert_eq!((welcome.resume_token, welcome.timeout), (None, Duration::from_millis(2500)));
        assert_eq!((welcome.message_bytes, welcome.cid_bytes, welcome.window), (usize::MAX, usize::MAX, 7));
    }

    #[test]
    fn invalid_frames_are_none() {
        for text in ["", "null", "[]", "{}", r#"{"event":1}"#, r#"{"event":"ack","cid":"c"}"#] {
            assert_eq!(Incoming::parse(text), None, "{text}");
        }
        assert!(matches!(Incoming::parse(r#"{"event":"new","a":1}"#), Some(Incoming::Frame(_))));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in r#"\{"event":"(welcome|entered|ack|error|noAuth)",.{0,40}\}"#, any in ".{0,30}") {
            let _ = Incoming::parse(&text);
            let _ = retry_in(&any);
        }
    }
}

//! Parses what the server sends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::retry_hint::MAX_WAIT;

/// A frame from the server.
#[derive(Debug, PartialEq)]
pub(crate) enum Incoming {
    /// A heartbeat, to be answered.
    Heartbeat,
    /// The answer to a heartbeat of this client.
    Pong,
    Welcome(Welcome),
    Entered(Entered),
    Left(Left),
    /// The answer to a resume.
    Resumed(Resumed),
    Ack {
        cid: String,
        seq: u64,
    },
    /// A token was accepted.
    Authenticated,
    /// The user's authentication expires after this time.
    Expiring(Duration),
    NoAuth(String),
    Error(ServerError),
    /// The server dropped frames of a room, because the client reads too slowly.
    Lagged {
        room: Option<String>,
        missed: u64,
    },
    /// A frame of a room or, without a `seq`, a frame from the host to this connection only.
    Frame(Map<String, Value>),
    /// A text that is not a JSON object that this client can represent. It may be a frame of a room.
    Unreadable {
        room: Option<String>,
        seq: Option<u64>,
        why: String,
    },
    /// A frame of the protocol that lacks required keys.
    Malformed(&'static str),
}

/// The first frame of a connection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Welcome {
    /// Resumes the session, if the server has a resume window.
    pub(crate) resume_token: Option<String>,
    /// How often the server sends a heartbeat.
    pub(crate) interval: Duration,
    /// A connection is dead once nothing was received for this long.
    pub(crate) silence: Duration,
    pub(crate) message_bytes: usize,
    /// How many message ids the server remembers: the maximum number of unacknowledged messages.
    pub(crate) cids: usize,
    pub(crate) rates: Rates,
    pub(crate) transient_events: Arc<[String]>,
}

/// How much a client may send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rates {
    /// Messages per second.
    pub(crate) messages: Option<f64>,
    /// Bytes of messages per second.
    pub(crate) bytes: Option<f64>,
    /// Transient frames per second. They do not count as messages.
    pub(crate) transient: Option<f64>,
    /// How many seconds' worth may be sent in one burst.
    pub(crate) burst: f64,
    /// The connection starts without a burst.
    pub(crate) is_empty: bool,
}

/// The answer to an enter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entered {
    pub(crate) room: Option<String>,
    pub(crate) name: String,
    pub(crate) member: String,
    pub(crate) epoch: String,
    pub(crate) seq: u64,
    pub(crate) num: u64,
    pub(crate) resumed: bool,
    pub(crate) recovered: bool,
    /// How many frames follow as a replay, if the server says so.
    pub(crate) replayed: Option<u64>,
    /// How many messages from before the enter come first.
    pub(crate) history: u64,
}

/// The client is no longer in a room.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Left {
    pub(crate) room: Option<String>,
    /// Why the server has removed it; `None` if it has asked to leave.
    pub(crate) removal: Option<Removal>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Removal {
    pub(crate) code: String,
    pub(crate) message: String,
}

/// The answer to a resume.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resumed {
    /// The rooms that the session is in.
    pub(crate) rooms: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServerError {
    pub(crate) code: String,
    pub(crate) message: String,
    /// The message that it is about.
    pub(crate) cid: Option<String>,
    /// The room whose enter it is about.
    pub(crate) room: Option<String>,
    pub(crate) retry_after: Option<Duration>,
}

/// Heartbeat interval and timeout in milliseconds, for a welcome without them.
const DEFAULT_HEARTBEAT: (u64, u64) = (25_000, 20_000);

/// For a welcome without rates.
const DEFAULT_RATES: Rates =
    Rates { messages: Some(100.0), bytes: Some(262_144.0), transient: None, burst: 2.0, is_empty: false };

impl Incoming {
    /// Parses a text. A frame with an unknown event is a [`Frame`](Incoming::Frame).
    pub(crate) fn parse(text: &str) -> Incoming {
        let object: Map<String, Value> = match serde_json::from_str(text) {
            Ok(object) => object,
            Err(error) => return Incoming::unreadable(text, error.to_string()),
        };
        match object.get("event").and_then(Value::as_str) {
            Some("heartbeat") if object.get("message").is_some_and(|message| message == "pong") => {
                Incoming::Pong
            }
            Some("heartbeat") => Incoming::Heartbeat,
            Some("welcome") => Incoming::Welcome(Welcome::of(&object)),
            Some("entered") => Entered::of(&object).map_or(Incoming::Malformed("entered"), Incoming::Entered),
            Some("left") => Incoming::Left(Left::of(&object)),
            Some("resumed") => Incoming::Resumed(Resumed::of(&object)),
            Some("ack") => match (string(&object, "cid"), number(&object, "seq")) {
                (Some(cid), Some(seq)) => Incoming::Ack { cid, seq },
                _ => Incoming::Malformed("ack"),
            },
            Some("authenticated") => Incoming::Authenticated,
            Some("expiring") => {
                let left = number(&object, "in").map(Duration::from_millis);
                left.map_or(Incoming::Malformed("expiring"), Incoming::Expiring)
            }
            Some("noAuth") => Incoming::NoAuth(string(&object, "message").unwrap_or_default()),
            Some("error") => Incoming::Error(ServerError::of(&object)),
            Some("lagged") => match number(&object, "missed") {
                Some(missed @ 1..) => Incoming::Lagged { room: string(&object, "roomId"), missed },
                _ => Incoming::Malformed("lagged"),
            },
            _ => Incoming::Frame(object),
        }
    }

    /// An object that holds values for which this client has no type: a number that is out of range, a lone surrogate,
    /// or too deeply nested values. Its place in the room may be readable.
    fn unreadable(text: &str, why: String) -> Incoming {
        let object: HashMap<&str, &RawValue> = serde_json::from_str(text).unwrap_or_default();
        let room = object.get("roomId").and_then(|room| serde_json::from_str(room.get()).ok());
        let seq = object.get("seq").and_then(|seq| seq.get().parse().ok());
        Incoming::Unreadable { room, seq, why }
    }
}

impl Welcome {
    fn of(object: &Map<String, Value>) -> Welcome {
        let time = |key, default| {
            let ms = object.get("heartbeat").and_then(|heartbeat| heartbeat.get(key)).and_then(Value::as_u64);
            Duration::from_millis(ms.unwrap_or(default))
        };
        // `null` means no limit.
        let limit = |key| {
            let limit = object.get("limits").and_then(|limits| limits.get(key)).and_then(Value::as_u64);
            limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
        };
        let interval = time("interval", DEFAULT_HEARTBEAT.0);
        Welcome {
            resume_token: string(object, "resume"),
            interval,
            silence: interval.saturating_add(time("timeout", DEFAULT_HEARTBEAT.1)),
            message_bytes: limit("messageBytes"),
            cids: limit("cids"),
            rates: object.get("rates").and_then(Value::as_object).map_or(DEFAULT_RATES, Rates::of),
            transient_events: strings(object, "transient"),
        }
    }
}

impl Rates {
    fn of(object: &Map<String, Value>) -> Rates {
        let rate = |key| object.get(key).and_then(Value::as_f64).filter(|rate| *rate > 0.0);
        Rates {
            messages: rate("messages"),
            bytes: rate("bytes"),
            transient: rate("transient"),
            burst: rate("burst").unwrap_or(DEFAULT_RATES.burst),
            is_empty: object.get("empty").and_then(Value::as_bool).unwrap_or(false),
        }
    }
}

impl Entered {
    fn of(object: &Map<String, Value>) -> Option<Entered> {
        let flag = |key| object.get(key).and_then(Value::as_bool).unwrap_or(false);
        Some(Entered {
            room: string(object, "roomId"),
            name: string(object, "name").unwrap_or_default(),
            member: string(object, "member").unwrap_or_default(),
            epoch: string(object, "epoch")?,
            seq: number(object, "seq")?,
            num: number(object, "num").unwrap_or(0),
            resumed: flag("resumed"),
            recovered: flag("recovered"),
            replayed: number(object, "replayed"),
            history: number(object, "history").unwrap_or(0),
        })
    }
}

impl Left {
    fn of(object: &Map<String, Value>) -> Left {
        let removal = string(object, "code");
        let message = string(object, "message").unwrap_or_default();
        Left { room: string(object, "roomId"), removal: removal.map(|code| Removal { code, message }) }
    }
}

impl Resumed {
    fn of(object: &Map<String, Value>) -> Resumed {
        let rooms = object.get("rooms").and_then(Value::as_array).into_iter().flatten();
        let id = |room: &Value| room.get("roomId").and_then(Value::as_str).map(str::to_owned);
        Resumed { rooms: rooms.filter_map(id).collect() }
    }
}

impl ServerError {
    fn of(object: &Map<String, Value>) -> ServerError {
        ServerError {
            code: string(object, "code").unwrap_or_default(),
            message: string(object, "message").unwrap_or_default(),
            cid: string(object, "cid"),
            room: string(object, "roomId"),
            retry_after: number(object, "retryAfter").map(|ms| Duration::from_millis(ms).min(MAX_WAIT)),
        }
    }
}

fn string(object: &Map<String, Value>, key: &str) -> Option<String> {
    object.get(key)?.as_str().map(Into::into)
}

/// Of an array. Leaves out what is not a string.
fn strings(object: &Map<String, Value>, key: &str) -> Arc<[String]> {
    let values = object.get(key).and_then(Value::as_array).into_iter().flatten();
    values.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn number(object: &Map<String, Value>, key: &str) -> Option<u64> {
    object.get(key)?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_limit_that_is_missing_or_null_is_no_limit() {
        let text = r#"{"event":"welcome","heartbeat":{"interval":2000,"timeout":500},
                       "limits":{"messageBytes":null,"cids":7},"rates":{"messages":null,"bytes":5.5}}"#;
        let Incoming::Welcome(welcome) = Incoming::parse(text) else { panic!() };
        assert_eq!((welcome.resume_token, welcome.silence), (None, Duration::from_millis(2500)));
        assert_eq!((welcome.message_bytes, welcome.cids), (usize::MAX, 7));
        assert_eq!(welcome.rates, Rates { messages: None, bytes: Some(5.5), ..DEFAULT_RATES });
        let text = r#"{"event":"welcome","rates":{"messages":7,"transient":9,"burst":3,"empty":true},"transient":["a",7,"b"]}"#;
        let Incoming::Welcome(welcome) = Incoming::parse(text) else { panic!() };
        let rates =
            Rates { messages: Some(7.0), bytes: None, transient: Some(9.0), burst: 3.0, is_empty: true };
        assert_eq!(welcome.rates, rates);
        assert_eq!(*welcome.transient_events, ["a".to_owned(), "b".to_owned()]);
    }

    #[test]
    fn a_welcome_without_them_has_the_default_heartbeat_and_rates() {
        let Incoming::Welcome(welcome) = Incoming::parse(r#"{"event":"welcome"}"#) else { panic!() };
        assert_eq!((welcome.interval.as_secs(), welcome.silence.as_secs()), (25, 45));
        assert_eq!(welcome.rates, DEFAULT_RATES);
    }

    #[test]
    fn a_left_without_a_code_answers_a_leave() {
        for (text, removal) in [
            (r#"{"event":"left","roomId":"r"}"#, None),
            (
                r#"{"event":"left","roomId":"r","code":"denied","message":"banned"}"#,
                Some(("denied", "banned")),
            ),
        ] {
            let removal =
                removal.map(|(code, message)| Removal { code: code.into(), message: message.into() });
            assert_eq!(Incoming::parse(text), Incoming::Left(Left { room: Some("r".into()), removal }));
        }
    }

    #[test]
    fn a_resumed_names_the_rooms_of_the_session() {
        for (text, rooms) in [
            (r#"{"event":"resumed","rooms":[]}"#, vec![]),
            (r#"{"event":"resumed"}"#, vec![]),
            (
                r#"{"event":"resumed","member":"1","rooms":[{"roomId":"a","name":"n"},7,{"roomId":"b","name":"n"}]}"#,
                vec!["a", "b"],
            ),
        ] {
            let rooms = rooms.into_iter().map(str::to_owned).collect();
            assert_eq!(Incoming::parse(text), Incoming::Resumed(Resumed { rooms }));
        }
    }

    #[test]
    fn what_can_not_be_read_may_have_a_place_in_the_room() {
        let deep = format!(r#"{{"event":"x","a":{}{},"seq":7}}"#, "[".repeat(500), "]".repeat(500));
        for (text, expected) in [
            (r#"{"event":"message","message":"\ud800","seq":7}"#, Some(7)),
            (r#"{"event":"message","message":1e400,"seq":7}"#, Some(7)),
            (&deep, Some(7)),
            (r#"{"event":"message","message":1e400}"#, None),
            ("null", None),
            ("[]", None),
            ("{", None),
            ("", None),
        ] {
            let Incoming::Unreadable { seq, .. } = Incoming::parse(text) else { panic!("{text}") };
            assert_eq!(seq, expected, "{text}");
        }
        let text = r#"{"message":1e400,"roomId":"r","seq":7}"#;
        let Incoming::Unreadable { room, .. } = Incoming::parse(text) else { panic!() };
        assert_eq!(room.as_deref(), Some("r"));
    }

    #[test]
    fn frames_of_the_protocol_have_what_belongs_to_them() {
        for text in [
            r#"{"event":"ack","cid":"c"}"#,
            r#"{"event":"entered","seq":1}"#,
            r#"{"event":"lagged","missed":0}"#,
            r#"{"event":"lagged","missed":-3}"#,
            r#"{"event":"expiring"}"#,
        ] {
            assert!(matches!(Incoming::parse(text), Incoming::Malformed(_)), "{text}");
        }
        for text in ["{}", r#"{"event":1}"#, r#"{"event":"new","a":1}"#] {
            assert!(matches!(Incoming::parse(text), Incoming::Frame(_)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(
            text in r#"\{"event":"(welcome|entered|left|resumed|ack|error|noAuth|expiring|lagged)",.{0,40}\}"#,
        ) {
            let _ = Incoming::parse(&text);
        }
    }
}

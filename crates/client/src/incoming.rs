//! Parses what the server sends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub(crate) use self::presence::{Page, StateChange};
use crate::presence::PresenceMode;
use crate::retry_hint::MAX_WAIT;

mod presence;

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
    /// A message was accepted: its `seq`, or how many connections a direct message has reached.
    Ack {
        cid: String,
        result: u64,
    },
    /// Messages that this client has asked for.
    History {
        room: Option<String>,
        cid: String,
        messages: Vec<Map<String, Value>>,
        has_more: bool,
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
    /// How many members a room has, and in which mode.
    Presence {
        room: Option<String>,
        mode: PresenceMode,
        num: u64,
        users: u64,
    },
    /// A requested page of the roster.
    Members {
        room: Option<String>,
        page: Page,
    },
    /// A member's state, info or user has changed.
    State {
        room: Option<String>,
        change: StateChange,
    },
    /// A numbered frame to this session, from the host or another user.
    Direct(u64, Map<String, Value>),
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
    /// The id of the connection. If it begins a session, it is the session's member id.
    pub(crate) connection: String,
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
    /// How long the server keeps the session of a lost connection.
    pub(crate) resume_window: Duration,
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

/// Whether a client gets what it has missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovered {
    No,
    /// All frames.
    Fully,
    /// The messages, as far as they were stored.
    FromStore,
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
    pub(crate) recovered: Recovered,
    /// How many frames follow as a replay, if the server says so.
    pub(crate) replayed: Option<u64>,
    /// How many messages from before the enter come first.
    pub(crate) history: u64,
    /// Messages from the server's store, which come before all others.
    pub(crate) stored: Vec<Map<String, Value>>,
    /// Later messages have higher ids. Present if the server has a store.
    pub(crate) id: Option<u64>,
    /// The first page of the roster.
    pub(crate) page: Page,
    /// The member may not send messages.
    pub(crate) is_read_only: bool,
    /// The other members do not see the member.
    pub(crate) is_hidden: bool,
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
    /// The member id of the resumed session; `None` if no session was resumed.
    pub(crate) member: Option<String>,
    /// The number of the last direct frame before those that follow.
    pub(crate) direct: Option<u64>,
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
            Err(error) => match presence::readable_part(text) {
                Some(object) => object,
                None => return Incoming::unreadable(text, error.to_string()),
            },
        };
        let event = object.get("event").and_then(Value::as_str);
        // The host may use any event in a frame to a user.
        if let Some(number) = number(&object, "direct").filter(|_| event != Some("resumed")) {
            return Incoming::Direct(number, object);
        }
        match event {
            Some("heartbeat") if object.get("message").is_some_and(|message| message == "pong") => {
                Incoming::Pong
            }
            Some("heartbeat") => Incoming::Heartbeat,
            Some("welcome") => Incoming::Welcome(Welcome::of(&object)),
            Some("entered") => Entered::of(&object).map_or(Incoming::Malformed("entered"), Incoming::Entered),
            Some("left") => Incoming::Left(Left::of(&object)),
            Some("resumed") => Incoming::Resumed(Resumed::of(&object)),
            Some("ack") => {
                match (string(&object, "cid"), number(&object, "seq").or(number(&object, "reached"))) {
                    (Some(cid), Some(result)) => Incoming::Ack { cid, result },
                    _ => Incoming::Malformed("ack"),
                }
            }
            // The host may send such an event to a room.
            Some("history") if !object.contains_key("seq") => match string(&object, "cid") {
                Some(cid) => {
                    let (messages, has_more) = messages(&object).unwrap_or_default();
                    Incoming::History { room: string(&object, "roomId"), cid, messages, has_more }
                }
                None => Incoming::Malformed("history"),
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
            Some("presence") => Incoming::presence(&object).unwrap_or(Incoming::Malformed("presence")),
            Some("members") => Incoming::Members { room: string(&object, "roomId"), page: Page::of(&object) },
            Some("state") => match StateChange::of(&object) {
                Some(change) => Incoming::State { room: string(&object, "roomId"), change },
                None => Incoming::Malformed("state"),
            },
            _ => Incoming::Frame(object),
        }
    }

    fn presence(object: &Map<String, Value>) -> Option<Incoming> {
        let mode = PresenceMode::parse(object.get("mode")?.as_str()?)?;
        let (num, users) = (number(object, "num")?, number(object, "users").unwrap_or(0));
        Some(Incoming::Presence { room: string(object, "roomId"), mode, num, users })
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
            connection: string(object, "connection").unwrap_or_default(),
            resume_token: string(object, "resume"),
            interval,
            silence: interval.saturating_add(time("timeout", DEFAULT_HEARTBEAT.1)),
            message_bytes: limit("messageBytes"),
            cids: limit("cids"),
            rates: object.get("rates").and_then(Value::as_object).map_or(DEFAULT_RATES, Rates::of),
            transient_events: strings(object, "transient"),
            resume_window: Duration::from_millis(number(object, "resumeWindow").unwrap_or(0)),
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
            recovered: match object.get("recovered") {
                Some(Value::Bool(true)) => Recovered::Fully,
                Some(Value::String(by)) if by == "store" => Recovered::FromStore,
                _ => Recovered::No,
            },
            replayed: number(object, "replayed"),
            history: number(object, "history").unwrap_or(0),
            stored: messages(object).unwrap_or_default().0,
            id: number(object, "id"),
            page: Page::of(object),
            is_read_only: flag("readOnly"),
            is_hidden: flag("hidden"),
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
        Resumed {
            member: string(object, "member"),
            direct: number(object, "direct"),
            rooms: rooms.filter_map(id).collect(),
        }
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

/// The `messages` of a frame, and whether there are more.
fn messages(object: &Map<String, Value>) -> Option<(Vec<Map<String, Value>>, bool)> {
    let messages = object.get("messages")?.as_array()?.iter();
    let has_more = object.get("more").and_then(Value::as_bool).unwrap_or(false);
    Some((messages.filter_map(|message| message.as_object().cloned()).collect(), has_more))
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
mod tests;

//! The frames that the server creates, and the fragment that it adds to relayed ones.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use crate::config::{Config, PresenceMode};
use crate::ids::{ConnectionId, MessageId};
use crate::protocol::json::quote;
use crate::protocol::position::Epoch;
use crate::protocol::receipt::Receipt;
use crate::protocol::resume::{MAX_CID_BYTES, MAX_CIDS, ResumeToken};

/// How many seconds' worth of a rate may be sent in one burst.
pub(crate) const BURST_SECONDS: u32 = 2;

/// The tail of a relayed frame up to `num`: `,"name":"…","num":`, to stand between the sender's object without its
/// closing brace and the count.
pub(crate) fn name_and_num(name: &str) -> Box<str> {
    format!(r#","name":{},"num":"#, quote(name)).into()
}

/// `{"event":"heartbeat","message":"ping","num":N}`, as plain clients get it.
pub(crate) fn heartbeat(num: usize) -> String {
    format!(r#"{{"event":"heartbeat","message":"ping","num":{num}}}"#)
}

/// The heartbeat in `chat-rooms.v1`.
pub(crate) const PING: &str = r#"{"event":"heartbeat","message":"ping"}"#;

/// The answer to a client's `ping`.
pub(crate) const PONG: &str = r#"{"event":"heartbeat","message":"pong"}"#;

/// `{"event":"out","name":NAME,"num":`, to be followed by the count and a brace.
pub(crate) fn out(name: &str) -> String {
    format!(r#"{{"event":"out","name":{},"num":"#, quote(name))
}

/// A frame of a room, without what the room adds when it publishes the frame: `num`, and in `chat-rooms.v1`
/// `member`, `id`, `roomId` and `seq`.
#[derive(Debug, Clone)]
pub(crate) struct RoomFrame<'a> {
    /// The object up to the tail, as plain clients get it.
    pub(crate) plain: &'a str,
    /// The same for `chat-rooms.v1`.
    pub(crate) v1: Cow<'a, str>,
    /// Whether the text already contains the `roomId`.
    pub(crate) has_room: bool,
    /// What follows, up to `"num":`.
    pub(crate) tail: &'a str,
    /// The member that sent it; `None` for the host.
    pub(crate) member: Option<ConnectionId>,
}

impl RoomFrame<'_> {
    /// Its length in bytes, without what the room adds.
    pub(crate) fn len(&self) -> usize {
        self.plain.len() + self.tail.len()
    }
}

/// `,"roomId":ROOM`, for a frame in `chat-rooms.v1`.
pub(crate) fn room_key(room: &str) -> String {
    format!(r#","roomId":{}"#, quote(room))
}

/// The text between the `member` or the `id` and the `seq` of a room frame in `chat-rooms.v1`: `,"roomId":ROOM,"seq":`.
pub(crate) fn room_and_seq(room: &str) -> Box<str> {
    format!(r#"{},"seq":"#, room_key(room)).into()
}

/// `{"event":"welcome",...}`, the first frame in `chat-rooms.v1`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WelcomeFrame<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) token: Option<ResumeToken>,
    pub(crate) config: &'a Config,
    /// Whether the connection starts with full token buckets.
    pub(crate) is_fresh: bool,
}

impl WelcomeFrame<'_> {
    pub(crate) fn encode(self) -> String {
        let WelcomeFrame { connection, token, config, is_fresh } = self;
        let Config { v1_heartbeat: heartbeat, limits, rate_limits, recovery, events, .. } = config;
        let resume = token.map_or(String::new(), |token| format!(r#""resume":"{}","#, token.reveal()));
        let (interval, timeout) = (millis(heartbeat.interval()), millis(heartbeat.timeout()));
        let [message, name, room, bytes] = [
            limits.max_message_bytes,
            limits.max_name_bytes,
            limits.max_room_id_bytes,
            rate_limits.max_bytes_per_second,
        ]
        .map(limit);
        let messages = rate(rate_limits.max_messages_per_second);
        let rooms = limit(limits.max_memberships);
        let empty = if is_fresh { "" } else { r#","empty":true"# };
        let (transient_rate, transient) = match &events.transient[..] {
            [] => Default::default(),
            names => (
                format!(r#","transient":{}"#, rate(rate_limits.max_transient_per_second)),
                format!(
                    r#","transient":[{}]"#,
                    names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(",")
                ),
            ),
        };
        let (history, window) = (recovery.history.is_some(), millis(recovery.resume_window));
        format!(
            r#"{{"event":"welcome","connection":"{connection}",{resume}"heartbeat":{{"interval":{interval},"timeout":{timeout}}},"limits":{{"messageBytes":{message},"nameBytes":{name},"roomIdBytes":{room},"cidBytes":{MAX_CID_BYTES},"cids":{MAX_CIDS},"rooms":{rooms}}},"rates":{{"messages":{messages},"bytes":{bytes},"burst":{BURST_SECONDS}{transient_rate}{empty}}},"history":{history},"resumeWindow":{window}{transient}}}"#
        )
    }
}

/// Whether a client gets everything that it has missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovered {
    No,
    /// All frames.
    Fully,
    /// The messages, as far as they were stored.
    FromStore,
}

impl Recovered {
    fn json(self) -> &'static str {
        match self {
            Recovered::No => "false",
            Recovered::Fully => "true",
            Recovered::FromStore => "\"store\"",
        }
    }
}

/// The answer to an enter in `chat-rooms.v1`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EnteredFrame<'a> {
    pub(crate) room: &'a str,
    pub(crate) name: &'a str,
    pub(crate) member: ConnectionId,
    pub(crate) epoch: Epoch,
    pub(crate) seq: u64,
    pub(crate) num: u64,
    pub(crate) resumed: bool,
    pub(crate) recovered: Recovered,
    pub(crate) replayed: u64,
    /// How many messages of the history follow, if the client has asked for them.
    pub(crate) history: Option<usize>,
    /// Messages from the store, and whether there are others: `,"messages":[...],"more":BOOL`, or nothing.
    pub(crate) messages: &'a str,
    /// Messages that come later have higher ids. Present if there is a store.
    pub(crate) id: Option<MessageId>,
    pub(crate) mode: PresenceMode,
    pub(crate) users: usize,
    pub(crate) is_read_only: bool,
    pub(crate) is_hidden: bool,
    /// From [`RosterText::finish`](crate::protocol::presence::RosterText::finish); empty if the mode is not full.
    pub(crate) roster: &'a str,
}

impl EnteredFrame<'_> {
    pub(crate) fn encode(self) -> String {
        let EnteredFrame { member, epoch, seq, num, resumed, replayed, users, messages, roster, .. } = self;
        let recovered = self.recovered.json();
        let (room, name, mode) = (quote(self.room), quote(self.name), self.mode.as_str());
        let read_only = if self.is_read_only { r#","readOnly":true"# } else { "" };
        let hidden = if self.is_hidden { r#","hidden":true"# } else { "" };
        let history = self.history.map_or(String::new(), |n| format!(r#","history":{n}"#));
        let id = self.id.map_or(String::new(), |id| format!(r#","id":{id}"#));
        // The rest is seldom longer.
        let mut text = String::with_capacity(roster.len() + messages.len() + 320);
        let _ = write!(
            text,
            r#"{{"event":"entered","roomId":{room},"name":{name},"member":"{member}","epoch":"{epoch}","seq":{seq},"num":{num},"resumed":{resumed},"recovered":{recovered},"replayed":{replayed}{history}{id}{messages},"mode":"{mode}","users":{users}{read_only}{hidden}{roster}}}"#
        );
        text
    }
}

/// `{"event":"state","readOnly":BOOL,"member":MEMBER,"roomId":ROOM}`: tells a member whether it may send messages.
pub(crate) fn read_only(room: &str, member: ConnectionId, is_read_only: bool) -> String {
    let room = quote(room);
    format!(r#"{{"event":"state","readOnly":{is_read_only},"member":"{member}","roomId":{room}}}"#)
}

/// `{"event":"ack","cid":CID,"seq":N,"id":ID}`.
pub(crate) fn ack(cid: &str, Receipt { position, id }: Receipt) -> String {
    format!(r#"{{"event":"ack","cid":{},"seq":{},"id":{id}}}"#, quote(cid), position.seq)
}

/// What an error is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About<'a> {
    Nothing,
    /// The message with this `cid`.
    Message(&'a str),
    /// A request that concerns this room: an enter, a state, or the members.
    Room(&'a str),
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A rate that is not limited is `null`.
fn rate(n: u32) -> String {
    if n == u32::MAX { "null".into() } else { n.to_string() }
}

/// A limit that is not set is `null`.
fn limit(n: usize) -> String {
    if n == usize::MAX { "null".into() } else { n.to_string() }
}

/// `{"event":"noAuth","message":REASON}`
pub(crate) fn no_auth(reason: &str) -> String {
    format!(r#"{{"event":"noAuth","message":{}}}"#, quote(reason))
}

/// `{"event":"error","code":CODE,"message":TEXT}`. In `chat-rooms.v1`, it also says what it is about, and after how
/// many milliseconds the client may try again.
pub(crate) fn error(code: &str, text: &str, about: About<'_>, retry: Option<u64>) -> String {
    let cid = match about {
        About::Nothing => String::new(),
        About::Message(cid) => format!(r#","cid":{}"#, quote(cid)),
        About::Room(room) => format!(r#","roomId":{}"#, quote(room)),
    };
    let retry = retry.map_or(String::new(), |millis| format!(r#","retryAfter":{millis}"#));
    format!(r#"{{"event":"error","code":"{code}","message":{}{cid}{retry}}}"#, quote(text))
}

/// `{"event":"left","roomId":ROOM}`, with the reason if the server has removed the client from the room.
pub(crate) fn left(room: &str, reason: Option<(&str, &str)>) -> String {
    let room = quote(room);
    match reason {
        None => format!(r#"{{"event":"left","roomId":{room}}}"#),
        Some((code, text)) => {
            format!(r#"{{"event":"left","roomId":{room},"code":"{code}","message":{}}}"#, quote(text))
        }
    }
}

/// `{"event":"resumed","member":ID,"rooms":[{"roomId":ROOM,"name":NAME}],"direct":N}`, without `member` if no session
/// was resumed, and without `direct` if it is 0.
pub(crate) fn resumed<'a>(
    member: Option<ConnectionId>,
    rooms: impl Iterator<Item = (&'a str, &'a str)>,
    direct: u64,
) -> String {
    let member = member.map_or(String::new(), |id| format!(r#","member":"{id}""#));
    let room = |(room, name)| format!(r#"{{"roomId":{},"name":{}}}"#, quote(room), quote(name));
    let rooms = rooms.map(room).collect::<Vec<_>>().join(",");
    let direct = if direct == 0 { String::new() } else { format!(r#","direct":{direct}"#) };
    format!(r#"{{"event":"resumed"{member},"rooms":[{rooms}]{direct}}}"#)
}

/// `{"event":"lagged","roomId":ROOM,"missed":N}`
pub(crate) fn lagged(room: &str, missed: u64) -> String {
    format!(r#"{{"event":"lagged","roomId":{},"missed":{missed}}}"#, quote(room))
}

/// `{"event":"authenticated"}`, with `expiresIn` if the user's authentication expires.
pub(crate) fn authenticated(left: Option<Duration>) -> String {
    let left = left.map_or(String::new(), |left| format!(r#","expiresIn":{}"#, millis(left)));
    format!(r#"{{"event":"authenticated"{left}}}"#)
}

/// `{"event":"expiring","in":MS}`
pub(crate) fn expiring(left: Duration) -> String {
    format!(r#"{{"event":"expiring","in":{}}}"#, millis(left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::position::Position;
    use serde_json::{Value, from_str, json};

    #[test]
    fn frames_are_json_with_exactly_these_keys() {
        let name = "a\"b\\\u{1}小";
        let relayed = format!(r#"{{"event":"x"{}7}}"#, name_and_num(name));
        let out = format!("{}7}}", out(name));
        let position = Position { epoch: Epoch(1), seq: 3 };
        let receipt = Receipt { position, id: MessageId::from_u64(70).unwrap() };
        for (text, want) in [
            (relayed, json!({"event": "x", "name": name, "num": 7})),
            (out, json!({"event": "out", "name": name, "num": 7})),
            (heartbeat(3), json!({"event": "heartbeat", "message": "ping", "num": 3})),
            (PING.into(), json!({"event": "heartbeat", "message": "ping"})),
            (no_auth(name), json!({"event": "noAuth", "message": name})),
            (
                error("bad_json", name, About::Nothing, None),
                json!({"event": "error", "code": "bad_json", "message": name}),
            ),
            (
                error("denied", "x", About::Message(name), Some(7)),
                json!({"event": "error", "code": "denied", "message": "x", "cid": name, "retryAfter": 7}),
            ),
            (
                error("denied", "x", About::Room(name), None),
                json!({"event": "error", "code": "denied", "message": "x", "roomId": name}),
            ),
            (left(name, None), json!({"event": "left", "roomId": name})),
            (
                left(name, Some(("denied", name))),
                json!({"event": "left", "roomId": name, "code": "denied", "message": name}),
            ),
            (resumed(None, [].into_iter(), 0), json!({"event": "resumed", "rooms": []})),
            (
                resumed(Some(ConnectionId(7)), [(name, "x"), ("y", name)].into_iter(), 9),
                json!({"event": "resumed", "member": "7", "direct": 9, "rooms": [
                    {"roomId": name, "name": "x"}, {"roomId": "y", "name": name},
                ]}),
            ),
            (expiring(Duration::from_millis(30_500)), json!({"event": "expiring", "in": 30_500})),
            (lagged(name, 3), json!({"event": "lagged", "roomId": name, "missed": 3})),
            (ack(name, receipt), json!({"event": "ack", "cid": name, "seq": 3, "id": 70})),
        ] {
            assert_eq!(from_str::<Value>(&text).unwrap(), want);
        }
    }
}

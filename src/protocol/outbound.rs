//! The frames that the server creates, and the fragment that it adds to relayed ones.

use std::time::Duration;

use crate::config::Config;
use crate::ids::ConnectionId;
use crate::protocol::json::quote;
use crate::protocol::position::Epoch;
use crate::protocol::resume::{MAX_CID_BYTES, MAX_CIDS, ResumeToken};

/// How many seconds' worth of a rate may be sent in one burst.
pub(crate) const BURST_SECONDS: u32 = 2;

/// The tail of a relayed frame up to `num`: `,"name":"…","num":`, to stand between the sender's object without its
/// closing brace and the count.
pub(crate) fn name_and_num(name: &str) -> Box<str> {
    format!(r#","name":{},"num":"#, quote(name)).into()
}

/// `{"event":"heartbeat","message":"ping","num":N}`
pub(crate) fn heartbeat(num: usize) -> String {
    format!(r#"{{"event":"heartbeat","message":"ping","num":{num}}}"#)
}

/// The answer to a client's `ping`.
pub(crate) const PONG: &str = r#"{"event":"heartbeat","message":"pong"}"#;

/// `{"event":"out","name":NAME,"num":`, to be followed by the count and a brace.
pub(crate) fn out(name: &str) -> String {
    format!(r#"{{"event":"out","name":{},"num":"#, quote(name))
}

/// A frame of a room, without what the room adds when it publishes the frame: `num`, and in `chat-rooms.v1`
/// `member` and `seq`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoomFrame<'a> {
    /// The object up to the tail, as plain clients get it.
    pub(crate) plain: &'a str,
    /// The same for `chat-rooms.v1`.
    pub(crate) v1: &'a str,
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

/// `{"event":"welcome",...}`, the first frame in `chat-rooms.v1`.
pub(crate) fn welcome(connection: ConnectionId, token: Option<ResumeToken>, config: &Config) -> String {
    let Config { v1_heartbeat: heartbeat, limits, rate_limits, recovery, .. } = config;
    let resume = token.map_or(String::new(), |token| format!(r#""resume":"{}","#, token.reveal()));
    let (interval, timeout) = (millis(heartbeat.interval()), millis(heartbeat.timeout()));
    let [message, name, room, bytes] = [
        limits.max_message_bytes,
        limits.max_name_bytes,
        limits.max_room_id_bytes,
        rate_limits.max_bytes_per_second,
    ]
    .map(limit);
    let messages = limit(usize::try_from(rate_limits.max_messages_per_second).unwrap_or(usize::MAX));
    let (history, window) = (recovery.history.is_some(), millis(recovery.resume_window));
    format!(
        r#"{{"event":"welcome","connection":"{connection}",{resume}"heartbeat":{{"interval":{interval},"timeout":{timeout}}},"limits":{{"messageBytes":{message},"nameBytes":{name},"roomIdBytes":{room},"cidBytes":{MAX_CID_BYTES},"cids":{MAX_CIDS}}},"rates":{{"messages":{messages},"bytes":{bytes},"burst":{BURST_SECONDS}}},"history":{history},"resumeWindow":{window}}}"#
    )
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
    pub(crate) recovered: bool,
    pub(crate) replayed: u64,
}

impl EnteredFrame<'_> {
    pub(crate) fn encode(self) -> String {
        let EnteredFrame { member, epoch, seq, num, resumed, recovered, replayed, .. } = self;
        let (room, name) = (quote(self.room), quote(self.name));
        format!(
            r#"{{"event":"entered","roomId":{room},"name":{name},"member":"{member}","epoch":"{epoch}","seq":{seq},"num":{num},"resumed":{resumed},"recovered":{recovered},"replayed":{replayed}}}"#
        )
    }
}

/// `{"event":"ack","cid":CID,"seq":N}`
pub(crate) fn ack(cid: &str, seq: u64) -> String {
    format!(r#"{{"event":"ack","cid":{},"seq":{seq}}}"#, quote(cid))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A limit that is not set is `null`.
fn limit(n: usize) -> String {
    if n == usize::MAX { "null".into() } else { n.to_string() }
}

/// `{"event":"noAuth","message":REASON}`, in `chat-rooms.v1` with the room that the client is removed from.
pub(crate) fn no_auth(reason: &str, room: Option<&str>) -> String {
    let room = room.map_or(String::new(), |room| format!(r#","roomId":{}"#, quote(room)));
    format!(r#"{{"event":"noAuth","message":{}{room}}}"#, quote(reason))
}

/// `{"event":"error","code":CODE,"message":TEXT}`, in `chat-rooms.v1` with the `cid` of the refused message and
/// the milliseconds after which the client may try again.
pub(crate) fn error(code: &str, text: &str, cid: Option<&str>, retry: Option<u64>) -> String {
    let cid = cid.map_or(String::new(), |cid| format!(r#","cid":{}"#, quote(cid)));
    let retry = retry.map_or(String::new(), |millis| format!(r#","retryAfter":{millis}"#));
    format!(r#"{{"event":"error","code":"{code}","message":{}{cid}{retry}}}"#, quote(text))
}

/// `{"event":"lagged","roomId":ROOM,"missed":N}`
pub(crate) fn lagged(room: &str, missed: u64) -> String {
    format!(r#"{{"event":"lagged","roomId":{},"missed":{missed}}}"#, quote(room))
}

/// The error that removes a member from a room, in `chat-rooms.v1` with that room.
pub(crate) fn put_out(code: &str, text: &str, room: Option<&str>) -> String {
    let room = room.map_or(String::new(), |room| format!(r#","roomId":{}"#, quote(room)));
    format!(r#"{{"event":"error","code":"{code}","message":{}{room}}}"#, quote(text))
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
            (no_auth(name, None), json!({"event": "noAuth", "message": name})),
            (no_auth("x", Some(name)), json!({"event": "noAuth", "message": "x", "roomId": name})),
            (
                error("bad_json", name, None, None),
                json!({"event": "error", "code": "bad_json", "message": name}),
            ),
            (
                error("denied", "x", Some(name), Some(7)),
                json!({"event": "error", "code": "denied", "message": "x", "cid": name, "retryAfter": 7}),
            ),
            (
                put_out("denied", "x", Some(name)),
                json!({"event": "error", "code": "denied", "message": "x", "roomId": name}),
            ),
            (expiring(Duration::from_millis(30_500)), json!({"event": "expiring", "in": 30_500})),
            (lagged(name, 3), json!({"event": "lagged", "roomId": name, "missed": 3})),
            (ack(name, 3), json!({"event": "ack", "cid": name, "seq": 3})),
        ] {
            assert_eq!(from_str::<Value>(&text).unwrap(), want);
        }
    }
}

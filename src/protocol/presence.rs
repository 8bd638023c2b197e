//! The frames of presence in `chat-rooms.v1`, and the client's frames that belong to them.

use std::fmt::Write;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use tower_chat_rooms_protocol::{MAX_PROFILE_BYTES, MAX_ROSTER_BYTES};

use crate::config::PresenceMode;
use crate::ids::ConnectionId;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::inbound;
use crate::protocol::json::{quote, unquote};

/// In a roster, a state or an info is nested in three more arrays and objects.
pub(crate) const MAX_PROFILE_DEPTH: usize = inbound::MAX_DEPTH - 3;

/// `{"event":"presence",...}`: the mode and the counts of a room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PresenceFrame<'a> {
    pub(crate) room: &'a str,
    pub(crate) mode: PresenceMode,
    pub(crate) num: u64,
    pub(crate) users: usize,
}

/// What a member's profile says. Infos and states are JSON texts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProfileText<'a> {
    pub(crate) user: Option<&'a str>,
    pub(crate) info: Option<&'a str>,
    pub(crate) state: Option<&'a str>,
}

/// The parts of a profile that have changed: `None` if a part has not changed, `Some(None)` if it was removed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ChangedProfile<'a> {
    pub(crate) user: Option<Option<&'a str>>,
    pub(crate) info: Option<Option<&'a str>>,
    pub(crate) state: Option<Option<&'a str>>,
}

/// `{"event":"state",...}`: what has changed in a member's profile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StateFrame<'a> {
    pub(crate) room: &'a str,
    pub(crate) name: &'a str,
    pub(crate) num: u64,
    pub(crate) member: ConnectionId,
    pub(crate) changed: ChangedProfile<'a>,
}

impl PresenceFrame<'_> {
    pub(crate) fn encode(self) -> String {
        let PresenceFrame { mode, num, users, .. } = self;
        let (room, mode) = (quote(self.room), mode.as_str());
        format!(r#"{{"event":"presence","roomId":{room},"mode":"{mode}","num":{num},"users":{users}}}"#)
    }
}

impl StateFrame<'_> {
    pub(crate) fn encode(self) -> String {
        let StateFrame { num, member, changed, .. } = self;
        let (room, name) = (quote(self.room), quote(self.name));
        let mut text = String::from(r#"{"event":"state""#);
        let user = changed.user.map(|user| user.map(quote));
        let parts = [
            ("state", changed.state),
            ("info", changed.info),
            ("user", user.as_ref().map(|user| user.as_deref())),
        ];
        for (key, value) in parts {
            if let Some(value) = value {
                text.push_str(&format!(r#","{key}":{}"#, value.unwrap_or("null")));
            }
        }
        text.push_str(&format!(r#","name":{name},"num":{num},"member":"{member}","roomId":{room}}}"#));
        text
    }
}

impl ProfileText<'_> {
    /// `,"user":ID,"info":INFO,"state":STATE`, with those that are there.
    pub(crate) fn keys(self) -> String {
        let mut text = String::new();
        self.push_keys(&mut text);
        text
    }

    fn push_keys(self, text: &mut String) {
        let user = self.user.map(quote);
        for (key, value) in [("user", user.as_deref()), ("info", self.info), ("state", self.state)] {
            if let Some(value) = value {
                let _ = write!(text, r#","{key}":{value}"#);
            }
        }
    }
}

/// A page of a room's roster as JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RosterText {
    /// `,"members":[...]`
    text: String,
    members: usize,
    /// The place of the last member.
    last: u64,
}

impl RosterText {
    pub(crate) fn new() -> RosterText {
        RosterText { text: r#","members":["#.into(), members: 0, last: 0 }
    }

    /// Adds a member, and returns true. Returns false if the page is full. The first member always fits.
    pub(crate) fn push(
        &mut self,
        place: u64,
        member: ConnectionId,
        name: &str,
        profile: ProfileText<'_>,
    ) -> bool {
        let len = self.text.len();
        let separator = if self.members > 0 { "," } else { "" };
        let _ = write!(self.text, r#"{separator}{{"member":"{member}","name":{}"#, quote(name));
        profile.push_keys(&mut self.text);
        self.text.push('}');
        if self.members > 0 && self.text.len() > MAX_ROSTER_BYTES {
            self.text.truncate(len);
            return false;
        }
        self.members += 1;
        self.last = place;
        true
    }

    /// The finished text, which follows an object's other keys. `has_more` says whether there are more members.
    pub(crate) fn finish(self, has_more: bool) -> String {
        let next = if has_more { format!(r#","next":"{}""#, self.last) } else { String::new() };
        format!("{}]{next}", self.text)
    }
}

/// The answer to `members`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MembersFrame<'a> {
    pub(crate) room: &'a str,
    pub(crate) seq: u64,
    pub(crate) mode: PresenceMode,
    pub(crate) num: u64,
    pub(crate) users: usize,
    /// From [`RosterText::finish`]; empty if the mode is not full.
    pub(crate) roster: &'a str,
}

impl MembersFrame<'_> {
    pub(crate) fn encode(self) -> String {
        let MembersFrame { seq, mode, num, users, roster, .. } = self;
        let (room, mode) = (quote(self.room), mode.as_str());
        format!(
            r#"{{"event":"members","roomId":{room},"seq":{seq},"mode":"{mode}","num":{num},"users":{users}{roster}}}"#
        )
    }
}

/// The keys of profiles in a client's frame, unparsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProfileKeys<'a> {
    /// `None` if it is missing or null.
    pub(crate) state: Option<&'a str>,
    pub(crate) after: Option<&'a str>,
    /// Whether the frame has a key of a profile.
    pub(crate) is_present: bool,
}

impl<'a> ProfileKeys<'a> {
    /// Reads the keys of an object.
    pub(crate) fn parse(text: &'a str) -> Result<ProfileKeys<'a>, PeerError> {
        let Raw { state, after, is_present, twice } = serde_json::from_str(text)
            .map_err(|e| PeerError::new(ErrorCode::BadJson, format!("the frame is not JSON: {e}")))?;
        if let Some(key) = twice {
            return Err(PeerError::new(ErrorCode::BadShape, format!("the key \"{key}\" occurs twice")));
        }
        let [state, after] = [state, after].map(|raw| raw.map(RawValue::get).filter(|text| *text != "null"));
        Ok(ProfileKeys { state, after, is_present })
    }
}

/// Checks the length and the depth of a state.
pub(crate) fn check_state(json: &str) -> Result<(), PeerError> {
    if json.len() > MAX_PROFILE_BYTES {
        let text = format!("a state may have at most {MAX_PROFILE_BYTES} bytes");
        return Err(PeerError::new(ErrorCode::TooBig, text));
    }
    if inbound::is_deeper(json, MAX_PROFILE_DEPTH) {
        let text = format!("arrays and objects of a state are nested more than {MAX_PROFILE_DEPTH} deep");
        return Err(PeerError::new(ErrorCode::TooDeep, text));
    }
    Ok(())
}

/// The place that a cursor stands for.
pub(crate) fn cursor(json: &str) -> Result<u64, PeerError> {
    let place = unquote(json).and_then(|text| text.parse().ok());
    place.ok_or_else(|| {
        PeerError::new(ErrorCode::BadShape, "\"after\" must be the \"next\" of an earlier answer")
    })
}

#[derive(Default)]
struct Raw<'a> {
    state: Option<&'a RawValue>,
    after: Option<&'a RawValue>,
    is_present: bool,
    twice: Option<&'static str>,
}

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Raw<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut raw = Raw::default();
                while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                    let (slot, name) = match &*key {
                        "state" => (&mut raw.state, "state"),
                        "after" => (&mut raw.after, "after"),
                        other => {
                            raw.is_present |= other == "user" || other == "info";
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    raw.is_present |= name == "state";
                    if slot.replace(map.next_value()?).is_some() {
                        raw.twice = Some(name);
                    }
                }
                Ok(raw)
            }
        }
        d.deserialize_map(V)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_str, json};

    use super::*;

    #[test]
    fn frames_are_json_with_exactly_these_keys() {
        let name = "a\"小";
        let changed = ChangedProfile { state: Some(Some("[1]")), info: Some(None), user: Some(Some(name)) };
        let state = StateFrame { room: name, name, num: 3, member: ConnectionId(7), changed };
        let only_info = ChangedProfile { info: Some(Some("{}")), ..ChangedProfile::default() };
        for (text, want) in [
            (
                PresenceFrame { room: name, mode: PresenceMode::Count, num: 4, users: 2 }.encode(),
                json!({"event": "presence", "roomId": name, "mode": "count", "num": 4, "users": 2}),
            ),
            (
                state.encode(),
                json!({"event": "state", "state": [1], "info": null, "user": name, "name": name, "num": 3,
                    "member": "7", "roomId": name}),
            ),
            (
                StateFrame { changed: only_info, ..state }.encode(),
                json!({"event": "state", "info": {}, "name": name, "num": 3, "member": "7", "roomId": name}),
            ),
            (
                MembersFrame { room: name, seq: 5, mode: PresenceMode::Quiet, num: 4, users: 2, roster: "" }
                    .encode(),
                json!({"event": "members", "roomId": name, "seq": 5, "mode": "quiet", "num": 4, "users": 2}),
            ),
        ] {
            assert_eq!(from_str::<Value>(&text).unwrap(), want);
        }
    }

    #[test]
    fn a_roster_holds_a_bounded_number_of_bytes_but_at_least_one_member() {
        let long = format!("\"{}\"", "x".repeat(MAX_ROSTER_BYTES));
        let short = ProfileText { state: Some("1"), user: Some("u"), ..ProfileText::default() };
        let mut roster = RosterText::new();
        assert!(roster.push(3, ConnectionId(1), "a", ProfileText { info: Some(&long), ..short }));
        assert!(!roster.push(4, ConnectionId(2), "b", short));
        let frame: Value = from_str(&format!("{{\"a\":1{}}}", roster.finish(true))).unwrap();
        assert_eq!((&frame["next"], frame["members"].as_array().unwrap().len()), (&json!("3"), 1));
        let mut roster = RosterText::new();
        let mut pushed = 0;
        while roster.push(pushed, ConnectionId(1), "a", short) {
            pushed += 1;
        }
        let text = roster.finish(false);
        assert!(pushed > 500 && text.len() <= MAX_ROSTER_BYTES + 1, "{pushed} in {}", text.len());
        assert_eq!(RosterText::new().finish(false), r#","members":[]"#);
    }

    #[test]
    fn keys_of_profiles_are_found() {
        let keys = |text| ProfileKeys::parse(text).unwrap();
        assert_eq!(keys(r#"{"event":"enter","a":[{"state":1}]}"#), ProfileKeys::default());
        assert_eq!(keys(r#"{"state": {"a": 1} ,"b":2}"#).state, Some(r#"{"a": 1}"#));
        assert_eq!(keys(r#"{"\u0073tate":1}"#).state, Some("1"));
        let removed = keys(r#"{"state":null}"#);
        assert_eq!((removed.state, removed.is_present), (None, true));
        assert!(keys(r#"{"user":"x"}"#).is_present && keys(r#"{"info":"x"}"#).is_present);
        assert_eq!(keys(r#"{"after":"17"}"#).after.map(|after| cursor(after).unwrap()), Some(17));
        for text in [r#"{"state":1,"state":2}"#, r#"{"after":1,"after":2}"#] {
            assert_eq!(ProfileKeys::parse(text).unwrap_err().code, ErrorCode::BadShape);
        }
        for text in ["17", "\"-1\"", "\"x\"", "[]"] {
            assert_eq!(cursor(text).unwrap_err().code, ErrorCode::BadShape, "{text}");
        }
    }
}

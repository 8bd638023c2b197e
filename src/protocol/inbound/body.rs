//! What is relayed of a client's or the host's frame.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::envelope::Envelope;
use super::members::Members;
use super::{explain, string};
use crate::ids::{ConnectionId, RoomId};
use crate::protocol::error_code::PeerError;
use crate::protocol::json::quote;
use crate::protocol::outbound::{RoomFrame, room_key};

/// An object as the client sent it, without its closing brace and without the keys that only
/// the server sets (`name`, `num`). Never empty: it always contains an `event`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Body<'a> {
    text: Cow<'a, str>,
    /// The text for `chat-rooms.v1` if it differs: there, only the server sets [`V1_KEYS`] as well.
    v1: Option<String>,
    /// The `roomId` in the text, unparsed.
    room: Option<Cow<'a, str>>,
}

/// Keys that only the server sets in `chat-rooms.v1`; plain clients may use them as they like.
const V1_KEYS: [&str; 4] = ["seq", "member", "id", "direct"];

impl<'a> Body<'a> {
    /// The body of a frame. The text is that of the envelope.
    pub(super) fn of(text: &'a str, envelope: &Envelope<'a>) -> Result<Body<'a>, PeerError> {
        if envelope.forged {
            let members: Members<'_> = serde_json::from_str(text).map_err(|e| explain(text, &e))?;
            return Ok(Body::of_members(&members, &["name", "num"]));
        }
        // It is valid JSON, so only JSON's own white space can surround it and its members.
        let object = text.trim_ascii();
        let open = object.strip_suffix('}').unwrap_or(object);
        let room = envelope.room_id.map(|raw| raw.get().into());
        Ok(Body { text: open.trim_ascii_end().into(), v1: None, room })
    }

    /// The body without these keys, and for `chat-rooms.v1` without its own as well.
    fn of_members(members: &Members<'_>, drop: &[&str]) -> Body<'static> {
        let is_v1 = |key: &RawValue| string(key).is_some_and(|key| V1_KEYS.contains(&&*key));
        let has_v1_keys = members.0.iter().any(|(key, _)| is_v1(key));
        let v1 = has_v1_keys.then(|| members.without(&[drop, &V1_KEYS].concat()));
        let is_room = |key: &RawValue| string(key).is_some_and(|key| key == "roomId");
        let room = members.0.iter().find(|(key, _)| is_room(key)).filter(|_| !drop.contains(&"roomId"));
        Body { text: members.without(drop).into(), v1, room: room.map(|(_, id)| id.get().to_owned().into()) }
    }

    /// The whole object as hooks see it: what the client sent, without the keys that only the server sets.
    pub(crate) fn for_hooks<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match &self.text {
            Cow::Borrowed(_) => text.into(),
            Cow::Owned(changed) => format!("{changed}}}").into(),
        }
    }

    /// The object up to its closing brace.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// A frame of this room from a member with this body and tail.
    pub(crate) fn frame<'b>(&'b self, tail: &'b str, member: ConnectionId, room: &RoomId) -> RoomFrame<'b> {
        let (v1, has_room) = self.v1_in(room);
        RoomFrame { plain: &self.text, v1, has_room, tail, member: Some(member) }
    }

    /// A frame of this room from the host with this body.
    pub(crate) fn host_frame(&self, room: &RoomId) -> RoomFrame<'_> {
        let tail = if self.as_str() == "{" { "\"num\":" } else { ",\"num\":" };
        let (v1, has_room) = self.v1_in(room);
        RoomFrame { plain: &self.text, v1, has_room, tail, member: None }
    }

    /// The text for `chat-rooms.v1`, and whether it contains the `roomId` exactly as this server writes it. Any other
    /// `roomId` is left out.
    fn v1_in(&self, room: &RoomId) -> (Cow<'_, str>, bool) {
        match &self.room {
            None => (self.v1().into(), false),
            Some(json) if is_json_of(json, room.as_str()) => (self.v1().into(), true),
            Some(_) => {
                let closed = format!("{}}}", self.v1());
                // It was parsed as an object before.
                let members: Members<'_> = serde_json::from_str(&closed).unwrap_or_default();
                (members.without(&["roomId"]).into(), false)
            }
        }
    }

    /// The text for `chat-rooms.v1` with the `roomId`, up to its closing brace.
    pub(crate) fn in_room(&self, room: &RoomId) -> String {
        let (v1, has_room) = self.v1_in(room);
        if has_room { v1.into_owned() } else { format!("{v1}{}", room_key(room.as_str())) }
    }

    pub(super) fn v1(&self) -> &str {
        self.v1.as_deref().unwrap_or(&self.text)
    }

    /// The body of an object from the host; the room sets `num`.
    pub(crate) fn of_host(json: &str) -> Option<Body<'static>> {
        // With `seq` as its only key, the body would be empty for v1 only, and need another tail there.
        Body::without(json, &["num"])
            .map(|body| if body.v1() == "{" { Body { text: "{".into(), v1: None, ..body } } else { body })
    }

    /// The body of an object that the host sends in a member's name.
    pub(crate) fn of_host_for_member(json: &str) -> Option<Body<'static>> {
        // An empty body would need no comma before the tail, and would say nothing.
        Body::without(json, &["name", "num"]).filter(|body| body.v1() != "{")
    }

    fn without(json: &str, keys: &[&str]) -> Option<Body<'static>> {
        let members: Members<'_> = serde_json::from_str(json).ok()?;
        Some(Body::of_members(&members, keys))
    }

    /// The same without the keys `since` and `last` of `chat-rooms.v1`, which are for the server only.
    pub(crate) fn without_replay_keys(&self) -> Body<'static> {
        self.change(&["since", "last"], "")
    }

    /// The same with another value for `message`, for names that are not the claimed one.
    pub(crate) fn with_message(&self, message: &str) -> Body<'static> {
        self.change(&["message"], &format!("\"message\":{}", quote(message)))
    }

    /// The same with the `cid` of the message that it replaces.
    pub(crate) fn with_cid(&self, cid: &str) -> Body<'static> {
        self.change(&["cid"], &format!("\"cid\":{}", quote(cid)))
    }

    /// The same for the enter of a member with this profile: in `chat-rooms.v1`, only the server sets the keys of
    /// profiles.
    pub(crate) fn with_profile(&self, profile: &str) -> Body<'static> {
        let closed = format!("{}}}", self.v1());
        // It was parsed as an object before.
        let members: Members<'_> = serde_json::from_str(&closed).unwrap_or_default();
        // It always has an `event`.
        let v1 = members.without(&["user", "info", "state"]) + profile;
        let room = self.room.as_ref().map(|room| room.clone().into_owned().into());
        Body { text: self.text.clone().into_owned().into(), v1: Some(v1), room }
    }

    /// The same, independent of the client's text.
    pub(crate) fn to_owned(&self) -> Body<'static> {
        let room = self.room.as_ref().map(|room| room.clone().into_owned().into());
        Body { text: self.text.clone().into_owned().into(), v1: self.v1.clone(), room }
    }

    fn change(&self, drop: &[&str], append: &str) -> Body<'static> {
        let closed = format!("{}}}", self.text);
        // It was parsed as an object before.
        let members: Members<'_> = serde_json::from_str(&closed).unwrap_or_default();
        let mut body = Body::of_members(&members, drop);
        for text in body.v1.iter_mut().chain([body.text.to_mut()]).filter(|_| !append.is_empty()) {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(append);
        }
        body
    }
}

/// The text of an object up to its closing brace, without these keys.
pub(in crate::protocol) fn without_keys(object: &str, keys: &[&str]) -> String {
    let members: Members<'_> = serde_json::from_str(object).unwrap_or_default();
    members.without(keys)
}

/// Whether this is the room's id in the shortest form of a JSON string.
fn is_json_of(json: &str, room: &str) -> bool {
    // A room id contains no control characters, so only a quote and a backslash would be escaped.
    let inner = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner == Some(room) && !room.contains(['\\', '"'])
}

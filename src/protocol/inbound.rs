//! Parses what a client sends, no further than needed: only the envelope's own keys are read,
//! everything else is relayed unchanged, byte for byte.

use std::borrow::Cow;

use serde_json::value::RawValue;
use tower_chat_rooms_protocol::SERVER_EVENTS;

use crate::ids::{ConnectionId, RoomId};
use crate::protocol::direct::{LastDirect, NOT_RELAYED};
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::json::{quote, unquote};
use crate::protocol::outbound::RoomFrame;
use crate::protocol::presence::ProfileKeys;
use crate::protocol::resume;
use crate::protocol::subprotocol::Subprotocol;
use envelope::Envelope;
use members::Members;
pub(crate) use room_field::RoomField;

/// One message of a client.
#[derive(Debug, PartialEq)]
pub(crate) enum Inbound<'a> {
    /// `{"event":"enter","message":NAME,"roomId":ROOM}`
    Enter(Enter<'a>),
    /// `{"event":"heartbeat","message":"pong"}`
    Pong,
    /// `{"event":"heartbeat","message":"ping"}`. A `chat-rooms.v1` client sends it to ask whether the connection
    /// still works.
    Ping,
    /// `{"event":"auth","message":TOKEN}`
    Auth(Cow<'a, str>),
    /// `{"event":"leave","roomId":ROOM}` in `chat-rooms.v1`
    Leave(RoomField<'a>),
    /// `{"event":"resume","message":[TOKEN],"direct":N,"member":ID}` in `chat-rooms.v1`
    Resume(Resume<'a>),
    /// `{"event":"direct","message":ANY,"to":USER}` in `chat-rooms.v1`
    Direct(Direct<'a>),
    /// `{"event":"state","state":ANY,"roomId":ROOM}` in `chat-rooms.v1`
    State(State<'a>),
    /// `{"event":"members","roomId":ROOM}` in `chat-rooms.v1`
    Members(MembersRequest<'a>),
    /// Any other event, to be relayed.
    Publish(Publish<'a>),
}

/// A frame for the room.
#[derive(Debug, PartialEq)]
pub(crate) struct Publish<'a> {
    pub(crate) event: Cow<'a, str>,
    /// The `roomId`. Used only for `chat-rooms.v1`, because plain clients may give the key another meaning.
    pub(crate) room: Option<RoomField<'a>>,
    pub(crate) body: Body<'a>,
    /// The `cid` of `chat-rooms.v1`, unparsed; to plain clients the key may mean something else.
    pub(crate) cid: Option<&'a str>,
}

/// A request to continue a session.
#[derive(Debug, PartialEq)]
pub(crate) struct Resume<'a> {
    /// The array of tokens, unparsed.
    pub(crate) tokens: &'a str,
    pub(crate) last_direct: LastDirect,
}

/// A message to a user.
#[derive(Debug, PartialEq)]
pub(crate) struct Direct<'a> {
    /// The user's id.
    pub(crate) to: Cow<'a, str>,
    /// What is relayed: an object up to its closing brace.
    pub(crate) body: String,
    /// The `cid`, unparsed.
    pub(crate) cid: Option<&'a str>,
}

/// A member's new state.
#[derive(Debug, PartialEq)]
pub(crate) struct State<'a> {
    pub(crate) room: Option<RoomField<'a>>,
    /// Unparsed; `None` if the member has no state any more.
    pub(crate) state: Option<&'a str>,
    /// For hooks.
    pub(crate) body: Body<'a>,
}

/// A request for a part of the roster.
#[derive(Debug, PartialEq)]
pub(crate) struct MembersRequest<'a> {
    pub(crate) room: Option<RoomField<'a>>,
    /// The cursor, unparsed; `None` for the beginning.
    pub(crate) after: Option<&'a str>,
}

/// A request to enter a room.
#[derive(Debug, PartialEq)]
pub(crate) struct Enter<'a> {
    /// `None` if it is missing or not a string.
    pub(crate) name: Option<Cow<'a, str>>,
    pub(crate) room: RoomField<'a>,
    pub(crate) body: Body<'a>,
    /// The `since` of `chat-rooms.v1`, unparsed.
    pub(crate) since: Option<&'a str>,
    /// The `last` of `chat-rooms.v1`, unparsed.
    pub(crate) last: Option<&'a str>,
    /// The keys that have a meaning of their own in `chat-rooms.v1`.
    pub(crate) profile: ProfileKeys<'a>,
}

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
const V1_KEYS: [&str; 3] = ["seq", "member", "direct"];

/// The depth of nesting that common JSON parsers accept, serde_json among them.
pub(crate) const MAX_DEPTH: usize = 127;

/// The answer to a heartbeat as nearly every client sends it.
const PONG: &str = r#"{"event":"heartbeat","message":"pong"}"#;

impl<'a> Inbound<'a> {
    /// The valid `cid` of a message.
    pub(crate) fn cid(&self) -> Option<Cow<'a, str>> {
        let cid = match self {
            Inbound::Publish(publish) => publish.cid,
            Inbound::Direct(direct) => direct.cid,
            _ => None,
        };
        resume::cid(cid?).ok()
    }

    /// Parses a text frame. `max_depth`, at most [`MAX_DEPTH`], bounds how deeply arrays and objects may be nested.
    pub(crate) fn parse(
        text: &'a str,
        subprotocol: Subprotocol,
        max_depth: usize,
    ) -> Result<Inbound<'a>, PeerError> {
        if text == PONG {
            return Ok(Inbound::Pong);
        }
        if is_deeper(text, max_depth) {
            let text = format!("arrays and objects are nested more than {max_depth} deep");
            return Err(PeerError::new(ErrorCode::TooDeep, text));
        }
        let envelope: Envelope<'a> = serde_json::from_str(text).map_err(|e| explain(text, &e))?;
        if text::needs_check(text) {
            text::check(text).map_err(|e| explain(text, &e))?;
        }
        if let Some(key) = envelope.twice {
            return Err(PeerError::new(ErrorCode::BadShape, format!("the key \"{key}\" occurs twice")));
        }
        let event = envelope.event.and_then(string).ok_or_else(|| {
            PeerError::new(ErrorCode::BadShape, "a frame needs an \"event\" that is a string")
        })?;
        let message = envelope.message;
        match &*event {
            "enter" => Ok(Inbound::Enter(Enter {
                name: message.and_then(string),
                room: RoomField::of(envelope.room_id, envelope.has_room),
                body: body(text, &envelope)?,
                since: envelope.since.map(RawValue::get),
                last: envelope.last.map(RawValue::get),
                profile: ProfileKeys::parse(text)?,
            })),
            "heartbeat" if message.and_then(string).as_deref() == Some("pong") => Ok(Inbound::Pong),
            "heartbeat" if message.and_then(string).as_deref() == Some("ping") => Ok(Inbound::Ping),
            "auth" => match message.and_then(string) {
                Some(token) => Ok(Inbound::Auth(token)),
                None => Err(PeerError::new(ErrorCode::BadShape, "\"auth\" needs a token as \"message\"")),
            },
            "leave" if subprotocol == Subprotocol::V1 => {
                Ok(Inbound::Leave(RoomField::of(envelope.room_id, envelope.has_room)))
            }
            "resume" if subprotocol == Subprotocol::V1 => {
                let tokens = message.map_or("null", RawValue::get);
                Ok(Inbound::Resume(Resume { tokens, last_direct: LastDirect::of_resume(text)? }))
            }
            "direct" if subprotocol == Subprotocol::V1 => direct(text, &envelope).map(Inbound::Direct),
            "state" if subprotocol == Subprotocol::V1 => Ok(Inbound::State(State {
                room: envelope.room_id.map(|raw| RoomField::of(Some(raw), false)),
                state: ProfileKeys::parse(text)?.state,
                body: body(text, &envelope)?,
            })),
            "members" if subprotocol == Subprotocol::V1 => Ok(Inbound::Members(MembersRequest {
                room: envelope.room_id.map(|raw| RoomField::of(Some(raw), false)),
                after: ProfileKeys::parse(text)?.after,
            })),
            name if SERVER_EVENTS.contains(&name) => Err(reserved(name)),
            _ => Ok(Inbound::Publish(Publish {
                body: body(text, &envelope)?,
                event,
                room: envelope.room_id.map(|raw| RoomField::of(Some(raw), false)),
                cid: envelope.cid.map(RawValue::get),
            })),
        }
    }
}

impl<'a> Body<'a> {
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

    fn v1(&self) -> &str {
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
        Some(members.body(keys))
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

    fn change(&self, drop: &[&str], append: &str) -> Body<'static> {
        let closed = format!("{}}}", self.text);
        // It was parsed as an object before.
        let members: Members<'_> = serde_json::from_str(&closed).unwrap_or_default();
        let mut body = members.body(drop);
        for text in body.v1.iter_mut().chain([body.text.to_mut()]).filter(|_| !append.is_empty()) {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(append);
        }
        body
    }
}

/// The `message` of an object, if it is a string.
pub(crate) fn message_of(object: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Envelope<'_>>(object).ok()?.message.and_then(string)
}

/// The event's name of a frame that the server has made.
pub(crate) fn event_of(frame: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Envelope<'_>>(frame).ok()?.event.and_then(string)
}

fn body<'a>(text: &'a str, envelope: &Envelope<'a>) -> Result<Body<'a>, PeerError> {
    if envelope.forged {
        let members: Members<'_> = serde_json::from_str(text).map_err(|e| explain(text, &e))?;
        return Ok(members.body(&["name", "num"]));
    }
    // It is valid JSON, so only JSON's own white space can surround it and its members.
    let object = text.trim_ascii();
    let open = object.strip_suffix('}').unwrap_or(object);
    let room = envelope.room_id.map(|raw| raw.get().into());
    Ok(Body { text: open.trim_ascii_end().into(), v1: None, room })
}

fn direct<'a>(text: &'a str, envelope: &Envelope<'a>) -> Result<Direct<'a>, PeerError> {
    let members: Members<'a> = serde_json::from_str(text).map_err(|e| explain(text, &e))?;
    let mut to = members.0.iter().filter(|(key, _)| string(key).is_some_and(|key| key == "to"));
    let (Some((_, to)), None) = (to.next(), to.next()) else {
        return Err(PeerError::new(ErrorCode::BadShape, "\"to\" must be the id of a user"));
    };
    let to = string(to).ok_or_else(|| PeerError::new(ErrorCode::BadShape, "\"to\" must be a string"))?;
    let cid = envelope.cid.map(RawValue::get);
    Ok(Direct { to, body: members.without(&NOT_RELAYED), cid })
}

/// The text of an object up to its closing brace, without these keys.
pub(super) fn without_keys(object: &str, keys: &[&str]) -> String {
    let members: Members<'_> = serde_json::from_str(object).unwrap_or_default();
    members.without(keys)
}

/// Whether an event belongs to the protocol, in one direction or the other.
pub(crate) fn is_of_protocol(event: &str) -> bool {
    SERVER_EVENTS.contains(&event) || ["enter", "auth", "leave", "resume"].contains(&event)
}

/// A client sent an event that only the server may send.
pub(crate) fn reserved(event: &str) -> PeerError {
    PeerError::new(ErrorCode::ReservedEvent, format!("the event \"{event}\" is sent by the server only"))
}

fn explain(text: &str, error: &serde_json::Error) -> PeerError {
    // A value that parses as JSON but is not an object gets another error than broken text.
    let is_object = text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{');
    if !is_object && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        return PeerError::new(ErrorCode::NotAnObject, "a frame must be a JSON object");
    }
    PeerError::new(ErrorCode::BadJson, format!("the frame is not JSON: {error}"))
}

/// Whether this is the room's id in the shortest form of a JSON string.
fn is_json_of(json: &str, room: &str) -> bool {
    // A room id contains no control characters, so only a quote and a backslash would be escaped.
    let inner = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner == Some(room) && !room.contains(['\\', '"'])
}

fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    unquote(raw.get())
}

pub(super) fn is_deeper(text: &str, max: usize) -> bool {
    // Most frames hold fewer brackets than may be nested, and then need no scan for strings.
    // '[' and '{' differ in one bit. Counting in bytes lets the compiler process many at a time.
    let brackets = |part: &[u8]| part.iter().map(|b| u8::from(b | 0x20 == b'{')).sum::<u8>();
    if text.as_bytes().chunks(255).map(|part| usize::from(brackets(part))).sum::<usize>() <= max {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for b in text.bytes() {
        match (in_string, b) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

mod envelope;
mod members;
mod room_field;
#[cfg(test)]
mod tests;
mod text;

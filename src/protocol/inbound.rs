//! Parses what a client sends, no further than needed: only the envelope's own keys are read,
//! everything else is relayed unchanged, byte for byte.

use std::borrow::Cow;

use serde_json::value::RawValue;
use tower_chat_rooms_protocol::SERVER_EVENTS;

#[cfg(feature = "redis")]
use crate::error::SendError;
use crate::protocol::direct::LastDirect;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::json::unquote;
use crate::protocol::presence::ProfileKeys;
use crate::protocol::resume;
use crate::protocol::subprotocol::Subprotocol;
pub(crate) use body::Body;
pub(super) use body::without_keys;
pub(crate) use direct::Direct;
use envelope::Envelope;
pub(crate) use history::{HistoryKeys, HistoryRequest};
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
    /// `{"event":"history","roomId":ROOM,"before":ID,"limit":N}` in `chat-rooms.v1`
    History(HistoryRequest<'a>),
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
            Inbound::History(request) => request.cid,
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
                body: Body::of(text, &envelope)?,
                since: envelope.since.map(RawValue::get),
                last: envelope.last.map(RawValue::get),
                profile: profile_keys(text, &envelope)?,
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
            "direct" if subprotocol == Subprotocol::V1 => Direct::parse(text, &envelope).map(Inbound::Direct),
            "state" if subprotocol == Subprotocol::V1 => Ok(Inbound::State(State {
                room: envelope.room_id.map(|raw| RoomField::of(Some(raw), false)),
                state: profile_keys(text, &envelope)?.state,
                body: Body::of(text, &envelope)?,
            })),
            "history" if subprotocol == Subprotocol::V1 => Ok(Inbound::History(HistoryRequest {
                room: envelope.room_id.map(|raw| RoomField::of(Some(raw), false)),
                cid: envelope.cid.map(RawValue::get),
                keys: HistoryKeys::parse(text)?,
            })),
            "members" if subprotocol == Subprotocol::V1 => Ok(Inbound::Members(MembersRequest {
                room: envelope.room_id.map(|raw| RoomField::of(Some(raw), false)),
                after: profile_keys(text, &envelope)?.after,
            })),
            name if SERVER_EVENTS.contains(&name) => Err(reserved(name)),
            _ => Ok(Inbound::Publish(Publish {
                body: Body::of(text, &envelope)?,
                event,
                room: envelope.room_id.map(|raw| RoomField::of(Some(raw), false)),
                cid: envelope.cid.map(RawValue::get),
            })),
        }
    }
}

/// The `message` of an object, if it is a string.
pub(crate) fn message_of(object: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Envelope<'_>>(object).ok()?.message.and_then(string)
}

/// The `cid` and the `roomId` of an object, as far as they can be read.
pub(crate) fn cid_and_room_of(object: &str) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(object) else { return (None, None) };
    let cid = envelope.cid.and_then(|cid| resume::cid(cid.get()).ok());
    (cid, envelope.room_id.and_then(string))
}

/// The event's name of a frame that the server has made.
pub(crate) fn event_of(frame: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Envelope<'_>>(frame).ok()?.event.and_then(string)
}

/// Checks an object that a program without clients publishes. To a client, an event of the protocol would look as if the
/// server itself had sent it.
#[cfg(feature = "redis")]
pub(crate) fn check_published(object: &str) -> Result<(), SendError> {
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(object) else {
        return Err(SendError::NotAnObject);
    };
    if envelope.twice.is_some() {
        return Err(SendError::DuplicateKey);
    }
    let event = envelope.event.and_then(string).ok_or(SendError::NoEvent)?;
    if is_of_protocol(&event) { Err(SendError::ReservedEvent) } else { Ok(()) }
}

/// The keys of profiles, which most frames do not have.
fn profile_keys<'a>(text: &'a str, envelope: &Envelope<'a>) -> Result<ProfileKeys<'a>, PeerError> {
    if envelope.has_profile_keys { ProfileKeys::parse(text) } else { Ok(ProfileKeys::default()) }
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

mod body;
mod direct;
mod envelope;
mod history;
mod members;
mod room_field;
#[cfg(test)]
mod tests;
mod text;

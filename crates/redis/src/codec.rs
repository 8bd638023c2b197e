//! How events are written in the log and in the channels. Scripts write them (`append` in `lua/room.lua`), so this
//! module mostly reads.

use std::fmt;
use std::str;
use std::sync::Arc;

use bytes::Bytes;

use crate::event::RoomEvent;
use crate::stamp::{Epoch, EventKind, Stamp};

/// The version that scripts write. Readers know it and those before.
const VERSION: u8 = 1;
const HEADER: usize = 3 + 8 + 3 * 8 + 2;
const TRANSIENT: u8 = 6;
const CLOSE_ROOM: u8 = 7;
const COMMAND: u8 = 8;
const PROBE: u8 = 9;
const SESSION_TAKEN: u8 = 10;
const PROFILE: u8 = 11;
const HIDDEN_ENTER: u8 = 12;
const HIDDEN_LEAVE: u8 = 13;
const UNANNOUNCED: u8 = 14;
const IS_LAST: u8 = 1;
const IS_REPLACED: u8 = 2;

/// What arrives in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// In a room's channel.
    Event(RoomEvent),
    /// In a room's channel.
    Transient(Bytes),
    /// In a control channel.
    CloseRoom(Arc<str>),
    /// In a control channel.
    Command(Bytes),
    /// In a node's own channel: another node has the session with this id.
    SessionTaken { session: Box<str>, generation: u64 },
    /// In a node's own channel: this node has taken over the session of a member before the host was told of its enter.
    Unannounced { session: Box<str>, member: Box<str>, room: Arc<str> },
    /// In a node's own channel: the connection works.
    Probe(u64),
}

/// Why a message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// It is of a later version.
    Version(u8),
    /// It is too short, or has an unknown kind.
    Malformed,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Version(version) => write!(f, "unknown version {version}; upgrade this node"),
            DecodeError::Malformed => f.write_str("malformed; does something else write to these channels?"),
        }
    }
}

/// Reads a message of the channel or the log of `room`, which is empty for a control channel.
pub(crate) fn decode(room: &Arc<str>, payload: Bytes) -> Result<Message, DecodeError> {
    let (version, kind) = match payload[..] {
        [version, kind, ..] => (version, kind),
        _ => return Err(DecodeError::Malformed),
    };
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let kind = match kind {
        1 => EventKind::Enter,
        2 => EventKind::Leave,
        3 => EventKind::SilentEnter,
        4 => EventKind::SilentLeave,
        5 => EventKind::Publish,
        PROFILE => EventKind::Profile,
        HIDDEN_ENTER => EventKind::HiddenEnter,
        HIDDEN_LEAVE => EventKind::HiddenLeave,
        TRANSIENT => return Ok(Message::Transient(payload.slice(2..))),
        COMMAND => return Ok(Message::Command(payload.slice(2..))),
        CLOSE_ROOM => {
            let room = str::from_utf8(&payload[2..]).map_err(|_| DecodeError::Malformed)?;
            return Ok(Message::CloseRoom(room.into()));
        }
        SESSION_TAKEN => {
            let (generation, session) = payload[2..].split_first_chunk().ok_or(DecodeError::Malformed)?;
            let session = str::from_utf8(session).map_err(|_| DecodeError::Malformed)?.into();
            return Ok(Message::SessionTaken { session, generation: u64::from_be_bytes(*generation) });
        }
        UNANNOUNCED => return decode_unannounced(&payload[2..]).ok_or(DecodeError::Malformed),
        PROBE => {
            let number = payload[2..].try_into().map_err(|_| DecodeError::Malformed)?;
            return Ok(Message::Probe(u64::from_be_bytes(number)));
        }
        _ => return Err(DecodeError::Malformed),
    };
    decode_event(room, kind, &payload).map(Message::Event).ok_or(DecodeError::Malformed)
}

fn decode_unannounced(payload: &[u8]) -> Option<Message> {
    let (lengths, texts) = payload.split_first_chunk::<4>()?;
    let len = |at| usize::from(u16::from_be_bytes([lengths[at], lengths[at + 1]]));
    let (session, texts) = texts.split_at_checked(len(0))?;
    let (member, room) = texts.split_at_checked(len(2))?;
    let text = |bytes| str::from_utf8(bytes).ok();
    Some(Message::Unannounced {
        session: text(session)?.into(),
        member: text(member)?.into(),
        room: text(room)?.into(),
    })
}

fn decode_event(room: &Arc<str>, kind: EventKind, payload: &Bytes) -> Option<RoomEvent> {
    let number = |at: usize| Some(u64::from_be_bytes(payload.get(at..at + 8)?.try_into().ok()?));
    let flags = *payload.get(2)?;
    let (is_last, is_replaced) = (flags & IS_LAST != 0, flags & IS_REPLACED != 0);
    let stamp =
        Stamp { epoch: Epoch::from_u64(number(3)?), event: number(11)?, seq: number(19)?, num: number(27)? };
    let member_len = u16::from_be_bytes(payload.get(35..HEADER)?.try_into().ok()?);
    let mut body_at = HEADER + usize::from(member_len);
    let member = str::from_utf8(payload.get(HEADER..body_at)?).ok()?;
    let member = (!member.is_empty()).then(|| member.into());
    let id = match kind {
        EventKind::Publish => Some(number(body_at)?),
        _ => None,
    };
    body_at += id.map_or(0, |_| 8);
    Some(RoomEvent {
        room: room.clone(),
        stamp,
        kind,
        member,
        id,
        body: payload.slice(body_at..),
        is_last,
        is_replaced,
    })
}

pub(crate) fn encode_transient(body: &[u8]) -> Vec<u8> {
    encode(TRANSIENT, body)
}

pub(crate) fn encode_command(body: &[u8]) -> Vec<u8> {
    encode(COMMAND, body)
}

pub(crate) fn encode_close_room(room: &str) -> Vec<u8> {
    encode(CLOSE_ROOM, room.as_bytes())
}

pub(crate) fn encode_probe(number: u64) -> Vec<u8> {
    encode(PROBE, &number.to_be_bytes())
}

fn encode(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[VERSION, kind], body].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message, as its script writes it.
    const MESSAGE: u8 = 5;

    /// As `append` in `lua/room.lua` does it; the tests with a server check that one.
    fn encode_event(kind: u8, is_last: bool, stamp: Stamp, member: &str, id: u64, body: &[u8]) -> Bytes {
        let mut payload = vec![VERSION, kind, is_last.into()];
        payload.extend(stamp.epoch.to_bytes());
        for number in [stamp.event, stamp.seq, stamp.num] {
            payload.extend(number.to_be_bytes());
        }
        payload.extend((member.len() as u16).to_be_bytes());
        payload.extend(member.as_bytes());
        if kind == MESSAGE {
            payload.extend(id.to_be_bytes());
        }
        payload.extend(body);
        payload.into()
    }

    #[test]
    fn unknown_versions_are_told_apart_from_garbage() {
        let room = Arc::from("r");
        assert_eq!(decode(&room, Bytes::from_static(&[2, 1, 0])), Err(DecodeError::Version(2)));
        assert_eq!(decode(&room, Bytes::from_static(&[1, 99, 0])), Err(DecodeError::Malformed));
        assert_eq!(decode(&room, Bytes::from_static(&[1])), Err(DecodeError::Malformed));
    }

    #[test]
    fn control_messages_survive_the_way() {
        let none = Arc::from("");
        let read = |payload: Vec<u8>| decode(&none, payload.into()).unwrap();
        assert_eq!(read(encode_transient(b"t")), Message::Transient(Bytes::from_static(b"t")));
        assert_eq!(read(encode_command(b"")), Message::Command(Bytes::new()));
        assert_eq!(read(encode_close_room("lobby")), Message::CloseRoom("lobby".into()));
        assert_eq!(read(encode_probe(7)), Message::Probe(7));
    }

    proptest! {
        #[test]
        fn events_survive_the_way(
            epoch: u64, event: u64, seq: u64, num: u64, kind in 1u8..=5, member in ".{0,40}", body: Vec<u8>,
            is_last: bool, id: u64,
        ) {
            let stamp = Stamp { epoch: Epoch::from_u64(epoch), event, seq, num };
            let message = decode(&"r".into(), encode_event(kind, is_last, stamp, &member, id, &body)).unwrap();
            let Message::Event(read) = message else { panic!("{message:?} is no event") };
            prop_assert_eq!(read.stamp, stamp);
            prop_assert_eq!(read.member.as_deref().unwrap_or_default(), member);
            prop_assert_eq!(read.id, (kind == MESSAGE).then_some(id));
            prop_assert_eq!((read.body.to_vec(), read.is_last), (body, is_last));
        }

        #[test]
        fn any_bytes_are_read_or_refused(payload: Vec<u8>) {
            let _ = decode(&"r".into(), Bytes::from(payload));
        }

        #[test]
        fn a_cut_header_is_refused(len in 2usize..HEADER) {
            let stamp = Stamp { epoch: Epoch::from_u64(1), event: 1, seq: 1, num: 1 };
            let payload = encode_event(1, false, stamp, "", 0, b"").slice(..len);
            prop_assert_eq!(decode(&"r".into(), payload), Err(DecodeError::Malformed));
        }
    }
}

//! What nodes send each other through a [`RemoteBroker`](crate::broker::RemoteBroker): frames and profiles.
//!
//! A body begins with the version of its format. A node drops bodies of versions that it does not know.

use std::borrow::Cow;

use bytes::{BufMut, Bytes};

use crate::ids::{ConnectionId, MaxLen, Name};
use crate::protocol::outbound::RoomFrame;
use crate::room::Profile;

pub(super) const VERSION: u8 = 1;

/// A body that this node cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// A transient frame.
#[derive(Debug)]
pub(crate) struct TransientFrame<'a> {
    pub(crate) event: &'a str,
    pub(crate) frame: RoomFrame<'a>,
}

/// What only the node needs to know that a member moves to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MemberFlags {
    /// Whether the enter has no frame.
    pub(crate) is_silent: bool,
    /// Whether the member may not send messages.
    pub(crate) is_read_only: bool,
}

/// The body of an enter.
pub(crate) fn encode_enter(
    name: &Name,
    profile: &Profile,
    frame: &RoomFrame<'_>,
    flags: MemberFlags,
) -> Bytes {
    let mut body = vec![VERSION];
    put_profile(&mut body, name, profile);
    put_frame(&mut body, frame);
    body.put_u8(u8::from(flags.is_silent) | u8::from(flags.is_read_only) << 1);
    body.into()
}

pub(crate) fn decode_enter(body: &[u8]) -> Result<(Name, Profile, RoomFrame<'_>), Unreadable> {
    let mut body = Reader::new(body)?;
    let (name, profile) = body.profile()?;
    Ok((name, profile, body.frame()?))
}

/// The profile with which a member has entered, and its flags.
pub(crate) fn decode_entered(body: &[u8]) -> Result<(Profile, MemberFlags), Unreadable> {
    let mut body = Reader::new(body)?;
    let (_, profile) = body.profile()?;
    body.frame()?;
    let [flags] = body.array()?;
    Ok((profile, MemberFlags { is_silent: flags & 1 != 0, is_read_only: flags & 2 != 0 }))
}

/// The body of a published frame or a leave.
pub(crate) fn encode_frame(frame: &RoomFrame<'_>) -> Bytes {
    let mut body = vec![VERSION];
    put_frame(&mut body, frame);
    body.into()
}

/// The frame says no member: that is known from the event.
pub(crate) fn decode_frame(body: &[u8]) -> Result<RoomFrame<'_>, Unreadable> {
    Reader::new(body)?.frame()
}

/// The body of a changed profile.
#[cfg_attr(
    not(any(feature = "redis", feature = "test-util")),
    allow(dead_code, reason = "no broker that is compiled sends it")
)]
pub(crate) fn encode_profile(name: &Name, profile: &Profile) -> Bytes {
    let mut body = vec![VERSION];
    put_profile(&mut body, name, profile);
    body.into()
}

pub(crate) fn decode_profile(body: &[u8]) -> Result<(Name, Profile), Unreadable> {
    Reader::new(body)?.profile()
}

/// The body of a transient frame.
pub(crate) fn encode_transient(event: &str, frame: &RoomFrame<'_>) -> Bytes {
    let mut body = vec![VERSION];
    let member = frame.member.map(|ConnectionId(id)| id.to_be_bytes());
    put(&mut body, member.as_ref().map(|id| &id[..]));
    put(&mut body, Some(event.as_bytes()));
    put_frame(&mut body, frame);
    body.into()
}

pub(crate) fn decode_transient(body: &[u8]) -> Result<TransientFrame<'_>, Unreadable> {
    let mut body = Reader::new(body)?;
    let member = match body.field()? {
        Some(id) => Some(ConnectionId(u64::from_be_bytes(id.try_into().map_err(|_| Unreadable)?))),
        None => None,
    };
    let event = body.text()?.ok_or(Unreadable)?;
    Ok(TransientFrame { event, frame: RoomFrame { member, ..body.frame()? } })
}

fn put_frame(body: &mut Vec<u8>, frame: &RoomFrame<'_>) {
    body.put_u8(frame.has_room.into());
    put(body, Some(frame.plain.as_bytes()));
    // Usually the same.
    put(body, (frame.v1 != frame.plain).then_some(frame.v1.as_bytes()));
    put(body, Some(frame.tail.as_bytes()));
}

fn put_profile(body: &mut Vec<u8>, name: &Name, profile: &Profile) {
    put(body, Some(name.as_str().as_bytes()));
    for part in [&profile.user, &profile.info, &profile.state] {
        put(body, part.as_deref().map(str::as_bytes));
    }
}

/// The length is one more than that of the field. 0 means that there is none.
pub(super) fn put(body: &mut Vec<u8>, field: Option<&[u8]>) {
    body.put_u32(field.map_or(0, |field| field.len() as u32 + 1));
    body.put_slice(field.unwrap_or_default());
}

pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Result<Reader<'a>, Unreadable> {
        match body {
            [VERSION, rest @ ..] => Ok(Reader(rest)),
            _ => Err(Unreadable),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Unreadable)?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn field(&mut self) -> Result<Option<&'a [u8]>, Unreadable> {
        let Some(len) = u32::from_be_bytes(self.array()?).checked_sub(1) else { return Ok(None) };
        let (field, rest) = self.0.split_at_checked(len as usize).ok_or(Unreadable)?;
        self.0 = rest;
        Ok(Some(field))
    }

    pub(super) fn text(&mut self) -> Result<Option<&'a str>, Unreadable> {
        self.field()?.map(std::str::from_utf8).transpose().map_err(|_| Unreadable)
    }

    fn frame(&mut self) -> Result<RoomFrame<'a>, Unreadable> {
        let [flags] = self.array()?;
        let plain = self.text()?.ok_or(Unreadable)?;
        let v1 = Cow::Borrowed(self.text()?.unwrap_or(plain));
        let tail = self.text()?.ok_or(Unreadable)?;
        Ok(RoomFrame { plain, v1, has_room: flags != 0, tail, member: None })
    }

    fn profile(&mut self) -> Result<(Name, Profile), Unreadable> {
        let name = self.text()?.and_then(|name| Name::parse(name, MaxLen::ANY).ok()).ok_or(Unreadable)?;
        let mut part = || Ok(self.text()?.map(Into::into));
        let (user, info, state) = (part()?, part()?, part()?);
        Ok((name, Profile { user, info, state, ..Profile::default() }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    fn check_frame(read: &RoomFrame<'_>, written: &RoomFrame<'_>) {
        assert_eq!((read.plain, &read.v1, read.tail), (written.plain, &written.v1, written.tail));
        assert_eq!((read.has_room, read.member), (written.has_room, written.member));
    }

    proptest! {
        #[test]
        fn bodies_are_read_as_they_are_written(
            plain: String, v1 in of(".*"), tail: String, has_room: bool, member: Option<u64>,
            parts: [Option<String>; 3],
        ) {
            let v1 = v1.unwrap_or(plain.clone());
            let member = member.map(ConnectionId);
            let frame = RoomFrame { plain: &plain, v1: v1.into(), has_room, tail: &tail, member: None };
            check_frame(&decode_frame(&encode_frame(&frame)).unwrap(), &frame);
            let (name, [user, info, state]) = (Name::parse("ann", MaxLen::ANY).unwrap(), parts);
            let (user, info, state) = (user.map(Into::into), info.map(Into::into), state.map(Into::into));
            let profile = Profile { user, info, state, ..Profile::default() };
            let flags = MemberFlags { is_silent: has_room, is_read_only: member.is_some() };
            let body = encode_enter(&name, &profile, &frame, flags);
            let (read_name, read_profile, read) = decode_enter(&body).unwrap();
            prop_assert_eq!((&read_name, &read_profile), (&name, &profile));
            prop_assert_eq!(decode_entered(&body), Ok((read_profile, flags)));
            check_frame(&read, &frame);
            prop_assert_eq!(decode_profile(&encode_profile(&name, &profile)), Ok((name, profile)));
            let frame = RoomFrame { member, ..frame };
            let body = encode_transient("typing", &frame);
            let read = decode_transient(&body).unwrap();
            prop_assert_eq!(read.event, "typing");
            check_frame(&read.frame, &frame);
        }

        #[test]
        fn any_body_is_read_or_refused(mut body: Vec<u8>, is_known: bool) {
            if let (Some(version), true) = (body.first_mut(), is_known) {
                *version = VERSION;
            }
            let _ = (decode_enter(&body), decode_entered(&body));
            let _ = (decode_frame(&body), decode_profile(&body), decode_transient(&body));
        }
    }
}

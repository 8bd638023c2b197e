//! Members, and how Redis keeps them.

use std::time::Duration;

use bytes::{BufMut, Bytes};

use crate::session::Session;
use crate::stamp::Stamp;

const VERSION: u8 = 1;
const IS_SILENT: u8 = 1;
const IS_HIDDEN: u8 = 2;
const HAS_NEW_PROFILE: u8 = 4;

/// A member that is to enter a room.
///
/// ```
/// use tower_chat_rooms_redis::{NewMember, Profile};
///
/// let member = NewMember::new("session-7")
///     .profile(Profile { name: "Ann".into(), ..Profile::default() })
///     .unique_as("ann")
///     .body(r#"{"event":"enter","name":"Ann"}"#)
///     .leave_body(r#"{"event":"out","name":"Ann"}"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct NewMember {
    id: Box<str>,
    profile: Profile,
    /// Whether it has another profile than when it entered.
    has_new_profile: bool,
    unique_as: Box<str>,
    owner: Box<str>,
    replaced: Box<str>,
    is_hidden: bool,
    is_silent: bool,
    body: Bytes,
    leave_body: Bytes,
    session: Box<str>,
    resume_window: Duration,
    /// The generation of its session on this node; 0 if it has none. Not in the record.
    generation: u64,
}

/// What the other members may know about a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// The id of its user.
    pub user: Option<String>,
    /// What the host tells the others about it.
    pub info: Option<Bytes>,
    /// What the client tells the others about it.
    pub state: Option<Bytes>,
}

impl NewMember {
    /// Creates a member with this id. No other member of any room on any node may ever have the same id, and a member
    /// that has left may not enter again under its id. At most 65,535 bytes.
    pub fn new(id: impl Into<Box<str>>) -> NewMember {
        NewMember {
            id: id.into(),
            profile: Profile::default(),
            has_new_profile: false,
            unique_as: Box::default(),
            owner: Box::default(),
            replaced: Box::default(),
            is_hidden: false,
            is_silent: false,
            body: Bytes::new(),
            leave_body: Bytes::new(),
            session: Box::default(),
            resume_window: Duration::ZERO,
            generation: 0,
        }
    }

    /// Sets what the other members may know about it.
    pub fn profile(self, profile: Profile) -> NewMember {
        NewMember { profile, ..self }
    }

    /// Makes the member unique as this text. It is refused with [`EnterError::NameTaken`](crate::EnterError::NameTaken)
    /// while the room has another member that is unique as the same text.
    pub fn unique_as(self, text: impl Into<Box<str>>) -> NewMember {
        NewMember { unique_as: text.into(), ..self }
    }

    /// Allows the members of this user to have the same unique text.
    pub fn owner(self, user: impl Into<Box<str>>) -> NewMember {
        NewMember { owner: user.into(), ..self }
    }

    /// Enters the member in place of another member of this node, which leaves at the same moment. If the member cannot
    /// enter, the other one stays. If the other one is not in the room, the member still enters.
    pub fn replaces(self, member: impl Into<Box<str>>) -> NewMember {
        NewMember { replaced: member.into(), ..self }
    }

    /// Makes its enter and its leave events that change nothing for the other members.
    pub fn hidden(self) -> NewMember {
        NewMember { is_hidden: true, ..self }
    }

    /// Makes its enter, and its leave if its node is gone, events without a frame.
    pub fn silent(self) -> NewMember {
        NewMember { is_silent: true, ..self }
    }

    /// Sets the body of its enter, for all nodes.
    pub fn body(self, body: impl Into<Bytes>) -> NewMember {
        NewMember { body: body.into(), ..self }
    }

    /// Sets the body of its leave. It is used if the member's node is gone and another node removes the member.
    pub fn leave_body(self, body: impl Into<Bytes>) -> NewMember {
        NewMember { leave_body: body.into(), ..self }
    }

    /// Makes it a member of a session that was opened with [`Node::open_session`](crate::Node::open_session).
    /// [`Node::resume`](crate::Node::resume) then takes it over with the session.
    pub fn session(self, session: &Session) -> NewMember {
        let (id, resume_window) = (session.id().into(), session.window());
        NewMember { session: id, resume_window, generation: session.generation(), ..self }
    }

    /// The id of its session; empty if it has none.
    pub(crate) fn session_id(&self) -> &str {
        &self.session
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// Reads what Redis keeps of a member: the stamp of its enter, and its record.
    pub(crate) fn from_stored(id: &str, stored: Bytes) -> Option<(Stamp, NewMember)> {
        let (entered, record) = stored.split_first_chunk()?;
        Some((Stamp::from_bytes(entered), NewMember::from_record(id, Bytes::copy_from_slice(record))?))
    }

    /// Reads a record.
    fn from_record(id: &str, mut record: Bytes) -> Option<NewMember> {
        fn take(record: &mut Bytes, len: usize) -> Option<Bytes> {
            (len <= record.len()).then(|| record.split_to(len))
        }
        fn number(record: &mut Bytes, len: usize) -> Option<u32> {
            Some(take(record, len)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
        }
        fn part(record: &mut Bytes, length_bytes: usize) -> Option<Bytes> {
            let len = number(record, length_bytes)?;
            take(record, len as usize)
        }
        let text = |part: Bytes| std::str::from_utf8(&part).ok().map(Box::from);
        let (version, flags) = (number(&mut record, 1)?, number(&mut record, 1)? as u8);
        if version != u32::from(VERSION) {
            return None;
        }
        Some(NewMember {
            id: id.into(),
            generation: 0,
            resume_window: Duration::from_millis(number(&mut record, 4)?.into()),
            session: text(part(&mut record, 2)?)?,
            unique_as: text(part(&mut record, 2)?)?,
            owner: text(part(&mut record, 2)?)?,
            replaced: Box::default(),
            leave_body: part(&mut record, 4)?,
            body: part(&mut record, 4)?,
            is_silent: flags & IS_SILENT != 0,
            is_hidden: flags & IS_HIDDEN != 0,
            has_new_profile: flags & HAS_NEW_PROFILE != 0,
            profile: Profile::decode(record)?,
        })
    }

    pub(crate) fn known_profile(&self) -> &Profile {
        &self.profile
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn unique(&self) -> &str {
        &self.unique_as
    }

    /// The user whose members may have the same unique text; empty if there is none.
    pub(crate) fn unique_owner(&self) -> &str {
        &self.owner
    }

    /// The member that it replaces; empty if there is none.
    pub(crate) fn replaced(&self) -> &str {
        &self.replaced
    }

    pub(crate) fn set_owner(&mut self, owner: &str) {
        self.owner = owner.into();
    }

    pub(crate) fn enter_body(&self) -> &Bytes {
        &self.body
    }

    pub(crate) fn is_hidden(&self) -> bool {
        self.is_hidden
    }

    pub(crate) fn flags(&self) -> u8 {
        u8::from(self.is_silent) * IS_SILENT
            + u8::from(self.is_hidden) * IS_HIDDEN
            + u8::from(self.has_new_profile) * HAS_NEW_PROFILE
    }

    pub(crate) fn set_profile(&mut self, profile: Profile) {
        self.profile = profile;
        self.has_new_profile = true;
    }

    /// What Redis keeps of it, apart from the stamp of its enter. `parse_record` in `lua/members.lua` reads it.
    pub(crate) fn to_record(&self) -> Vec<u8> {
        let mut record = vec![VERSION, self.flags()];
        record.put_u32(self.resume_window.as_millis().try_into().unwrap_or(u32::MAX));
        for text in [&self.session, &self.unique_as, &self.owner] {
            record.put_u16(text.len() as u16);
            record.put_slice(text.as_bytes());
        }
        for body in [&self.leave_body, &self.body] {
            record.put_u32(body.len() as u32);
            record.put_slice(body);
        }
        self.profile.encode(&mut record);
        record
    }

    /// Whether its texts fit into a record.
    pub(crate) fn fits(&self) -> bool {
        let short = |text: &str| text.len() <= usize::from(u16::MAX);
        let texts = [&self.id, &self.unique_as, &self.owner, &self.session];
        !self.id.is_empty() && texts.into_iter().all(|text| short(text))
    }
}

impl Profile {
    pub(crate) fn encode(&self, record: &mut Vec<u8>) {
        record.put_u8(VERSION);
        let fields = [
            Some(self.name.as_bytes()),
            self.user.as_ref().map(|user| user.as_bytes()),
            self.info.as_deref(),
            self.state.as_deref(),
        ];
        for field in fields {
            // The length is one more than that of the field; 0 means that there is none.
            record.put_u32(field.map_or(0, |field| field.len() as u32 + 1));
            record.put_slice(field.unwrap_or_default());
        }
    }

    pub(crate) fn decode(mut record: Bytes) -> Option<Profile> {
        if record.is_empty() || record.split_to(1)[0] != VERSION {
            return None;
        }
        let mut field = || {
            if record.len() < 4 {
                return None;
            }
            let len = u32::from_be_bytes(record.split_to(4)[..].try_into().ok()?) as usize;
            match len.checked_sub(1) {
                None => Some(None),
                Some(len) if len <= record.len() => Some(Some(record.split_to(len))),
                Some(_) => None,
            }
        };
        let text = |field: Bytes| String::from_utf8(field.into()).ok();
        Some(Profile {
            name: text(field()??)?,
            user: match field()? {
                Some(user) => Some(text(user)?),
                None => None,
            },
            info: field()?,
            state: field()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn profiles_survive_the_way(
            name in ".{0,20}", user in of(".{0,20}"), info in of(any::<Vec<u8>>()), state in of(any::<Vec<u8>>()),
        ) {
            let profile = Profile { name, user, info: info.map(Bytes::from), state: state.map(Bytes::from) };
            let mut record = Vec::new();
            profile.encode(&mut record);
            prop_assert_eq!(Profile::decode(record.into()), Some(profile));
        }

        #[test]
        fn members_survive_the_way(
            id in ".{1,9}", unique in ".{0,9}", owner in ".{0,9}", body: Vec<u8>, leave_body: Vec<u8>, is_silent: bool, is_hidden: bool,
            has_new_profile: bool,
        ) {
            let session = Session::new("token", "id", Duration::from_secs(60));
            let mut member = NewMember::new(id).unique_as(unique).owner(owner).body(body).leave_body(leave_body).session(&session);
            (member.is_silent, member.is_hidden, member.has_new_profile) = (is_silent, is_hidden, has_new_profile);
            let read = NewMember::from_record(member.id(), member.to_record().into());
            prop_assert_eq!(read, Some(NewMember { generation: 0, ..member }));
        }

        #[test]
        fn any_record_is_read_or_refused(record: Vec<u8>) {
            let _ = Profile::decode(record.clone().into());
            let _ = NewMember::from_record("m", record.into());
        }
    }
}

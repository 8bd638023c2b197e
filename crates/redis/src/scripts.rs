//! The scripts, with what goes in and what comes out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::{FromRedisValue, ParsingError, Script, ToRedisArgs, Value};
use tracing::warn;

use crate::codec::{self, Message};
use crate::event::RoomEvent;
use crate::keys::Keys;
use crate::link::{Command, Link};
use crate::member::{NewMember, Profile};
use crate::position::Position;
use crate::random;
use crate::room::Page;
use crate::settings::Checked;
use crate::stamp::{Epoch, Stamp};

/// More members than a room can have, as a number that Lua can hold.
pub(crate) const NO_LIMIT: u64 = 1 << 52;
const MAX_MESSAGE_IDS: u32 = 10_000;
/// Events that one read of a log returns.
pub(crate) const PAGE: usize = 256;

macro_rules! room_script {
    ($file:literal) => {
        Script::new(concat!(include_str!("lua/room.lua"), include_str!($file)))
    };
}

macro_rules! member_script {
    ($file:literal) => {
        Script::new(concat!(
            include_str!("lua/room.lua"),
            include_str!("lua/members.lua"),
            include_str!($file)
        ))
    };
}

macro_rules! session_script {
    ($file:literal) => {
        Script::new(concat!(include_str!("lua/sessions.lua"), include_str!($file)))
    };
}

/// The scripts.
#[derive(Debug)]
pub(crate) struct Scripts {
    keys: Keys,
    /// As `trim` in `lua/room.lua` takes them: events and bytes.
    log_limits: Vec<u8>,
    log_age_ms: u64,
    message_id_window_ms: u64,
    enter: Script,
    leave: Script,
    publish: Script,
    transient: Script,
    profile: Script,
    read: Script,
    roster: Script,
    reap: Script,
    pub(crate) renew: Script,
    pub(crate) fence: Script,
    pub(crate) forget: Script,
    pub(crate) open_session: Script,
    pub(crate) close_session: Script,
    pub(crate) rename_session: Script,
    pub(crate) take_over: Script,
}

/// What a script about a room answers.
#[derive(Debug)]
pub(crate) struct Reply {
    status: Box<[u8]>,
    rest: Vec<Value>,
}

/// What `take_over.lua` answers.
#[derive(Debug)]
pub(crate) struct TakenOver {
    pub(crate) id: Box<str>,
    pub(crate) generation: u64,
    pub(crate) window: Duration,
    pub(crate) members: Vec<TakenMember>,
}

/// A member in it.
#[derive(Debug)]
pub(crate) struct TakenMember {
    pub(crate) room: Arc<str>,
    pub(crate) member: Arc<NewMember>,
    /// That of its enter.
    pub(crate) entered: Stamp,
    /// Where the room is.
    pub(crate) stamp: Stamp,
}

/// A page of a roster: each member with its profile and the event with which it entered.
pub(crate) type RosterPage = Vec<(u64, Epoch, Box<str>, Profile)>;

/// How a member leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Leave<'a> {
    /// The others get a frame with this body.
    Frame(&'a [u8]),
    /// The others get no frame.
    Silent,
    /// As the member itself said when it entered.
    Unknown,
}

/// Which members of a fenced node to remove.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reap {
    /// Those that nobody can resume any more.
    Lost,
    /// All: the node itself is about to enter them again.
    All,
}

/// A member that was removed because its node is gone.
pub(crate) type Reaped = (Box<str>, Stamp);

impl Scripts {
    pub(crate) fn new(keys: Keys, settings: &Checked) -> Scripts {
        Scripts {
            keys,
            log_limits: [&settings.log_length.to_be_bytes()[..], &settings.log_bytes.to_be_bytes()].concat(),
            log_age_ms: settings.log_age.as_millis() as u64,
            message_id_window_ms: settings.message_id_window.as_millis() as u64,
            enter: member_script!("lua/enter.lua"),
            leave: member_script!("lua/leave.lua"),
            publish: room_script!("lua/publish.lua"),
            transient: room_script!("lua/transient.lua"),
            profile: member_script!("lua/profile.lua"),
            read: room_script!("lua/read.lua"),
            roster: member_script!("lua/roster.lua"),
            reap: member_script!("lua/reap.lua"),
            renew: Script::new(include_str!("lua/renew.lua")),
            fence: Script::new(include_str!("lua/fence.lua")),
            forget: Script::new(include_str!("lua/forget.lua")),
            open_session: Script::new(include_str!("lua/open_session.lua")),
            close_session: Script::new(include_str!("lua/close_session.lua")),
            rename_session: session_script!("lua/rename_session.lua"),
            take_over: session_script!("lua/take_over.lua"),
        }
    }

    pub(crate) fn enter(&self, member: &NewMember, max_members: u64) -> Request<'_> {
        Request::new(&self.enter)
            .arg(member.id())
            .arg(member.to_record())
            .arg(member.unique())
            .arg(member.flags())
            .arg(&member.enter_body()[..])
            .arg(max_members)
            .arg(member.session_token())
    }

    /// Only if the member's session has this generation; any, if it is 0.
    pub(crate) fn leave(&self, member: &str, generation: u64, how: Leave<'_>) -> Request<'_> {
        let (how, body) = match how {
            Leave::Frame(body) => ("frame", body),
            Leave::Silent => ("silent", &[][..]),
            Leave::Unknown => ("unknown", &[][..]),
        };
        Request::new(&self.leave).arg(member).arg(how).arg(body).arg(generation)
    }

    pub(crate) fn publish(&self, member: Option<&str>, id: &str, body: &[u8]) -> Request<'_> {
        Request::new(&self.publish)
            .arg(member.unwrap_or_default())
            .arg(id)
            .arg(body)
            .arg(self.message_id_window_ms)
            .arg(MAX_MESSAGE_IDS)
    }

    pub(crate) fn transient(&self, body: &[u8]) -> Request<'_> {
        Request::new(&self.transient).arg(codec::encode_transient(body))
    }

    pub(crate) fn set_profile(&self, member: &str, profile: &Profile, body: &[u8]) -> Request<'_> {
        let mut record = Vec::new();
        profile.encode(&mut record);
        Request::new(&self.profile).arg(member).arg(record).arg(body)
    }

    pub(crate) fn read(&self, position: Position) -> Request<'_> {
        let epoch = position.epoch().to_bytes();
        Request::new(&self.read).arg(&epoch[..]).arg(position.next_event()).arg(PAGE)
    }

    pub(crate) fn roster(&self, room: &str, after: u64, max: usize) -> Request<'_> {
        let (prefix, suffix) = (self.keys.members_prefix(), format!(":{room}"));
        Request::new(&self.roster).arg(after).arg(max).arg(prefix).arg(suffix)
    }

    pub(crate) fn reap(&self, which: Reap, max: usize) -> Request<'_> {
        let which = match which {
            Reap::Lost => "keep",
            Reap::All => "all",
        };
        Request::new(&self.reap).arg(max).arg(which)
    }

    /// A script about a room, with all that it needs.
    pub(crate) fn prepare<'a>(
        &self,
        request: &Request<'a>,
        link: &Link,
        node: &str,
        room: &str,
    ) -> Command<'a> {
        let mut script = request.script.prepare_invoke();
        script
            .key(&self.keys.of_room(node, room))
            .arg(node)
            .arg(&**link.run())
            .arg(&random::number().to_be_bytes()[..])
            .arg(self.keys.channel(room))
            .arg(&self.log_limits)
            .arg(self.log_age_ms)
            .arg(room)
            .arg(&request.args);
        Command::Script(script)
    }
}

/// A script with its own arguments.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    script: &'a Script,
    args: Vec<Vec<u8>>,
}

impl<'a> Request<'a> {
    fn new(script: &'a Script) -> Request<'a> {
        Request { script, args: Vec::new() }
    }

    fn arg(mut self, arg: impl ToRedisArgs) -> Request<'a> {
        arg.write_redis_args(&mut self.args);
        self
    }
}

impl FromRedisValue for Reply {
    fn from_redis_value(value: Value) -> Result<Reply, ParsingError> {
        let mut values = Vec::from_redis_value(value)?;
        if values.is_empty() {
            return Err("a script has answered nothing".into());
        }
        let rest = values.split_off(1);
        match values.pop() {
            Some(Value::BulkString(status)) => Ok(Reply { status: status.into(), rest }),
            _ => Err("a script has answered no status".into()),
        }
    }
}

impl Reply {
    pub(crate) fn status(&self) -> &[u8] {
        &self.status
    }

    pub(crate) fn is_fenced(&self) -> bool {
        *self.status == *b"FENCED"
    }

    /// The stamp that a script answers.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        stamp(&self.rest)
    }

    /// Whether `publish.lua` knew the id.
    pub(crate) fn is_repeat(&self) -> bool {
        self.rest.get(4) == Some(&Value::Int(1))
    }

    /// What `read.lua` answers; `None` if there is no such room.
    pub(crate) fn page(self, room: &Arc<str>) -> Option<Page> {
        let at = self.stamp()?;
        let mut events = Vec::with_capacity(self.rest.len() - 4);
        for value in self.rest.into_iter().skip(4) {
            let Value::BulkString(payload) = value else { return None };
            match codec::decode(room, payload.into()) {
                Ok(Message::Event(event)) => events.push(event),
                Ok(_) => {}
                // The gap that it leaves resets the room.
                Err(error) => warn!(%room, "dropped an event of the log: {error}"),
            }
        }
        Some(Page { at, events })
    }

    /// What `roster.lua` answers; empty if there is no such room.
    pub(crate) fn roster(self) -> RosterPage {
        let entries = self.rest.get(4..).unwrap_or_default().chunks_exact(4);
        let entry = |entry: &[Value]| match entry {
            [
                Value::Int(event),
                Value::BulkString(epoch),
                Value::BulkString(member),
                Value::BulkString(profile),
            ] => Some((
                u64::try_from(*event).ok()?,
                Epoch::from_bytes(epoch[..].try_into().ok()?),
                text(member)?,
                Profile::decode(Bytes::copy_from_slice(profile))?,
            )),
            _ => None,
        };
        entries.filter_map(entry).collect()
    }

    /// What `reap.lua` answers: who was removed, and for how long the others stay. It is zero if there are more to
    /// remove.
    pub(crate) fn reaped(self) -> (Vec<Reaped>, Duration) {
        let rest_kept = match self.rest.first() {
            Some(Value::Int(ms)) => Duration::from_millis(u64::try_from(*ms).unwrap_or(0)),
            // The node is not fenced.
            _ => Duration::MAX,
        };
        let entries = self.rest.get(1..).unwrap_or_default().chunks_exact(5);
        let entry = |entry: &[Value]| match entry {
            [Value::BulkString(member), rest @ ..] => Some((text(member)?, stamp(rest)?)),
            _ => None,
        };
        (entries.filter_map(entry).collect(), rest_kept)
    }
}

impl Reply {
    /// What `take_over.lua` answers.
    pub(crate) fn taken_over(self) -> Option<TakenOver> {
        let [Value::BulkString(id), Value::Int(generation), Value::Int(window), members @ ..] =
            &self.rest[..]
        else {
            return None;
        };
        let member = |entry: &[Value]| match entry {
            [Value::BulkString(room), Value::BulkString(id), Value::BulkString(record), at @ ..] => {
                let (entered, record) = record.split_first_chunk()?;
                let member = NewMember::from_record(&text(id)?, Bytes::copy_from_slice(record))?;
                let entered = Stamp::from_bytes(entered);
                Some(TakenMember {
                    room: text(room)?.into(),
                    member: Arc::new(member),
                    entered,
                    stamp: stamp(at)?,
                })
            }
            _ => None,
        };
        Some(TakenOver {
            id: text(id)?,
            generation: u64::try_from(*generation).ok()?,
            window: Duration::from_millis(u64::try_from(*window).ok()?),
            members: members.chunks_exact(7).filter_map(member).collect(),
        })
    }
}

impl RoomEvent {
    /// Whether clients get a frame for it.
    pub(crate) fn has_frame(&self) -> bool {
        !self.kind.is_silent()
    }
}

fn text(bytes: &[u8]) -> Option<Box<str>> {
    std::str::from_utf8(bytes).ok().map(Into::into)
}

fn stamp(values: &[Value]) -> Option<Stamp> {
    let [Value::BulkString(epoch), Value::Int(event), Value::Int(seq), Value::Int(num), ..] = values else {
        return None;
    };
    Some(Stamp {
        epoch: Epoch::from_bytes(epoch[..].try_into().ok()?),
        event: u64::try_from(*event).ok()?,
        seq: u64::try_from(*seq).ok()?,
        num: u64::try_from(*num).ok()?,
    })
}

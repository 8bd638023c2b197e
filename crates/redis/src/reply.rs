//! The answers of the scripts, and how they are read. Each script has its own answer, which begins with a status.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::{FromRedisValue, ParsingError, Value};
use tracing::warn;

use crate::answers::{Published, RoomPlace, RosterEntry};
use crate::codec::{self, Message};
use crate::event::LoggedEvent;
use crate::member::{NewMember, Profile};
use crate::room::Page;
use crate::stamp::{Epoch, Stamp};

/// What a script answers.
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

/// A member that was removed because its node is gone.
#[derive(Debug)]
pub(crate) struct Reaped {
    pub(crate) member: Box<str>,
    pub(crate) profile: Profile,
    pub(crate) is_hidden: bool,
    pub(crate) stamp: Stamp,
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

    /// The member without an owner that `enter.lua` answers, because it has the name.
    pub(crate) fn holder(&self) -> Option<Box<str>> {
        match self.rest.first() {
            Some(Value::BulkString(member)) if !member.is_empty() => text(member),
            _ => None,
        }
    }

    /// What `publish.lua` answers.
    pub(crate) fn published(&self) -> Option<Published> {
        let [_, _, _, _, Value::Int(is_repeat), Value::Int(id), ..] = self.rest[..] else { return None };
        Some(Published { stamp: self.stamp()?, id: u64::try_from(id).ok()?, is_repeat: is_repeat == 1 })
    }

    /// What `finish_batch.lua` answers.
    pub(crate) fn all_published(&self) -> Vec<Published> {
        let published = |entry: &[Value]| match entry {
            [at @ .., Value::Int(is_repeat), Value::Int(id)] => {
                let id = u64::try_from(*id).ok()?;
                Some(Published { stamp: stamp(at)?, id, is_repeat: *is_repeat == 1 })
            }
            _ => None,
        };
        self.rest.chunks_exact(6).map_while(published).collect()
    }

    /// What `place.lua` answers.
    pub(crate) fn place(&self) -> Option<RoomPlace> {
        let [Value::BulkString(epoch), Value::Int(seq), Value::Int(published), late @ ..] = &self.rest[..]
        else {
            return None;
        };
        let late = late.iter().map(|id| match id {
            Value::Int(id) => u64::try_from(*id).ok(),
            _ => None,
        });
        let epoch = epoch[..].try_into().ok().map(Epoch::from_bytes);
        let position = epoch.and_then(|epoch| Some((epoch, u64::try_from(*seq).ok()?)));
        Some(RoomPlace { position, published: u64::try_from(*published).ok(), late: late.collect() })
    }

    /// Whether `enter.lua` knew the member.
    pub(crate) fn is_repeat(&self) -> bool {
        self.rest.get(4) == Some(&Value::Int(1))
    }

    /// Whether `enter.lua` knew the member with another profile.
    pub(crate) fn has_other_profile(&self) -> bool {
        self.rest.get(5) == Some(&Value::Int(1))
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

    /// What `history.lua` answers, in the order of the events. Those before one that cannot be read are left out.
    pub(crate) fn history(self, room: &Arc<str>) -> Vec<LoggedEvent> {
        let entries = self.rest.get(4..).unwrap_or_default().chunks_exact(2);
        let entry = |entry: &[Value]| match entry {
            [Value::BulkString(payload), Value::Int(age)] => {
                let payload = Bytes::copy_from_slice(payload);
                let Ok(Message::Event(event)) = codec::decode(room, payload) else { return None };
                Some(LoggedEvent { event, age: Duration::from_millis((*age).try_into().unwrap_or(0)) })
            }
            _ => None,
        };
        let mut events: Vec<_> = entries.map_while(entry).collect();
        events.reverse();
        events
    }

    /// What `roster.lua` answers; empty if there is no such room.
    pub(crate) fn roster(self) -> Vec<RosterEntry> {
        let entries = self.rest.get(4..).unwrap_or_default().chunks_exact(6);
        let entry = |entry: &[Value]| match entry {
            [
                Value::Int(place),
                Value::BulkString(epoch),
                Value::Int(event),
                Value::BulkString(member),
                Value::Int(is_hidden),
                Value::BulkString(profile),
            ] => Some(RosterEntry {
                member: text(member)?,
                profile: Profile::decode(Bytes::copy_from_slice(profile))?,
                place: u64::try_from(*place).ok()?,
                event: u64::try_from(*event).ok()?,
                epoch: Epoch::from_bytes(epoch[..].try_into().ok()?),
                is_hidden: *is_hidden == 1,
            }),
            _ => None,
        };
        entries.filter_map(entry).collect()
    }

    /// What `reap.lua` answers: who was removed, and for how long the others stay. It is zero if there are more to
    /// remove.
    pub(crate) fn reaped(self) -> (Vec<Reaped>, Duration) {
        let rest_kept = self.rest_kept();
        let entries = self.rest.get(1..).unwrap_or_default().chunks_exact(7);
        let entry = |entry: &[Value]| match entry {
            [Value::BulkString(member), Value::BulkString(profile), Value::Int(is_hidden), rest @ ..] => {
                Some(Reaped {
                    member: text(member)?,
                    profile: Profile::decode(Bytes::copy_from_slice(profile)).unwrap_or_default(),
                    is_hidden: *is_hidden != 0,
                    stamp: stamp(rest)?,
                })
            }
            _ => None,
        };
        (entries.filter_map(entry).collect(), rest_kept)
    }

    /// For how long what a script has not removed stays. It is zero if there is more to remove.
    pub(crate) fn rest_kept(&self) -> Duration {
        match self.rest.first() {
            Some(Value::Int(ms)) => Duration::from_millis(u64::try_from(*ms).unwrap_or(0)),
            // The node is not fenced.
            _ => Duration::MAX,
        }
    }

    /// The number at a place of the answer; 0 if there is none.
    pub(crate) fn number(&self, at: usize) -> i64 {
        match self.rest.get(at) {
            Some(Value::Int(number)) => *number,
            _ => 0,
        }
    }

    /// The texts of the answer, without its numbers.
    pub(crate) fn texts(&self) -> impl Iterator<Item = Box<str>> {
        self.rest.iter().filter_map(|value| match value {
            Value::BulkString(bytes) => text(bytes),
            _ => None,
        })
    }

    /// What `user.lua` answers: sessions, each with its node, and whether that has a valid lease.
    pub(crate) fn user_sessions(&self) -> impl Iterator<Item = (Box<str>, Box<str>, bool)> {
        self.rest.chunks_exact(3).filter_map(|entry| match entry {
            [Value::BulkString(session), Value::BulkString(node), Value::Int(is_live)] => {
                Some((text(session)?, text(node)?, *is_live != 0))
            }
            _ => None,
        })
    }

    /// What `take_over.lua` answers.
    pub(crate) fn taken_over(self) -> Option<TakenOver> {
        let [Value::BulkString(id), Value::Int(generation), Value::Int(window), members @ ..] =
            &self.rest[..]
        else {
            return None;
        };
        let member = |entry: &[Value]| match entry {
            [Value::BulkString(room), Value::BulkString(id), Value::BulkString(record), at @ ..] => {
                let (entered, member) = NewMember::from_stored(&text(id)?, Bytes::copy_from_slice(record))?;
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

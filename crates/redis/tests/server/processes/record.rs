//! What a node writes down, one line each.

use tower_chat_rooms_redis::{Epoch, Event, EventKind, Stamp};

/// What a node has heard, or has been told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Event {
        room: String,
        stamp: Stamp,
        kind: EventKind,
        member: String,
        body: String,
    },
    Reset {
        room: String,
        stamp: Stamp,
    },
    Lost {
        room: String,
        member: String,
        stamp: Stamp,
    },
    /// A message was acknowledged.
    Acknowledged {
        room: String,
        id: String,
        stamp: Stamp,
    },
    /// In a room at the end, as the node and as Redis has it.
    Member {
        room: String,
        member: String,
    },
    /// In the roster of a room at the end, after all nodes have stopped.
    Listed {
        room: String,
        member: String,
        num: u64,
    },
}

const KINDS: [EventKind; 5] =
    [EventKind::Enter, EventKind::Leave, EventKind::SilentEnter, EventKind::SilentLeave, EventKind::Publish];

impl Record {
    pub(crate) fn of_event(event: Event) -> Option<Record> {
        Some(match event {
            Event::Room(event) => Record::Event {
                room: event.room.to_string(),
                stamp: event.stamp,
                kind: event.kind,
                member: event.member.unwrap_or_default().into(),
                body: String::from_utf8_lossy(&event.body).into_owned(),
            },
            Event::Reset { room, stamp, .. } => Record::Reset { room: room.to_string(), stamp },
            Event::MemberLost { room, member, stamp, .. } => {
                Record::Lost { room: room.to_string(), member: member.into(), stamp }
            }
            _ => return None,
        })
    }

    pub(crate) fn to_line(&self) -> String {
        let stamp = |s: &Stamp| format!("{} {} {} {}", s.epoch.as_u64(), s.event, s.seq, s.num);
        match self {
            Record::Event { room, stamp: s, kind, member, body } => {
                let kind = KINDS.iter().position(|k| k == kind).unwrap();
                format!("event {room} {} {kind} {member} {body} .", stamp(s))
            }
            Record::Reset { room, stamp: s } => format!("reset {room} {} .", stamp(s)),
            Record::Lost { room, member, stamp: s } => format!("lost {room} {} {member} .", stamp(s)),
            Record::Acknowledged { room, id, stamp: s } => format!("ack {room} {} {id} .", stamp(s)),
            Record::Member { room, member } => format!("member {room} {member} ."),
            Record::Listed { room, member, num } => format!("listed {room} {member} {num} ."),
        }
    }

    /// Reads a line; `None` if it is not complete, since its writer was killed.
    pub(crate) fn parse(line: &str) -> Option<Record> {
        let fields: Vec<&str> = line.strip_suffix(" .")?.split(' ').collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let text = |at: usize| fields.get(at).map(|text| (*text).to_owned());
        let room = text(1)?;
        let stamp = || {
            Some(Stamp {
                epoch: Epoch::from_u64(number(2)?),
                event: number(3)?,
                seq: number(4)?,
                num: number(5)?,
            })
        };
        Some(match fields[0] {
            "event" => Record::Event {
                room,
                stamp: stamp()?,
                kind: *KINDS.get(number(6)? as usize)?,
                member: text(7)?,
                body: text(8)?,
            },
            "reset" => Record::Reset { room, stamp: stamp()? },
            "lost" => Record::Lost { room, stamp: stamp()?, member: text(6)? },
            "ack" => Record::Acknowledged { room, stamp: stamp()?, id: text(6)? },
            "member" => Record::Member { room, member: text(2)? },
            "listed" => Record::Listed { room, member: text(2)?, num: number(3)? },
            _ => return None,
        })
    }
}

//! Replays what all nodes have heard.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tower_chat_rooms_redis::{EventKind, Stamp};

use super::record::Record;

/// What may have happened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Expected {
    /// The server has forgotten events that it has confirmed, so a message can go out once more in a later epoch.
    pub(crate) loses_data: bool,
}

/// What has happened.
#[derive(Debug, Default)]
#[allow(dead_code, reason = "shown when a test fails")]
pub(crate) struct Found {
    pub(crate) events: usize,
    pub(crate) resets: usize,
    pub(crate) lost_members: usize,
    pub(crate) acknowledged: usize,
}

type What = (Stamp, EventKind, String, String);

/// Events by room, epoch and number. All nodes must have heard the same.
type Order = BTreeMap<(String, u64), BTreeMap<u64, What>>;

pub(crate) fn check(nodes: &[(Vec<Record>, bool)], expected: Expected) -> Found {
    let mut found = Found::default();
    let mut order = Order::new();
    for (records, _) in nodes {
        collect(records, &mut order, &mut found);
    }
    for ((room, _), events) in &order {
        check_order(room, events);
    }
    check_messages(&order, expected);
    check_lost(nodes, &order);
    for (records, was_killed) in nodes {
        check_node(records);
        if !was_killed {
            check_acknowledged(records);
        }
    }
    check_end(nodes);
    assert!(found.events > 500 && found.acknowledged > 100, "hardly anything has happened: {found:?}");
    found
}

/// No two nodes have heard different events in the same place.
fn collect(records: &[Record], order: &mut Order, found: &mut Found) {
    for record in records {
        match record {
            Record::Event { room, stamp, kind, member, body } => {
                found.events += 1;
                let what = (*stamp, *kind, member.clone(), body.clone());
                let events = order.entry((room.clone(), stamp.epoch.as_u64())).or_default();
                let known = events.entry(stamp.event).or_insert_with(|| what.clone());
                assert_eq!(*known, what, "two nodes have heard different events in {room}");
            }
            Record::Reset { .. } => found.resets += 1,
            Record::Lost { .. } => found.lost_members += 1,
            Record::Acknowledged { .. } => found.acknowledged += 1,
            Record::Member { .. } | Record::Listed { .. } => {}
        }
    }
}

/// The numbers follow from each other; each member enters before it publishes and leaves, and once.
fn check_order(room: &str, events: &BTreeMap<u64, What>) {
    let mut before: Option<Stamp> = None;
    let mut inside = HashSet::new();
    let mut outside = HashSet::new();
    for (stamp, kind, member, _) in events.values() {
        let at = format!("{kind:?} of {member} at {stamp:?} in {room}, after {before:?}");
        if before.is_none_or(|before| before.event + 1 != stamp.event) {
            // Nobody has heard the events between, so it is not known who is in the room.
            inside.clear();
            outside.clear();
        }
        if let Some(before) = before
            && before.event + 1 == stamp.event
        {
            let change = match kind {
                EventKind::Enter | EventKind::SilentEnter => 1,
                EventKind::Leave | EventKind::SilentLeave => -1,
                _ => 0,
            };
            assert_eq!(stamp.num as i64, before.num as i64 + change, "{at}");
            assert_eq!(stamp.seq, before.seq + u64::from(!kind.is_silent()), "{at}");
        }
        if stamp.event == 1 && *kind == EventKind::Enter && stamp.num == 1 {
            assert_eq!(stamp.seq, 1, "{at}");
        }
        match kind {
            EventKind::Enter | EventKind::SilentEnter => {
                outside.remove(member);
                assert!(inside.insert(member), "entered twice: {at}");
            }
            EventKind::Leave | EventKind::SilentLeave => {
                inside.remove(member);
                assert!(outside.insert(member), "left twice: {at}");
            }
            _ => {
                assert!(!outside.contains(member), "published after its leave: {at}")
            }
        }
        before = Some(*stamp);
    }
}

/// Each message goes out once.
fn check_messages(order: &Order, expected: Expected) {
    let mut seen = HashMap::new();
    for ((_, epoch), events) in order {
        for (stamp, kind, _, body) in events.values() {
            if *kind == EventKind::Publish
                && let Some(other) = seen.insert(body.clone(), *epoch)
            {
                assert!(
                    expected.loses_data && other != *epoch,
                    "the message {body} was published twice, again at {stamp:?}"
                );
            }
        }
    }
}

/// Each member of a lost node is reported once for each of its leaves.
fn check_lost(nodes: &[(Vec<Record>, bool)], order: &Order) {
    let mut seen = HashSet::new();
    for (records, _) in nodes {
        for record in records {
            let Record::Lost { room, member, stamp } = record else { continue };
            assert!(seen.insert((room, stamp.epoch, stamp.event)), "{member} was reported as lost twice");
            if let Some(event) =
                order.get(&(room.clone(), stamp.epoch.as_u64())).and_then(|o| o.get(&stamp.event))
            {
                assert_eq!((&event.2, event.1), (member, EventKind::Leave));
            }
        }
    }
}

/// A node hears each event that follows, or a reset, for as long as it has members in the room.
fn check_node(records: &[Record]) {
    let mut rooms: HashMap<&str, (Stamp, bool)> = HashMap::new();
    let mut own: HashSet<(&str, &str)> = HashSet::new();
    let name = records.iter().find_map(|record| match record {
        Record::Acknowledged { id, .. } => Some(id.split('.').next().unwrap()),
        _ => None,
    });
    let name = name.unwrap_or_default();
    for record in records {
        match record {
            Record::Event { room, stamp, kind, member, .. } => {
                let is_own = member.split('.').next() == Some(name);
                let before = rooms.get(room.as_str()).copied();
                let follows = before.is_some_and(|(before, _)| {
                    let is_next = before.epoch == stamp.epoch && before.event + 1 == stamp.event;
                    // A room that was empty begins anew.
                    is_next || (before.num == 0 && stamp.event == 1)
                });
                if !follows {
                    // The node has come to the room anew.
                    let was_away = match before {
                        Some((_, is_unsure)) => is_unsure || !own.iter().any(|(r, _)| r == room),
                        None => true,
                    };
                    assert!(was_away && is_own && *kind == EventKind::Enter, "{record:?} after {before:?}");
                    own.retain(|(r, _)| r != room);
                }
                // After a reset it is not known which members are left, until the node comes to the room anew.
                let is_unsure = follows && before.is_some_and(|(_, is_unsure)| is_unsure);
                rooms.insert(room, (*stamp, is_unsure));
                match kind {
                    EventKind::Enter if is_own => {
                        own.insert((room, member));
                    }
                    EventKind::Leave => {
                        own.remove(&(room.as_str(), member.as_str()));
                    }
                    _ => {}
                }
            }
            Record::Reset { room, stamp } => {
                rooms.insert(room, (*stamp, true));
            }
            _ => {}
        }
    }
}

/// A node hears the messages that were acknowledged to it, or a reset.
fn check_acknowledged(records: &[Record]) {
    let mut heard = HashSet::new();
    let mut last_reset = HashMap::new();
    let mut last_leave = HashMap::new();
    for (at, record) in records.iter().enumerate() {
        match record {
            Record::Event { room, stamp, kind, .. } => {
                heard.insert((room, stamp.epoch, stamp.event));
                if *kind == EventKind::Leave {
                    last_leave.insert(room, at);
                }
            }
            Record::Reset { room, .. } => {
                last_reset.insert(room, at);
            }
            _ => {}
        }
    }
    for (at, record) in records.iter().enumerate() {
        let Record::Acknowledged { room, id, stamp } = record else { continue };
        let is_reset = last_reset.get(room).is_some_and(|reset| *reset > at);
        assert!(
            heard.contains(&(room, stamp.epoch, stamp.event)) || is_reset,
            "{id} was acknowledged with {stamp:?} but not heard"
        );
    }
}

/// In the end, Redis has the members that the nodes have.
fn check_end(nodes: &[(Vec<Record>, bool)]) {
    let live = || nodes.iter().filter(|(_, was_killed)| !was_killed);
    let members: BTreeSet<_> = live()
        .flat_map(|(records, _)| records)
        .filter_map(|record| match record {
            Record::Member { room, member } => Some((room, member)),
            _ => None,
        })
        .collect();
    for (records, _) in live() {
        let mut listed = BTreeSet::new();
        let mut nums: HashMap<_, (u64, u64)> = HashMap::new();
        for record in records {
            if let Record::Listed { room, member, num } = record {
                listed.insert((room, member));
                let entry = nums.entry(room).or_insert((*num, 0));
                entry.1 += 1;
            }
        }
        assert_eq!(listed, members, "Redis has other members than the nodes");
        for (room, (num, count)) in nums {
            assert_eq!(num, count, "in {room}");
        }
    }
}

//! The rooms in which the application wants to be.

use std::collections::{BTreeMap, HashMap};

use super::RoomKey;
use super::backoff::Backoff;
use super::room::Room;
use crate::machine::Now;

#[derive(Debug, Default)]
pub(super) struct Rooms {
    rooms: BTreeMap<RoomKey, Room>,
    /// By their ids.
    keys: HashMap<String, RoomKey>,
}

impl Rooms {
    /// Adds a room. Returns `false` if there is one with the same id.
    pub(super) fn add(&mut self, room: Room) -> bool {
        if self.keys.contains_key(room.id()) {
            return false;
        }
        self.keys.insert(room.id().to_owned(), room.key());
        self.rooms.insert(room.key(), room);
        true
    }

    pub(super) fn remove(&mut self, key: RoomKey) -> Option<Room> {
        let room = self.rooms.remove(&key)?;
        self.keys.remove(room.id());
        Some(room)
    }

    pub(super) fn get(&self, key: RoomKey) -> Option<&Room> {
        self.rooms.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: RoomKey) -> Option<&mut Room> {
        self.rooms.get_mut(&key)
    }

    /// The room that a frame is of. A frame without a room is of the only one.
    pub(super) fn find(&mut self, id: Option<&str>) -> Option<&mut Room> {
        let key = match id {
            Some(id) => *self.keys.get(id)?,
            None if self.rooms.len() == 1 => *self.rooms.keys().next()?,
            None => return None,
        };
        self.rooms.get_mut(&key)
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.keys.contains_key(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    pub(super) fn keys(&self) -> Vec<RoomKey> {
        self.rooms.keys().copied().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Room> {
        self.rooms.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Room> {
        self.rooms.values_mut()
    }

    /// The only room like this.
    pub(super) fn only_one(&self, is_like_this: impl Fn(&Room) -> bool) -> Option<RoomKey> {
        let mut keys = self.iter().filter(|room| is_like_this(room)).map(Room::key);
        keys.next().filter(|_| keys.next().is_none())
    }

    /// Whether the client is in a room.
    pub(super) fn is_in_any(&self) -> bool {
        self.iter().any(Room::is_in)
    }

    /// Whether the application takes no events of any room that the client is in, and none has to be entered.
    pub(super) fn are_full(&self) -> bool {
        self.is_in_any() && self.iter().all(|room| !room.is_entering() && (!room.is_in() || room.is_full()))
    }

    /// The shortest of their backoffs, if all of them are going to be entered.
    pub(super) fn backoff(&self) -> Option<&Backoff> {
        self.iter().map(Room::backoff).min_by_key(|backoff| backoff.attempts())
    }

    /// When the first room must have been entered.
    pub(super) fn join_deadline(&self) -> Option<Now> {
        self.iter().filter_map(Room::join_deadline).min()
    }

    /// When the first room is to be entered again.
    pub(super) fn enter_deadline(&self) -> Option<Now> {
        self.iter().filter_map(Room::enter_deadline).min()
    }

    /// A room that is to be entered by this time.
    pub(super) fn next_due(&self, now: Now) -> Option<RoomKey> {
        let is_due = |room: &&Room| room.enter_deadline().is_some_and(|at| at <= now);
        self.iter().filter(is_due).min_by_key(|room| room.enter_deadline()).map(Room::key)
    }

    /// When the next frame about the members of a room is to be sent.
    pub(super) fn request_deadline(&self) -> Option<Now> {
        self.iter().filter(|room| room.is_in()).filter_map(|room| room.presence().deadline()).min()
    }

    /// The first room about whose members a frame is to be sent by now.
    pub(super) fn next_request(&self, now: Now) -> Option<RoomKey> {
        let due = |room: &&Room| room.presence().deadline().filter(|at| room.is_in() && *at <= now);
        self.iter().filter(|room| due(room).is_some()).min_by_key(due).map(Room::key)
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Room> {
        self.keys.clear();
        std::mem::take(&mut self.rooms).into_values()
    }
}

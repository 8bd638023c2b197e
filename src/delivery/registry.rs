//! The rooms by their ids. A room is in the registry as long as it has a member, or a member is moving there. After
//! that, it stays only if its frames are kept for a while.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::Stamp;
use crate::clock::Clock;
use crate::config::{History, Presence, UniqueNames};
use crate::delivery::live_room::LiveRoom;
use crate::delivery::room_state::{RoomState, Start};
use crate::ids::{MessageId, RoomId};
use crate::stats::Counters;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard, lock};

pub(crate) const SHARDS: usize = if cfg!(all(test, shuttle)) { 2 } else { 64 };

type Shard = HashMap<RoomId, Arc<LiveRoom>>;

pub(crate) struct Registry {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    len: AtomicUsize,
    /// The number of rooms without members.
    empty: AtomicUsize,
    /// The highest id of a message in a room that was removed. A room that is opened again continues after it, even if
    /// the clock was set back.
    highest_id: AtomicU64,
    max_rooms: usize,
    clock: Clock,
    history: Option<History>,
    unique_names: UniqueNames,
    /// Whether a broker that several nodes share orders the events of the rooms.
    is_remote: bool,
    counters: Arc<Counters>,
}

/// No further room may be opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyRooms;

impl Registry {
    pub(crate) fn new(
        max_rooms: usize,
        history: Option<History>,
        unique_names: UniqueNames,
        clock: Clock,
        is_remote: bool,
        counters: Arc<Counters>,
    ) -> Registry {
        Registry {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            len: AtomicUsize::new(0),
            empty: AtomicUsize::new(0),
            highest_id: AtomicU64::new(0),
            max_rooms,
            clock,
            history,
            unique_names,
            is_remote,
            counters,
        }
    }

    /// Rooms that exist.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<LiveRoom>> {
        self.shard(id).get(id).cloned()
    }

    /// All rooms, each shard at its own moment.
    pub(crate) fn all(&self) -> Vec<Arc<LiveRoom>> {
        (0..SHARDS).flat_map(|at| self.in_shard(at)).collect()
    }

    /// The rooms of one shard.
    pub(crate) fn in_shard(&self, at: usize) -> Vec<Arc<LiveRoom>> {
        self.shard_at(at).values().cloned().collect()
    }

    /// Works on the room with this id, and opens it at `start` if there is none. A room without members is
    /// removed afterwards, unless its frames are kept.
    pub(crate) fn open<R>(
        &self,
        id: &RoomId,
        presence: Presence,
        start: impl FnOnce() -> Stamp,
        work: impl FnOnce(&Arc<LiveRoom>, &mut RoomState) -> R,
    ) -> Result<R, TooManyRooms> {
        loop {
            let mut shard = self.shard(id.as_str());
            if let Some(room) = shard.get(id).cloned() {
                if self.empty() > 0 && room.lock().is_expired(self.clock.now()) {
                    self.remove_kept(&mut shard, &room);
                } else {
                    return Ok(self.work(&mut shard, &room, work));
                }
            }
            let may_add = |n| (n < self.max_rooms).then_some(n + 1);
            if self.len.fetch_update(Ordering::Relaxed, Ordering::Relaxed, may_add).is_ok() {
                let hash = self.hash(id.as_str());
                let (history, names) = (self.history, self.unique_names);
                let start = Start { stamp: start(), last_id: self.first_last_id() };
                let (is_remote, counters) = (self.is_remote, self.counters.clone());
                let room =
                    LiveRoom::new(id.clone(), hash, start, history, names, presence, is_remote, counters);
                let room = Arc::new(room);
                shard.insert(id.clone(), room.clone());
                return Ok(self.work(&mut shard, &room, work));
            }
            drop(shard);
            if !self.remove_an_empty_one() {
                return Err(TooManyRooms);
            }
        }
    }

    /// Works on a known room. A room without members is removed afterwards, unless its frames are kept.
    pub(crate) fn visit<R>(
        &self,
        room: &Arc<LiveRoom>,
        work: impl FnOnce(&Arc<LiveRoom>, &mut RoomState) -> R,
    ) -> R {
        let mut shard = self.shard(room.id().as_str());
        self.work(&mut shard, room, work)
    }

    /// Closes a room and removes it, so that its id is free for a new one. Its members are still in it
    /// and have to leave. `work` is done together with that.
    pub(crate) fn close<R>(
        &self,
        id: &str,
        work: impl FnOnce(&mut RoomState) -> R,
    ) -> Option<(Arc<LiveRoom>, R)> {
        let mut shard = self.shard(id);
        let room = shard.get(id)?.clone();
        let result = self.work(&mut shard, &room, |_, state| {
            state.room.close();
            self.note_ids(state);
            work(state)
        });
        self.remove(&mut shard, &room);
        Some((room, result))
    }

    fn work<R>(
        &self,
        shard: &mut Shard,
        room: &Arc<LiveRoom>,
        work: impl FnOnce(&Arc<LiveRoom>, &mut RoomState) -> R,
    ) -> R {
        let mut state = room.lock();
        let was_kept = state.is_kept();
        let result = work(room, &mut state);
        room.update_counts(&state);
        let is_kept = state.is_unused() && state.keep(self.kept_for(), || self.clock.now());
        if !is_kept {
            state.stop_keeping();
            if state.is_unused() {
                // For callers that still hold the room.
                state.room.close();
                self.note_ids(&state);
                self.remove(shard, room);
            }
        }
        match (was_kept, is_kept) {
            (false, true) => drop(self.empty.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.empty.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        result
    }

    fn kept_for(&self) -> Duration {
        // Without members, this node does not hear a room of other nodes, and would keep an old state.
        match self.history {
            Some(history) if !self.is_remote => history.kept_for(),
            _ => Duration::ZERO,
        }
    }

    /// The number of rooms without members that are kept for their frames.
    pub(crate) fn empty(&self) -> usize {
        self.empty.load(Ordering::Relaxed)
    }

    /// Removes the empty rooms of one shard whose time is over.
    pub(crate) fn remove_expired(&self, at: usize) {
        if self.empty() == 0 {
            return;
        }
        let now = self.clock.now();
        let mut shard = self.shard_at(at);
        let empty: Vec<_> = shard.values().filter(|room| !room.has_members()).cloned().collect();
        for room in empty {
            if room.lock().is_expired(now) {
                self.remove_kept(&mut shard, &room);
            }
        }
    }

    /// Removes an empty room to make place for another one. Returns false if all have members.
    fn remove_an_empty_one(&self) -> bool {
        (0..SHARDS).filter(|_| self.empty() > 0).any(|at| {
            let mut shard = self.shard_at(at);
            let kept = shard.values().find(|room| room.lock().is_kept()).cloned();
            kept.inspect(|room| self.remove_kept(&mut shard, room)).is_some()
        })
    }

    fn remove_kept(&self, shard: &mut Shard, room: &Arc<LiveRoom>) {
        let mut state = room.lock();
        // For callers that still hold the room.
        state.room.close();
        state.stop_keeping();
        self.note_ids(&state);
        self.empty.fetch_sub(1, Ordering::Relaxed);
        self.remove(shard, room);
    }

    /// The room is about to be removed.
    fn note_ids(&self, state: &RoomState) {
        self.highest_id.fetch_max(state.last_id().as_u64(), Ordering::Relaxed);
    }

    /// The id after which those of a new room begin. With several nodes, the broker gives the ids.
    fn first_last_id(&self) -> MessageId {
        if self.is_remote {
            return MessageId::ZERO;
        }
        MessageId::from_u64(self.highest_id.load(Ordering::Relaxed)).unwrap_or(MessageId::MAX)
    }

    fn remove(&self, shard: &mut Shard, room: &Arc<LiveRoom>) {
        // There may already be another room with this id.
        if shard.get(room.id()).is_some_and(|other| Arc::ptr_eq(other, room)) {
            shard.remove(room.id());
            self.len.fetch_sub(1, Ordering::Relaxed);
            if shard.is_empty() {
                shard.shrink_to_fit();
            }
        }
    }

    fn shard(&self, id: &str) -> MutexGuard<'_, Shard> {
        self.shard_at(self.hash(id) as usize)
    }

    pub(crate) fn hash(&self, id: &str) -> u64 {
        self.hasher.hash_one(id)
    }

    fn shard_at(&self, at: usize) -> MutexGuard<'_, Shard> {
        lock(&self.shards[at % SHARDS])
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::protocol::position::Epoch;

    #[test]
    fn a_room_that_is_opened_again_uses_no_id_again_even_if_the_clock_was_set_back() {
        let registry = Registry::new(9, None, UniqueNames::Off, Clock::new(), false, Arc::default());
        let (room, now) = (RoomId::from("r"), SystemTime::now());
        let take_ids = |now| {
            let start = || Stamp::start(Epoch(1));
            // Without a member, the room is removed at once.
            let ids =
                registry.open(&room, Presence::Full, start, |_, state| [(); 2].map(|()| state.take_id(now)));
            assert_eq!(registry.len(), 0);
            ids.unwrap()
        };
        let [first, second] = take_ids(now);
        assert!(first < second && first >= MessageId::first_at(now));
        let [third, fourth] = take_ids(SystemTime::UNIX_EPOCH);
        assert!(second < third && third < fourth);
    }

    /// A task that still holds the room must not store messages at the same time as a new room with the same id.
    #[test]
    fn a_room_that_was_removed_is_closed() {
        let registry = Registry::new(9, None, UniqueNames::Off, Clock::new(), false, Arc::default());
        let start = || Stamp::start(Epoch(1));
        let room = registry.open(&RoomId::from("r"), Presence::Full, start, |room, _| room.clone()).unwrap();
        assert_eq!(registry.len(), 0);
        assert!(room.lock().room().is_closed());
    }
}

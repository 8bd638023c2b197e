//! The rooms by their ids. A room is in the registry exactly as long as it has a member, or one that
//! is moving there.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::broker::Stamp;
use crate::config::{History, UniqueNames};
use crate::delivery::live_room::{LiveRoom, RoomState};
use crate::ids::RoomId;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard, lock};

pub(crate) const SHARDS: usize = if cfg!(all(test, shuttle)) { 2 } else { 64 };

type Shard = HashMap<RoomId, Arc<LiveRoom>>;

pub(crate) struct Registry {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    len: AtomicUsize,
    max_rooms: usize,
    history: Option<History>,
    unique_names: UniqueNames,
}

/// No further room may be opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyRooms;

impl Registry {
    pub(crate) fn new(max_rooms: usize, history: Option<History>, unique_names: UniqueNames) -> Registry {
        Registry {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            len: AtomicUsize::new(0),
            max_rooms,
            history,
            unique_names,
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
    /// removed afterwards.
    pub(crate) fn open<R>(
        &self,
        id: &RoomId,
        start: impl FnOnce() -> Stamp,
        work: impl FnOnce(&Arc<LiveRoom>, &mut RoomState) -> R,
    ) -> Result<R, TooManyRooms> {
        let mut shard = self.shard(id.as_str());
        let room = match shard.get(id) {
            Some(room) => room.clone(),
            None => {
                self.len
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                        (n < self.max_rooms).then_some(n + 1)
                    })
                    .map_err(|_| TooManyRooms)?;
                let hash = self.hash(id.as_str());
                let room = LiveRoom::new(id.clone(), hash, start(), self.history, self.unique_names);
                let room = Arc::new(room);
                shard.insert(id.clone(), room.clone());
                room
            }
        };
        Ok(self.work(&mut shard, &room, work))
    }

    /// Works on a known room. A room without members is removed afterwards.
    pub(crate) fn visit<R>(
        &self,
        room: &Arc<LiveRoom>,
        work: impl FnOnce(&Arc<LiveRoom>, &mut RoomState) -> R,
    ) -> R {
        let mut shard = self.shard(room.id().as_str());
        self.work(&mut shard, room, work)
    }

    /// Closes a room and removes it, so that its id is free for a new one. Its members are still in it
    /// and have to leave.
    pub(crate) fn close(&self, id: &str) -> Option<Arc<LiveRoom>> {
        let mut shard = self.shard(id);
        let room = shard.get(id)?.clone();
        room.lock().room.close();
        self.remove(&mut shard, &room);
        Some(room)
    }

    fn work<R>(
        &self,
        shard: &mut Shard,
        room: &Arc<LiveRoom>,
        work: impl FnOnce(&Arc<LiveRoom>, &mut RoomState) -> R,
    ) -> R {
        let mut state = room.lock();
        let result = work(room, &mut state);
        room.set_online(state.room().online());
        if state.room().is_unused() {
            self.remove(shard, room);
        }
        result
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

    fn hash(&self, id: &str) -> u64 {
        self.hasher.hash_one(id)
    }

    fn shard_at(&self, at: usize) -> MutexGuard<'_, Shard> {
        lock(&self.shards[at % SHARDS])
    }
}

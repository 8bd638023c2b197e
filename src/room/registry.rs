//! The rooms by their ids. A room is in the registry exactly as long as somebody is in it or
//! on the way.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::config::{History, UniqueNames};
use crate::ids::RoomId;
use crate::protocol::wire::Epoch;
use crate::room::room::Room;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) const SHARDS: usize = 64;

/// A room that many tasks share. Lock order: registry shard, then room.
#[derive(Debug)]
pub(crate) struct SharedRoom<L> {
    id: RoomId,
    /// The room's count, to be read without its lock.
    online: AtomicUsize,
    /// A flusher is at work. It may end while somebody holds the lock, so it stands beside it.
    flushing: AtomicBool,
    room: Mutex<Room<L>>,
}

impl<L> SharedRoom<L> {
    pub(crate) fn id(&self) -> &RoomId {
        &self.id
    }

    pub(crate) fn online(&self) -> usize {
        self.online.load(Ordering::Relaxed)
    }

    /// Whether the caller, who holds the lock, must start a flusher: something waits and none is
    /// at work.
    pub(crate) fn claim_flush(&self, room: &mut Room<L>) -> bool {
        room.stream().pending() > 0 && !self.flushing.swap(true, Ordering::AcqRel)
    }

    /// The flusher has ended, its batch delivered or not.
    pub(crate) fn release_flush(&self) {
        self.flushing.store(false, Ordering::Release);
    }

    /// For reading and speaking; who comes or goes passes through the registry.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Room<L>> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Shard<L> = HashMap<RoomId, Arc<SharedRoom<L>>>;

#[derive(Debug)]
pub(crate) struct Registry<L> {
    hasher: RandomState,
    shards: Box<[Mutex<Shard<L>>]>,
    len: AtomicUsize,
    /// Rooms that have ever been opened.
    born: AtomicU64,
    history: Option<History>,
    unique_names: UniqueNames,
}

/// No further room may be opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyRooms;

impl<L> Registry<L> {
    /// Each room keeps this much of what was said, and is so strict with names.
    pub(crate) fn new(history: Option<History>, unique_names: UniqueNames) -> Registry<L> {
        Registry {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            len: AtomicUsize::new(0),
            born: AtomicU64::new(0),
            history,
            unique_names,
        }
    }

    /// Rooms that exist.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<SharedRoom<L>>> {
        self.shard(id).get(id).cloned()
    }

    /// All rooms, each shard at its own moment.
    pub(crate) fn all(&self) -> Vec<Arc<SharedRoom<L>>> {
        (0..SHARDS).flat_map(|at| self.in_shard(at)).collect()
    }

    /// The rooms of one shard.
    pub(crate) fn in_shard(&self, at: usize) -> Vec<Arc<SharedRoom<L>>> {
        self.shard_at(at).values().cloned().collect()
    }

    /// Works on the room of that id, opening it where there is none. If nobody is in it
    /// afterwards, it is gone again.
    pub(crate) fn open<R>(
        &self,
        id: &RoomId,
        max_rooms: usize,
        work: impl FnOnce(&Arc<SharedRoom<L>>, &mut Room<L>) -> R,
    ) -> Result<R, TooManyRooms> {
        let mut shard = self.shard(id.as_str());
        let shared = match shard.get(id) {
            Some(shared) => shared.clone(),
            None => {
                self.len
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max_rooms).then_some(n + 1))
                    .map_err(|_| TooManyRooms)?;
                let room = Mutex::new(Room::new(self.new_epoch(), self.history, self.unique_names));
                let (online, flushing) = (AtomicUsize::new(0), AtomicBool::new(false));
                let shared = Arc::new(SharedRoom { id: id.clone(), online, flushing, room });
                shard.insert(id.clone(), shared.clone());
                shared
            }
        };
        Ok(self.work(&mut shard, &shared, work))
    }

    /// Works on a room that is known; if nobody is in it afterwards, it is gone.
    pub(crate) fn visit<R>(
        &self,
        shared: &Arc<SharedRoom<L>>,
        work: impl FnOnce(&Arc<SharedRoom<L>>, &mut Room<L>) -> R,
    ) -> R {
        let mut shard = self.shard(shared.id.as_str());
        self.work(&mut shard, shared, work)
    }

    /// Closes a room and forgets it, so that the id is free for a new one. Its members are
    /// still in it and have to leave.
    pub(crate) fn close(&self, id: &str) -> Option<Arc<SharedRoom<L>>> {
        let mut shard = self.shard(id);
        let shared = shard.get(id)?.clone();
        shared.lock().close();
        self.forget(&mut shard, &shared);
        Some(shared)
    }

    fn work<R>(
        &self,
        shard: &mut Shard<L>,
        shared: &Arc<SharedRoom<L>>,
        work: impl FnOnce(&Arc<SharedRoom<L>>, &mut Room<L>) -> R,
    ) -> R {
        let mut room = shared.lock();
        let result = work(shared, &mut room);
        shared.online.store(room.online(), Ordering::Relaxed);
        if room.is_empty() {
            self.forget(shard, shared);
        }
        result
    }

    fn forget(&self, shard: &mut Shard<L>, shared: &Arc<SharedRoom<L>>) {
        // Under the same id there may already be another room.
        if shard.get(&shared.id).is_some_and(|other| Arc::ptr_eq(other, shared)) {
            shard.remove(&shared.id);
            self.len.fetch_sub(1, Ordering::Relaxed);
            if shard.is_empty() {
                shard.shrink_to_fit();
            }
        }
    }

    fn shard(&self, id: &str) -> MutexGuard<'_, Shard<L>> {
        self.shard_at(self.hasher.hash_one(id) as usize)
    }

    fn shard_at(&self, at: usize) -> MutexGuard<'_, Shard<L>> {
        self.shards[at % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Different for each room, and, the hasher's keys being random, in each process.
    fn new_epoch(&self) -> Epoch {
        Epoch(self.hasher.hash_one(self.born.fetch_add(1, Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests;

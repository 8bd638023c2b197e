//! The open connections, in the slots over which their heartbeats are spread.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::recipient::Recipient;
use crate::ids::ConnectionId;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Into so many parts the heartbeat's interval is cut: all heartbeats in one tick would keep
/// messages waiting for as long as it takes to write to everybody.
pub(crate) const SLOTS: usize = 50;

type Slot = HashMap<ConnectionId, Arc<dyn Recipient>>;

pub(crate) struct Table {
    next: AtomicU64,
    sweeping: AtomicBool,
    slots: Box<[Padded]>,
}

/// Slots are locked from many cores; each has its own cache line.
#[derive(Default)]
#[repr(align(64))]
struct Padded(Mutex<Slot>);

impl Table {
    pub(crate) fn new() -> Table {
        Table {
            next: AtomicU64::new(0),
            sweeping: AtomicBool::new(false),
            slots: (0..SLOTS).map(|_| Padded::default()).collect(),
        }
    }

    /// An id that no connection has had.
    pub(crate) fn new_id(&self) -> ConnectionId {
        ConnectionId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// In the place of whoever has the id until now.
    pub(crate) fn insert(&self, id: ConnectionId, recipient: Arc<dyn Recipient>) {
        self.slot(id.0 as usize).insert(id, recipient);
    }

    /// Only if it is this one: under the same id there may be another already.
    pub(crate) fn remove(&self, id: ConnectionId, recipient: &Arc<dyn Recipient>) {
        let mut slot = self.slot(id.0 as usize);
        if slot.get(&id).is_some_and(|other| Arc::ptr_eq(other, recipient)) {
            slot.remove(&id);
        }
        if slot.is_empty() {
            slot.shrink_to_fit();
        }
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<Arc<dyn Recipient>> {
        self.slot(id.0 as usize).get(&id).cloned()
    }

    /// Who is in a slot now.
    pub(crate) fn in_slot(&self, at: usize, into: &mut Vec<Arc<dyn Recipient>>) {
        into.extend(self.slot(at).values().cloned());
    }

    /// Everybody, each slot at its own moment.
    pub(crate) fn all(&self) -> Vec<Arc<dyn Recipient>> {
        let mut all = Vec::new();
        for at in 0..SLOTS {
            self.in_slot(at, &mut all);
        }
        all
    }

    pub(crate) fn is_empty(&self) -> bool {
        (0..SLOTS).all(|at| self.slot(at).is_empty())
    }

    /// Whether the caller has to start the sweep.
    pub(crate) fn claim_sweep(&self) -> bool {
        !self.sweeping.swap(true, Ordering::SeqCst)
    }

    /// The sweep has ended.
    pub(crate) fn release_sweep(&self) {
        self.sweeping.store(false, Ordering::SeqCst);
    }

    fn slot(&self, at: usize) -> MutexGuard<'_, Slot> {
        self.slots[at % SLOTS].0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

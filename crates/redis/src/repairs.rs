//! What the node has had to repair because Redis could not be used or has lost something. The log gets one line about it
//! for each outage.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the node has had to repair since the last log line about it.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    /// Rooms whose members have missed events.
    rooms_reset: AtomicU64,
    /// Members that Redis no longer had.
    members_entered_again: AtomicU64,
    /// Members that could not enter again.
    members_lost: AtomicU64,
}

/// The numbers at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Repaired {
    pub(crate) rooms_reset: u64,
    pub(crate) members_entered_again: u64,
    pub(crate) members_lost: u64,
}

impl Repairs {
    pub(crate) fn note_reset(&self) {
        self.rooms_reset.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_entered_again(&self) {
        self.members_entered_again.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_lost(&self) {
        self.members_lost.fetch_add(1, Ordering::Relaxed);
    }

    /// The numbers since the last call.
    pub(crate) fn take(&self) -> Repaired {
        Repaired {
            rooms_reset: self.rooms_reset.swap(0, Ordering::Relaxed),
            members_entered_again: self.members_entered_again.swap(0, Ordering::Relaxed),
            members_lost: self.members_lost.swap(0, Ordering::Relaxed),
        }
    }
}

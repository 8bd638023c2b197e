//! The events of a room that wait for the application.

/// Whether the application takes a room's events. If not, frames are dropped, to be replayed later.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    is_full: bool,
    drops_frames: bool,
    /// Dropped events that no replay contains.
    lost: u64,
}

impl Backlog {
    /// The queue is full. Returns `false` if this is known.
    pub(super) fn fill(&mut self) -> bool {
        !std::mem::replace(&mut self.is_full, true)
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether the frame that has arrived has to be dropped, and those after it, too.
    pub(super) fn drops_frames(&mut self) -> bool {
        self.drops_frames |= self.is_full;
        self.drops_frames
    }

    /// Whether an event that no replay contains has to be dropped.
    pub(super) fn drops_events(&self) -> bool {
        self.drops_frames || self.is_full
    }

    /// The queue has capacity again. Returns whether frames were dropped.
    pub(super) fn free(&mut self) -> bool {
        self.is_full = false;
        self.drops_frames
    }

    /// The frames that were dropped are going to be replayed.
    pub(super) fn recover(&mut self) {
        self.drops_frames = self.is_full;
    }

    pub(super) fn lose(&mut self) {
        self.lost += 1;
    }

    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

//! The room that a socket is subscribed to, and how much of it the socket has had.

use std::sync::Arc;

use bytes::Bytes;

use crate::config::{Limits, SlowConsumer};
use crate::delivery::{Batch, LiveRoom};
use crate::protocol::outbound;
use crate::protocol::subprotocol::Subprotocol;
use crate::socket::send_queue::Bounds;

pub(super) struct Subscription {
    room: Arc<LiveRoom>,
    /// The `seq` of the latest frame that the socket has had.
    seq: u64,
    slow: SlowConsumer,
    /// A heartbeat follows the first frame, which is the member's own enter.
    wants_heartbeat: bool,
    /// Batches that arrived before something that has to be written first.
    waiting: Option<Vec<Batch>>,
    /// The room's senders are held back, because the client is behind.
    holds_senders: bool,
}

impl Subscription {
    /// Subscribes to the room's frames after this `seq`. They wait until [`Subscription::go_on`].
    pub(super) fn new(room: Arc<LiveRoom>, seq: u64) -> Subscription {
        let slow = SlowConsumer::default();
        Subscription {
            room,
            seq,
            slow,
            wants_heartbeat: true,
            waiting: Some(Vec::new()),
            holds_senders: false,
        }
    }

    pub(super) fn is_of(&self, room: &LiveRoom) -> bool {
        std::ptr::eq(&*self.room, room)
    }

    /// Members of the room.
    pub(super) fn online(&self) -> usize {
        self.room.online()
    }

    /// What happens if the client reads the room too slowly.
    pub(super) fn slow_consumer(&self) -> SlowConsumer {
        self.slow
    }

    pub(super) fn set_slow_consumer(&mut self, slow: SlowConsumer) {
        self.slow = slow;
    }

    /// Whether the room's senders are held back for this client.
    pub(super) fn holds_senders(&self) -> bool {
        self.holds_senders
    }

    /// Holds back the room's senders for this client, or does so no longer.
    pub(super) fn hold_senders(&mut self, hold: bool) {
        if hold == self.holds_senders {
            return;
        }
        self.holds_senders = hold;
        if hold { self.room.hold_senders() } else { self.room.release_senders() }
    }

    /// Makes the room's next batches wait.
    pub(super) fn pause(&mut self) {
        self.waiting.get_or_insert_default();
    }

    /// Ends the wait, and returns the batches that have waited, to be delivered now.
    pub(super) fn go_on(&mut self) -> Vec<Batch> {
        self.waiting.take().unwrap_or_default()
    }

    /// The frames of a batch, and how many bytes of them the socket already has; `None` if it has all of them, or if
    /// they wait.
    pub(super) fn next<'b>(
        &mut self,
        batch: &'b Batch,
        subprotocol: Subprotocol,
    ) -> Option<(&'b Bytes, usize)> {
        if batch.end() <= self.seq {
            return None;
        }
        if self.waiting.is_some() {
            self.keep_waiting(batch);
            return None;
        }
        let frames = batch.frames(self.seq, subprotocol);
        self.seq = batch.end();
        Some(frames)
    }

    #[cold]
    fn keep_waiting(&mut self, batch: &Batch) {
        self.waiting.get_or_insert_default().push(batch.clone());
    }

    /// The heartbeat that follows the first frame, once.
    pub(super) fn first_heartbeat(&mut self) -> Option<String> {
        std::mem::take(&mut self.wants_heartbeat).then(|| outbound::heartbeat(self.room.online()))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hold_senders(false);
    }
}

/// How much may wait for a socket.
pub(super) fn bounds(
    limits: &Limits,
    subprotocol: Subprotocol,
    subscription: Option<&Subscription>,
) -> Bounds {
    Bounds {
        frames: limits.max_queue_frames,
        bytes: limits.max_queue_bytes,
        slow: subscription.map_or(SlowConsumer::Close, Subscription::slow_consumer),
        announces_gaps: subprotocol == Subprotocol::V1,
    }
}

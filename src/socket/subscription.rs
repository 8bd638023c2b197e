//! The room that a socket is subscribed to, and how much of it the socket has had.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::SlowConsumer;
use crate::delivery::{Batch, LiveRoom};
use crate::protocol::outbound;
use crate::protocol::subprotocol::Subprotocol;
use crate::socket::send_queue::{Lane, LaneKey};

pub(super) struct Subscription {
    room: Arc<LiveRoom>,
    /// The `seq` of the latest frame that the socket has had.
    seq: u64,
    slow: SlowConsumer,
    /// A heartbeat follows the first frame, which is the member's own enter.
    wants_heartbeat: bool,
    /// Batches that arrived before something that has to be written first.
    waiting: Option<Vec<Batch>>,
}

impl Subscription {
    /// Subscribes to the room's frames after this `seq`. They wait until [`Subscription::go_on`].
    pub(super) fn new(room: Arc<LiveRoom>, seq: u64) -> Subscription {
        let slow = SlowConsumer::default();
        Subscription { room, seq, slow, wants_heartbeat: true, waiting: Some(Vec::new()) }
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

    /// Where the room's frames wait.
    pub(super) fn lane(&self, subprotocol: Subprotocol) -> Lane {
        lane(&self.room, subprotocol, self.slow)
    }

    pub(super) fn set_slow_consumer(&mut self, slow: SlowConsumer) {
        self.slow = slow;
    }

    /// Makes the room's senders wait for a moment, because the client is behind and makes progress.
    pub(super) fn hold_senders(&self, now: Duration) {
        self.room.hold_senders(now);
    }

    /// Makes the room's next batches wait.
    pub(super) fn pause(&mut self) {
        self.waiting.get_or_insert_default();
    }

    /// Ends the wait, and returns the batches that have waited.
    pub(super) fn go_on(&mut self) -> Vec<Batch> {
        self.waiting.take().unwrap_or_default()
    }

    /// Continues after this `seq`. If the next frame is the member's own enter, a heartbeat follows it.
    pub(super) fn restart(&mut self, seq: u64, is_new: bool) {
        self.seq = seq;
        self.wants_heartbeat |= is_new;
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

/// Where frames of a room wait. A plain client has one lane for everything: its frames do not say which room they are
/// of, so none may overtake another.
pub(super) fn lane(room: &LiveRoom, subprotocol: Subprotocol, slow: SlowConsumer) -> Lane {
    match subprotocol {
        Subprotocol::Plain => Lane { slow, ..Lane::own() },
        Subprotocol::V1 => {
            Lane { key: LaneKey::of_room(room.id_hash()), room: Some(room.id().clone()), slow }
        }
    }
}

//! The rooms that a socket is subscribed to, and its position in each.

use std::sync::Arc;

use bytes::Bytes;

use crate::config::SlowConsumer;
use crate::delivery::{Batch, LiveRoom, RoomKey};
use crate::protocol::subprotocol::Subprotocol;
use crate::socket::send_queue::{Lane, LaneKey};

/// All rooms that a socket is subscribed to.
#[derive(Default)]
pub(super) struct Subscriptions(Vec<Subscription>);

pub(super) struct Subscription {
    room: Arc<LiveRoom>,
    /// The `seq` of the latest frame that the socket has had.
    seq: u64,
    slow: SlowConsumer,
    /// Whether the next frame is the member's own enter.
    is_new: bool,
    /// Batches that wait, because something else has to be written first. `None` if the subscription is not paused.
    waiting: Option<Box<Waiting>>,
    /// Whether this client holds back the room's senders, because it is behind.
    holds_senders: bool,
    /// The presence frames up to this version are included in the roster that the client got last.
    presence_version: u32,
    /// Whether the client has missed presence frames.
    has_missed_presence: bool,
}

/// Boxed, because a subscription is rarely paused.
#[derive(Default)]
struct Waiting(Vec<Batch>);

impl Subscriptions {
    #[inline]
    pub(super) fn find(&mut self, room: &LiveRoom) -> Option<&mut Subscription> {
        self.0.iter_mut().find(|subscription| subscription.is_of(room))
    }

    pub(super) fn add(&mut self, subscription: Subscription) {
        if self.0.is_empty() {
            // Saves memory, because most clients are in one room only.
            self.0 = Vec::with_capacity(1);
        }
        self.0.push(subscription);
    }

    pub(super) fn remove(&mut self, room: &LiveRoom) {
        self.0.retain(|subscription| !subscription.is_of(room));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    /// Whether this client holds back the senders of a room.
    pub(super) fn hold_senders(&self) -> bool {
        self.0.iter().any(|subscription| subscription.holds_senders)
    }

    pub(super) fn release_senders(&mut self) {
        self.0.iter_mut().for_each(|subscription| subscription.hold_senders(false));
    }

    /// Returns a room whose presence frames the client has missed and that it can be told about now. From then on, the
    /// room counts as told.
    pub(super) fn take_missed_presence(&mut self) -> Option<Arc<LiveRoom>> {
        let is_due = |one: &&mut Subscription| one.has_missed_presence && one.waiting.is_none();
        let subscription = self.0.iter_mut().find(is_due)?;
        subscription.has_missed_presence = false;
        Some(subscription.room.clone())
    }

    /// Members of the room, if there is exactly one.
    pub(super) fn online(&self) -> usize {
        match &self.0[..] {
            [only] => only.room.online(),
            _ => 0,
        }
    }
}

impl Subscription {
    /// Subscribes to the room's frames after this `seq`. They wait until [`Subscription::unpause`].
    pub(super) fn new(room: Arc<LiveRoom>, seq: u64) -> Subscription {
        Subscription {
            presence_version: room.presence_version(),
            room,
            seq,
            slow: SlowConsumer::default(),
            is_new: true,
            waiting: Some(Box::default()),
            holds_senders: false,
            has_missed_presence: false,
        }
    }

    fn is_of(&self, room: &LiveRoom) -> bool {
        std::ptr::eq(&*self.room, room)
    }

    /// What happens if the client reads the room too slowly.
    pub(super) fn slow_consumer(&self) -> SlowConsumer {
        self.slow
    }

    pub(super) fn set_slow_consumer(&mut self, slow: SlowConsumer) {
        self.slow = slow;
    }

    /// Starts or stops holding back the room's senders for this client.
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

    /// Notes that the next answer contains the room's current roster. Called under the room's lock.
    pub(super) fn renew_roster(&mut self) {
        self.presence_version = self.room.presence_version();
        self.has_missed_presence = false;
    }

    /// Whether the roster that the client got last includes the presence frames of this version.
    pub(super) fn includes_presence(&self, version: u32) -> bool {
        self.presence_version.wrapping_sub(version) as i32 >= 0
    }

    pub(super) fn miss_presence(&mut self) {
        self.has_missed_presence = true;
    }

    /// Ends the pause. Returns the batches that have waited.
    pub(super) fn unpause(&mut self) -> Vec<Batch> {
        self.waiting.take().map(|waiting| waiting.0).unwrap_or_default()
    }

    /// Continues after this `seq`. `is_new` says whether the next frame is the member's own enter.
    pub(super) fn restart(&mut self, seq: u64, is_new: bool) {
        (self.seq, self.is_new) = (seq, is_new);
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

    /// Whether the socket's position is exactly this `seq`.
    pub(super) fn is_at(&self, seq: u64) -> bool {
        self.waiting.is_none() && self.seq == seq
    }

    #[cold]
    fn keep_waiting(&mut self, batch: &Batch) {
        self.waiting.get_or_insert_default().0.push(batch.clone());
    }

    /// Whether the next frame is the member's own enter. Returns true only once.
    pub(super) fn take_is_new(&mut self) -> bool {
        std::mem::take(&mut self.is_new)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hold_senders(false);
    }
}

/// The lane of frames that concern a room, or no room. A plain client has one lane for everything: its frames do not
/// name their room, so none may overtake another.
pub(super) fn lane(room: Option<RoomKey<'_>>, subprotocol: Subprotocol, slow: SlowConsumer) -> Lane {
    match (room, subprotocol) {
        (Some(room), Subprotocol::V1) => {
            Lane { key: LaneKey::of_room(room.hash), room: Some(room.id.clone()), slow }
        }
        _ => Lane { slow, ..Lane::own() },
    }
}

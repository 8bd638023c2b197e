//! A room that is in use: its state behind a lock, and what can be read without the lock.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{History, Presence, PresenceMode, UniqueNames};
use crate::delivery::batch::Measured;
use crate::delivery::presence::Announcement;
use crate::delivery::recipient::Recipient;
use crate::delivery::room_state::{RoomState, Start};
#[cfg(feature = "test-util")]
use crate::ids::ConnectionId;
use crate::ids::RoomId;
use crate::room::{MemberList, Profile};
use crate::stats::Counters;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use crate::sync::{Mutex, MutexGuard, lock};

/// A member's handle.
pub(crate) type Handle = Arc<dyn Recipient>;

/// A room that many tasks share. Lock order: session state, registry shard, room, session slot.
pub(crate) struct LiveRoom {
    id: RoomId,
    id_hash: u64,
    /// The room's counts and presence mode, to be read without its lock.
    online: AtomicU32,
    hidden: AtomicU32,
    users: AtomicU32,
    mode: AtomicU8,
    /// How many batches of presence frames were taken, modulo 2^32.
    presence_version: AtomicU32,
    /// Whether a flush task is at work. It may end while another thread holds the lock.
    flushing: AtomicBool,
    /// Whether a timer waits until presence frames are due.
    timing: AtomicBool,
    /// How many readers hold back the senders.
    holds: AtomicU32,
    counters: Arc<Counters>,
    state: Mutex<RoomState>,
}

/// Names a room, whether it exists or not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoomKey<'a> {
    pub(crate) id: &'a RoomId,
    /// The hash of the id, the same as long as the server runs.
    pub(crate) hash: u64,
}

impl LiveRoom {
    #[allow(clippy::too_many_arguments, reason = "each is used once")]
    pub(super) fn new(
        id: RoomId,
        id_hash: u64,
        start: Start,
        history: Option<History>,
        unique_names: UniqueNames,
        presence: Presence,
        is_remote: bool,
        counters: Arc<Counters>,
    ) -> LiveRoom {
        let state = RoomState::new(&id, start, history, unique_names, presence, is_remote);
        LiveRoom {
            id,
            id_hash,
            online: AtomicU32::new(0),
            hidden: AtomicU32::new(0),
            users: AtomicU32::new(0),
            mode: AtomicU8::new(presence.start() as u8),
            presence_version: AtomicU32::new(0),
            flushing: AtomicBool::new(false),
            timing: AtomicBool::new(false),
            holds: AtomicU32::new(0),
            counters,
            state: Mutex::new(state),
        }
    }

    pub(crate) fn id(&self) -> &RoomId {
        &self.id
    }

    pub(crate) fn key(&self) -> RoomKey<'_> {
        RoomKey { id: &self.id, hash: self.id_hash }
    }

    /// Notes that a batch was delivered to all members.
    pub(super) fn note_delivered(&self, measured: Measured, clock: Clock) {
        self.counters.deliveries.add(self.id_hash, measured.deliveries);
        if let Some(received) = measured.received {
            self.counters.delivery.add(clock.now().saturating_sub(received));
        }
    }

    /// Members of the room that are not hidden.
    pub(crate) fn online(&self) -> usize {
        self.online.load(Ordering::Relaxed) as usize
    }

    /// Hidden members of the room.
    pub(crate) fn hidden(&self) -> usize {
        self.hidden.load(Ordering::Relaxed) as usize
    }

    /// The number of different users among the members that are not hidden.
    pub(crate) fn users(&self) -> usize {
        self.users.load(Ordering::Relaxed) as usize
    }

    /// What the members learn about each other at the moment.
    pub(crate) fn mode(&self) -> PresenceMode {
        PresenceMode::of(self.mode.load(Ordering::Relaxed))
    }

    /// Whether the room has members, hidden ones included.
    pub(crate) fn has_members(&self) -> bool {
        self.online() > 0 || self.hidden() > 0
    }

    /// How many batches of presence frames were taken so far, modulo 2^32. Exact under the room's lock.
    pub(crate) fn presence_version(&self) -> u32 {
        self.presence_version.load(Ordering::Relaxed)
    }

    /// Publishes the current counts and mode to readers that do not take the lock. The caller holds the lock.
    pub(super) fn update_counts(&self, state: &RoomState) {
        self.online.store(state.room.online() as u32, Ordering::Relaxed);
        self.hidden.store(state.room.hidden() as u32, Ordering::Relaxed);
        self.users.store(state.room.users() as u32, Ordering::Relaxed);
        self.mode.store(state.announcer.mode() as u8, Ordering::Relaxed);
    }

    /// The presence frames that are to be sent by now. The caller holds the lock.
    pub(super) fn take_announcement(
        &self,
        state: &mut RoomState,
        now: impl FnOnce() -> Duration,
    ) -> Option<Announcement> {
        let announcement = state.take_announcement(now);
        self.presence_version.store(state.announcer.version(), Ordering::Relaxed);
        announcement
    }

    /// Number of profiles of members, for the consistency check.
    #[cfg(feature = "test-util")]
    pub(crate) fn profiles(&self) -> usize {
        self.lock().room.profiles()
    }

    /// The profile of a member, if it has one.
    #[cfg(feature = "test-util")]
    pub(crate) fn profile(&self, member: ConnectionId) -> Option<Arc<Profile>> {
        self.lock().room.profile(member).cloned()
    }

    /// The members of other nodes, for the consistency check.
    #[cfg(feature = "test-util")]
    pub(crate) fn elsewhere(&self) -> Vec<ConnectionId> {
        self.lock().room.ids_elsewhere()
    }

    /// Whether no member of this node is in it and none is about to enter.
    #[cfg(feature = "test-util")]
    pub(crate) fn is_unused(&self) -> bool {
        self.lock().is_unused()
    }

    /// Whether the room keeps a wrong page of the roster.
    #[cfg(feature = "test-util")]
    pub(crate) fn has_stale_page(&self) -> bool {
        self.lock().has_stale_page()
    }

    /// Whether the room is empty and kept for its frames.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn is_kept(&self) -> bool {
        self.lock().is_kept()
    }

    pub(crate) fn members(&self) -> MemberList<Handle> {
        self.lock().room.members().clone()
    }

    /// The members and the profiles of those that have one, in the same order.
    pub(crate) fn members_and_profiles(&self) -> (MemberList<Handle>, Vec<Option<Arc<Profile>>>) {
        let state = self.lock();
        let members = state.room.members().clone();
        let profiles = members.iter().map(|member| state.room.profile(member.id).cloned()).collect();
        (members, profiles)
    }

    /// Limits the senders to the minimum rate, until each call is matched by one of [`LiveRoom::release_senders`].
    pub(crate) fn hold_senders(&self) {
        self.holds.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends one [`LiveRoom::hold_senders`].
    pub(crate) fn release_senders(&self) {
        self.holds.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether senders are limited to the minimum rate.
    pub(super) fn is_held(&self) -> bool {
        self.holds.load(Ordering::Relaxed) > 0
    }

    /// Whether the caller, which holds the lock, must start the flush task: something waits, and none
    /// is at work.
    pub(super) fn claim_flush(&self, state: &RoomState, now: impl FnOnce() -> Duration) -> bool {
        (state.pending.len() > 0 || state.has_transients() || state.is_announcement_due(now))
            && !self.flushing.swap(true, Ordering::AcqRel)
    }

    /// Whether the caller must start the timer, because presence frames will be due later and no timer waits for them.
    /// The caller holds the lock.
    pub(super) fn claim_timer(&self, state: &RoomState, now: impl FnOnce() -> Duration) -> bool {
        state.announcer.due().is_some_and(|due| due > now()) && !self.timing.swap(true, Ordering::AcqRel)
    }

    /// The timer has ended.
    pub(super) fn release_timer(&self) {
        self.timing.store(false, Ordering::Release);
    }

    /// The flush task has ended.
    pub(super) fn release_flush(&self) {
        self.flushing.store(false, Ordering::Release);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, RoomState> {
        lock(&self.state)
    }
}

//! What a room's lock guards: members, frames that wait, and the broker's events applied to them.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tower_chat_rooms_protocol::MAX_ROSTER_MEMBERS;

use crate::broker::{Broker, EventKind, Replica, Stamp};
use crate::config::{History, Presence, PresenceMode, UniqueNames};
use crate::delivery::batch::{Batch, Pending};
use crate::delivery::hold::Pacer;
use crate::delivery::live_room::Handle;
use crate::delivery::message_hooks::HookQueue;
use crate::delivery::message_ids::MessageIds;
use crate::delivery::presence::{Announcement, Announcer, Counts};
use crate::delivery::remote_room::RemoteRoom;
use crate::delivery::replay_request::ReplayRequest;
use crate::delivery::rooms::keeping::Waiting;
use crate::delivery::roster::{FirstPage, RosterPage};
use crate::delivery::store_queue::StoreQueue;
use crate::delivery::transient::{TooMany, TransientBatch, Transients};
use crate::ids::{ConnectionId, MessageId, Name, RoomId};
use crate::protocol::frame::frame_len;
use crate::protocol::outbound::RoomFrame;
use crate::protocol::position::{Epoch, Position};
use crate::protocol::receipt::Receipt;
use crate::room::{Departed, Entrant, MemberList, Page, Profile, ReplayBuffer, Room};

/// What the room's lock guards.
pub(crate) struct RoomState {
    /// The stamp of the latest event.
    pub(super) latest: Stamp,
    /// The id of the latest message, or of one before the room was opened.
    pub(super) last_id: MessageId,
    pub(super) room: Room<Handle>,
    pub(super) pending: Pending,
    /// Present while transient frames wait.
    pub(super) transients: Option<Box<Transients>>,
    /// Present while a callback for a message of the room is called.
    pub(super) hook_queue: Option<Box<HookQueue>>,
    /// The latest messages of the host that have a key.
    host_keys: Option<Box<MessageIds<Receipt>>>,
    /// Present if messages of the room were stored.
    pub(super) store_queue: Option<Box<StoreQueue<Waiting>>>,
    pub(super) announcer: Announcer,
    pub(super) first_page: FirstPage,
    pub(super) replay: Option<Box<ReplayBuffer>>,
    /// When an empty room that is kept for its frames is removed.
    kept_until: Option<Duration>,
    pacer: Pacer,
    /// Present if a broker that several nodes share orders the room's events.
    pub(super) remote: Option<Box<RemoteRoom>>,
}

/// The replay for a returning member.
#[derive(Debug)]
pub(crate) struct Replay {
    /// Earlier frames. They include the messages that a client has asked for with `last`.
    pub(crate) history: Vec<Bytes>,
    /// The missed frames, in chunks. Those that follow are in the room's next batch.
    pub(crate) chunks: Vec<Bytes>,
    /// The `seq` before the first of them.
    pub(crate) start: u64,
    /// The `seq` of the last of them.
    pub(crate) end: u64,
    /// Whether `chunks` has all frames since the client's position.
    pub(crate) is_complete: bool,
    /// The `seq` before the first frame in `history` and `chunks`.
    pub(crate) kept_since: u64,
}

impl Replay {
    /// How many frames it has.
    #[inline(never)]
    pub(crate) fn frames(&self) -> u64 {
        let frames_in = |mut bytes: &[u8]| {
            let mut frames = 0;
            while !bytes.is_empty() {
                bytes = &bytes[frame_len(bytes)..];
                frames += 1;
            }
            frames
        };
        let history: u64 = self.history.iter().map(|chunk| frames_in(chunk)).sum();
        history + (self.end - self.start)
    }

    fn nothing_after(seq: u64) -> Replay {
        Replay {
            history: Vec::new(),
            chunks: Vec::new(),
            start: seq,
            end: seq,
            is_complete: false,
            kept_since: seq,
        }
    }
}

/// The first members after this place. Those that the broker has lost are not among them: members have been told that they
/// are gone, and will be told if they enter again.
fn page(room: &Room<Handle>, remote: Option<&RemoteRoom>, after: u64) -> Page {
    let mut page = room.page(after, MAX_ROSTER_MEMBERS);
    if let Some(remote) = remote {
        page.entries.retain(|entry| !remote.has_lost(entry.id));
    }
    page
}

/// Where a room begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub(crate) stamp: Stamp,
    /// The ids of the room's messages are higher.
    pub(crate) last_id: MessageId,
}

/// Applies a room's events to its state, on behalf of the broker.
struct Apply<'a, 'f> {
    latest: &'a mut Stamp,
    pending: &'a mut Pending,
    /// The id of a message.
    id: Option<MessageId>,
    /// `None` if the event has no frame, or the room is closed.
    frame: Option<&'a RoomFrame<'f>>,
}

impl Replica for Apply<'_, '_> {
    fn latest(&self) -> Stamp {
        *self.latest
    }

    fn apply(&mut self, _: EventKind, stamp: Stamp) {
        *self.latest = stamp;
        if let Some(frame) = self.frame {
            self.pending.push(stamp, self.id, frame);
        }
    }
}

impl RoomState {
    pub(super) fn new(
        id: &RoomId,
        start: Start,
        history: Option<History>,
        unique_names: UniqueNames,
        presence: Presence,
        is_remote: bool,
    ) -> RoomState {
        RoomState {
            latest: start.stamp,
            last_id: start.last_id,
            room: Room::new(unique_names),
            pending: Pending::new(id, history.is_some()),
            transients: None,
            hook_queue: None,
            host_keys: None,
            store_queue: None,
            announcer: Announcer::new(presence),
            first_page: FirstPage::default(),
            kept_until: None,
            replay: history.map(|history| Box::new(ReplayBuffer::new(history, frame_len))),
            pacer: Pacer::default(),
            remote: is_remote.then(Box::default),
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.latest.epoch
    }

    /// The `seq` of the latest event.
    pub(crate) fn seq(&self) -> u64 {
        self.latest.seq
    }

    /// Members of the room after the latest event.
    pub(crate) fn num(&self) -> u64 {
        self.latest.num
    }

    pub(super) fn room(&self) -> &Room<Handle> {
        &self.room
    }

    /// The number of members and users.
    pub(super) fn counts(&self) -> Counts {
        Counts { num: self.num(), users: self.room.users() }
    }

    /// The first page of the roster.
    pub(super) fn first_page(&mut self) -> RosterPage {
        let RoomState { first_page, room, remote, .. } = self;
        first_page.get(|| page(room, remote.as_deref(), 0))
    }

    /// A later page of the roster.
    pub(super) fn page_after(&self, place: u64) -> RosterPage {
        RosterPage::new(page(&self.room, self.remote.as_deref(), place))
    }

    /// Whether the room keeps a wrong page of the roster.
    #[cfg(feature = "test-util")]
    pub(super) fn has_stale_page(&self) -> bool {
        self.first_page.is_stale(|| page(&self.room, self.remote.as_deref(), 0))
    }

    /// Adds a member, for which a place was reserved, and publishes its enter, unless it is hidden or the mode is not
    /// full. Returns whether it was published. The caller must call [`RoomState::note_counts`] afterwards.
    pub(super) fn enter(
        &mut self,
        broker: &impl Broker,
        entrant: Entrant<Handle>,
        frame: &RoomFrame<'_>,
    ) -> bool {
        let is_hidden = entrant.profile.is_hidden;
        self.pending.add_listener(entrant.handle.subprotocol());
        let place = self.room.enter(entrant);
        self.first_page.note_change(place);
        let is_silent = broker.is_silent(self.announcer.mode() != PresenceMode::Full);
        match (is_hidden, is_silent) {
            (true, _) => {
                if broker.orders_hidden() {
                    self.submit_silent(broker, EventKind::HiddenEnter);
                }
                return false;
            }
            (false, true) => self.submit_silent(broker, EventKind::SilentEnter),
            (false, false) => drop(self.submit(broker, EventKind::Enter, frame)),
        }
        !is_silent
    }

    /// Removes a member, if it is one, and publishes its leave, unless it is hidden or the mode is not full. The caller
    /// must call [`RoomState::note_counts`] afterwards.
    pub(super) fn leave(&mut self, broker: &impl Broker, id: ConnectionId, out: &str) {
        let Some(Departed { was_hidden, .. }) = self.remove(id) else { return };
        let is_silent = broker.is_silent(self.announcer.mode() != PresenceMode::Full);
        match (was_hidden, is_silent) {
            (true, _) => {}
            (false, true) => self.submit_silent(broker, EventKind::SilentLeave),
            (false, false) => {
                let frame =
                    RoomFrame { plain: "", v1: "".into(), has_room: false, tail: out, member: Some(id) };
                self.submit(broker, EventKind::Leave, &frame);
            }
        }
    }

    /// Removes a member, if it is one, and everything that the room keeps of it.
    #[inline]
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Departed<Handle>> {
        let departed = self.room.leave(id)?;
        self.first_page.note_change(departed.member.place);
        self.pending.remove_listener(departed.member.handle.subprotocol());
        self.drop_transients(id);
        self.announcer.forget(id);
        Some(departed)
    }

    /// Notes that members have entered or left, or users have changed. A closed room is silent.
    pub(super) fn note_counts(&mut self, before: Counts) {
        if !self.room.is_closed() {
            self.announcer.note_counts(before, self.counts());
        }
    }

    /// Changes the profile of a member. The other members are told, and so is the member itself, except of a state that
    /// it has set. Returns whether the other members see a change.
    pub(super) fn change_profile(
        &mut self,
        id: ConnectionId,
        name: &Name,
        change: impl FnOnce(&mut Profile),
    ) -> bool {
        let before = self.counts();
        let Some((place, change)) = self.room.change_profile(id, change) else { return false };
        if !change.is_empty() {
            self.first_page.note_change(place);
        }
        if !self.room.is_closed() {
            self.announcer.note_profile(id, name, change);
        }
        self.note_counts(before);
        !change.is_empty()
    }

    /// Publishes a message. `now` is the time of day.
    pub(super) fn publish(
        &mut self,
        broker: &impl Broker,
        frame: &RoomFrame<'_>,
        now: SystemTime,
    ) -> Receipt {
        let id = self.take_id(now);
        self.publish_as(broker, frame, id)
    }

    /// Publishes a message with this id.
    pub(super) fn publish_as(
        &mut self,
        broker: &impl Broker,
        frame: &RoomFrame<'_>,
        id: MessageId,
    ) -> Receipt {
        let stamp = self.submit_message(broker, EventKind::Publish, Some(id), frame);
        Receipt { position: stamp.position(), id }
    }

    /// Messages with ids up to this one exist.
    pub(super) fn raise_last_id(&mut self, id: MessageId) {
        self.last_id = self.last_id.max(id);
    }

    /// Whether messages wait for the store, which later ones must not overtake.
    pub(super) fn has_waiting(&self) -> bool {
        self.store_queue.as_ref().is_some_and(|queue| queue.has_waiting())
    }

    /// Whether no member of this node is in the room, none is about to enter, and nothing is being stored.
    pub(super) fn is_unused(&self) -> bool {
        self.room.is_unused() && self.store_queue.as_ref().is_none_or(|queue| !queue.is_running)
    }

    /// Bytes of the messages whose callbacks wait.
    pub(super) fn hook_bytes(&self) -> usize {
        self.hook_queue.as_ref().map_or(0, |queue| queue.bytes())
    }

    /// The receipt of the host's message with this key, if it is remembered.
    pub(super) fn receipt_of(&self, key: &str) -> Option<Receipt> {
        self.host_keys.as_ref()?.answer_to(key)
    }

    /// Remembers the key of a message of the host.
    pub(super) fn remember_key(&mut self, key: &str, receipt: Receipt) {
        self.host_keys.get_or_insert_default().add(key, receipt);
    }

    /// The position of the latest frame.
    pub(super) fn position(&self) -> Position {
        self.latest.position()
    }

    /// The id of the next message.
    pub(super) fn take_id(&mut self, now: SystemTime) -> MessageId {
        self.last_id = MessageId::next(Some(self.last_id), now);
        self.last_id
    }

    /// The id of the latest message, or of one before the room was opened.
    pub(super) fn last_id(&self) -> MessageId {
        self.last_id
    }

    /// The lowest id of the messages that are being stored, and go out afterwards.
    pub(super) fn first_to_come(&self) -> Option<MessageId> {
        self.store_queue.as_ref()?.to_come().next()
    }

    /// What the sender of a message would learn that looks as if it had been published now.
    pub(super) fn pretend_published(&mut self, now: SystemTime) -> Receipt {
        let id = match &self.remote {
            // The broker may give it to another message.
            Some(_) => MessageId::next(Some(self.last_id), now),
            None => self.take_id(now),
        };
        Receipt { position: self.latest.position(), id }
    }

    /// Lets the broker order an event, and applies it. A closed room is silent.
    pub(super) fn submit(&mut self, broker: &impl Broker, kind: EventKind, frame: &RoomFrame<'_>) -> Stamp {
        self.submit_message(broker, kind, None, frame)
    }

    /// As [`RoomState::submit`]. A message has an `id`.
    pub(super) fn submit_message(
        &mut self,
        broker: &impl Broker,
        kind: EventKind,
        id: Option<MessageId>,
        frame: &RoomFrame<'_>,
    ) -> Stamp {
        let frame = (!self.room.is_closed()).then_some(frame);
        broker.submit(kind, &mut Apply { latest: &mut self.latest, pending: &mut self.pending, id, frame })
    }

    /// Lets the broker order an event that has no frame, and applies it.
    pub(super) fn submit_silent(&mut self, broker: &impl Broker, kind: EventKind) {
        broker.submit(
            kind,
            &mut Apply { latest: &mut self.latest, pending: &mut self.pending, id: None, frame: None },
        );
    }

    /// Whether a message of a held-back sender may pass now. `time` is what it takes at the minimum rate.
    pub(super) fn pass(&mut self, now: Duration, time: Duration) -> bool {
        self.pacer.pass(now, time)
    }

    /// What is to be delivered next, and to which members.
    pub(super) fn take(&mut self, now: Duration) -> (MemberList<Handle>, Batch) {
        let batch = self.pending.take();
        if let Some(replay) = &mut self.replay
            && !batch.is_empty()
        {
            replay.push(now, batch.end(), batch.v1().clone());
        }
        (self.room.members().clone(), batch)
    }

    /// Whether transient frames wait.
    pub(super) fn has_transients(&self) -> bool {
        self.transients.is_some()
    }

    /// Adds a transient frame.
    pub(super) fn push_transient(
        &mut self,
        room: &str,
        event: &str,
        frame: &RoomFrame<'_>,
    ) -> Result<(), TooMany> {
        self.transients.get_or_insert_default().push(room, event, frame)
    }

    /// Drops the transient frames of a member.
    pub(super) fn drop_transients(&mut self, member: ConnectionId) {
        self.transients.take_if(|transients| {
            transients.remove(member);
            transients.is_empty()
        });
    }

    /// The transient frames that are to be delivered after the batch that was just taken.
    pub(super) fn take_transients(&mut self) -> Option<Box<TransientBatch>> {
        let batch = self.transients.take()?.take(self.seq(), self.num());
        (!self.room.is_closed()).then(|| Box::new(batch))
    }

    pub(super) fn take_announcement(&mut self, now: impl FnOnce() -> Duration) -> Option<Announcement> {
        let (seq, num) = (self.seq(), self.num());
        let announcement = self.announcer.take(now, &self.room, seq, num)?;
        (!self.room.is_closed()).then_some(announcement)
    }

    /// Whether presence frames are to be sent by now.
    pub(super) fn is_announcement_due(&self, now: impl FnOnce() -> Duration) -> bool {
        self.announcer.due().is_some_and(|due| due <= now())
    }

    /// Notes that all taken frames are delivered. Returns whether no further frames are due now.
    pub(super) fn finish(&mut self, now: impl FnOnce() -> Duration) -> bool {
        self.pending.finish() && self.transients.is_none() && !self.is_announcement_due(now)
    }

    /// The requested frames, up to the latest that was taken.
    pub(super) fn replay(&mut self, replay_request: ReplayRequest, now: Duration) -> Replay {
        if let Some(replay) = &mut self.replay {
            replay.trim(now);
        }
        match replay_request {
            ReplayRequest::Since(since) => self.replay_since(since),
            ReplayRequest::PartSince(since) => Replay { is_complete: false, ..self.replay_since(since) },
            ReplayRequest::Last(0) => Replay::nothing_after(self.seq()),
            ReplayRequest::Last(_) => match self.replay.as_deref() {
                // Frames that were not taken yet are delivered afterwards.
                Some(replay) => {
                    let history = replay.after(replay.start()).unwrap_or_default();
                    Replay {
                        history,
                        kept_since: replay.start(),
                        ..Replay::nothing_after(self.pending.taken())
                    }
                }
                None => Replay::nothing_after(self.seq()),
            },
        }
    }

    /// The frames after a position. If some of them are no longer kept, or the position is from an earlier room with
    /// this id, these are all frames that are kept.
    fn replay_since(&self, since: Position) -> Replay {
        let (taken, seq, replay) = (self.pending.taken(), self.seq(), self.replay.as_deref());
        let all = |chunks, start, end, is_complete| Replay {
            history: Vec::new(),
            chunks,
            start,
            end,
            is_complete,
            kept_since: start,
        };
        if since.epoch == self.epoch() && self.pending.has_v1_after(since.seq) {
            return all(Vec::new(), since.seq, since.seq, true);
        }
        if since.epoch == self.epoch()
            && let Some(chunks) = replay.and_then(|replay| replay.after(since.seq))
        {
            return all(chunks, since.seq, taken, true);
        }
        match replay {
            // Frames before the kept ones are missing, but the client still needs the kept ones.
            Some(replay) if since.epoch != self.epoch() || since.seq < replay.start() => {
                let start = replay.start();
                all(replay.after(start).unwrap_or_default(), start, taken, false)
            }
            _ => Replay::nothing_after(seq),
        }
    }

    /// Whether all frames since this position can be replayed.
    pub(super) fn can_replay(&self, since: Position) -> bool {
        let is_kept = || self.replay.as_ref().is_some_and(|replay| replay.after(since.seq).is_some());
        since.epoch == self.epoch() && (self.pending.has_v1_after(since.seq) || is_kept())
    }

    /// Whether all frames since this position are kept. `None` is the begin of the epoch.
    pub(super) fn has_kept_since(&self, at: Option<Position>) -> bool {
        let start = self.replay.as_ref().map_or(self.seq(), |replay| replay.start());
        match at {
            Some(at) => at.epoch == self.epoch() && start <= at.seq,
            None => start == 0,
        }
    }

    /// The frames in the replay buffer.
    pub(super) fn kept_chunks(&self) -> Vec<Bytes> {
        self.replay.as_deref().and_then(|replay| replay.after(replay.start())).unwrap_or_default()
    }

    /// Keeps the empty room for this long. Later calls do not extend the time. Returns whether the room is kept, which
    /// requires that it has frames.
    pub(super) fn keep(&mut self, time: Duration, now: impl FnOnce() -> Duration) -> bool {
        let may_keep = !time.is_zero() && !self.room.is_closed() && self.has_frames();
        if may_keep && self.kept_until.is_none() {
            self.kept_until = Some(now().saturating_add(time));
        }
        may_keep
    }

    /// Called when the room has members again, or is removed.
    pub(super) fn stop_keeping(&mut self) {
        self.kept_until = None;
    }

    /// Whether the room is empty and kept for its frames.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept_until.is_some()
    }

    /// Whether the time for which the empty room is kept is over.
    pub(super) fn is_expired(&mut self, now: Duration) -> bool {
        self.trim(now);
        self.kept_until.is_some_and(|until| until <= now || !self.has_frames())
    }

    fn has_frames(&self) -> bool {
        self.pending.len() > 0 || self.replay.as_ref().is_some_and(|replay| !replay.is_empty())
    }

    /// Drops frames that have become too old.
    pub(super) fn trim(&mut self, now: Duration) {
        if let Some(replay) = &mut self.replay {
            replay.trim(now);
        }
    }
}

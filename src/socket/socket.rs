//! A socket and everything that its session's lock guards. The connection's own task reads from it and
//! writes what waits; every other task writes directly to it.

mod closing;
mod heartbeat;
mod presence;
mod report;

use std::sync::Arc;
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::config::SlowConsumer;
use crate::context::Context;
use crate::delivery::{Batch, HoldBudget, LiveRoom, MinRate, Replay, RoomKey};
use crate::protocol::close::{self, LeaveReason};
use crate::protocol::frame;
use crate::protocol::subprotocol::Subprotocol;
use crate::socket::answer::Answer;
use crate::socket::liveness::Liveness;
use crate::socket::outlet::Outlet;
use crate::socket::reader::{Inbox, Reader};
use crate::socket::send_queue::{Kind, Lane, Overflow, Size};
use crate::socket::socket::report::Reported;
use crate::socket::subscription::{Subscription, Subscriptions, lane};
use crate::socket::{Transport, Turn};

/// While a hook keeps the connection waiting, this many messages are read ahead, but no more bytes than
/// one message may have.
const MAX_INBOX: usize = 16;

/// This many frames that are not messages are read before they count against the rate limits.
const MAX_OTHERS: u32 = 64;

/// A send queue that is fuller than this fraction of its bounds holds back the room's senders, until it is half as
/// full.
const BEHIND: usize = 4;

/// A client in several rooms that makes progress may have this many times as much in its send queue. It shares most of
/// that memory with the other members.
const MAX_SHARES: usize = 8;

pub(crate) struct Socket {
    context: Arc<Context>,
    subprotocol: Subprotocol,
    reader: Reader,
    outlet: Outlet,
    subscriptions: Subscriptions,
    /// Why the task should end the connection.
    order: Option<LeaveReason>,
    /// The close frame is queued or sent.
    is_closing: bool,
    /// Reading is over, once the messages that arrived before are handled.
    ended: Option<LeaveReason>,
    /// The bytes that the client sends can't be parsed any more.
    is_unreadable: bool,
    liveness: Liveness,
    /// How much longer senders may be held back for this client. Present once its socket has not accepted all bytes.
    hold_budget: Option<Box<HoldBudget>>,
    reported: Reported,
}

impl Socket {
    /// `first` was read after the handshake.
    pub(crate) fn new(
        io: Transport,
        max_write: usize,
        context: Arc<Context>,
        subprotocol: Subprotocol,
        first: Bytes,
    ) -> Socket {
        Socket {
            reader: Reader::new(first, context.config.limits.max_message_bytes),
            context,
            subprotocol,
            outlet: Outlet::new(io, max_write),
            subscriptions: Subscriptions::default(),
            order: None,
            is_closing: false,
            ended: None,
            is_unreadable: false,
            liveness: Liveness::Seen,
            hold_budget: None,
            reported: Reported::default(),
        }
    }

    /// The client has closed the connection with a code that keeps its session.
    pub(crate) fn wants_session_kept(&self) -> bool {
        self.reader.close_code().is_some_and(close::keeps_session)
    }

    /// How the client has ended the connection. Frames that it has sent before may still wait.
    pub(crate) fn gone(&self) -> Option<LeaveReason> {
        self.ended.filter(|reason| matches!(reason, LeaveReason::Closed | LeaveReason::Lost))
    }

    /// What waits to be written, except for control frames: frames, and bytes of replays and rosters.
    pub(crate) fn waiting(&self) -> (Size, usize) {
        (self.outlet.queue().size(), self.outlet.queue().replay_bytes())
    }

    fn is_gone(&self) -> bool {
        self.gone().is_some()
    }

    /// Whether nothing more is to be written. A client that is kicked still gets what was published before. One that comes
    /// back for events that it has missed must not get later ones first.
    pub(crate) fn is_mute(&self) -> bool {
        use LeaveReason::{EventsLost, HeartbeatMissed, Lost, Slow};
        self.outlet.is_broken()
            || self.is_closing
            || self.is_gone()
            || matches!(self.order, Some(EventsLost | Slow | Lost | HeartbeatMissed))
    }

    /// Bytes of replays and rosters that the client has yet to read. None if the connection is lost: nobody reads them.
    pub(crate) fn replay_bytes(&self) -> usize {
        if self.is_mute() || self.ended.is_some() { 0 } else { self.outlet.queue().replay_bytes() }
    }

    /// Tells the connection's task to end. The first reason counts.
    pub(crate) fn close(&mut self, reason: LeaveReason) {
        if self.order.is_none() {
            self.order = Some(reason);
            self.subscriptions.release_senders();
            self.outlet.wake();
        }
    }

    pub(crate) fn is_told_to_end(&self) -> bool {
        self.order.is_some()
    }

    pub(crate) fn wake(&self) {
        self.outlet.wake();
    }

    /// Subscribes this socket to the room's frames after this `seq`, and returns false. If it is already subscribed,
    /// keeps its position, and returns true. In both cases, frames wait until [`Socket::answer_enter`].
    pub(crate) fn subscribe(&mut self, room: &Arc<LiveRoom>, seq: u64) -> bool {
        let Some(subscription) = self.subscriptions.find(room) else {
            self.subscriptions.add(Subscription::new(room.clone(), seq));
            return false;
        };
        subscription.pause();
        subscription.renew_roster();
        true
    }

    /// Makes the room's frames wait until [`Socket::answer_enter`]. Returns whether this socket is subscribed to them.
    pub(crate) fn pause(&mut self, room: &LiveRoom) -> bool {
        self.subscriptions.find(room).map(Subscription::pause).is_some()
    }

    pub(crate) fn unsubscribe(&mut self, room: &LiveRoom) {
        self.subscriptions.remove(room);
    }

    pub(crate) fn unsubscribe_all(&mut self) {
        self.subscriptions.clear();
    }

    /// Writes undelivered frames, the answer to an enter or a request for members, the replay, and then the frames that
    /// arrived meanwhile.
    pub(crate) fn answer_enter(&mut self, room: &LiveRoom, answer: Answer) {
        let Answer { before, frame, replay, start, is_new, slow } = answer;
        // A replay may be of any length, but a client that reads none of them gets no further one: each would keep
        // the memory of another room's history, or of the same one at another time.
        let has_more =
            replay.as_ref().is_some_and(|replay| !replay.chunks.is_empty() || !replay.history.is_empty());
        if has_more && self.outlet.queue().replay_bytes() > self.context.config.limits.max_queue_bytes {
            return self.close(LeaveReason::Slow);
        }
        self.context.counters.replayed.add(replay.as_ref().map_or(0, Replay::frames));
        let waiting = self.subscriptions.find(room).map(Subscription::unpause).unwrap_or_default();
        self.deliver_all(room, &before);
        if let Some(subscription) = self.subscriptions.find(room) {
            subscription.restart(start, is_new);
            if let Some(slow) = slow {
                subscription.set_slow_consumer(slow);
            }
        }
        if let Some(frame) = frame {
            // It has a roster. A client may ask for those of all of its rooms at once, as for replays.
            let kind = if self.subprotocol == Subprotocol::V1 { Kind::Replay } else { Kind::Own };
            self.write(kind, Some(room), &frame, 0);
        }
        for chunk in replay.into_iter().flat_map(|replay| replay.history.into_iter().chain(replay.chunks)) {
            self.write(Kind::Replay, Some(room), &chunk, 0);
        }
        self.deliver_all(room, &waiting);
        self.send_missed_presence();
    }

    /// Writes the answer to a request for messages of a room.
    pub(crate) fn answer(&mut self, room: &LiveRoom, frame: &Bytes) {
        self.write(Kind::Replay, Some(room), frame, 0);
    }

    /// Writes the part of a batch that the client has not had yet. The socket is subscribed to the batch's room.
    #[inline]
    pub(crate) fn deliver(&mut self, room: &LiveRoom, batch: &Batch) {
        if let Some(subscription) = self.subscriptions.find(room)
            && let Some((frames, skip)) = subscription.next(batch, self.subprotocol)
            && skip < frames.len()
        {
            if subscription.take_is_new() {
                return self.write_first(room, &frames[skip..]);
            }
            self.write(Kind::Room, Some(room), frames, skip);
        }
    }

    /// Writes transient frames, which follow the room's frame with this `seq`, as far as the I/O accepts them now.
    pub(crate) fn deliver_transients(&mut self, room: &LiveRoom, seq: u64, frames: [&[u8]; 2]) {
        let is_next = self.subscriptions.find(room).is_some_and(|subscription| subscription.is_at(seq));
        if is_next && !self.is_mute() {
            let dropped = frames.map(|frames| self.outlet.write_or_drop(frames)).iter().sum();
            self.context.counters.transient_dropped.add(dropped);
        }
    }

    /// Writes frames that are for this client only. If they concern a room, they follow those of the room.
    pub(crate) fn send(&mut self, room: Option<RoomKey<'_>>, frames: &Bytes) {
        if frames.is_empty() || self.is_mute() {
            return;
        }
        let written = self.outlet.write(frames);
        if written < frames.len() {
            let lane = lane(room, self.subprotocol, SlowConsumer::Close);
            self.keep_in(&lane, Kind::Own, frames.clone(), written, false);
        }
    }

    /// Writes the answer to a resume and the direct frames that the client has missed.
    pub(crate) fn answer_resume(&mut self, answer: &Bytes, missed: &Bytes) {
        // As with replays of rooms, the frames may have any total length, but the client must read them.
        if self.outlet.queue().replay_bytes() > self.context.config.limits.max_queue_bytes {
            return self.close(LeaveReason::Slow);
        }
        self.write(Kind::Own, None, answer, 0);
        self.write(Kind::Replay, None, missed, 0);
    }

    /// Writes what waits, obeys orders, and reads into the inbox. If it returns `Messages`, the I/O has been
    /// read until it had no more, or until the inbox was full.
    pub(crate) fn poll_turn(&mut self, cx: &mut Cx<'_>, inbox: &mut Inbox) -> Poll<Turn> {
        self.outlet.set_waker(cx.waker());
        loop {
            if self.order.is_none() {
                self.drain();
                if let Err(reason) = self.reader.retry_answers(self.outlet.queue_mut()) {
                    self.end(reason);
                }
                self.drain();
            }
            if let Some(reason) = self.order {
                return Poll::Ready(Turn::End(reason));
            }
            let max_message_bytes = self.context.config.limits.max_message_bytes;
            let bytes: usize = inbox.texts.iter().map(|text| text.len()).sum();
            if inbox.texts.len() >= MAX_INBOX || bytes >= max_message_bytes || inbox.others >= MAX_OTHERS {
                self.liveness = Liveness::Unread;
                return Poll::Ready(Turn::Messages);
            }
            if let Some(reason) = self.ended {
                return Poll::Ready(if inbox.texts.is_empty() { Turn::End(reason) } else { Turn::Messages });
            }
            let was_empty = inbox.texts.is_empty();
            let (io, queue) = self.outlet.read_parts();
            match self.reader.poll_read(io, queue, max_message_bytes, inbox, cx) {
                Poll::Ready(Ok(_)) => {
                    self.liveness = Liveness::Seen;
                    inbox.note_read(was_empty, || self.context.clock.now());
                }
                Poll::Ready(Err(reason)) => self.end(reason),
                Poll::Pending => {
                    self.liveness.note_all_read();
                    return if inbox.texts.is_empty() { Poll::Pending } else { Poll::Ready(Turn::Messages) };
                }
            }
        }
    }

    /// Nothing more is read.
    fn end(&mut self, reason: LeaveReason) {
        self.ended = Some(reason);
        self.is_unreadable = !self.is_gone();
        if reason == LeaveReason::Closed {
            // Nothing may follow the answer to a close frame (RFC 6455 §5.5.1).
            self.outlet.queue_mut().drop_data();
        }
    }

    fn deliver_all(&mut self, room: &LiveRoom, batches: &[Batch]) {
        for batch in batches {
            self.deliver(room, batch);
        }
    }

    /// Writes the first frames of a room. The first one is the member's own enter. It is written together with a
    /// heartbeat for plain clients, and must not be dropped, no matter how slow the client is.
    #[cold]
    fn write_first(&mut self, room: &LiveRoom, frames: &[u8]) {
        if self.is_mute() {
            return;
        }
        let (enter, others) = frames.split_at(frame::frame_len(frames));
        let mut all = Vec::with_capacity(frames.len() + 64);
        all.extend_from_slice(enter);
        if self.subprotocol == Subprotocol::Plain {
            self.push_heartbeat(&mut all, room.online());
        }
        let own = all.len();
        all.extend_from_slice(others);
        let all = Bytes::from(all);
        let written = self.outlet.write(&all);
        if written < own {
            self.keep(Kind::Own, Some(room), all.slice(..own), written);
        }
        if written < all.len() && own < all.len() {
            self.keep(Kind::Room, Some(room), all.slice(own..), written.saturating_sub(own));
        }
    }

    /// Writes whole frames, from `skip` on.
    #[inline(always)]
    fn write(&mut self, kind: Kind, room: Option<&LiveRoom>, frames: &Bytes, skip: usize) {
        let rest = &frames[skip..];
        if rest.is_empty() || self.is_mute() {
            return;
        }
        let written = self.outlet.write(rest);
        if written < rest.len() {
            // The buffer is shared; a slice would keep all of it in memory while it waits.
            let rest = if skip == 0 { frames.clone() } else { Bytes::copy_from_slice(rest) };
            self.keep(kind, room, rest, written);
        }
    }

    /// Keeps what the I/O did not accept.
    #[cold]
    fn keep(&mut self, kind: Kind, room: Option<&LiveRoom>, frames: Bytes, written: usize) {
        let now = self.context.clock.now();
        let subscription = room.and_then(|room| self.subscriptions.find(room));
        let slow = subscription.map_or(SlowConsumer::Close, |subscription| subscription.slow_consumer());
        let lane = lane(room.map(LiveRoom::key), self.subprotocol, slow);
        let room = room.filter(|_| slow == SlowConsumer::Close);
        let may_hold = room.is_some() && self.may_hold_senders(now);
        if !self.keep_in(&lane, kind, frames, written, may_hold) {
            return;
        }
        let holds = may_hold
            && self.is_fuller_than(if self.subscriptions.hold_senders() { 2 * BEHIND } else { BEHIND });
        if let Some(subscription) = room.and_then(|room| self.subscriptions.find(room)) {
            subscription.hold_senders(holds);
        }
    }

    /// Keeps frames in a lane. Returns false if the client is too slow.
    fn keep_in(&mut self, lane: &Lane, kind: Kind, frames: Bytes, written: usize, may_hold: bool) -> bool {
        let Context { config, clock, counters, .. } = &*self.context;
        let mut bounds =
            Size { bytes: config.limits.max_queue_bytes, frames: config.limits.max_queue_frames };
        if may_hold || self.subscriptions.hold_senders() {
            // What counts is the client's progress, not the size of a burst. Each room gathers batches of its own.
            let rooms = self.subscriptions.len().clamp(1, MAX_SHARES);
            bounds = Size { bytes: bounds.bytes.saturating_mul(rooms), frames: usize::MAX };
        }
        let kept = self.outlet.keep(lane, kind, frames, written, bounds, clock.now());
        match kept {
            Ok(lost) => counters.lagged.add(lost),
            Err(Overflow) => self.close(LeaveReason::Slow),
        }
        self.report_queue();
        kept.is_ok()
    }

    /// Writes what waits. If the I/O accepts any of it, the client is slow, not dead.
    #[inline]
    fn drain(&mut self) {
        if !self.outlet.queue().is_empty() || self.outlet.has_unflushed() {
            self.drain_waiting();
        }
    }

    fn drain_waiting(&mut self) {
        let clock = self.context.clock;
        if !self.outlet.drain(|| clock.now()) {
            return;
        }
        self.report_queue();
        self.liveness.note_progress();
        if self.subscriptions.hold_senders()
            && !(self.may_hold_senders(clock.now()) && self.is_fuller_than(2 * BEHIND))
        {
            self.subscriptions.release_senders();
        }
        self.send_missed_presence();
    }

    /// Whether the client's budget allows it to hold back senders.
    fn may_hold_senders(&mut self, now: Duration) -> bool {
        let (accepted, rate) = (self.outlet.accepted(), MinRate::new(&self.context.config.limits));
        let budget = self.hold_budget.get_or_insert_default();
        budget.update(now, accepted, rate, self.subscriptions.hold_senders())
    }

    /// Whether the send queue is fuller than this fraction of its bounds.
    fn is_fuller_than(&self, part: usize) -> bool {
        let (limits, size) = (&self.context.config.limits, self.outlet.queue().size());
        size.bytes > limits.max_queue_bytes / part || size.frames > limits.max_queue_frames / part
    }
}

//! A socket and everything that its session's lock guards. The connection's own task reads from it and
//! writes what waits; every other task writes directly to it.

mod closing;

use std::sync::Arc;
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::config::SlowConsumer;
use crate::context::Context;
use crate::delivery::{Batch, HoldBudget, LiveRoom, MinRate, Replay};
use crate::protocol::close::{self, LeaveReason};
use crate::protocol::subprotocol::Subprotocol;
use crate::protocol::{frame, outbound};
use crate::socket::liveness::Liveness;
use crate::socket::outlet::Outlet;
use crate::socket::reader::{Inbox, Reader};
use crate::socket::send_queue::{Kind, Overflow};
use crate::socket::subscription::{Subscription, bounds};
use crate::socket::{Io, Turn};

/// While a hook keeps the connection waiting, this many messages are read ahead, but no more bytes than
/// one message may have.
const MAX_INBOX: usize = 16;

/// This many frames that are not messages are read before they count against the rate limits.
const MAX_OTHERS: u32 = 64;

/// A send queue that is fuller than this fraction of its bounds holds back the room's senders, until it is half as full.
const BEHIND: usize = 4;

pub(crate) struct Socket {
    context: Arc<Context>,
    subprotocol: Subprotocol,
    reader: Reader,
    outlet: Outlet,
    subscription: Option<Subscription>,
    /// Why the task should end the connection.
    order: Option<LeaveReason>,
    /// The close frame is queued or sent.
    is_closing: bool,
    /// Reading is over, once the messages that arrived before are handled.
    ended: Option<LeaveReason>,
    /// The bytes that the client sends can't be parsed any more.
    is_unreadable: bool,
    liveness: Liveness,
    /// How much longer the room's senders may be held back for this client. Present once its socket has not accepted
    /// everything.
    hold_budget: Option<Box<HoldBudget>>,
}

impl Socket {
    /// `first` was read after the handshake.
    pub(crate) fn new(
        io: Box<dyn Io>,
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
            subscription: None,
            order: None,
            is_closing: false,
            ended: None,
            is_unreadable: false,
            liveness: Liveness::Seen,
            hold_budget: None,
        }
    }

    /// The client has closed the connection with a code that keeps its session.
    pub(crate) fn wants_session_kept(&self) -> bool {
        self.reader.close_code().is_some_and(close::keeps_session)
    }

    /// The client has sent its last frame.
    fn is_gone(&self) -> bool {
        matches!(self.ended, Some(LeaveReason::Closed | LeaveReason::Lost))
    }

    /// Whether nothing more is to be written. A client that is kicked still gets what was published before.
    pub(crate) fn is_mute(&self) -> bool {
        use LeaveReason::{HeartbeatMissed, Lost, Slow};
        self.outlet.is_broken()
            || self.is_closing
            || self.is_gone()
            || matches!(self.order, Some(Slow | Lost | HeartbeatMissed))
    }

    /// Tells the connection's task to end. The first reason counts.
    pub(crate) fn close(&mut self, reason: LeaveReason) {
        if self.order.is_none() {
            self.order = Some(reason);
            if let Some(subscription) = &mut self.subscription {
                subscription.hold_senders(false);
            }
            self.outlet.wake();
        }
    }

    pub(crate) fn wake(&self) {
        self.outlet.wake();
    }

    /// Subscribes this socket to the room's frames after this `seq`; they wait until
    /// [`Socket::answer_enter`].
    pub(crate) fn subscribe(&mut self, room: &Arc<LiveRoom>, seq: u64) {
        self.subscription = Some(Subscription::new(room.clone(), seq));
    }

    /// Makes the room's next frames wait until [`Socket::repeat_enter`].
    pub(crate) fn pause(&mut self) {
        if let Some(subscription) = &mut self.subscription {
            subscription.pause();
        }
    }

    pub(crate) fn unsubscribe(&mut self) {
        self.subscription = None;
    }

    /// Writes the answer to an enter, the replay, and then what the room has published since. `slow`
    /// is what happens if the client reads the room too slowly.
    pub(crate) fn answer_enter(&mut self, answer: Option<Bytes>, replay: Option<Replay>, slow: SlowConsumer) {
        // A replay may be of any length, but a client that reads none of them gets no further one: each would keep
        // the memory of another room's history, or of the same one at another time.
        let has_more = replay.as_ref().is_some_and(|replay| !replay.chunks.is_empty());
        if has_more && self.outlet.queue().replay_bytes() > self.context.config.limits.max_queue_bytes {
            return self.close(LeaveReason::Slow);
        }
        if let Some(subscription) = &mut self.subscription {
            subscription.set_slow_consumer(slow);
        }
        if let Some(answer) = answer {
            self.write(Kind::Own, &answer, 0);
        }
        for chunk in replay.into_iter().flat_map(|replay| replay.chunks) {
            self.write(Kind::Replay, &chunk, 0);
        }
        let waiting = self.subscription.as_mut().map(Subscription::go_on).unwrap_or_default();
        self.deliver_all(&waiting);
    }

    /// Writes what the room published before, the member's own enter again, and then what the room has
    /// published since.
    pub(crate) fn repeat_enter(&mut self, before: &[Batch], enter: &Bytes) {
        let waiting = self.subscription.as_mut().map(Subscription::go_on).unwrap_or_default();
        self.deliver_all(before);
        self.write(Kind::Own, enter, 0);
        self.deliver_all(&waiting);
    }

    /// Writes the part of a batch that the client has not had yet. The socket is subscribed to the batch's room.
    #[inline]
    pub(crate) fn deliver(&mut self, room: &LiveRoom, batch: &Batch) {
        if let Some(subscription) = self.subscription.as_mut().filter(|s| s.is_of(room))
            && let Some((frames, skip)) = subscription.next(batch, self.subprotocol)
        {
            self.write_room(frames, skip);
        }
    }

    /// Writes frames that are for this client only.
    pub(crate) fn send(&mut self, frames: &Bytes) {
        self.write(Kind::Own, frames, 0);
    }

    /// Sends a heartbeat that asks for a sign of life, unless the socket accepts nothing any more.
    pub(crate) fn beat(&mut self) {
        if self.outlet.is_broken() && self.ended.is_none() && self.liveness == Liveness::Asked {
            // Its task has had enough time to read what the client sent before.
            return self.close(LeaveReason::Lost);
        }
        self.liveness.ask();
        if self.is_mute() || self.ended.is_some() {
            return;
        }
        if self.outlet.stuck_for(self.context.clock.now()) >= self.context.config.timeouts.write_timeout {
            self.context.counters.write_timeouts.add(1);
            return self.close(LeaveReason::Slow);
        }
        self.send_heartbeat();
    }

    /// Sends a heartbeat that does not ask for a sign of life yet.
    pub(crate) fn send_heartbeat(&mut self) {
        let num = self.subscription.as_ref().map_or(0, Subscription::online);
        let mut heartbeat = Vec::with_capacity(64);
        frame::push_text(&mut heartbeat, &[outbound::heartbeat(num).as_bytes()]);
        self.outlet.write_heartbeat(&heartbeat);
    }

    /// Checks for a sign of life. The time for it is over.
    pub(crate) fn check_alive(&mut self) {
        if self.liveness == Liveness::Asked && self.ended.is_none() {
            self.close(LeaveReason::HeartbeatMissed);
        }
    }

    /// Notes that the client is kept waiting, so its silence says nothing.
    pub(crate) fn keep_waiting(&mut self) {
        self.liveness = Liveness::Unread;
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
            let (io, queue) = self.outlet.read_parts();
            match self.reader.poll_read(io, queue, max_message_bytes, inbox, cx) {
                Poll::Ready(Ok(_)) => self.liveness = Liveness::Seen,
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

    fn deliver_all(&mut self, batches: &[Batch]) {
        for batch in batches {
            if let Some(subscription) = &mut self.subscription
                && let Some((frames, skip)) = subscription.next(batch, self.subprotocol)
            {
                self.write_room(frames, skip);
            }
        }
    }

    /// Writes the frames of a room in `frames` from `skip` on.
    #[inline]
    fn write_room(&mut self, frames: &Bytes, skip: usize) {
        let subscription = self.subscription.as_mut().filter(|_| skip < frames.len());
        match subscription.and_then(Subscription::first_heartbeat) {
            None => self.write(Kind::Room, frames, skip),
            Some(heartbeat) => self.write_first(&frames[skip..], &heartbeat),
        }
    }

    /// Writes the first frames of a room. The very first is the member's own enter: it and the heartbeat go out
    /// in one write, and must not be lost, no matter how slow the client is.
    #[cold]
    fn write_first(&mut self, frames: &[u8], heartbeat: &str) {
        if self.is_mute() {
            return;
        }
        let (enter, others) = frames.split_at(frame::frame_len(frames));
        let mut all = Vec::with_capacity(frames.len() + heartbeat.len() + 4);
        all.extend_from_slice(enter);
        frame::push_text(&mut all, &[heartbeat.as_bytes()]);
        let own = all.len();
        all.extend_from_slice(others);
        let all = Bytes::from(all);
        let written = self.outlet.write(&all);
        if written < own {
            self.keep(Kind::Own, all.slice(..own), written);
        }
        if written < all.len() {
            self.keep(Kind::Room, all.slice(own..), written.saturating_sub(own));
        }
    }

    /// Writes the whole frames in `frames` from `skip` on.
    fn write(&mut self, kind: Kind, frames: &Bytes, skip: usize) {
        let rest = &frames[skip..];
        if rest.is_empty() || self.is_mute() {
            return;
        }
        let written = self.outlet.write(rest);
        if written < rest.len() {
            // The buffer is shared; a slice would keep all of it in memory while it waits.
            let rest = if skip == 0 { frames.clone() } else { Bytes::copy_from_slice(rest) };
            self.keep(kind, rest, written);
        }
    }

    /// Keeps what the I/O did not accept.
    #[cold]
    fn keep(&mut self, kind: Kind, frames: Bytes, written: usize) {
        let now = self.context.clock.now();
        let may_hold = self.may_hold_senders(now);
        let mut bounds = bounds(&self.context.config.limits, self.subprotocol, self.subscription.as_ref());
        if may_hold {
            // What counts is its progress, not the size of a burst. The bytes are limited in any case.
            bounds.frames = usize::MAX;
        }
        match self.outlet.keep(kind, frames, written, &bounds, now) {
            Ok(0) => {}
            Ok(lost) => self.context.counters.lagged.add(lost),
            Err(Overflow) => return self.close(LeaveReason::Slow),
        }
        self.hold_senders(may_hold);
    }

    /// Writes what waits. If the I/O accepts any of it, the client is slow, not dead.
    fn drain(&mut self) {
        if self.outlet.queue().is_empty() && !self.outlet.has_unflushed() {
            return;
        }
        let clock = self.context.clock;
        if !self.outlet.drain(|| clock.now()) {
            return;
        }
        self.liveness.note_progress();
        if self.subscription.as_ref().is_some_and(Subscription::holds_senders) {
            let may_hold = self.may_hold_senders(clock.now());
            self.hold_senders(may_hold);
        }
    }

    /// Whether the room's senders may be held back for this client if it is behind: it makes progress.
    fn may_hold_senders(&mut self, now: Duration) -> bool {
        let Some(subscription) = &self.subscription else { return false };
        if subscription.slow_consumer() != SlowConsumer::Close {
            return false;
        }
        let (accepted, rate) = (self.outlet.accepted(), MinRate::new(&self.context.config.limits));
        let budget = self.hold_budget.get_or_insert_default();
        budget.update(now, accepted, rate, subscription.holds_senders())
    }

    /// Holds back the room's senders as long as the client is behind, if they may be held back.
    fn hold_senders(&mut self, may_hold: bool) {
        let Some(holds) = self.subscription.as_ref().map(Subscription::holds_senders) else { return };
        let is_behind = self.is_fuller_than(if holds { 2 * BEHIND } else { BEHIND });
        if let Some(subscription) = &mut self.subscription {
            subscription.hold_senders(may_hold && is_behind);
        }
    }

    /// Whether the send queue is fuller than this fraction of its bounds.
    fn is_fuller_than(&self, part: usize) -> bool {
        let (limits, queue) = (&self.context.config.limits, self.outlet.queue());
        queue.bytes() > limits.max_queue_bytes / part || queue.frames() > limits.max_queue_frames / part
    }
}

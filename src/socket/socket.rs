//! A socket and everything that its session's lock guards. The connection's own task reads from it and
//! writes what was left over; every other task writes straight to it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Cx, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::SlowConsumer;
use crate::context::Context;
use crate::delivery::{Batch, LiveRoom, Replay};
use crate::protocol::close::{self, LeaveReason};
use crate::protocol::subprotocol::Subprotocol;
use crate::protocol::{frame, outbound};
use crate::socket::reader::{Inbox, Reader};
use crate::socket::send_queue::{Bounds, Kind, Overflow, SendQueue};

/// While a hook keeps the connection waiting, so many messages are read ahead, and no more bytes than
/// one message may have.
const MAX_INBOX: usize = 16;

/// So many frames that are no messages are read before they are charged to the rate limits.
const MAX_OTHERS: u32 = 64;

/// Above this part of its bounds a send queue holds back the room's senders, until it is half as full.
const BEHIND: usize = 4;

/// The I/O below a WebSocket.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

pub(crate) struct Socket {
    io: Box<dyn Io>,
    /// Largest single write: I/O that takes any amount hides from the send queue how slow it is.
    max_write: usize,
    context: Arc<Context>,
    subprotocol: Subprotocol,
    reader: Reader,
    queue: SendQueue,
    /// Wakes the connection's own task, whichever task polls the socket.
    waker: Waker,
    subscription: Option<Subscription>,
    /// Why the task is to end the connection.
    order: Option<LeaveReason>,
    /// The close frame is queued or sent.
    is_closing: bool,
    /// Reading is over, once the messages that came before are handled.
    ended: Option<LeaveReason>,
    liveness: Liveness,
    /// The I/O holds bytes that it has yet to flush (TLS).
    unflushed: bool,
    /// Writing failed; what the client sent before can still be read.
    is_broken: bool,
    /// The send queue holds back the room's senders.
    is_behind: bool,
    /// Since when the I/O has taken nothing although something waits.
    stuck_since: Option<Duration>,
}

/// The room whose frames are for this socket.
struct Subscription {
    room: Arc<LiveRoom>,
    /// The `seq` of the latest frame that it has had.
    seq: u64,
    slow: SlowConsumer,
    /// A heartbeat follows the first frame, which is the member's own enter.
    wants_heartbeat: bool,
    /// Batches that came before the answer to the enter was written.
    waiting: Option<Vec<Batch>>,
}

/// What is known of the client being alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Liveness {
    /// Something came since the last heartbeat, or something was taken.
    Seen,
    /// A heartbeat went out, and nothing came since.
    Asked,
    /// The client is kept waiting, and what it sends is not read: silence says nothing.
    Unread,
}

/// What the connection's task has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Messages are in the inbox.
    Messages,
    /// End the connection.
    End(LeaveReason),
}

impl Socket {
    /// `first` was read behind the handshake.
    pub(crate) fn new(
        io: Box<dyn Io>,
        max_write: usize,
        context: Arc<Context>,
        subprotocol: Subprotocol,
        first: Bytes,
    ) -> Socket {
        Socket {
            io,
            max_write,
            context,
            subprotocol,
            reader: Reader::new(first),
            queue: SendQueue::default(),
            waker: Waker::noop().clone(),
            subscription: None,
            order: None,
            is_closing: false,
            ended: None,
            liveness: Liveness::Seen,
            unflushed: false,
            is_broken: false,
            is_behind: false,
            stuck_since: None,
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

    /// Nothing more is to be written. A client that is kicked still gets what was published before.
    pub(crate) fn is_mute(&self) -> bool {
        use LeaveReason::{HeartbeatMissed, Lost, Slow};
        self.is_broken
            || self.is_closing
            || self.is_gone()
            || matches!(self.order, Some(Slow | Lost | HeartbeatMissed))
    }

    /// Tells the connection's task to end. The first reason counts.
    pub(crate) fn close(&mut self, reason: LeaveReason) {
        if self.order.is_none() {
            self.order = Some(reason);
            self.waker.wake_by_ref();
        }
    }

    pub(crate) fn wake(&self) {
        self.waker.wake_by_ref();
    }

    /// From now on the room's frames after this `seq` are for this socket; they wait until
    /// [`Socket::answer_enter`].
    pub(crate) fn subscribe(&mut self, room: &Arc<LiveRoom>, seq: u64) {
        self.subscription = Some(Subscription {
            room: room.clone(),
            seq,
            slow: SlowConsumer::default(),
            wants_heartbeat: true,
            waiting: Some(Vec::new()),
        });
    }

    /// The room's next frames wait until [`Socket::repeat_enter`].
    pub(crate) fn pause(&mut self) {
        if let Some(subscription) = &mut self.subscription {
            subscription.waiting.get_or_insert_default();
        }
    }

    /// Writes what the room published before, the member's own enter once more, and then what the room has
    /// published since.
    pub(crate) fn repeat_enter(&mut self, before: &[Batch], enter: &Bytes) {
        let Some(subscription) = &mut self.subscription else { return };
        let waiting = subscription.waiting.take().unwrap_or_default();
        let room = subscription.room.clone();
        for batch in before {
            self.deliver(&room, batch);
        }
        self.write(Kind::Own, enter, 0);
        for batch in &waiting {
            self.deliver(&room, batch);
        }
    }

    pub(crate) fn unsubscribe(&mut self) {
        self.subscription = None;
        self.is_behind = false;
    }

    /// Writes the answer to an enter, the replay, and then what the room has published since. `slow`
    /// is what happens if the client reads the room too slowly.
    pub(crate) fn answer_enter(&mut self, answer: Option<Bytes>, replay: Option<Replay>, slow: SlowConsumer) {
        let waiting = self.subscription.as_mut().and_then(|subscription| {
            subscription.slow = slow;
            subscription.waiting.take()
        });
        if let Some(answer) = answer {
            self.write(Kind::Own, &answer, 0);
        }
        for chunk in replay.into_iter().flat_map(|replay| replay.chunks) {
            self.write(Kind::Replay, &chunk, 0);
        }
        let room = self.subscription.as_ref().map(|subscription| subscription.room.clone());
        if let Some(room) = room {
            for batch in waiting.into_iter().flatten() {
                self.deliver(&room, &batch);
            }
        }
    }

    /// Writes what the client has not had yet of a batch of the room that it is subscribed to.
    pub(crate) fn deliver(&mut self, room: &LiveRoom, batch: &Batch) {
        let Some(subscription) = self.subscription.as_mut().filter(|s| std::ptr::eq(&*s.room, room)) else {
            return;
        };
        if batch.end() <= subscription.seq {
            return;
        }
        if let Some(waiting) = &mut subscription.waiting {
            return waiting.push(batch.clone());
        }
        let (frames, skip) = batch.frames(subscription.seq, self.subprotocol);
        subscription.seq = batch.end();
        if !std::mem::take(&mut subscription.wants_heartbeat) || skip == frames.len() {
            return self.write(Kind::Room, frames, skip);
        }
        // The first frames and the first heartbeat in one write.
        let heartbeat = outbound::heartbeat(subscription.room.online());
        let frames = &frames[skip..];
        let (enter, others) = frames.split_at(frame::frame_len(frames));
        let mut own = Vec::with_capacity(frames.len() + heartbeat.len() + 4);
        own.extend_from_slice(enter);
        frame::push_text(&mut own, &[heartbeat.as_bytes()]);
        self.write_first(own, others);
    }

    /// Writes frames that are for this client only.
    pub(crate) fn send(&mut self, frames: &Bytes) {
        self.write(Kind::Own, frames, 0);
    }

    /// Sends a heartbeat that asks for a sign of life, unless the client takes nothing any more.
    pub(crate) fn beat(&mut self) {
        if self.is_mute() || self.ended.is_some() {
            return;
        }
        if self.liveness == Liveness::Seen {
            self.liveness = Liveness::Asked;
        }
        if self.is_stuck() {
            self.context.counters.write_timeouts.add(1);
            return self.close(LeaveReason::Slow);
        }
        self.send_heartbeat();
    }

    /// Sends a heartbeat that asks for nothing yet.
    pub(crate) fn send_heartbeat(&mut self) {
        let num = self.subscription.as_ref().map_or(0, |subscription| subscription.room.online());
        let mut heartbeat = Vec::with_capacity(64);
        frame::push_text(&mut heartbeat, &[outbound::heartbeat(num).as_bytes()]);
        if !self.queue.is_empty() {
            return self.queue.push_heartbeat(&heartbeat);
        }
        let written = self.write_now(&heartbeat);
        self.queue.push_control(&heartbeat[written..]);
    }

    /// The time for a sign of life is over.
    pub(crate) fn check_alive(&mut self) {
        if self.liveness == Liveness::Asked && self.ended.is_none() {
            self.close(LeaveReason::HeartbeatMissed);
        }
    }

    /// The client is kept waiting, so its silence says nothing.
    pub(crate) fn keep_waiting(&mut self) {
        self.liveness = Liveness::Unread;
    }

    /// Writes what was left over, obeys orders, and reads into the inbox. With `Messages` the I/O has been
    /// read until it had no more, or until the inbox was full.
    pub(crate) fn poll_turn(&mut self, cx: &mut Cx<'_>, inbox: &mut Inbox) -> Poll<Turn> {
        if !self.waker.will_wake(cx.waker()) {
            self.waker.clone_from(cx.waker());
        }
        loop {
            if self.order.is_none() && !self.is_broken {
                self.drain();
                if let Err(reason) = self.reader.retry_answers(&mut self.queue) {
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
            match self.reader.poll_read(&mut self.io, &mut self.queue, max_message_bytes, inbox, cx) {
                Poll::Ready(Ok(_)) => self.liveness = Liveness::Seen,
                Poll::Ready(Err(reason)) => self.end(reason),
                Poll::Pending if self.is_broken => self.end(LeaveReason::Lost),
                Poll::Pending => {
                    if self.liveness == Liveness::Unread {
                        self.liveness = Liveness::Seen;
                    }
                    return if inbox.texts.is_empty() { Poll::Pending } else { Poll::Ready(Turn::Messages) };
                }
            }
        }
    }

    /// Ends the connection in good order: queued frames, a close frame, the end of the stream, and the
    /// client's part of it, all within `limit`.
    pub(crate) async fn finish(&mut self, reason: LeaveReason, limit: Duration) {
        if !self.begin_finish(reason) {
            return;
        }
        let end = std::future::poll_fn(|cx| self.poll_finish(cx));
        if tokio::time::timeout(limit, end).await.is_err() {
            tracing::debug!(%reason, ?limit, "the closing handshake took too long (close_timeout)");
        }
    }

    /// Whether there is anything to wait for.
    fn begin_finish(&mut self, reason: LeaveReason) -> bool {
        self.unsubscribe();
        self.is_closing = true;
        if let Some((code, text)) = reason.row() {
            if reason == LeaveReason::Slow {
                self.queue.drop_data();
            }
            self.queue.push_last(frame::close(code, text));
        }
        match reason {
            LeaveReason::Lost | LeaveReason::Dropped => false,
            LeaveReason::HeartbeatMissed => {
                // The peer is most likely gone: one try, no wait.
                self.drain();
                false
            }
            _ => !self.is_broken,
        }
    }

    fn poll_finish(&mut self, cx: &mut Cx<'_>) -> Poll<()> {
        self.waker.clone_from(cx.waker());
        // A client that waits to be read doesn't read itself. And a socket closed with unread bytes is
        // reset, and the close frame lost with it.
        let is_over = self.is_gone() || self.poll_discard(cx).is_ready();
        if !self.drain() {
            return Poll::Ready(());
        }
        if !self.queue.is_empty() || self.unflushed || Pin::new(&mut self.io).poll_shutdown(cx).is_pending() {
            return Poll::Pending;
        }
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Nothing more is read.
    fn end(&mut self, reason: LeaveReason) {
        self.ended = Some(reason);
        if reason == LeaveReason::Closed {
            // Nothing may follow the answer to a close frame (RFC 6455 §5.5.1).
            self.queue.drop_data();
        }
    }

    /// Writing failed. The client may have sent something before it went: the task reads to the end.
    fn fail(&mut self) {
        self.is_broken = true;
        self.waker.wake_by_ref();
    }

    /// Whether the I/O has taken nothing for the write timeout, although something waits.
    fn is_stuck(&self) -> bool {
        let timeout = self.context.config.timeouts.write_timeout;
        self.stuck_since.is_some_and(|since| self.context.clock.now().saturating_sub(since) >= timeout)
    }

    /// Writes whole frames, those of `frames` from `skip` on, at once as far as the I/O takes them.
    fn write(&mut self, kind: Kind, frames: &Bytes, skip: usize) {
        let rest = &frames[skip..];
        if rest.is_empty() || self.is_mute() {
            return;
        }
        let written = if self.queue.is_empty() { self.write_now(rest) } else { 0 };
        if written == rest.len() {
            return;
        }
        // All is shared; a part would keep the whole in memory for as long as it waits.
        let rest = if skip == 0 { frames.clone() } else { Bytes::copy_from_slice(rest) };
        self.queue(kind, rest, written);
    }

    /// The same for the first frames of a room: the first of all, which is the member's own enter, and the
    /// heartbeat behind it must not be lost, however slow the client is.
    fn write_first(&mut self, mut own: Vec<u8>, others: &[u8]) {
        if self.is_mute() {
            return;
        }
        let len = own.len();
        own.extend_from_slice(others);
        let all = Bytes::from(own);
        let written = if self.queue.is_empty() { self.write_now(&all) } else { 0 };
        if written < len {
            self.queue(Kind::Own, all.slice(..len), written);
        }
        if written < all.len() {
            self.queue(Kind::Room, all.slice(len..), written.saturating_sub(len));
        }
    }

    /// Keeps what the I/O didn't take.
    #[cold]
    fn queue(&mut self, kind: Kind, frames: Bytes, written: usize) {
        let limits = &self.context.config.limits;
        let bounds = Bounds {
            frames: limits.max_queue_frames,
            bytes: limits.max_queue_bytes,
            slow: self.subscription.as_ref().map_or(SlowConsumer::Close, |subscription| subscription.slow),
            announces_gaps: self.subprotocol == Subprotocol::V1,
        };
        if self.stuck_since.is_none() {
            self.stuck_since = Some(self.context.clock.now());
        }
        match self.queue.push(kind, frames, written, &bounds) {
            Ok(0) => {}
            Ok(lost) => self.context.counters.lagged.add(lost),
            Err(Overflow) => return self.close(LeaveReason::Slow),
        }
        // Senders are held back when it makes progress: a client that reads nothing delays nobody.
        self.is_behind |= bounds.slow == SlowConsumer::Close && self.is_fuller_than(BEHIND);
    }

    /// Whether the send queue is fuller than this part of its bounds.
    fn is_fuller_than(&self, part: usize) -> bool {
        let limits = &self.context.config.limits;
        self.queue.bytes() > limits.max_queue_bytes / part
            || self.queue.frames() > limits.max_queue_frames / part
    }

    fn hold_senders(&self) {
        if let Some(subscription) = &self.subscription {
            subscription.room.hold_senders(self.context.clock.now());
        }
    }

    /// Writes as much as the I/O takes. For what is left, the I/O wakes the task when there is room.
    fn write_now(&mut self, frames: &[u8]) -> usize {
        let mut written = 0;
        while written < frames.len() {
            match self.poll_write(&frames[written..]) {
                Poll::Ready(Ok(n)) if n > 0 => written += n,
                Poll::Ready(_) => {
                    self.fail();
                    return frames.len();
                }
                Poll::Pending => break,
            }
        }
        self.flush();
        written
    }

    /// Writes what was left over; false if writing is over.
    fn drain(&mut self) -> bool {
        let mut has_progress = false;
        while !self.queue.is_empty() {
            let io = Pin::new(&mut self.io);
            let next = self.queue.next();
            let next = &next[..next.len().min(self.max_write)];
            match io.poll_write(&mut Cx::from_waker(&self.waker), next) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.queue.advance(n);
                    self.unflushed = true;
                    has_progress = true;
                }
                Poll::Ready(_) => {
                    self.fail();
                    return false;
                }
                Poll::Pending => break,
            }
        }
        if has_progress {
            self.note_progress();
        }
        if self.unflushed {
            return self.flush();
        }
        true
    }

    /// A client that takes what it was too slow for is slow, not dead.
    fn note_progress(&mut self) {
        if self.liveness == Liveness::Asked {
            self.liveness = Liveness::Seen;
        }
        self.stuck_since = (!self.queue.is_empty()).then(|| self.context.clock.now());
        if self.is_behind {
            if self.is_fuller_than(BEHIND * 2) {
                self.hold_senders();
            } else {
                self.is_behind = false;
            }
        }
    }

    fn poll_write(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(self.max_write)];
        Pin::new(&mut self.io).poll_write(&mut Cx::from_waker(&self.waker), bytes)
    }

    fn flush(&mut self) -> bool {
        match Pin::new(&mut self.io).poll_flush(&mut Cx::from_waker(&self.waker)) {
            Poll::Ready(Ok(())) => self.unflushed = false,
            Poll::Ready(Err(_)) => {
                self.fail();
                return false;
            }
            Poll::Pending => self.unflushed = true,
        }
        true
    }

    /// Reads what nobody wants to know any more; ready when the client has closed its side.
    fn poll_discard(&mut self, cx: &mut Cx<'_>) -> Poll<()> {
        let mut chunk = [0; 1024];
        loop {
            let mut buf = ReadBuf::new(&mut chunk);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

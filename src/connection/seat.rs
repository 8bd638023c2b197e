//! A connection's seat: its socket behind a lock that is held for one poll. The connection's
//! own task reads from it and writes what was left over; everybody else writes straight to it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::SlowConsumer;
use crate::connection::link::{Life, Link, Place};
use crate::connection::reader::{Inbox, Reader};
use crate::engine::engine::Engine;
use crate::engine::outbox::{Bounds, Kind, Overflow};
use crate::engine::recipient::Recipient;
use crate::protocol::close::{self, LeaveReason};
use crate::protocol::wire::Wire;
use crate::protocol::{frame, outbound};
use crate::room::registry::SharedRoom;
use crate::room::stream::Batch;

/// While a hook keeps the conversation waiting, so many messages are read ahead, and no more
/// bytes than two messages may have.
const MAX_INBOX: usize = 16;

/// So many frames that are no messages are read before they are paid for.
const MAX_OTHERS: u32 = 64;

type Room = SharedRoom<Arc<dyn Recipient>>;

pub(crate) struct Seat<IO> {
    engine: Arc<Engine>,
    wire: Wire,
    link: Mutex<Link<IO>>,
}

/// What the connection's task has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Messages are in the inbox.
    Messages,
    /// End the connection.
    End(LeaveReason),
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Seat<IO> {
    pub(crate) fn new(engine: Arc<Engine>, io: IO, first: Bytes, wire: Wire) -> Seat<IO> {
        Seat { engine, wire, link: Mutex::new(Link::new(io, Reader::new(first))) }
    }

    /// Sends the welcome, by v1, and a first heartbeat that asks for nothing yet. A client that
    /// replaces a connection may hear of the old one's end only now; the classic page closes the
    /// new one then, and comes back only if it has had a heartbeat.
    pub(crate) fn greet(&self, welcome: Option<&str>) {
        let Some(welcome) = welcome else { return self.lock().send_beat() };
        // In one, for a heartbeat would pass a welcome that has to wait.
        let mut both = Vec::new();
        for text in [welcome, &outbound::heartbeat(0)] {
            frame::push_text(&mut both, &[text.as_bytes()]);
        }
        self.send(both.into());
    }

    /// The client has closed the connection, and said by the code that it comes back.
    pub(crate) fn means_to_return(&self) -> bool {
        self.lock().reader.close_code().is_some_and(close::keeps_session)
    }

    /// Writes what was left over, obeys orders, and reads into the inbox. With `Messages` the
    /// socket has been read until it had no more, or until the inbox was full.
    pub(crate) fn poll_turn(&self, cx: &mut Context<'_>, inbox: &mut Inbox) -> Poll<Turn> {
        let mut link = self.lock();
        let link = &mut *link;
        if !link.waker.will_wake(cx.waker()) {
            link.waker.clone_from(cx.waker());
        }
        loop {
            if link.order.is_none() {
                link.drain();
                match link.reader.resume(&mut link.outbox) {
                    Ok(()) => {}
                    Err(reason) => link.end(reason),
                }
                link.drain();
            }
            if let Some(reason) = link.order {
                return Poll::Ready(Turn::End(reason));
            }
            let max_message_bytes = self.engine.config.limits.max_message_bytes;
            let bytes: usize = inbox.texts.iter().map(|text| text.len()).sum();
            if inbox.texts.len() >= MAX_INBOX || bytes >= max_message_bytes || inbox.others >= MAX_OTHERS {
                link.life = Life::Unread;
                return Poll::Ready(Turn::Messages);
            }
            if let Some(reason) = link.ended {
                return Poll::Ready(if inbox.texts.is_empty() { Turn::End(reason) } else { Turn::Messages });
            }
            match link.reader.poll_read(&mut link.io, &mut link.outbox, max_message_bytes, inbox, cx) {
                Poll::Ready(Ok(_)) => link.life = Life::Seen,
                Poll::Ready(Err(reason)) => link.end(reason),
                Poll::Pending => {
                    if link.life == Life::Unread {
                        link.life = Life::Seen;
                    }
                    return if inbox.texts.is_empty() { Poll::Pending } else { Poll::Ready(Turn::Messages) };
                }
            }
        }
    }

    /// The same while a hook is asked: messages stay in the inbox, and when that is full the
    /// client has to wait. Returns why the connection must end at once.
    pub(crate) fn poll_ahead(&self, cx: &mut Context<'_>, inbox: &mut Inbox) -> Option<LeaveReason> {
        match self.poll_turn(cx, inbox) {
            Poll::Ready(Turn::End(reason)) => Some(reason),
            _ => None,
        }
    }

    /// The client is kept waiting, so that its silence says nothing; false if the task has been
    /// told to end the connection.
    pub(crate) fn keep_waiting(&self) -> bool {
        let mut link = self.lock();
        link.life = Life::Unread;
        link.order.is_none()
    }

    /// Ends the connection in good order: queued frames, a close frame, the end of the stream,
    /// and the client's part of it, all within `limit`.
    pub(crate) async fn finish(&self, reason: LeaveReason, limit: Duration) {
        if !self.begin_finish(reason) {
            return;
        }
        let end = std::future::poll_fn(|cx| self.poll_finish(cx));
        if tokio::time::timeout(limit, end).await.is_err() {
            tracing::debug!(%reason, ?limit, "the closing handshake took too long (close_timeout)");
        }
    }

    /// Whether there is anything to wait for.
    fn begin_finish(&self, reason: LeaveReason) -> bool {
        let mut link = self.lock();
        link.place = None;
        link.finishing = true;
        link.order = Some(reason);
        if let Some((code, text)) = reason.row() {
            if reason == LeaveReason::Slow {
                link.outbox.drop_data();
            }
            link.outbox.push_last(frame::close(code, text));
        }
        match reason {
            LeaveReason::Lost | LeaveReason::Dropped => false,
            LeaveReason::HeartbeatMissed => {
                // The peer is most likely gone: one try, no wait.
                link.drain();
                false
            }
            _ => true,
        }
    }

    fn poll_finish(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut link = self.lock();
        let link = &mut *link;
        link.waker.clone_from(cx.waker());
        // A client that waits to be read doesn't read itself. And a socket closed with unread
        // bytes is reset, and the close frame lost with it.
        let over = link.is_gone() || link.poll_discard(cx).is_ready();
        if !link.drain() {
            return Poll::Ready(());
        }
        if !link.outbox.is_empty() || link.unflushed || Pin::new(&mut link.io).poll_shutdown(cx).is_pending()
        {
            return Poll::Pending;
        }
        if over { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<IO> Seat<IO> {
    fn lock(&self) -> MutexGuard<'_, Link<IO>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Seat<IO> {
    /// Writes whole frames, those of `frames` from `skip` on, at once as far as the socket takes
    /// them.
    fn write(&self, link: &mut Link<IO>, kind: Kind, frames: &Bytes, skip: usize) {
        let rest = &frames[skip..];
        if rest.is_empty() || link.is_mute() {
            return;
        }
        let written = if link.outbox.is_empty() { link.write_now(rest) } else { 0 };
        if written == rest.len() {
            return;
        }
        // All is shared; a part would keep the whole in memory for as long as it waits.
        let rest = if skip == 0 { frames.clone() } else { Bytes::copy_from_slice(rest) };
        self.queue(link, kind, rest, written);
    }

    /// The same for the first frames of a room: the first of all, which is the member's own enter,
    /// and what belongs to it must not be lost, however slow he is.
    fn write_first(&self, link: &mut Link<IO>, mut own: Vec<u8>, others: &[u8]) {
        if link.is_mute() {
            return;
        }
        let len = own.len();
        own.extend_from_slice(others);
        let all = Bytes::from(own);
        let written = if link.outbox.is_empty() { link.write_now(&all) } else { 0 };
        if written < len {
            self.queue(link, Kind::Own, all.slice(..len), written);
        }
        if written < all.len() {
            self.queue(link, Kind::Room, all.slice(len..), written.saturating_sub(len));
        }
    }

    /// Keeps what the socket didn't take.
    #[cold]
    fn queue(&self, link: &mut Link<IO>, kind: Kind, frames: Bytes, written: usize) {
        let limits = &self.engine.config.limits;
        let bounds = Bounds {
            frames: limits.max_queue_frames,
            bytes: limits.max_queue_bytes,
            slow: link.place.as_ref().map_or(SlowConsumer::Close, |place| place.slow),
            tells: self.wire == Wire::V1,
        };
        match link.outbox.push(kind, frames, written, &bounds) {
            Ok(0) => {}
            Ok(lost) => self.engine.counters.lagged.add(lost),
            Err(Overflow) => link.order(LeaveReason::Slow),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Recipient for Seat<IO> {
    fn attach(&self, room: &Arc<Room>, position: u64, slow: SlowConsumer) {
        self.lock().place = Some(Place { room: room.clone(), position, slow, greet: true });
    }

    fn detach(&self) {
        self.lock().place = None;
    }

    fn is_reachable(&self) -> bool {
        let link = self.lock();
        !link.is_mute()
    }

    fn deliver(&self, room: &Room, batch: &Batch) {
        let mut link = self.lock();
        let link = &mut *link;
        let Some(place) = link.place.as_mut().filter(|p| std::ptr::eq(&*p.room, room)) else { return };
        if batch.end() <= place.position {
            return;
        }
        let (frames, skip) = batch.frames(place.position, self.wire);
        place.position = batch.end();
        if !std::mem::take(&mut place.greet) || skip == frames.len() {
            return self.write(link, Kind::Room, frames, skip);
        }
        // The first frames and the first heartbeat in one write.
        let beat = outbound::heartbeat(place.room.online());
        let frames = &frames[skip..];
        let (enter, others) = frames.split_at(frame::frame_len(frames));
        let mut own = Vec::with_capacity(frames.len() + beat.len() + 4);
        own.extend_from_slice(enter);
        frame::push_text(&mut own, &[beat.as_bytes()]);
        self.write_first(link, own, others);
    }

    fn send(&self, frame: Bytes) {
        self.write(&mut self.lock(), Kind::Own, &frame, 0);
    }

    fn close(&self, reason: LeaveReason) {
        self.lock().order(reason);
    }

    fn verdict(&self) -> Option<LeaveReason> {
        self.lock().verdict
    }

    fn beat(&self) {
        let mut link = self.lock();
        let link = &mut *link;
        if link.is_mute() || link.ended.is_some() {
            return;
        }
        if link.life == Life::Seen {
            link.life = Life::Asked;
        }
        if link.is_stuck(self.engine.config.timeouts.write_timeout, self.engine.config.heartbeat.interval()) {
            self.engine.counters.write_timeouts.add(1);
            return link.order(LeaveReason::Slow);
        }
        link.send_beat();
    }

    fn check(&self) {
        let mut link = self.lock();
        if link.life == Life::Asked && link.ended.is_none() {
            link.order(LeaveReason::HeartbeatMissed);
        }
    }
}

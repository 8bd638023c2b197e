//! A connection's seat: its socket behind a lock that is held for one poll. The connection's
//! own task reads from it and writes what was left over; everybody else writes straight to it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::config::Limits;
use crate::connection::reader::Reader;
use crate::engine::outbox::Outbox;
use crate::engine::recipient::Recipient;
use crate::protocol::close::{self, LeaveReason};
use crate::protocol::wire::Wire;
use crate::protocol::{frame, outbound};
use crate::room::registry::SharedRoom;
use crate::room::stream::Batch;

/// While a hook keeps the conversation waiting, so many messages are read ahead, and no more
/// bytes than two messages may have.
const MAX_INBOX: usize = 16;

type Room = SharedRoom<Arc<dyn Recipient>>;

pub(crate) struct Seat<IO> {
    max_message_bytes: usize,
    max_queue_frames: usize,
    max_queue_bytes: usize,
    wire: Wire,
    link: Mutex<Link<IO>>,
}

struct Link<IO> {
    io: IO,
    reader: Reader,
    outbox: Outbox,
    /// Wakes the connection's own task, whoever it is that polls the socket.
    waker: Waker,
    place: Option<Place>,
    /// The task is to end the connection.
    order: Option<LeaveReason>,
    /// Whatever it ends for, its seat may not be kept.
    verdict: Option<LeaveReason>,
    /// The close frame is queued or sent.
    finishing: bool,
    /// Reading is over, once the messages that came before are dealt with.
    ended: Option<LeaveReason>,
    life: Life,
    /// The socket holds bytes that it has yet to flush (TLS).
    unflushed: bool,
}

/// The room whose frames are for this connection.
struct Place {
    room: Arc<Room>,
    /// Up to here it has had the room's frames.
    position: u64,
    /// A heartbeat follows the first frames, which hold the member's own enter.
    greet: bool,
}

/// What is known of the client being alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Something came since the last heartbeat.
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

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Seat<IO> {
    pub(crate) fn new(io: IO, first: Bytes, limits: &Limits, wire: Wire) -> Seat<IO> {
        Seat {
            max_message_bytes: limits.max_message_bytes,
            max_queue_frames: limits.max_queue_frames,
            max_queue_bytes: limits.max_queue_bytes,
            wire,
            link: Mutex::new(Link {
                io,
                reader: Reader::new(first),
                outbox: Outbox::default(),
                waker: Waker::noop().clone(),
                place: None,
                order: None,
                verdict: None,
                finishing: false,
                ended: None,
                life: Life::Seen,
                unflushed: false,
            }),
        }
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
        self.lock().reader.close_code().is_some_and(close::keeps_seat)
    }

    /// Writes what was left over, obeys orders, and reads into the inbox. With `Messages` the
    /// socket has been read until it had no more, or until the inbox was full.
    pub(crate) fn poll_turn(&self, cx: &mut Context<'_>, inbox: &mut VecDeque<Utf8Bytes>) -> Poll<Turn> {
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
            let bytes: usize = inbox.iter().map(|text| text.len()).sum();
            if inbox.len() >= MAX_INBOX || bytes >= self.max_message_bytes {
                link.life = Life::Unread;
                return Poll::Ready(Turn::Messages);
            }
            if let Some(reason) = link.ended {
                return Poll::Ready(if inbox.is_empty() { Turn::End(reason) } else { Turn::Messages });
            }
            let read =
                link.reader.poll_read(&mut link.io, &mut link.outbox, self.max_message_bytes, inbox, cx);
            match read {
                Poll::Ready(Ok(_)) => link.life = Life::Seen,
                Poll::Ready(Err(reason)) => link.end(reason),
                Poll::Pending => {
                    if link.life == Life::Unread {
                        link.life = Life::Seen;
                    }
                    return if inbox.is_empty() { Poll::Pending } else { Poll::Ready(Turn::Messages) };
                }
            }
        }
    }

    /// The same while a hook is asked: messages stay in the inbox, and when that is full the
    /// client has to wait. Returns why the connection must end at once.
    pub(crate) fn poll_ahead(
        &self,
        cx: &mut Context<'_>,
        inbox: &mut VecDeque<Utf8Bytes>,
    ) -> Option<LeaveReason> {
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
    /// them. Only what is left over is shared.
    fn write(&self, link: &mut Link<IO>, frames: &Bytes, skip: usize) {
        let rest = &frames[skip..];
        if rest.is_empty() || link.is_mute() {
            return;
        }
        let written = if link.outbox.is_empty() { link.write_now(rest) } else { 0 };
        if written < rest.len() {
            let (frames, bytes) = (frames.slice(skip..), self.max_queue_bytes);
            if link.outbox.push(frames, written, self.max_queue_frames, bytes).is_err() {
                link.order(LeaveReason::Slow);
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Recipient for Seat<IO> {
    fn attach(&self, room: &Arc<Room>, position: u64) {
        self.lock().place = Some(Place { room: room.clone(), position, greet: true });
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
        if !std::mem::take(&mut place.greet) {
            return self.write(link, frames, skip);
        }
        // The first frames and the first heartbeat in one write.
        let beat = outbound::heartbeat(place.room.online());
        let mut both = Vec::with_capacity(frames.len() - skip + beat.len() + 4);
        both.extend_from_slice(&frames[skip..]);
        frame::push_text(&mut both, &[beat.as_bytes()]);
        self.write(link, &both.into(), 0);
    }

    fn send(&self, frame: Bytes) {
        self.write(&mut self.lock(), &frame, 0);
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
        link.send_beat();
    }

    fn check(&self) {
        let mut link = self.lock();
        if link.life == Life::Asked && link.ended.is_none() {
            link.order(LeaveReason::HeartbeatMissed);
        }
    }
}

impl<IO> Link<IO> {
    /// The client has said its last word.
    fn is_gone(&self) -> bool {
        matches!(self.ended, Some(LeaveReason::Closed | LeaveReason::Lost))
    }

    /// Nothing more is to be written. Who is kicked still gets what was said before.
    fn is_mute(&self) -> bool {
        use LeaveReason::{HeartbeatMissed, Lost, Slow};
        self.finishing || self.is_gone() || matches!(self.order, Some(Slow | Lost | HeartbeatMissed))
    }

    /// Nothing more is read.
    fn end(&mut self, reason: LeaveReason) {
        self.ended = Some(reason);
        if reason == LeaveReason::Closed {
            // Nothing may follow the answer to a close frame (RFC 6455 §5.5.1).
            self.outbox.drop_data();
        }
    }

    fn order(&mut self, reason: LeaveReason) {
        if !reason.keeps_seat() {
            self.verdict.get_or_insert(reason);
        }
        if self.order.is_none() {
            self.order = Some(reason);
            self.waker.wake_by_ref();
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Link<IO> {
    /// Writes as much as the socket takes. What is left has the task woken when there is room.
    fn write_now(&mut self, frames: &[u8]) -> usize {
        let mut written = 0;
        while written < frames.len() {
            match self.poll_write(&frames[written..]) {
                Poll::Ready(Ok(n)) if n > 0 => written += n,
                Poll::Ready(_) => {
                    self.order(LeaveReason::Lost);
                    return frames.len();
                }
                Poll::Pending => break,
            }
        }
        self.flush();
        written
    }

    /// Reads what nobody wants to know any more; ready when the client has closed its side.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()>
    where
        IO: AsyncRead,
    {
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

    fn send_beat(&mut self) {
        let num = self.place.as_ref().map_or(0, |p| p.room.online());
        let mut beat = Vec::with_capacity(64);
        frame::push_text(&mut beat, &[outbound::heartbeat(num).as_bytes()]);
        if !self.outbox.is_empty() {
            return self.outbox.push_beat(&beat);
        }
        let written = self.write_now(&beat);
        self.outbox.push_control(&beat[written..]);
    }

    /// Writes what was left over; false if the socket is broken.
    fn drain(&mut self) -> bool {
        while !self.outbox.is_empty() {
            let waker = self.waker.clone();
            let io = Pin::new(&mut self.io);
            match io.poll_write(&mut Context::from_waker(&waker), self.outbox.next()) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.outbox.advance(n);
                    self.unflushed = true;
                    // Who takes what he was too slow for is slow, not dead.
                    self.life = Life::Seen;
                }
                Poll::Ready(_) => {
                    self.order(LeaveReason::Lost);
                    return false;
                }
                Poll::Pending => break,
            }
        }
        if self.unflushed {
            return self.flush();
        }
        true
    }

    fn poll_write(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(&mut Context::from_waker(&self.waker), bytes)
    }

    fn flush(&mut self) -> bool {
        match Pin::new(&mut self.io).poll_flush(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(Ok(())) => self.unflushed = false,
            Poll::Ready(Err(_)) => {
                self.order(LeaveReason::Lost);
                return false;
            }
            Poll::Pending => self.unflushed = true,
        }
        true
    }
}

//! The socket of a connection, and all that its lock guards.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::SlowConsumer;
use crate::connection::reader::Reader;
use crate::engine::outbox::Outbox;
use crate::engine::recipient::Recipient;
use crate::protocol::close::LeaveReason;
use crate::protocol::{frame, outbound};
use crate::room::registry::SharedRoom;

type Room = SharedRoom<Arc<dyn Recipient>>;

pub(super) struct Link<IO> {
    pub(super) io: IO,
    pub(super) reader: Reader,
    pub(super) outbox: Outbox,
    /// Wakes the connection's own task, whoever it is that polls the socket.
    pub(super) waker: Waker,
    pub(super) place: Option<Place>,
    /// The task is to end the connection.
    pub(super) order: Option<LeaveReason>,
    /// Whatever it ends for, its seat may not be kept.
    pub(super) verdict: Option<LeaveReason>,
    /// The close frame is queued or sent.
    pub(super) finishing: bool,
    /// Reading is over, once the messages that came before are dealt with.
    pub(super) ended: Option<LeaveReason>,
    pub(super) life: Life,
    /// The socket holds bytes that it has yet to flush (TLS).
    pub(super) unflushed: bool,
    /// Heartbeats since the socket last took any of what waits for it.
    stuck: u32,
}

/// The room whose frames are for this connection.
pub(super) struct Place {
    pub(super) room: Arc<Room>,
    /// Up to here it has had the room's frames.
    pub(super) position: u64,
    /// What is done if it reads them too slowly.
    pub(super) slow: SlowConsumer,
    /// A heartbeat follows the first frame, which is the member's own enter.
    pub(super) greet: bool,
}

/// What is known of the client being alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Something came since the last heartbeat.
    Seen,
    /// A heartbeat went out, and nothing came since.
    Asked,
    /// The client is kept waiting, and what it sends is not read: silence says nothing.
    Unread,
}

impl<IO> Link<IO> {
    pub(super) fn new(io: IO, reader: Reader) -> Link<IO> {
        Link {
            io,
            reader,
            outbox: Outbox::default(),
            waker: Waker::noop().clone(),
            place: None,
            order: None,
            verdict: None,
            finishing: false,
            ended: None,
            life: Life::Seen,
            unflushed: false,
            stuck: 0,
        }
    }

    /// Whether the socket has taken nothing for so long, though something waits. To be asked at
    /// each heartbeat: they are the clock.
    pub(super) fn is_stuck(&mut self, timeout: Duration, interval: Duration) -> bool {
        if self.outbox.is_empty() {
            self.stuck = 0;
            return false;
        }
        // The first of them came at any time after the last write.
        let is_stuck = timeout < Duration::MAX && interval.saturating_mul(self.stuck) >= timeout;
        self.stuck = self.stuck.saturating_add(1);
        is_stuck && self.stuck > 1
    }

    /// The client has said its last word.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.ended, Some(LeaveReason::Closed | LeaveReason::Lost))
    }

    /// Nothing more is to be written. Who is kicked still gets what was said before.
    pub(super) fn is_mute(&self) -> bool {
        use LeaveReason::{HeartbeatMissed, Lost, Slow};
        self.finishing || self.is_gone() || matches!(self.order, Some(Slow | Lost | HeartbeatMissed))
    }

    /// Nothing more is read.
    pub(super) fn end(&mut self, reason: LeaveReason) {
        self.ended = Some(reason);
        if reason == LeaveReason::Closed {
            // Nothing may follow the answer to a close frame (RFC 6455 §5.5.1).
            self.outbox.drop_data();
        }
    }

    pub(super) fn order(&mut self, reason: LeaveReason) {
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
    pub(super) fn write_now(&mut self, frames: &[u8]) -> usize {
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
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()>
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

    pub(super) fn send_beat(&mut self) {
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
    pub(super) fn drain(&mut self) -> bool {
        while !self.outbox.is_empty() {
            let waker = self.waker.clone();
            let io = Pin::new(&mut self.io);
            match io.poll_write(&mut Context::from_waker(&waker), self.outbox.next()) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.outbox.advance(n);
                    self.unflushed = true;
                    self.stuck = 0;
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

//! The writing half of a socket: bytes that the I/O accepts are written immediately, the rest waits in the send queue.

use std::mem::MaybeUninit;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::protocol::frame::frame_len;
use crate::socket::Transport;
use crate::socket::send_queue::{Kind, Lane, Overflow, SendQueue, Size};

/// At most this many bytes are read from a client after its close frame.
const MAX_DISCARDED: usize = 256 * 1024;

pub(super) struct Outlet {
    io: Transport,
    /// Largest single write: I/O that accepts any amount hides from the send queue how slow it is.
    max_write: u32,
    queue: SendQueue,
    /// Bytes that the I/O has accepted so far, modulo 2^32.
    accepted: u32,
    /// Wakes the connection's own task, whichever task polls the I/O.
    waker: Waker,
    /// The I/O holds bytes that it has yet to flush (TLS).
    has_unflushed: bool,
    /// Writing failed; what the client sent before can still be read.
    is_broken: bool,
    /// Since when the I/O has accepted nothing although something waits. In 4 bytes, because each connection has one.
    stuck_since: Option<Millis>,
}

/// A time on the engine's clock: milliseconds, modulo 2^32 and never 0.
#[derive(Debug, Clone, Copy)]
struct Millis(NonZeroU32);

impl Millis {
    fn at(now: Duration) -> Millis {
        Millis(NonZeroU32::new(now.as_millis() as u32).unwrap_or(NonZeroU32::MIN))
    }

    /// The time since then, if that is less than 49 days.
    fn elapsed(self, now: Duration) -> Duration {
        let millis = Millis::at(now).0.get().wrapping_sub(self.0.get());
        Duration::from_millis(millis.into())
    }
}

impl Outlet {
    pub(super) fn new(io: Transport, max_write: usize) -> Outlet {
        Outlet {
            io,
            max_write: u32::try_from(max_write).unwrap_or(u32::MAX),
            queue: SendQueue::default(),
            accepted: 0,
            waker: Waker::noop().clone(),
            has_unflushed: false,
            is_broken: false,
            stuck_since: None,
        }
    }

    /// From now on, this task is woken when the I/O can continue.
    pub(super) fn set_waker(&mut self, waker: &Waker) {
        if !self.waker.will_wake(waker) {
            self.waker.clone_from(waker);
        }
    }

    pub(super) fn wake(&self) {
        self.waker.wake_by_ref();
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub(super) fn has_unflushed(&self) -> bool {
        self.has_unflushed
    }

    pub(super) fn queue(&self) -> &SendQueue {
        &self.queue
    }

    pub(super) fn queue_mut(&mut self) -> &mut SendQueue {
        &mut self.queue
    }

    /// Bytes that the I/O has accepted so far, modulo 2^32.
    pub(super) fn accepted(&self) -> u32 {
        self.accepted
    }

    /// The I/O to read from, and the queue for answers to what is read.
    pub(super) fn read_parts(&mut self) -> (&mut Transport, &mut SendQueue) {
        (&mut self.io, &mut self.queue)
    }

    /// How long the I/O has accepted nothing although something waits.
    pub(super) fn stuck_for(&self, now: Duration) -> Duration {
        self.stuck_since.map_or(Duration::ZERO, |since| since.elapsed(now))
    }

    /// Writes as much as the I/O accepts, unless something waits already. The I/O wakes the task when there is room
    /// for the rest.
    #[inline(always)]
    pub(super) fn write(&mut self, frames: &[u8]) -> usize {
        if self.queue.is_empty() { self.write_now(frames) } else { 0 }
    }

    /// Writes whole frames, and drops those that the I/O does not accept. Returns the number of dropped frames.
    pub(super) fn write_or_drop(&mut self, frames: &[u8]) -> u64 {
        if frames.is_empty() {
            return 0;
        }
        let (written, mut end, mut dropped) = (self.write(frames), 0, 0);
        while end < written {
            end += frame_len(&frames[end..]);
        }
        // A partly written frame has to be finished.
        self.queue.push_control(&frames[written..end]);
        while end < frames.len() {
            end += frame_len(&frames[end..]);
            dropped += 1;
        }
        dropped
    }

    /// Keeps whole frames of which this many bytes were written. Returns how many frames of rooms were
    /// dropped for them.
    pub(super) fn keep(
        &mut self,
        lane: &Lane,
        kind: Kind,
        frames: Bytes,
        written: usize,
        bounds: Size,
        now: Duration,
    ) -> Result<u64, Overflow> {
        self.stuck_since.get_or_insert(Millis::at(now));
        self.queue.push(lane, kind, frames, written, bounds)
    }

    /// Writes a heartbeat, unless one waits already.
    pub(super) fn write_heartbeat(&mut self, heartbeat: &[u8]) {
        if !self.queue.is_empty() {
            return self.queue.push_heartbeat(heartbeat);
        }
        let written = self.write_now(heartbeat);
        self.queue.push_control(&heartbeat[written..]);
    }

    /// Writes what waits. Returns whether the I/O accepted any of it.
    pub(super) fn drain(&mut self, now: impl FnOnce() -> Duration) -> bool {
        if self.is_broken {
            return false;
        }
        let mut has_progress = false;
        while !self.queue.is_empty() {
            let next = self.queue.next();
            let next = &next[..next.len().min(self.max_write as usize)];
            match Pin::new(&mut self.io).poll_write(&mut Context::from_waker(&self.waker), next) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.queue.advance(n);
                    self.accepted = self.accepted.wrapping_add(n as u32);
                    self.has_unflushed = true;
                    has_progress = true;
                }
                Poll::Ready(_) => {
                    self.fail();
                    return has_progress;
                }
                Poll::Pending => break,
            }
        }
        if has_progress {
            self.stuck_since = (!self.queue.is_empty()).then(|| Millis::at(now()));
        }
        if self.has_unflushed {
            self.flush();
        }
        has_progress
    }

    /// Whether no bytes wait, and dropping the I/O ends the stream.
    pub(super) fn ends_when_dropped(&self) -> bool {
        self.queue.is_empty() && !self.has_unflushed && matches!(self.io, Transport::Tcp(_))
    }

    /// Shuts down the I/O's writing half after everything was written.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.queue.is_empty() || self.has_unflushed {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_shutdown(cx).map(|_| ())
    }

    /// Reads and discards what has arrived already, but not without end. After a read that did not fill its buffer, tokio
    /// knows that a TCP socket is empty, and this costs no system call.
    pub(super) fn discard_received(&mut self, cx: &mut Context<'_>) {
        let mut chunk = [const { MaybeUninit::uninit() }; 4096];
        for _ in 0..MAX_DISCARDED / chunk.len() {
            let mut buf = ReadBuf::uninit(&mut chunk);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                _ => break,
            }
        }
    }

    /// Reads and discards the rest; ready when the client has closed its side.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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

    #[inline(always)]
    fn write_now(&mut self, frames: &[u8]) -> usize {
        let mut written = 0;
        while written < frames.len() {
            let next = &frames[written..];
            let next = &next[..next.len().min(self.max_write as usize)];
            match Pin::new(&mut self.io).poll_write(&mut Context::from_waker(&self.waker), next) {
                Poll::Ready(Ok(n)) if n > 0 => written += n,
                Poll::Ready(_) => {
                    self.fail();
                    return frames.len();
                }
                Poll::Pending => break,
            }
        }
        self.accepted = self.accepted.wrapping_add(written as u32);
        self.flush();
        written
    }

    fn flush(&mut self) {
        match Pin::new(&mut self.io).poll_flush(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(Ok(())) => self.has_unflushed = false,
            Poll::Ready(Err(_)) => self.fail(),
            Poll::Pending => self.has_unflushed = true,
        }
    }

    /// Writing failed. The client may have sent something before it disconnected: the task reads to the end.
    #[cold]
    fn fail(&mut self) {
        self.is_broken = true;
        self.waker.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact_to_the_millisecond_and_may_wrap() {
        let millis = Duration::from_millis;
        for start in [1, 1_000, (1 << 32) - 1, (1 << 32) + 1, (1 << 40) + 7] {
            for time in [0, 1, 30_000, 86_400_000] {
                let elapsed = Millis::at(millis(start)).elapsed(millis(start + time));
                // There is no 0, so the millisecond around it counts as the next one.
                assert!(elapsed == millis(time) || start + time == 1 << 32, "{start} + {time}: {elapsed:?}");
            }
        }
        assert_eq!(Millis::at(Duration::ZERO).elapsed(millis(30_001)), millis(30_000));
    }
}

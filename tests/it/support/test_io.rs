//! I/O whose writes a test controls.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::time::{Instant, sleep};

/// Decides about a write of these bytes: how many of them may be written, or when to ask again. It may panic.
type WriteStep = Box<dyn FnMut(&mut Context<'_>, &[u8]) -> Poll<usize> + Send>;

/// Duplex I/O that asks before each write.
pub(crate) struct TestIo {
    io: DuplexStream,
    /// How many bytes one read returns at most.
    max_read: usize,
    step: WriteStep,
}

impl TestIo {
    /// I/O with full control over its writes.
    pub(crate) fn new(
        io: DuplexStream,
        step: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<usize> + Send + 'static,
    ) -> TestIo {
        TestIo { io, max_read: usize::MAX, step: Box::new(step) }
    }

    /// I/O of a kernel with a send buffer of this many bytes, which a network empties. Like Linux, it accepts bytes again
    /// once a third of the buffer is free.
    pub(crate) fn over_line(io: DuplexStream, bytes_per_second: u64, buffer: u64) -> TestIo {
        let (mut filled, mut at, mut is_full) = (0.0, Instant::now(), false);
        let (rate, buffer) = (bytes_per_second as f64, buffer as f64);
        let mut wait = Box::pin(sleep(Duration::ZERO));
        TestIo::new(io, move |cx, bytes| {
            filled = (filled - at.elapsed().as_secs_f64() * rate).max(0.0);
            at = Instant::now();
            is_full &= filled > buffer * 2.0 / 3.0;
            if is_full {
                let left = Duration::from_secs_f64(((filled - buffer * 2.0 / 3.0) / rate.max(1.0)).min(1e6));
                wait.as_mut().reset(at + left.max(Duration::from_millis(1)));
                let _ = wait.as_mut().poll(cx);
                return Poll::Pending;
            }
            let n = bytes.len().min((buffer - filled) as usize);
            filled += n as f64;
            is_full = n < bytes.len() || filled >= buffer - 1.0;
            if n == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(n)
        })
    }

    /// I/O that reads and writes at most `max` bytes at once, and delays every other write.
    pub(crate) fn in_pieces(io: DuplexStream, max: usize) -> TestIo {
        let mut delay = false;
        let step = move |cx: &mut Context<'_>, bytes: &[u8]| {
            delay = !delay;
            if delay {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(max.min(bytes.len()))
        };
        TestIo { max_read: max, ..TestIo::new(io, step) }
    }
}

impl AsyncRead for TestIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut piece = vec![0; self.max_read.min(buf.remaining())];
        let mut piece = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut piece))?;
        buf.put_slice(piece.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TestIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let max = ready!((self.step)(cx, bytes));
        Pin::new(&mut self.io).poll_write(cx, &bytes[..max])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

//! I/O whose writes a test controls.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

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

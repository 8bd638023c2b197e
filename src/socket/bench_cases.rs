//! What the benches measure of sockets, and I/O for them.

use std::hint::black_box;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::context;
use crate::delivery::bench_cases::batch_of;
use crate::protocol::subprotocol::Subprotocol;
use crate::socket::send_queue::{Kind, Lane, SendQueue, Size};
use crate::socket::{Socket, Transport};

/// A batch of two messages waits for a member whose socket took a part of it, and then takes the rest.
pub fn leftover() -> impl FnMut() {
    push_and_advance(2, 50, |next| next)
}

/// A batch of this many messages, of which the socket accepts a few bytes at first, then the rest in parts.
pub fn leftover_in_parts(messages: usize) -> impl FnMut() {
    push_and_advance(messages, 5, |next| next.div_ceil(2))
}

fn push_and_advance(messages: usize, written: usize, takes: impl Fn(usize) -> usize) -> impl FnMut() {
    let (batch, mut queue) = (batch_of(messages), SendQueue::default());
    let seq = batch.end() - messages as u64;
    let (lane, bounds) = (Lane::own(), Size { bytes: usize::MAX, frames: usize::MAX });
    move || {
        let (frames, skip) = black_box(&batch).frames(black_box(seq), Subprotocol::Plain);
        queue.push(&lane, Kind::Room, frames.slice(skip..), written, bounds).expect("there is no bound");
        while !queue.is_empty() {
            queue.advance(takes(queue.next().len()));
        }
    }
}

/// A socket from which these bytes come, again and again.
pub(crate) fn socket(context: &Arc<context::Context>, subprotocol: Subprotocol, gives: &[u8]) -> Box<Socket> {
    let io = Box::new(BenchIo { gives: gives.into(), has_given: false });
    Box::new(Socket::new(Transport::Other(io), usize::MAX, context.clone(), subprotocol, Bytes::new()))
}

/// I/O that takes everything and gives the same bytes at every second read.
struct BenchIo {
    gives: Box<[u8]>,
    has_given: bool,
}

impl AsyncRead for BenchIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.has_given = !self.has_given;
        if !self.has_given {
            return Poll::Pending;
        }
        buf.put_slice(&self.gives);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BenchIo {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

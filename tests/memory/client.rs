//! Clients whose frames are prepared in advance, and the server's ends of their connections.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A client. The server reads what it sends. What it receives is only counted.
pub(crate) struct Client {
    wire: Arc<Mutex<Wire>>,
    /// The frame with which it enters its room.
    enter: Arc<[u8]>,
}

/// The state of one connection.
#[derive(Default)]
struct Wire {
    sent: Option<Arc<[u8]>>,
    /// Bytes of it that the server has read.
    read: usize,
    is_closed: bool,
    /// Bytes that the server may still write, if they are limited.
    writable: Option<usize>,
    /// Bytes that the server has written.
    received: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The server's end of a connection: a pointer, without a buffer.
pub(crate) struct Socket(Arc<Mutex<Wire>>);

/// Clients for rooms of so many members.
pub(crate) fn clients(count: usize, members: usize) -> Vec<Client> {
    (0..count)
        .map(|n| Client {
            wire: Arc::default(),
            enter: text_frame(&format!(r#"{{"event":"enter","message":"ann","roomId":{}}}"#, n / members)),
        })
        .collect()
}

/// A message with a text of this many bytes.
pub(crate) fn message(bytes: usize) -> Arc<[u8]> {
    text_frame(&format!(r#"{{"event":"message","message":"{}"}}"#, "x".repeat(bytes)))
}

/// A text frame with a mask of zeros.
fn text_frame(payload: &str) -> Arc<[u8]> {
    let mut frame = vec![0x81];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload.as_bytes());
    frame.into()
}

impl Client {
    /// The server's end of a new connection.
    pub(crate) fn connect(&self) -> Socket {
        *self.lock() = Wire::default();
        Socket(self.wire.clone())
    }

    pub(crate) fn enter_frame(&self) -> &Arc<[u8]> {
        &self.enter
    }

    /// Sends frames. The server must have read the earlier ones.
    pub(crate) fn send(&self, frames: &Arc<[u8]>) {
        let mut wire = self.lock();
        assert!(wire.sent.as_ref().is_none_or(|sent| wire.read == sent.len()), "not everything was read");
        (wire.sent, wire.read) = (Some(frames.clone()), 0);
        wake(&mut wire.reader);
    }

    /// Ends the connection without a close frame.
    pub(crate) fn disconnect(&self) {
        let mut wire = self.lock();
        wire.is_closed = true;
        wake(&mut wire.reader);
    }

    /// Takes this many bytes more.
    pub(crate) fn stop_after(&self, bytes: usize) {
        self.set_writable(Some(bytes));
    }

    /// Takes everything from now on.
    pub(crate) fn resume_reading(&self) {
        self.set_writable(None);
    }

    fn set_writable(&self, bytes: Option<usize>) {
        let mut wire = self.lock();
        wire.writable = bytes;
        wake(&mut wire.writer);
    }

    /// Bytes that it has received.
    pub(crate) fn received(&self) -> usize {
        self.lock().received
    }

    fn lock(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap()
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.lock().unwrap();
        let sent = wire.sent.clone();
        let rest = sent.as_deref().map_or(&[][..], |sent| &sent[wire.read..]);
        if rest.is_empty() && !wire.is_closed {
            wire.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        wire.read += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.0.lock().unwrap();
        let n = wire.writable.map_or(bytes.len(), |writable| writable.min(bytes.len()));
        if n == 0 && !bytes.is_empty() {
            wire.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        wire.writable = wire.writable.map(|writable| writable - n);
        wire.received += n;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A waker that is left would keep the memory of its task.
impl Drop for Socket {
    fn drop(&mut self) {
        let mut wire = self.0.lock().unwrap();
        (wire.reader, wire.writer) = (None, None);
    }
}

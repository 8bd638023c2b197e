//! One WebSocket connection, read and written by one task without either waiting for the other.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tower_chat_rooms_protocol::close;

/// What a connection runs over.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Notices that something is read, be it a part of a frame.
pub(crate) struct Heard {
    io: Box<dyn Io>,
    heard: bool,
}

impl Heard {
    pub(crate) fn new(io: Box<dyn Io>) -> Heard {
        Heard { io, heard: false }
    }
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.heard |= buf.filled().len() > before;
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

pub(crate) struct Wire {
    socket: WebSocketStream<Heard>,
    unsent: VecDeque<Utf8Bytes>,
    /// A heartbeat waits for its answer, which goes before all else.
    pong: bool,
    /// Nothing can be sent any more; what has come may still be read.
    broken: bool,
}

/// What has come.
pub(crate) enum Received {
    Text(Utf8Bytes),
    /// Something without meaning, or a part of a frame: a sign of life.
    Alive,
    /// The connection has ended.
    Closed {
        code: u16,
        reason: String,
    },
}

/// Time for the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

const PONG: Utf8Bytes = Utf8Bytes::from_static(r#"{"event":"heartbeat","message":"pong"}"#);

/// Small buffers, and a bound on what a server may send at once.
pub(crate) fn config(max_frame_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(max_frame_bytes))
        .max_frame_size(Some(max_frame_bytes))
}

impl Wire {
    pub(crate) fn new(socket: WebSocketStream<Heard>) -> Wire {
        Wire { socket, unsent: VecDeque::new(), pong: false, broken: false }
    }

    pub(crate) fn send(&mut self, text: String) {
        self.unsent.push_back(text.into());
    }

    pub(crate) fn pong(&mut self) {
        self.pong = true;
    }

    /// Writes what can be written, and reads where that is wanted.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, may_read: bool) -> Poll<Received> {
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            // A close frame that says why may have come before.
            tracing::debug!(%error, "can't write");
            self.broken = true;
        }
        if !may_read {
            return Poll::Pending;
        }
        let next = Pin::new(&mut self.socket).poll_next(cx);
        let heard = std::mem::take(&mut self.socket.get_mut().heard);
        Poll::Ready(match next {
            Poll::Ready(next) => received(next),
            // A long frame on a slow line comes in many parts.
            Poll::Pending if heard => Received::Alive,
            Poll::Pending => return Poll::Pending,
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.broken {
            return Poll::Ready(Ok(()));
        }
        let mut socket = Pin::new(&mut self.socket);
        loop {
            ready!(socket.as_mut().poll_ready(cx))?;
            let next = if std::mem::take(&mut self.pong) { Some(PONG) } else { self.unsent.pop_front() };
            let Some(text) = next else { break };
            socket.as_mut().start_send(Message::Text(text))?;
        }
        socket.poll_flush(cx)
    }

    /// Closes, with this code or, without one, after the server has closed; within bounded time.
    pub(crate) async fn finish(mut self, code: Option<u16>) {
        if code != Some(1000) {
            self.unsent.clear();
        }
        let closing = async {
            if let Some(code) = code {
                poll_fn(|cx| self.poll_write(cx)).await?;
                let reason = if code == close::HEARTBEAT_MISSED { "comes back" } else { "" };
                let frame = CloseFrame { code: code.into(), reason: reason.into() };
                self.socket.close(Some(frame)).await?;
            }
            while let Some(message) = poll_fn(|cx| Pin::new(&mut self.socket).poll_next(cx)).await {
                message?;
            }
            Ok::<(), Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(CLOSE_TIMEOUT, closing).await {
            tracing::debug!(%error, "not closed in good order");
        }
    }
}

fn received(next: Option<Result<Message, Error>>) -> Received {
    let closed = |code, reason: &str| Received::Closed { code, reason: reason.into() };
    match next {
        Some(Ok(Message::Text(text))) => Received::Text(text),
        Some(Ok(Message::Close(Some(frame)))) => closed(frame.code.into(), frame.reason.as_str()),
        Some(Ok(Message::Close(None))) => closed(close::NO_CODE, ""),
        Some(Ok(_)) => Received::Alive,
        Some(Err(Error::Capacity(e))) => closed(close::TOO_BIG, &e.to_string()),
        Some(Err(e)) => closed(close::ABNORMAL, &e.to_string()),
        None => closed(close::ABNORMAL, ""),
    }
}

//! A WebSocket connection that one task reads and writes without either blocking the other.

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

/// The byte stream below a WebSocket.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Records whether anything was read, even if only a part of a frame.
pub(crate) struct Observed {
    io: Box<dyn Io>,
    has_read: bool,
}

impl Observed {
    pub(crate) fn new(io: Box<dyn Io>) -> Observed {
        Observed { io, has_read: false }
    }
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.has_read |= buf.filled().len() > before;
        read
    }
}

impl AsyncWrite for Observed {
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

pub(crate) struct Socket {
    stream: WebSocketStream<Observed>,
    unsent: VecDeque<Utf8Bytes>,
    /// A heartbeat is to be answered before anything else is sent.
    pong: bool,
    /// Writing has failed. Frames that were received before may still be read.
    write_failed: bool,
}

/// What was received.
pub(crate) enum Received {
    Text(Utf8Bytes),
    Binary,
    /// Another frame or a part of one, which only shows that the server is alive.
    Alive,
    /// The connection has ended.
    Closed {
        code: u16,
        reason: String,
    },
}

/// A connection with this many frames before a transient one is too slow for it.
const MAX_UNSENT_BEFORE_TRANSIENT: usize = 32;

/// Time for the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A text is not UTF-8 (RFC 6455).
const NOT_UTF8: u16 = 1007;

const PONG: Utf8Bytes = Utf8Bytes::from_static(r#"{"event":"heartbeat","message":"pong"}"#);

/// Small buffers, and a limit for the server's frames.
pub(crate) fn config(max_frame_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(max_frame_bytes))
        .max_frame_size(Some(max_frame_bytes))
}

impl Socket {
    pub(crate) fn new(stream: WebSocketStream<Observed>) -> Socket {
        Socket { stream, unsent: VecDeque::new(), pong: false, write_failed: false }
    }

    pub(crate) fn send(&mut self, text: String) {
        self.unsent.push_back(text.into());
    }

    /// Sends a frame that may get lost. Drops it if too many others wait.
    pub(crate) fn send_transient(&mut self, text: String) {
        if self.unsent.len() < MAX_UNSENT_BEFORE_TRANSIENT {
            self.send(text);
        }
    }

    pub(crate) fn pong(&mut self) {
        self.pong = true;
    }

    /// Writes as much as possible and, if `may_read`, reads.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, may_read: bool) -> Poll<Received> {
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            // A close frame with the reason may have arrived, so reading goes on.
            tracing::debug!(%error, "can't write");
            self.write_failed = true;
        }
        if !may_read {
            return Poll::Pending;
        }
        let next = Pin::new(&mut self.stream).poll_next(cx);
        let has_read = std::mem::take(&mut self.stream.get_mut().has_read);
        Poll::Ready(match next {
            Poll::Ready(next) => received(next),
            // A long frame on a slow link arrives in many parts.
            Poll::Pending if has_read => Received::Alive,
            Poll::Pending => return Poll::Pending,
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.write_failed {
            return Poll::Ready(Ok(()));
        }
        let mut stream = Pin::new(&mut self.stream);
        loop {
            ready!(stream.as_mut().poll_ready(cx))?;
            let next = if std::mem::take(&mut self.pong) { Some(PONG) } else { self.unsent.pop_front() };
            let Some(text) = next else { break };
            stream.as_mut().start_send(Message::Text(text))?;
        }
        stream.poll_flush(cx)
    }

    /// Completes the closing handshake in bounded time: starts it with `code` or, without one,
    /// answers the server's.
    pub(crate) async fn finish(mut self, code: Option<u16>) {
        if code != Some(close::NORMAL) {
            self.unsent.clear();
        }
        let closing = async {
            if let Some(code) = code {
                poll_fn(|cx| self.poll_write(cx)).await?;
                let reason = if code == close::HEARTBEAT_MISSED { "reconnects" } else { "" };
                let frame = CloseFrame { code: code.into(), reason: reason.into() };
                self.stream.close(Some(frame)).await?;
            }
            while let Some(message) = poll_fn(|cx| Pin::new(&mut self.stream).poll_next(cx)).await {
                message?;
            }
            Ok::<(), Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(CLOSE_TIMEOUT, closing).await {
            tracing::debug!(%error, "no closing handshake");
        }
    }
}

fn received(next: Option<Result<Message, Error>>) -> Received {
    let closed = |code, reason: &str| Received::Closed { code, reason: reason.into() };
    match next {
        Some(Ok(Message::Text(text))) => Received::Text(text),
        Some(Ok(Message::Binary(_))) => Received::Binary,
        Some(Ok(Message::Close(Some(frame)))) => closed(frame.code.into(), frame.reason.as_str()),
        Some(Ok(Message::Close(None))) => closed(close::NO_CODE, ""),
        Some(Ok(_)) => Received::Alive,
        // The connection can't be read any further, and a replay would bring the same frame again.
        Some(Err(Error::Capacity(e))) => closed(close::TOO_BIG, &e.to_string()),
        Some(Err(Error::Utf8(e))) => closed(NOT_UTF8, &e),
        Some(Err(e)) => closed(close::ABNORMAL, &e.to_string()),
        None => closed(close::ABNORMAL, ""),
    }
}

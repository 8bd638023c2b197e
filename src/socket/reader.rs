//! Reads and checks what the client sends. tungstenite does the work. Between two messages its state is
//! dropped, so that an idle connection holds no buffer.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tower_chat_rooms_protocol::close::GOING_AWAY;

use crate::protocol::close::LeaveReason;
use crate::protocol::frame::Boundary;
use crate::protocol::splitter::{PART, Splitter, TooLong};
use crate::socket::send_queue::SendQueue;
use crate::stats::Stats;

/// Bytes read from the socket at a time, on the stack.
const CHUNK: usize = 4096;

/// tungstenite's own buffer grows beyond this only if a message is longer.
const READ_BUFFER: usize = 512;

/// Limits answers to pings: a flood of pings is answered only as fast as the client reads the answers.
const MAX_CONTROL: usize = 1024;

/// The close frame that Caddy before 2.6.3 sends on behalf of the client when it reloads. It is not masked, which
/// violates the protocol, but the violation is not the client's.
const UNMASKED_GOING_AWAY: [u8; 4] = [0x88, 2, (GOING_AWAY >> 8) as u8, GOING_AWAY as u8];

/// What was read and not handled yet.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) texts: VecDeque<Utf8Bytes>,
    /// Pings, pongs, and all parts of messages except the last.
    pub(crate) others: u32,
    /// Messages until the one whose delivery is measured.
    until_sample: u8,
    /// When that message was received, if it is among the texts.
    received: Option<Duration>,
}

impl Inbox {
    /// Notes that texts were read, and reads the clock if the delivery of one of them is measured.
    #[inline]
    pub(super) fn note_read(&mut self, was_empty: bool, now: impl FnOnce() -> Duration) {
        if self.texts.len() > usize::from(self.until_sample) && (was_empty || self.received.is_none()) {
            self.received = Some(now());
        }
    }

    /// Called for each message. Returns when it was received, if its delivery is measured: that of the first one, and of
    /// one in [`Stats::MESSAGES_PER_SAMPLE`] after it.
    #[inline]
    pub(crate) fn sample(&mut self) -> Option<Duration> {
        match self.until_sample.checked_sub(1) {
            Some(left) => {
                self.until_sample = left;
                None
            }
            None => {
                self.until_sample = Stats::MESSAGES_PER_SAMPLE - 1;
                self.received.take()
            }
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Present while a message or the closing handshake is unfinished.
    context: Option<Box<WebSocketContext>>,
    boundary: Boundary,
    /// Present if messages may be large.
    splitter: Option<Box<Splitter>>,
    /// What was read before this reader existed. Boxed, because it is rare.
    first: Option<Box<Bytes>>,
    /// Answers wait inside of the context, because the queue had no room.
    refused: bool,
    /// The code that the client closed the connection with.
    close_code: Option<u16>,
    /// Bytes that were read since [`Reader::take_received_bytes`].
    received_bytes: u32,
}

impl Reader {
    pub(crate) fn new(first: Bytes, max_message_bytes: usize) -> Reader {
        let first = (!first.is_empty()).then(|| Box::new(first));
        Reader { first, splitter: Splitter::new(max_message_bytes).map(Box::new), ..Reader::default() }
    }

    /// The code that the client closed the connection with, if it did and gave one.
    pub(crate) fn close_code(&self) -> Option<u16> {
        self.close_code
    }

    /// The number of bytes that were read since the last call, modulo 2^32.
    pub(crate) fn take_received_bytes(&mut self) -> u32 {
        std::mem::take(&mut self.received_bytes)
    }

    /// Reads until there is a message, or nothing more to read. Answers to pings and to a close go
    /// into the queue. On an error, the messages before it are in the inbox.
    pub(crate) fn poll_read<IO: AsyncRead + Unpin>(
        &mut self,
        io: &mut IO,
        queue: &mut SendQueue,
        max_message_bytes: usize,
        inbox: &mut Inbox,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Received, LeaveReason>> {
        if let Some(first) = self.first.take() {
            self.feed(&first, queue, max_message_bytes, inbox)?;
            return Poll::Ready(Ok(Received));
        }
        let mut chunk = [const { MaybeUninit::uninit() }; CHUNK];
        let mut buf = ReadBuf::uninit(&mut chunk);
        ready!(Pin::new(io).poll_read(cx, &mut buf)).map_err(|_| LeaveReason::Lost)?;
        if buf.filled().is_empty() {
            return Poll::Ready(Err(LeaveReason::Lost));
        }
        self.feed(buf.filled(), queue, max_message_bytes, inbox)?;
        Poll::Ready(Ok(Received))
    }

    fn feed(
        &mut self,
        received: &[u8],
        queue: &mut SendQueue,
        max_message_bytes: usize,
        inbox: &mut Inbox,
    ) -> Result<(), LeaveReason> {
        self.received_bytes = self.received_bytes.wrapping_add(received.len() as u32);
        self.boundary.advance(received);
        inbox.others += self.boundary.take_others();
        let max_frame_bytes = if self.splitter.is_some() { PART } else { max_message_bytes };
        let context = self.context.get_or_insert_with(|| {
            let config = WebSocketConfig::default()
                .read_buffer_size(READ_BUFFER)
                .write_buffer_size(0)
                .max_write_buffer_size(MAX_CONTROL)
                .max_message_size(Some(max_message_bytes))
                .max_frame_size(Some(max_frame_bytes));
            Box::new(WebSocketContext::new(Role::Server, Some(config)))
        });
        let split;
        let bytes = match &mut self.splitter {
            Some(splitter) => {
                split = splitter.split(received).map_err(|TooLong| LeaveReason::TooBig)?;
                &split
            }
            None => received,
        };
        let mut feed = Feed { bytes, queue, refused: false };
        loop {
            match context.read(&mut feed) {
                Ok(Message::Text(text)) => inbox.texts.push_back(text),
                Ok(Message::Binary(_)) => return Err(LeaveReason::Binary),
                Ok(Message::Close(Some(frame))) => self.close_code = Some(frame.code.into()),
                // tungstenite answers pings and the close on its next read.
                Ok(_) => {}
                Err(Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(Error::Protocol(ProtocolError::UnmaskedFrameFromClient))
                    if received.ends_with(&UNMASKED_GOING_AWAY) =>
                {
                    self.close_code = Some(GOING_AWAY);
                    return Err(LeaveReason::Closed);
                }
                Err(e) => return Err(reason(&e)),
            }
        }
        self.refused = feed.refused;
        if self.boundary.is_clean() && context.can_write() && !self.refused {
            self.context = None;
        }
        Ok(())
    }

    /// Puts answers that found no room in the queue there now, if there is room.
    pub(crate) fn retry_answers(&mut self, queue: &mut SendQueue) -> Result<(), LeaveReason> {
        if !self.refused || queue.control_len() > MAX_CONTROL {
            return Ok(());
        }
        let Some(context) = &mut self.context else { return Ok(()) };
        let mut feed = Feed { bytes: &[], queue, refused: false };
        let flushed = context.flush(&mut feed);
        self.refused = feed.refused;
        match flushed {
            // The answer to a close is the last.
            Err(e) if !matches!(&e, Error::Io(io) if io.kind() == io::ErrorKind::WouldBlock) => {
                Err(reason(&e))
            }
            _ => Ok(()),
        }
    }
}

/// Something was received.
pub(crate) struct Received;

fn reason(error: &Error) -> LeaveReason {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => LeaveReason::Closed,
        Error::Capacity(_) => LeaveReason::TooBig,
        Error::Utf8(_) => LeaveReason::NotUtf8,
        Error::Io(_) => LeaveReason::Lost,
        _ => LeaveReason::ProtocolViolation,
    }
}

/// The socket as tungstenite sees it: the bytes that were read, and the queue to write to.
struct Feed<'a> {
    bytes: &'a [u8],
    queue: &'a mut SendQueue,
    refused: bool,
}

impl io::Read for Feed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.bytes.read(buf)
    }
}

impl io::Write for Feed<'_> {
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        if self.queue.control_len() > MAX_CONTROL {
            self.refused = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.queue.push_control(frames);
        Ok(frames.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_is_measured_and_then_one_in_sixteen() {
        let (mut inbox, mut sampled) = (Inbox::default(), Vec::new());
        for n in 0..40 {
            let now = Duration::from_secs(n);
            inbox.texts.push_back("hi".into());
            inbox.note_read(true, || now);
            // What is no message.
            inbox.texts.clear();
            inbox.texts.push_back("hi".into());
            inbox.note_read(true, || now);
            inbox.texts.clear();
            sampled.extend(inbox.sample().map(|received| (n, received.as_secs())));
        }
        assert_eq!(sampled, [(0, 0), (16, 16), (32, 32)]);
    }

    #[test]
    fn a_message_is_received_when_it_is_read_even_if_others_wait_before_it() {
        let mut inbox = Inbox::default();
        let secs = Duration::from_secs;
        let handle = |inbox: &mut Inbox| {
            assert!(inbox.texts.pop_front().is_some());
            inbox.sample()
        };
        for (messages, read_at) in [(1, 1), (1, 2)] {
            let was_empty = inbox.texts.is_empty();
            inbox.texts.extend(std::iter::repeat_n("hi".into(), messages));
            inbox.note_read(was_empty, || secs(read_at));
        }
        assert_eq!(handle(&mut inbox), Some(secs(1)));
        for (messages, read_at) in [(14, 3), (1, 4), (1, 5)] {
            inbox.texts.extend(std::iter::repeat_n("hi".into(), messages));
            inbox.note_read(false, || secs(read_at));
        }
        let sampled: Vec<_> = (0..17).map(|_| handle(&mut inbox)).collect();
        assert_eq!((sampled[15], sampled.iter().flatten().count()), (Some(secs(4)), 1));
    }

    #[test]
    fn an_unmasked_going_away_closes_as_a_masked_one_does() {
        const MESSAGE: &[u8] = b"\x81\x82\0\0\0\0hi";
        for (close, reason, code) in [
            (&b"\x88\x82\0\0\0\0\x03\xe9"[..], LeaveReason::Closed, Some(1001)),
            (b"\x88\x02\x03\xe9", LeaveReason::Closed, Some(1001)),
            (b"\x88\x02\x03\xe8", LeaveReason::ProtocolViolation, None),
            (b"\x81\x02hi", LeaveReason::ProtocolViolation, None),
        ] {
            let (mut reader, mut inbox) = (Reader::default(), Inbox::default());
            let bytes = [MESSAGE, close].concat();
            let ended = reader.feed(&bytes, &mut SendQueue::default(), 64, &mut inbox);
            assert_eq!((ended, reader.close_code()), (Err(reason), code), "{close:?}");
            assert_eq!(inbox.texts, ["hi"]);
        }
    }
}

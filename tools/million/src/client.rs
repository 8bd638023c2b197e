//! Clients in memory. They look at what the server writes immediately, so no data waits between them and the server, and
//! no client needs a buffer or a task.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::frames::{self, CLOSE, CLOSE_ANSWER, Frame, Frames, PONG, TEXT, text_frame};
use crate::tally::Tallies;

/// The close code of a drain.
const RESTART: u16 = 1012;

/// The subprotocol that clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Plain,
    V1,
}

/// A client, whether it is connected or not.
pub(crate) struct Client {
    number: u32,
    room: u32,
    wire: Wire,
    tallies: Arc<Tallies>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes that the server still has to read.
    sent: Cow<'static, [u8]>,
    /// Bytes of it that the server has read.
    read: usize,
    is_closed: bool,
    reader: Option<Waker>,
    /// Whether it has entered its room.
    is_in: bool,
    /// Whether it had an earlier connection, whose session it wants to resume.
    is_returning: bool,
    /// The `seq` of the latest frame of the room. For plain clients, the number of members.
    last: u32,
    epoch: u64,
    token: u128,
    /// In its current connection.
    heartbeats: u32,
    broadcasts: u32,
}

/// The server's end of a connection: a pointer, without a buffer.
pub(crate) struct Socket(Arc<Client>);

#[derive(Deserialize)]
struct Welcome<'a> {
    resume: Option<&'a str>,
}

#[derive(Deserialize)]
struct Entered<'a> {
    epoch: &'a str,
    seq: u32,
    resumed: bool,
    recovered: bool,
    replayed: u32,
}

impl Client {
    pub(crate) fn new(number: u32, room: u32, wire: Wire, tallies: Arc<Tallies>) -> Arc<Client> {
        Arc::new(Client { number, room, wire, tallies, state: Mutex::default() })
    }

    /// The server's end of its first connection, or of one that resumes its session.
    pub(crate) fn connect(self: &Arc<Client>) -> Socket {
        let mut state = self.lock();
        state.is_returning = state.is_in;
        (state.is_closed, state.heartbeats) = (false, 0);
        // A client that comes back waits for its new token first.
        let sent =
            if state.is_returning { Cow::default() } else { frames::enter(self.number, self.room).into() };
        (state.sent, state.read) = (sent, 0);
        Socket(self.clone())
    }

    /// Ends its connection without a close frame.
    pub(crate) fn disconnect(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        wake(&mut state);
    }

    /// How many heartbeats it has received in its current connection.
    pub(crate) fn heartbeats(&self) -> u32 {
        self.lock().heartbeats
    }

    pub(crate) fn broadcasts(&self) -> u32 {
        self.lock().broadcasts
    }

    /// See [`State::last`].
    pub(crate) fn last(&self) -> u32 {
        self.lock().last
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    fn receive(&self, frame: &Frame<'_>) {
        let payload = frame.payload;
        match (frame.opcode, frames::event(payload).unwrap_or_default()) {
            (TEXT, b"heartbeat") => {
                let mut state = self.lock();
                state.heartbeats += 1;
                send(&mut state, Cow::Borrowed(PONG));
                self.tallies.heartbeats.add();
            }
            (TEXT, b"enter") => {
                self.check_order(payload, 1);
                self.tallies.enters.add();
            }
            (TEXT, b"out") => {
                self.check_order(payload, if self.wire == Wire::Plain { -1 } else { 1 });
                self.tallies.outs.add();
            }
            (TEXT, b"message") => {
                self.check_order(payload, if self.wire == Wire::Plain { 0 } else { 1 });
                self.tallies.messages.add();
            }
            (TEXT, b"news") => {
                self.lock().broadcasts += 1;
                self.tallies.broadcasts.add();
            }
            (TEXT, b"welcome") => self.welcomed(payload),
            (TEXT, b"entered") => self.entered(payload),
            (TEXT, b"resumed") => {}
            (CLOSE, _) if frames::close_code(payload) == Some(RESTART) => {
                let mut state = self.lock();
                state.is_closed = true;
                send(&mut state, Cow::Borrowed(CLOSE_ANSWER));
                self.tallies.closed.add();
            }
            _ => self.fault(&format!("unexpected {:?}", String::from_utf8_lossy(payload))),
        }
    }

    /// Checks that a frame of the room is the next one.
    fn check_order(&self, payload: &[u8], step: i32) {
        let mut state = self.lock();
        let key = if self.wire == Wire::Plain { "num" } else { "seq" };
        let last = frames::last_number(payload, key);
        let is_own_enter = self.wire == Wire::Plain && !state.is_in;
        if !(is_own_enter || last.is_some() && last == state.last.checked_add_signed(step)) {
            let text = String::from_utf8_lossy(payload).into_owned();
            self.fault(&format!("{text} after {key} {}", state.last));
        }
        state.last = last.unwrap_or(state.last);
        if !std::mem::replace(&mut state.is_in, true) {
            self.tallies.entered.add();
        }
    }

    fn welcomed(&self, payload: &[u8]) {
        let Ok(Welcome { resume }) = serde_json::from_slice(payload) else {
            return self.fault("an invalid welcome");
        };
        let token = resume.and_then(|token| u128::from_str_radix(token, 16).ok()).unwrap_or_default();
        let mut state = self.lock();
        let old = std::mem::replace(&mut state.token, token);
        if state.is_returning {
            let resume = format!(r#"{{"event":"resume","message":["{old:032x}"]}}"#);
            let (number, room, epoch, seq) = (self.number, self.room, state.epoch, state.last);
            let enter = format!(
                r#"{{"event":"enter","message":"c{number}","roomId":"r{room}","since":{{"epoch":"{epoch:016x}","seq":{seq}}}}}"#
            );
            send(&mut state, [text_frame(&resume), text_frame(&enter)].concat().into());
        }
    }

    fn entered(&self, payload: &[u8]) {
        let Ok(entered) = serde_json::from_slice::<Entered<'_>>(payload) else {
            return self.fault("an invalid answer to its enter");
        };
        let mut state = self.lock();
        let epoch = u64::from_str_radix(entered.epoch, 16).unwrap_or_default();
        if state.is_returning {
            let is_complete = entered.resumed
                && entered.recovered
                && epoch == state.epoch
                && entered.seq.checked_sub(entered.replayed) == Some(state.last);
            match is_complete {
                true => self.tallies.recovered.add(),
                false => self.fault(&format!("not recovered: {}", String::from_utf8_lossy(payload))),
            }
        } else {
            state.last = entered.seq;
        }
        state.epoch = epoch;
    }

    #[cold]
    fn fault(&self, what: &str) {
        self.tallies.faults.add(format_args!("client {}: {what}", self.number));
    }
}

/// The server reads this after the bytes that were sent before.
fn send(state: &mut State, frames: Cow<'static, [u8]>) {
    if state.read == state.sent.len() {
        (state.sent, state.read) = (frames, 0);
    } else {
        state.sent.to_mut().extend_from_slice(&frames);
    }
    wake(state);
}

fn wake(state: &mut State) {
    if let Some(waker) = state.reader.take() {
        waker.wake();
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.lock();
        let rest = &state.sent[state.read..];
        if rest.is_empty() && !state.is_closed {
            match &mut state.reader {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        state.read += n;
        if state.read == state.sent.len() {
            // The client's memory does not count as the server's.
            (state.sent, state.read) = (Cow::default(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut frames = Frames::new(bytes);
        for frame in &mut frames {
            self.0.receive(&frame);
        }
        // A socket that accepts everything always gets whole frames.
        if !frames.rest().is_empty() {
            self.0.fault("a part of a frame");
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A waker that is not dropped would keep the memory of its task.
        self.0.lock().reader = None;
        self.0.tallies.ended.add();
    }
}

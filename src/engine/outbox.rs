//! What one connection has yet to be sent: bounded, whole frames, control frames first.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::protocol::frame::frame_len;

/// The leftovers of one connection.
///
/// Data keeps its order. Control frames (heartbeat, pong, close) pass it, though never inside
/// of a frame that has been written in part.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    control: Vec<u8>,
    /// A heartbeat is among the control frames; a second one would say nothing new.
    beat: bool,
    /// Whole frames each, but for the first, which may begin inside of a frame.
    data: VecDeque<Bytes>,
    /// Bytes up to the end of the frame inside of which the first data begins.
    rest: usize,
    bytes: usize,
    frames: usize,
}

/// The queue would have grown past its bounds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.data.is_empty()
    }

    /// Bytes of control frames that wait.
    pub(crate) fn control_len(&self) -> usize {
        self.control.len()
    }

    /// Queues whole frames of which the first `written` bytes are on the wire already, which
    /// may only be if the outbox is empty.
    pub(crate) fn push(
        &mut self,
        frames: Bytes,
        written: usize,
        max_frames: usize,
        max_bytes: usize,
    ) -> Result<(), Overflow> {
        let (rest, count) = cut(&frames, written);
        debug_assert!(written == 0 || self.is_empty());
        let left = frames.len() - written;
        // Who had nothing to wait for has kept up, however much was said at once; rooms gather no
        // more than the queue may hold.
        let full = self.bytes + left > max_bytes || self.frames + count > max_frames;
        if full && !self.data.is_empty() {
            return Err(Overflow);
        }
        self.keep(frames.slice(written..), rest, count);
        Ok(())
    }

    /// Queues whole control frames, or, if the outbox is empty, the unwritten rest of them.
    pub(crate) fn push_control(&mut self, frames: &[u8]) {
        self.control.extend_from_slice(frames);
    }

    /// Queues a heartbeat, unless one waits already.
    pub(crate) fn push_beat(&mut self, frame: &[u8]) {
        if !self.beat {
            self.beat = true;
            self.control.extend_from_slice(frame);
        }
    }

    /// Queues the last frame behind everything else, whatever the bounds.
    pub(crate) fn push_last(&mut self, frame: Vec<u8>) {
        self.keep(frame.into(), 0, 1);
    }

    /// Forgets all data but a frame that is on the wire in part.
    pub(crate) fn drop_data(&mut self) {
        let begun = (self.rest > 0).then(|| self.data[0].slice(..self.rest));
        self.data.clear();
        (self.bytes, self.frames) = (0, 0);
        if let Some(begun) = begun {
            let rest = self.rest;
            self.keep(begun, rest, 1);
        }
    }

    /// What to write next; empty when there is nothing.
    pub(crate) fn next(&self) -> &[u8] {
        match self.data.front() {
            Some(first) if self.rest > 0 => &first[..self.rest],
            _ if !self.control.is_empty() => &self.control,
            Some(first) => first,
            None => &[],
        }
    }

    /// So many bytes of [`Outbox::next`] have been written.
    pub(crate) fn advance(&mut self, n: usize) {
        if self.rest == 0 && !self.control.is_empty() {
            self.control.drain(..n);
            if self.control.is_empty() {
                // Idle connections hold no memory for it.
                self.control = Vec::new();
                self.beat = false;
            }
            return;
        }
        let Some(first) = self.data.front_mut() else { return };
        let (rest, done) = if self.rest > 0 {
            (self.rest - n, usize::from(n == self.rest))
        } else {
            let (rest, left) = cut(first, n);
            (rest, count(first) - left)
        };
        first.advance(n);
        self.rest = rest;
        self.bytes -= n;
        self.frames -= done;
        if first.is_empty() {
            self.data.pop_front();
            if self.data.is_empty() {
                self.data = VecDeque::new();
            }
        }
    }

    fn keep(&mut self, bytes: Bytes, rest: usize, frames: usize) {
        if bytes.is_empty() {
            return;
        }
        if self.data.is_empty() {
            self.rest = rest;
        }
        self.bytes += bytes.len();
        self.frames += frames;
        self.data.push_back(bytes);
    }
}

/// For whole frames of which `written` bytes are gone: how much of the frame that was begun is
/// left, and how many frames are not finished.
fn cut(frames: &[u8], written: usize) -> (usize, usize) {
    let mut end = 0;
    while end < written {
        end += frame_len(&frames[end..]);
    }
    let rest = end - written;
    (rest, count(&frames[end..]) + usize::from(rest > 0))
}

fn count(mut frames: &[u8]) -> usize {
    let mut n = 0;
    while !frames.is_empty() {
        frames = &frames[frame_len(frames)..];
        n += 1;
    }
    n
}

#[cfg(test)]
mod tests;

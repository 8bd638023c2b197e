//! The frames that wait for one socket: bounded, whole frames, control frames first.

use std::collections::{HashMap, VecDeque};

use bytes::{Buf, Bytes};

use crate::config::SlowConsumer;
use crate::protocol::frame::{self, frame_len};
use crate::protocol::{inbound, outbound};

/// Frames that a socket has not accepted yet.
///
/// Data keeps its order. Control frames (heartbeat, pong, close) overtake it, but never inside
/// a frame that has been written in part.
///
/// A piece shares the memory of the buffer that it was cut from, and keeps all of it alive. Only the first piece,
/// which was written in part, is shorter than its buffer. So the send queue holds no more than its bounds, one batch
/// of a room, and the replay, which the room's replay buffer bounds. A client that asks
/// for replay after replay without reading them is recognized by [`SendQueue::replay_bytes`].
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    control: Vec<u8>,
    /// A heartbeat is among the control frames; a second one would say nothing new.
    has_heartbeat: bool,
    /// Never begins with a gap.
    data: VecDeque<Piece>,
    /// Bytes up to the end of the frame that the first data begins in.
    rest: usize,
    bytes: usize,
    frames: usize,
    /// Bytes of replays, which do not count among `bytes`.
    replay_bytes: usize,
}

/// Whole frames, except for the first piece, which may begin inside of a frame.
#[derive(Debug)]
enum Piece {
    Frames(Kind, Bytes),
    /// This many frames of the room were dropped here.
    Gap(u64),
}

/// Which frames they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All members get them; a slow consumer may miss them.
    Room,
    /// They are for this client only.
    Own,
    /// Frames that this client has missed. They do not count against the bounds: it asked for them, and
    /// the room's replay buffer shares their memory.
    Replay,
}

/// How much may wait, and what happens if more does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
    pub(crate) slow: SlowConsumer,
    /// The client is told how many frames it has missed.
    pub(crate) announces_gaps: bool,
}

/// The queue would have grown past its bounds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl SendQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.data.is_empty()
    }

    /// Bytes of data that wait, except for a replay.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames that wait, except for a replay.
    pub(crate) fn frames(&self) -> usize {
        self.frames
    }

    /// Bytes of replays that wait.
    pub(crate) fn replay_bytes(&self) -> usize {
        self.replay_bytes
    }

    /// Bytes of control frames that wait.
    pub(crate) fn control_len(&self) -> usize {
        self.control.len()
    }

    /// Queues whole frames. The first `written` bytes of them are on the wire already, which is
    /// possible only if the send queue is empty. Returns how many of the room's frames were dropped
    /// for them.
    pub(crate) fn push(
        &mut self,
        kind: Kind,
        frames: Bytes,
        written: usize,
        bounds: &Bounds,
    ) -> Result<u64, Overflow> {
        let (rest, count) = cut(&frames, written);
        debug_assert!(written == 0 || self.is_empty());
        let left = frames.len() - written;
        // A client that has kept up so far gets a whole burst. A room gathers no more in one batch than the
        // queue may hold.
        if self.data.is_empty()
            || kind == Kind::Replay
            || bounds.of(kind).allow(self.bytes + left, self.frames + count)
        {
            self.keep(kind, frames.slice(written..), rest, count);
            return Ok(0);
        }
        match (bounds.slow, kind) {
            (SlowConsumer::Close, _) | (SlowConsumer::DropNewest, Kind::Own | Kind::Replay) => Err(Overflow),
            (SlowConsumer::DropNewest, Kind::Room) => Ok(self.keep_what_fits(&frames, bounds)),
            (SlowConsumer::DropOldest | SlowConsumer::Latest, _) => {
                self.keep(kind, frames, 0, count);
                let lost = self.thin(bounds);
                if bounds.allow(self.bytes, self.frames) { Ok(lost) } else { Err(Overflow) }
            }
        }
    }

    /// Queues whole control frames or, if the send queue is empty, the unwritten rest of them.
    pub(crate) fn push_control(&mut self, frames: &[u8]) {
        self.control.extend_from_slice(frames);
    }

    /// Queues a heartbeat, unless one waits already.
    pub(crate) fn push_heartbeat(&mut self, frame: &[u8]) {
        if !self.has_heartbeat {
            self.has_heartbeat = true;
            self.control.extend_from_slice(frame);
        }
    }

    /// Queues the last frame behind everything else, regardless of the bounds.
    pub(crate) fn push_last(&mut self, frame: Vec<u8>) {
        self.keep(Kind::Own, frame.into(), 0, 1);
    }

    /// Drops all data except a frame that is on the wire in part.
    pub(crate) fn drop_data(&mut self) {
        let begun = match self.data.front() {
            Some(Piece::Frames(kind, first)) if self.rest > 0 => Some((*kind, first.slice(..self.rest))),
            _ => None,
        };
        self.data.clear();
        (self.bytes, self.frames, self.replay_bytes) = (0, 0, 0);
        if let Some((kind, begun)) = begun {
            let rest = self.rest;
            self.keep(kind, begun, rest, 1);
        }
    }

    /// The bytes to write next; empty if there are none.
    pub(crate) fn next(&self) -> &[u8] {
        match self.data.front() {
            Some(Piece::Frames(_, first)) if self.rest > 0 => &first[..self.rest],
            _ if !self.control.is_empty() => &self.control,
            Some(Piece::Frames(_, first)) => first,
            _ => &[],
        }
    }

    /// Removes this many bytes of [`SendQueue::next`], which have been written.
    pub(crate) fn advance(&mut self, n: usize) {
        if self.rest == 0 && !self.control.is_empty() {
            self.control.drain(..n);
            if self.control.is_empty() {
                // Idle connections hold no memory for it.
                self.control = Vec::new();
                self.has_heartbeat = false;
            }
            return;
        }
        let Some(Piece::Frames(kind, first)) = self.data.front_mut() else { return };
        let (rest, done) = if self.rest > 0 {
            (self.rest - n, usize::from(n == self.rest))
        } else {
            let (rest, left) = cut(first, n);
            (rest, count(first) - left)
        };
        first.advance(n);
        self.rest = rest;
        if *kind == Kind::Replay {
            self.replay_bytes -= n;
        } else {
            self.bytes -= n;
            self.frames -= done;
        }
        if first.is_empty() {
            self.data.pop_front();
            self.announce_gap();
            if self.data.is_empty() {
                self.data = VecDeque::new();
            }
        }
    }

    fn keep(&mut self, kind: Kind, bytes: Bytes, rest: usize, frames: usize) {
        if bytes.is_empty() {
            return;
        }
        if self.data.is_empty() {
            self.rest = rest;
        }
        if kind == Kind::Replay {
            self.replay_bytes += bytes.len();
        } else {
            self.bytes += bytes.len();
            self.frames += frames;
        }
        self.data.push_back(Piece::Frames(kind, bytes));
    }

    /// Queues as many of a room's frames as fit, and returns how many are lost.
    fn keep_what_fits(&mut self, frames: &Bytes, bounds: &Bounds) -> u64 {
        let bounds = bounds.of(Kind::Room);
        let (mut end, mut n) = (0, 0);
        while end < frames.len() {
            let next = end + frame_len(&frames[end..]);
            if !bounds.allow(self.bytes + next, self.frames + n + 1) {
                break;
            }
            (end, n) = (next, n + 1);
        }
        self.keep(Kind::Room, part(frames, 0, end), 0, n);
        let lost = count(&frames[end..]) as u64;
        self.miss(lost, &bounds);
        lost
    }

    /// Drops the room's frames until the queue is half full, so that this is not repeated for each further
    /// frame. Returns how many are lost.
    fn thin(&mut self, bounds: &Bounds) -> u64 {
        let mut lost = 0;
        if bounds.slow == SlowConsumer::Latest {
            let mut stale = self.superseded().into_iter();
            lost += self.drop_where(bounds, |_| stale.next().unwrap_or(false));
        }
        let half = Bounds { frames: bounds.frames / 2, bytes: bounds.bytes / 2, ..*bounds };
        lost += self.drop_where(bounds, |queue| !half.allow(queue.bytes, queue.frames));
        self.announce_gap();
        lost
    }

    /// Drops frames of the room, except one that was begun, and leaves gaps in their places.
    fn drop_where(&mut self, bounds: &Bounds, mut goes: impl FnMut(&SendQueue) -> bool) -> u64 {
        let mut lost = 0;
        let mut at = self.rest;
        for piece in std::mem::take(&mut self.data) {
            let bytes = match piece {
                Piece::Frames(Kind::Room, bytes) => bytes,
                Piece::Gap(missed) => {
                    self.miss(missed, bounds);
                    continue;
                }
                own => {
                    self.data.push_back(own);
                    at = 0;
                    continue;
                }
            };
            let mut from = 0;
            while at < bytes.len() {
                let end = at + frame_len(&bytes[at..]);
                if goes(self) {
                    self.put_back(part(&bytes, from, at));
                    self.miss(1, bounds);
                    self.bytes -= end - at;
                    self.frames -= 1;
                    lost += 1;
                    from = end;
                }
                at = end;
            }
            self.put_back(part(&bytes, from, bytes.len()));
            at = 0;
        }
        lost
    }

    /// For each frame of the room that was not begun, whether a later one has the same event.
    fn superseded(&self) -> Vec<bool> {
        let mut latest = HashMap::new();
        let mut stale = Vec::new();
        let mut at = self.rest;
        for piece in &self.data {
            if let Piece::Frames(Kind::Room, bytes) = piece {
                while at < bytes.len() {
                    let end = at + frame_len(&bytes[at..]);
                    let payload = std::str::from_utf8(frame::payload(&bytes[at..end])).unwrap_or_default();
                    if let Some(event) = inbound::event_of(payload)
                        && let Some(before) = latest.insert(event, stale.len())
                    {
                        stale[before] = true;
                    }
                    stale.push(false);
                    at = end;
                }
            }
            at = 0;
        }
        stale
    }

    /// Puts back frames of the room that are counted already.
    fn put_back(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.data.push_back(Piece::Frames(Kind::Room, bytes));
        }
    }

    fn miss(&mut self, frames: u64, bounds: &Bounds) {
        match self.data.back_mut() {
            _ if frames == 0 || !bounds.announces_gaps => {}
            Some(Piece::Gap(missed)) => *missed += frames,
            _ => self.data.push_back(Piece::Gap(frames)),
        }
    }

    /// Tells the client about a gap, if the queue begins with one.
    fn announce_gap(&mut self) {
        if let Some(&Piece::Gap(missed)) = self.data.front() {
            let notice = frame::text(outbound::lagged(missed).as_bytes());
            self.bytes += notice.len();
            self.frames += 1;
            self.data[0] = Piece::Frames(Kind::Own, notice);
        }
    }
}

impl Bounds {
    fn allow(&self, bytes: usize, frames: usize) -> bool {
        bytes <= self.bytes && frames <= self.frames
    }

    /// The bounds for frames of this kind.
    fn of(&self, kind: Kind) -> Bounds {
        if kind == Kind::Own || self.slow != SlowConsumer::DropNewest {
            return *self;
        }
        Bounds { frames: self.frames - self.frames / 4, bytes: self.bytes - self.bytes / 4, ..*self }
    }
}

/// Copies a part of whole frames, so that it keeps no more memory alive than it needs.
fn part(frames: &Bytes, from: usize, to: usize) -> Bytes {
    if to - from == frames.len() { frames.clone() } else { Bytes::copy_from_slice(&frames[from..to]) }
}

/// For whole frames of which `written` bytes are gone: how many bytes of the frame that was begun are
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

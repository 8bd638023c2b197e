//! The waiting frames of one room, in order.

use std::collections::HashMap;

use bytes::{Buf, Bytes};

use crate::config::SlowConsumer;
use crate::ids::RoomId;
use crate::protocol::frame::{self, frame_len};
use crate::protocol::{inbound, outbound};
use crate::socket::send_queue::pieces::{Kind, Piece, Pieces};
use crate::socket::send_queue::size::Size;

/// Identifies a lane of a send queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LaneKey(u64);

impl LaneKey {
    /// The lane of the frames that concern no room.
    pub(crate) const OWN: LaneKey = LaneKey(0);

    /// The lane of the last frame.
    pub(super) const LAST: LaneKey = LaneKey(1);

    /// The lane of the room whose id has this hash. Rooms with the same hash share a lane.
    pub(crate) fn of_room(id_hash: u64) -> LaneKey {
        LaneKey(id_hash.max(2))
    }
}

/// Identifies the lane of frames, and says what happens if too many of them wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lane {
    pub(crate) key: LaneKey,
    /// The room to name in `lagged` frames. `None` if the client is not told about dropped frames.
    pub(crate) room: Option<RoomId>,
    /// What happens to frames of the room that do not fit.
    pub(crate) slow: SlowConsumer,
}

impl Lane {
    /// The lane of the frames that concern no room.
    pub(crate) fn own() -> Lane {
        Lane { key: LaneKey::OWN, room: None, slow: SlowConsumer::Close }
    }

    /// The lane of the last frame.
    pub(super) fn last() -> Lane {
        Lane { key: LaneKey::LAST, ..Lane::own() }
    }
}

/// The frames that wait in a lane.
#[derive(Debug, Default)]
pub(super) struct LaneQueue {
    lane: Lane,
    data: Pieces,
    /// Bytes up to the end of the frame that the first data begins in.
    rest: usize,
    /// The size of the waiting frames, except for replays.
    size: Size,
    replay_bytes: usize,
}

impl LaneQueue {
    pub(super) fn new(lane: &Lane) -> LaneQueue {
        LaneQueue { lane: lane.clone(), ..LaneQueue::default() }
    }

    pub(super) fn key(&self) -> LaneKey {
        self.lane.key
    }

    pub(super) fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The size of the waiting frames, except for replays.
    pub(super) fn size(&self) -> Size {
        self.size
    }

    pub(super) fn replay_bytes(&self) -> usize {
        self.replay_bytes
    }

    /// The remaining bytes of a partly written frame; 0 if there is none.
    pub(super) fn rest(&self) -> usize {
        self.rest
    }

    /// Whether waiting frames may be dropped.
    pub(super) fn is_lossy(&self) -> bool {
        matches!(self.lane.slow, SlowConsumer::DropOldest | SlowConsumer::Latest)
    }

    pub(super) fn set_slow_consumer(&mut self, slow: SlowConsumer) {
        self.lane.slow = slow;
    }

    /// Adds frames. `frames` is how many of them are not completely written. `rest` is the number of remaining bytes of
    /// the first one if it is partly written, which is possible only in an empty lane.
    #[inline]
    pub(super) fn push(&mut self, kind: Kind, bytes: Bytes, rest: usize, frames: usize) {
        debug_assert!(!bytes.is_empty());
        if self.data.is_empty() {
            self.rest = rest;
        }
        if kind == Kind::Replay {
            self.replay_bytes += bytes.len();
        } else {
            self.size += Size { bytes: bytes.len(), frames };
        }
        self.data.push(Piece::Frames(kind, bytes));
    }

    /// Adds as many of the room's frames as fit into `free`, and returns how many do not fit.
    pub(super) fn push_what_fits(&mut self, frames: &Bytes, free: Size) -> u64 {
        let mut fits = Size::default();
        while fits.bytes < frames.len() {
            let next = fits + Size { bytes: frame_len(&frames[fits.bytes..]), frames: 1 };
            if !next.fits(free) {
                break;
            }
            fits = next;
        }
        if fits.frames > 0 {
            self.push(Kind::Room, part(frames, 0, fits.bytes), 0, fits.frames);
        }
        let lost = count(&frames[fits.bytes..]) as u64;
        self.miss(lost);
        lost
    }

    /// The bytes to write next, except for a gap.
    pub(super) fn first(&self) -> &[u8] {
        match self.data.first() {
            Some(Piece::Frames(_, first)) => first,
            _ => &[],
        }
    }

    /// Removes this many written bytes from the front. If a frame is partly written, these are at most its remaining
    /// bytes.
    #[inline]
    pub(super) fn advance(&mut self, n: usize) {
        let Some(Piece::Frames(kind, first)) = self.data.first_mut() else { return };
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
            self.size -= Size { bytes: n, frames: done };
        }
        if first.is_empty() {
            self.data.remove_first();
            self.announce_gap();
        }
    }

    /// Tells the client about a gap, if the lane begins with one.
    pub(super) fn announce_gap(&mut self) {
        if let Some(first @ &mut Piece::Gap(missed)) = self.data.first_mut() {
            let room = self.lane.room.as_ref().map_or("", RoomId::as_str);
            let notice = frame::text(outbound::lagged(room, missed).as_bytes());
            self.size += Size { bytes: notice.len(), frames: 1 };
            *first = Piece::Frames(Kind::Own, notice);
        }
    }

    /// Drops everything except a partly written frame.
    pub(super) fn drop_data(&mut self) {
        let begun = match self.data.first() {
            Some(Piece::Frames(kind, first)) if self.rest > 0 => Some((*kind, first.slice(..self.rest))),
            _ => None,
        };
        let rest = self.rest;
        *self = LaneQueue { lane: std::mem::take(&mut self.lane), ..LaneQueue::default() };
        if let Some((kind, begun)) = begun {
            self.push(kind, begun, rest, 1);
        }
    }

    /// Drops the room's frames as long as `should_drop` returns true for the size dropped so far. Drops superseded
    /// frames first if the policy is `Latest`, then the oldest. Returns the dropped size.
    pub(super) fn thin(&mut self, should_drop: impl Fn(Size) -> bool) -> Size {
        let mut dropped = Size::default();
        if !should_drop(dropped) {
            return dropped;
        }
        if self.lane.slow == SlowConsumer::Latest {
            let mut stale = self.superseded().into_iter();
            self.drop_where(&mut dropped, |_| stale.next().unwrap_or(false));
        }
        self.drop_where(&mut dropped, should_drop);
        dropped
    }

    /// Drops frames of the room, except a partly written one, and leaves gaps in their places.
    fn drop_where(&mut self, dropped: &mut Size, mut should_drop: impl FnMut(Size) -> bool) {
        let mut at = self.rest;
        for piece in self.data.take() {
            let bytes = match piece {
                Piece::Frames(Kind::Room, bytes) => bytes,
                Piece::Gap(missed) => {
                    self.miss(missed);
                    continue;
                }
                own => {
                    self.data.push(own);
                    at = 0;
                    continue;
                }
            };
            let mut from = 0;
            while at < bytes.len() {
                let end = at + frame_len(&bytes[at..]);
                if should_drop(*dropped) {
                    self.put_back(part(&bytes, from, at));
                    self.miss(1);
                    let frame = Size { bytes: end - at, frames: 1 };
                    self.size -= frame;
                    *dropped += frame;
                    from = end;
                }
                at = end;
            }
            self.put_back(part(&bytes, from, bytes.len()));
            at = 0;
        }
    }

    /// For each frame of the room except a partly written one, whether a later one has the same event.
    fn superseded(&self) -> Vec<bool> {
        let mut latest = HashMap::new();
        let mut stale = Vec::new();
        let mut at = self.rest;
        for piece in self.data.iter() {
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

    /// Puts back frames of the room whose size is counted already.
    fn put_back(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.data.push(Piece::Frames(Kind::Room, bytes));
        }
    }

    /// Recounts the waiting frames and the bytes of replays.
    #[cfg(test)]
    pub(super) fn recount(&self) -> (Size, usize) {
        let (mut size, mut replay_bytes, mut rest) = (Size::default(), 0, self.rest);
        for piece in self.data.iter() {
            match piece {
                Piece::Frames(Kind::Replay, bytes) => replay_bytes += bytes.len(),
                Piece::Frames(_, bytes) => {
                    let frames = count(&bytes[rest..]) + usize::from(rest > 0);
                    size += Size { bytes: bytes.len(), frames };
                }
                Piece::Gap(_) => {}
            }
            rest = 0;
        }
        (size, replay_bytes)
    }

    fn miss(&mut self, frames: u64) {
        match self.data.last_mut() {
            _ if frames == 0 || self.lane.room.is_none() => {}
            Some(Piece::Gap(missed)) => *missed += frames,
            _ => self.data.push(Piece::Gap(frames)),
        }
    }
}

/// Copies a part of whole frames, so that it keeps no more memory alive than it needs.
fn part(frames: &Bytes, from: usize, to: usize) -> Bytes {
    if to - from == frames.len() { frames.clone() } else { Bytes::copy_from_slice(&frames[from..to]) }
}

/// For whole frames of which `written` bytes are written: how many bytes of the partly written frame remain, and how
/// many frames are not completely written.
pub(super) fn cut(frames: &[u8], written: usize) -> (usize, usize) {
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

//! The lanes with waiting data, and the order in which they are served.

use bytes::Bytes;

use crate::config::SlowConsumer;
use crate::protocol::frame::frame_len;
use crate::socket::send_queue::lane::{Lane, LaneKey, LaneQueue};
use crate::socket::send_queue::pieces::Kind;
use crate::socket::send_queue::size::Size;

/// Each turn of a lane lasts until this many bytes of it were written.
pub(super) const QUANTUM: usize = 16 * 1024;

/// The data of a send queue, without control frames.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// The lane that is being served. Never begins with a gap, and is empty only if there is no data at all.
    front: LaneQueue,
    /// The other lanes with data, in the order in which they are served. None of them begins with a partly written
    /// frame.
    others: Vec<LaneQueue>,
    /// Bytes of the front lane that were written in its current turn.
    served: usize,
}

/// The queue would have grown past its bounds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl Lanes {
    /// One lane with these frames. `rest` is the number of remaining bytes of the first one if it is partly written.
    pub(super) fn new(lane: &Lane, kind: Kind, frames: Bytes, rest: usize, count: usize) -> Lanes {
        let mut front = LaneQueue::new(lane);
        front.push(kind, frames, rest, count);
        Lanes { front, ..Lanes::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.front.is_empty()
    }

    pub(super) fn size(&self) -> Size {
        self.lanes().map(LaneQueue::size).sum()
    }

    pub(super) fn replay_bytes(&self) -> usize {
        self.lanes().map(LaneQueue::replay_bytes).sum()
    }

    /// Whether a frame is partly written.
    pub(super) fn is_inside_frame(&self) -> bool {
        self.front.rest() > 0
    }

    /// Queues `count` whole frames if they fit. Returns how many frames of rooms were dropped for them.
    pub(super) fn push(
        &mut self,
        lane: &Lane,
        kind: Kind,
        frames: Bytes,
        count: usize,
        bounds: Size,
    ) -> Result<u64, Overflow> {
        let new = Size { bytes: frames.len(), frames: count };
        let bounds = if is_newest_dropped(lane, kind) { bounds.three_quarters() } else { bounds };
        if kind == Kind::Replay || (self.size() + new).fits(bounds) {
            self.lane(lane, kind).push(kind, frames, 0, count);
            return Ok(0);
        }
        self.push_to_full(lane, kind, frames, new, bounds)
    }

    /// Queues the last frame behind everything else, regardless of the bounds. Nothing may be queued after it.
    pub(super) fn push_last(&mut self, frame: Bytes) {
        self.lane(&Lane::last(), Kind::Own).push(Kind::Own, frame, 0, 1);
    }

    /// Drops everything except a partly written frame.
    pub(super) fn drop_data(&mut self) {
        self.others.clear();
        self.front.drop_data();
    }

    /// The bytes to write next: the rest of a partly written frame, or whole frames.
    pub(super) fn next(&self) -> &[u8] {
        let first = self.front.first();
        if self.is_inside_frame() {
            &first[..self.front.rest()]
        } else if self.others.is_empty() {
            first
        } else {
            &first[..first_frames(first, QUANTUM - self.served)]
        }
    }

    /// Removes this many bytes of [`Lanes::next`], which have been written.
    #[inline]
    pub(super) fn advance(&mut self, n: usize) {
        self.front.advance(n);
        self.served += n;
        if self.front.is_empty() {
            self.serve_next();
        } else if self.served >= QUANTUM && !self.is_inside_frame() {
            self.served = 0;
            // Behind the last frame, nothing may be queued, so the lanes before it are served one after the other.
            if self.others.last().is_some_and(|last| last.key() != LaneKey::LAST) {
                let served = std::mem::take(&mut self.front);
                self.others.push(served);
                self.serve_next();
            }
        }
    }

    /// Serves the next lane in place of the front one, which is empty.
    fn serve_next(&mut self) {
        self.served = 0;
        if !self.others.is_empty() {
            self.front = self.others.remove(0);
            self.front.announce_gap();
        }
    }

    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        for lane in self.lanes() {
            assert_eq!((lane.size(), lane.replay_bytes()), lane.recount());
        }
        assert!(self.lanes().all(|lane| !lane.is_empty()));
        assert!(self.others.iter().all(|lane| lane.rest() == 0));
        assert!(self.served < QUANTUM || self.is_inside_frame());
    }

    fn lanes(&self) -> impl Iterator<Item = &LaneQueue> {
        std::iter::once(&self.front).chain(&self.others)
    }

    fn lossy_lanes(&mut self) -> impl Iterator<Item = &mut LaneQueue> {
        std::iter::once(&mut self.front).chain(&mut self.others).filter(|lane| lane.is_lossy())
    }

    /// Returns the queue of a lane, for adding frames of this kind. Creates it if necessary.
    fn lane(&mut self, lane: &Lane, kind: Kind) -> &mut LaneQueue {
        if self.front.is_empty() {
            self.front = LaneQueue::new(lane);
        }
        let queue = if self.front.key() == lane.key {
            &mut self.front
        } else {
            let known = self.others.iter().position(|other| other.key() == lane.key);
            let at = known.unwrap_or_else(|| {
                self.others.push(LaneQueue::new(lane));
                self.others.len() - 1
            });
            &mut self.others[at]
        };
        if kind == Kind::Room {
            queue.set_slow_consumer(lane.slow);
        }
        queue
    }

    /// Queues frames that do not fit, as far as their room's policy allows.
    #[cold]
    fn push_to_full(
        &mut self,
        lane: &Lane,
        kind: Kind,
        frames: Bytes,
        new: Size,
        bounds: Size,
    ) -> Result<u64, Overflow> {
        let lost = match lane.slow {
            SlowConsumer::DropOldest | SlowConsumer::Latest if kind == Kind::Room => {
                self.lane(lane, kind).push(kind, frames, 0, new.frames);
                self.make_room(Size::default(), bounds, 0)
            }
            SlowConsumer::DropNewest if kind == Kind::Room => {
                let own = self.lanes().find(|other| other.key() == lane.key).map(LaneQueue::size);
                let spared = (own.unwrap_or_default() + new).fullness(bounds);
                let lost = self.make_room(new, bounds, spared);
                let free = bounds.minus(self.size());
                lost + self.lane(lane, kind).push_what_fits(&frames, free)
            }
            _ => {
                let lost = self.make_room(new, bounds, 0);
                if !(self.size() + new).fits(bounds) {
                    return Err(Overflow);
                }
                self.lane(lane, kind).push(kind, frames, 0, new.frames);
                lost
            }
        };
        self.tidy();
        Ok(lost)
    }

    /// Drops frames of rooms until they use only half of the bounds that the other lanes and `new` leave free. It drops
    /// that many so that the next frames fit. Lanes that are no fuller than `spared` lose nothing. Returns the number
    /// of dropped frames.
    fn make_room(&mut self, new: Size, bounds: Size, spared: usize) -> u64 {
        let mut lossy: Size = self.lossy_lanes().map(|lane| lane.size()).sum();
        let half = bounds.minus(self.size().minus(lossy) + new).half();
        let (mut lost, mut level) = (0, Size::FULL);
        // Starts with the fullest lanes. Lowers the level to which they are reduced until enough frames are dropped.
        while level > spared && !lossy.fits(half) {
            level /= 2;
            for lane in self.lossy_lanes() {
                let size = lane.size();
                let dropped = lane.thin(|dropped| {
                    size.minus(dropped).fullness(bounds) > level.max(spared)
                        && !lossy.minus(dropped).fits(half)
                });
                lossy -= dropped;
                lost += dropped.frames as u64;
            }
        }
        self.tidy();
        lost
    }

    /// Removes lanes that have lost all of their frames.
    fn tidy(&mut self) {
        self.others.retain(|lane| !lane.is_empty());
        if self.front.is_empty() {
            self.serve_next();
        }
        self.front.announce_gap();
    }
}

/// Whether new frames are dropped if they do not fit, instead of waiting ones.
fn is_newest_dropped(lane: &Lane, kind: Kind) -> bool {
    kind == Kind::Room && lane.slow == SlowConsumer::DropNewest
}

/// The total length of the first frames that have at least `min` bytes together, or of all frames.
#[inline(never)]
fn first_frames(frames: &[u8], min: usize) -> usize {
    let mut end = 0;
    while end < min && end < frames.len() {
        end += frame_len(&frames[end..]);
    }
    end
}

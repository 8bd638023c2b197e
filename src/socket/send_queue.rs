//! The frames that wait for one socket: bounded, whole frames, control frames first, rooms in turn.

mod lane;
mod lanes;
mod pieces;
mod size;

use bytes::Bytes;

use crate::socket::send_queue::lane::cut;
use crate::socket::send_queue::lanes::Lanes;

pub(crate) use crate::socket::send_queue::lane::{Lane, LaneKey};
pub(crate) use crate::socket::send_queue::lanes::Overflow;
pub(crate) use crate::socket::send_queue::pieces::Kind;
pub(crate) use crate::socket::send_queue::size::Size;

/// Frames that a socket has not accepted yet.
///
/// # Order
///
/// Data waits in lanes: one for each room, and one for the frames that concern no room. Frames in the same lane keep
/// their order; frames in different lanes have no order. Lanes are served in turn, each until 16 KiB of whole frames
/// were written, so that a busy room delays the others only briefly. Control frames (heartbeat, pong, close) overtake
/// data. A partly written frame is always finished first.
///
/// # Bounds
///
/// The bounds apply to all lanes together. What happens to frames that do not fit depends on their room's
/// [`SlowConsumer`](crate::SlowConsumer):
///
/// - `DropOldest` and `Latest`: the frames are queued, and rooms with these policies lose frames until they use half of
///   what the other lanes leave of the bounds.
/// - `DropNewest`: the frames are queued as far as they fit into three quarters of the bounds. Rooms with `DropOldest`
///   and `Latest` make room for them first, but only those with more in the queue than this room.
/// - `Close`, and frames that are for this client only: all rooms with `DropOldest` and `Latest` make room for them. If
///   this is not enough, the push fails.
///
/// The fullest lanes lose frames first, so that a busy room does not cost a quiet one its frames. Waiting frames of
/// rooms with `Close` or `DropNewest` are never dropped.
///
/// # Memory
///
/// A piece shares the memory of the buffer that it was cut from, and keeps all of it alive. Only the first piece of a
/// lane, which may be partly written, is shorter than its buffer. All lanes advance at the same rate, so only a few
/// large buffers are almost written at the same time. With one lane, the send queue holds no more than its bounds, one
/// batch of the room, and the replay, which the room's replay buffer bounds. [`SendQueue::replay_bytes`] reveals a
/// client that requests replays without reading them.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    control: Vec<u8>,
    /// A heartbeat is among the control frames; a second one would say nothing new.
    has_heartbeat: bool,
    /// Present if there is data. Idle connections hold no memory for it.
    data: Option<Box<Lanes>>,
}

impl SendQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.data.is_none()
    }

    /// The size of the waiting frames, except for control frames and replays.
    pub(crate) fn size(&self) -> Size {
        self.data.as_ref().map_or(Size::default(), |lanes| lanes.size())
    }

    /// Bytes of replays that wait.
    pub(crate) fn replay_bytes(&self) -> usize {
        self.data.as_ref().map_or(0, |lanes| lanes.replay_bytes())
    }

    /// Bytes of control frames that wait.
    pub(crate) fn control_len(&self) -> usize {
        self.control.len()
    }

    /// Queues whole frames. The first `written` bytes of them are on the wire already, which is
    /// possible only if the send queue is empty. Returns how many frames of rooms were dropped
    /// for them.
    pub(crate) fn push(
        &mut self,
        lane: &Lane,
        kind: Kind,
        frames: Bytes,
        written: usize,
        bounds: Size,
    ) -> Result<u64, Overflow> {
        debug_assert!(written < frames.len() && (written == 0 || self.is_empty()));
        let (rest, count) = cut(&frames, written);
        let Some(lanes) = &mut self.data else {
            // A client that has kept up so far may queue a whole burst. A room gathers no more in one batch than the
            // queue may hold.
            self.data = Some(Box::new(Lanes::new(lane, kind, frames.slice(written..), rest, count)));
            return Ok(0);
        };
        let lost = lanes.push(lane, kind, frames, count, bounds);
        self.release();
        lost
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

    /// Queues the last frame behind everything else, regardless of the bounds. Nothing may be queued after it.
    pub(crate) fn push_last(&mut self, frame: Vec<u8>) {
        self.data.get_or_insert_default().push_last(frame.into());
    }

    /// Drops all data except a frame that is on the wire in part.
    pub(crate) fn drop_data(&mut self) {
        if let Some(lanes) = &mut self.data {
            lanes.drop_data();
            self.release();
        }
    }

    /// The bytes to write next; empty if there are none.
    pub(crate) fn next(&self) -> &[u8] {
        match &self.data {
            Some(lanes) if self.control.is_empty() || lanes.is_inside_frame() => lanes.next(),
            _ => &self.control,
        }
    }

    /// Removes this many bytes of [`SendQueue::next`], which have been written.
    pub(crate) fn advance(&mut self, n: usize) {
        match &mut self.data {
            Some(lanes) if self.control.is_empty() || lanes.is_inside_frame() => {
                lanes.advance(n);
                self.release();
            }
            _ => {
                self.control.drain(..n);
                if self.control.is_empty() {
                    // Idle connections hold no memory for it.
                    self.control = Vec::new();
                    self.has_heartbeat = false;
                }
            }
        }
    }

    /// Releases the memory of data if there is none left.
    fn release(&mut self) {
        if self.data.as_ref().is_some_and(|lanes| lanes.is_empty()) {
            self.data = None;
        }
    }
}

#[cfg(test)]
mod tests;

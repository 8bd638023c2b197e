//! The history of a room, read from the broker's log when this node begins to follow the room.

use std::time::Duration;

use crate::broker::wire::{self, Unreadable};
use crate::broker::{EventKind, LoggedEvent};
use crate::delivery::room_state::RoomState;
use crate::ids::MessageId;
use crate::protocol::outbound::RoomFrame;

/// Frames whose ages differ by less are kept for equally long.
const AGE_PRECISION: Duration = Duration::from_secs(1);

impl RoomState {
    /// Keeps the latest frames before those that this node will hear, encoded as they were delivered. Those before a
    /// missing one are of no use.
    pub(super) fn fill_history(&mut self, now: Duration, log: &[LoggedEvent]) {
        let end = self.seq();
        let Some(replay) = &mut self.replay else { return };
        let mut frames: Vec<(Duration, Vec<u8>)> = Vec::new();
        for (LoggedEvent { event, age }, seq) in log.iter().rev().zip((1..=end).rev()) {
            let mut frame = Vec::new();
            let Ok(decoded) = frame_of(event.kind, &event.body) else { break };
            if event.stamp.seq != seq {
                break;
            }
            let member = event.entry.map(|entry| entry.member);
            self.last_id = self.last_id.max(event.id.unwrap_or(MessageId::ZERO));
            self.pending.encode_v1(&mut frame, event.stamp, event.id, &RoomFrame { member, ..decoded });
            frames.push((*age, frame));
        }
        let mut start = end - frames.len() as u64;
        replay.restart(start);
        let mut frames = frames.into_iter().rev().peekable();
        while let Some((age, mut chunk)) = frames.next() {
            start += 1;
            while let Some((_, frame)) = frames.next_if(|(other, _)| age.abs_diff(*other) < AGE_PRECISION) {
                chunk.extend_from_slice(&frame);
                start += 1;
            }
            chunk.shrink_to_fit();
            replay.push_old(now, age, start, chunk.into());
        }
    }
}

/// The frame of an event.
fn frame_of(kind: EventKind, body: &[u8]) -> Result<RoomFrame<'_>, Unreadable> {
    match kind {
        EventKind::Enter => wire::decode_enter(body).map(|(_, _, frame)| frame),
        EventKind::Leave | EventKind::Publish => wire::decode_frame(body),
        _ => Err(Unreadable),
    }
}

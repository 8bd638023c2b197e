//! How many frames per second the rooms have, without any counter in the path of messages.
//!
//! Each frame of a room has the next `seq`. So the number of frames between two requests is the difference between the
//! room's positions. A request reads the positions, and they are kept for a later one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::views::each_room;
use crate::engine::Engine;
use crate::ids::RoomId;
use crate::protocol::position::Position;
use crate::sync::{Mutex, lock};

/// The positions are read again after this time, no matter how many requests there are.
const INTERVAL: Duration = Duration::from_secs(2);

/// Positions that are older than this say nothing about the present.
const MAX_AGE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<Option<Arc<Sample>>>);

/// The positions of all rooms at one moment, and the rates since the moment before.
#[derive(Debug)]
pub(super) struct Sample {
    at: Duration,
    /// The time since the moment before, if there was one.
    window: Option<Duration>,
    rooms: HashMap<RoomId, Known>,
}

#[derive(Debug)]
struct Known {
    position: Position,
    /// Frames in a thousand seconds. `None` if the room was not there before.
    rate: Option<u64>,
}

impl Rates {
    /// The latest sample, or a new one if it is too old.
    pub(super) async fn current(&self, engine: &Engine) -> Arc<Sample> {
        let now = engine.context.clock.now();
        let latest = lock(&self.0).clone();
        let age = |sample: &Arc<Sample>| now.saturating_sub(sample.at);
        if let Some(latest) = latest.as_ref().filter(|sample| age(sample) < INTERVAL) {
            return latest.clone();
        }
        let before = latest.filter(|sample| age(sample) <= MAX_AGE);
        let mut sample = Sample { at: now, window: before.as_ref().map(age), rooms: HashMap::new() };
        each_room(engine, |room| {
            let position = room.position();
            let rate = before.as_ref().and_then(|before| before.rate_since(room.id(), position, now));
            sample.rooms.insert(room.id().clone(), Known { position, rate });
        })
        .await;
        let sample = Arc::new(sample);
        *lock(&self.0) = Some(sample.clone());
        sample
    }
}

impl Sample {
    /// The time for which the rates hold. `None` if they are not known yet.
    pub(super) fn window(&self) -> Option<Duration> {
        self.window
    }

    /// Frames in a thousand seconds. `None` if it is not known yet.
    pub(super) fn rate(&self, room: &RoomId) -> Option<u64> {
        self.rooms.get(room)?.rate
    }

    /// The rate of a room that is at this position now.
    fn rate_since(&self, room: &RoomId, position: Position, now: Duration) -> Option<u64> {
        let before = self.rooms.get(room)?.position;
        if before.epoch() != position.epoch() {
            return None;
        }
        let frames = u128::from(position.seq().saturating_sub(before.seq()));
        let millis = now.saturating_sub(self.at).as_millis().max(1);
        u64::try_from(frames * 1_000_000 / millis).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::position::Epoch;

    #[test]
    fn a_rate_is_the_difference_of_positions_of_the_same_epoch() {
        let at = |epoch, seq| Position { epoch: Epoch(epoch), seq };
        let room = RoomId::from("r");
        let known = Known { position: at(1, 10), rate: None };
        let before = Sample {
            at: Duration::from_secs(5),
            window: None,
            rooms: HashMap::from([(room.clone(), known)]),
        };
        let now = Duration::from_secs(9);
        assert_eq!(before.rate_since(&room, at(1, 12), now), Some(500));
        assert_eq!(before.rate_since(&room, at(1, 10), now), Some(0));
        assert_eq!(before.rate_since(&room, at(2, 12), now), None);
        assert_eq!(before.rate_since(&RoomId::from("s"), at(1, 12), now), None);
        assert_eq!(before.rate_since(&room, at(1, u64::MAX), Duration::ZERO), None);
    }
}

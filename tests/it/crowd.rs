//! What tests with many clients on real threads share: chance, and the books by the callbacks.

use std::collections::HashMap;

use tower_chat_rooms::{ConnectionId, LeaveReason, RoomEvent};

/// A small deterministic generator: the same seed does the same, up to what the threads do.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// For each connection the room it is in, kept by the callbacks alone.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) places: HashMap<ConnectionId, String>,
    pub(crate) ended: HashMap<LeaveReason, usize>,
    pub(crate) mistakes: Vec<String>,
}

impl Ledger {
    pub(crate) fn note(&mut self, event: RoomEvent<'_>) {
        match event {
            RoomEvent::Entered(e) => {
                if let Some(room) = self.places.insert(e.connection, e.room.to_string()) {
                    self.mistakes.push(format!("{} entered {} while in {room}", e.connection, e.room));
                }
            }
            RoomEvent::Left(e) => {
                if self.places.remove(&e.connection).as_deref() != Some(e.room.as_str()) {
                    self.mistakes.push(format!("{} left {} without being there", e.connection, e.room));
                }
                *self.ended.entry(e.reason).or_default() += 1;
            }
            _ => {}
        }
    }
}

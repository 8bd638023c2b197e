//! What tests with many clients on real threads share.

use std::collections::HashMap;

use tower_chat_rooms::{ConnectionId, LeaveReason, RoomEvent};

/// A small deterministic generator of numbers. The order in which threads run is still not deterministic.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1)
    }

    /// A number from 0 to `bound - 1`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The room of each connection, according to the callbacks alone.
#[derive(Default)]
pub(crate) struct MembershipRecord {
    rooms: HashMap<ConnectionId, String>,
    leave_reasons: HashMap<LeaveReason, usize>,
    errors: Vec<String>,
}

impl MembershipRecord {
    pub(crate) fn record(&mut self, event: RoomEvent<'_>) {
        match event {
            RoomEvent::Entered(e) => {
                if let Some(room) = self.rooms.insert(e.connection, e.room.to_string()) {
                    self.errors.push(format!("{} entered {} while in {room}", e.connection, e.room));
                }
            }
            RoomEvent::Left(e) => {
                if self.rooms.remove(&e.connection).as_deref() != Some(e.room.as_str()) {
                    self.errors.push(format!("{} left {} without being there", e.connection, e.room));
                }
                *self.leave_reasons.entry(e.reason).or_default() += 1;
            }
            _ => {}
        }
    }

    /// Asserts that each `entered` was followed by its `left`, and that each of these reasons occurred.
    pub(crate) fn assert_complete(&self, reasons: &[LeaveReason]) {
        assert!(self.errors.is_empty(), "{:?}", self.errors);
        assert!(self.rooms.is_empty(), "{:?}", self.rooms);
        for reason in reasons {
            assert!(self.leave_reasons.contains_key(reason), "{reason:?}: {:?}", self.leave_reasons);
        }
    }
}

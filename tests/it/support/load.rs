//! What tests with many clients on real threads share.

use std::collections::{HashMap, HashSet};

use tower_chat_rooms::{ConnectionId, LeaveReason, RoomEvent};

use super::has_shared_broker;

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

/// The rooms of each connection, according to the callbacks alone.
pub(crate) struct MembershipRecord {
    /// How many rooms a connection may be in at the same time.
    max_rooms: usize,
    rooms: HashMap<ConnectionId, HashSet<String>>,
    leave_reasons: HashMap<LeaveReason, usize>,
    errors: Vec<String>,
}

impl MembershipRecord {
    pub(crate) fn new(max_rooms: usize) -> MembershipRecord {
        let (rooms, leave_reasons, errors) = (HashMap::new(), HashMap::new(), Vec::new());
        MembershipRecord { max_rooms, rooms, leave_reasons, errors }
    }

    pub(crate) fn record(&mut self, event: RoomEvent<'_>) {
        match event {
            RoomEvent::Entered(e) => {
                let rooms = self.rooms.entry(e.connection).or_default();
                if !rooms.insert(e.room.to_string()) || rooms.len() > self.max_rooms {
                    self.errors.push(format!("{} entered {} while in {rooms:?}", e.connection, e.room));
                }
            }
            RoomEvent::Left(e) => {
                if !self.rooms.entry(e.connection).or_default().remove(e.room.as_str()) {
                    self.errors.push(format!("{} left {} without being there", e.connection, e.room));
                }
                *self.leave_reasons.entry(e.reason).or_default() += 1;
            }
            _ => {}
        }
    }

    /// Whether a member has left for this reason.
    pub(crate) fn has(&self, reason: LeaveReason) -> bool {
        self.leave_reasons.contains_key(&reason)
    }

    /// Asserts that each `entered` was followed by its `left`, and that each of these reasons occurred.
    pub(crate) fn assert_complete(&self, reasons: &[LeaveReason]) {
        assert!(self.errors.is_empty(), "{:?}", self.errors);
        self.assert_reasons(reasons);
    }

    /// As [`MembershipRecord::assert_complete`], for members that resume. With a broker, there may be a `left` without its
    /// `entered` if a client comes back while it enters or leaves a room.
    pub(crate) fn assert_complete_with_resumes(&self, reasons: &[LeaveReason]) {
        let errors: Vec<_> =
            self.errors.iter().filter(|error| !error.contains("without being there")).collect();
        match has_shared_broker() {
            true => assert!(errors.is_empty(), "{errors:?}"),
            false => assert!(self.errors.is_empty(), "{:?}", self.errors),
        }
        self.assert_reasons(reasons);
    }

    fn assert_reasons(&self, reasons: &[LeaveReason]) {
        assert!(self.rooms.values().all(HashSet::is_empty), "{:?}", self.rooms);
        for reason in reasons {
            assert!(self.leave_reasons.contains_key(reason), "{reason:?}: {:?}", self.leave_reasons);
        }
    }
}

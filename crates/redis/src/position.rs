//! Where a node is in a room's order, and where an event stands to that.

use crate::event::RoomEvent;
use crate::stamp::{Epoch, Stamp};

/// The latest event that a node has delivered in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    epoch: Epoch,
    event: u64,
    /// It was the last member's leave, so the next event begins a new epoch.
    is_end: bool,
}

/// Where an event stands to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is the next one.
    Next,
    /// It was delivered before.
    Older,
    /// Others before it are missing.
    Gap,
    /// It is of another epoch, so only Redis can tell which is the later.
    OtherEpoch,
}

impl Position {
    /// Right after an event.
    pub(crate) fn after(event: &RoomEvent) -> Position {
        Position { is_end: event.is_last, ..Position::at(event.stamp) }
    }

    /// Where a room is that has members.
    pub(crate) fn at(stamp: Stamp) -> Position {
        Position { epoch: stamp.epoch, event: stamp.event, is_end: false }
    }

    /// Right before an event.
    pub(crate) fn before(stamp: Stamp) -> Position {
        Position { epoch: stamp.epoch, event: stamp.event.saturating_sub(1), is_end: false }
    }

    /// Right before the first event of an epoch.
    pub(crate) fn start(epoch: Epoch) -> Position {
        Position { epoch, event: 0, is_end: false }
    }

    /// Whether nothing follows in this epoch.
    pub(crate) fn is_end(self) -> bool {
        self.is_end
    }

    pub(crate) fn epoch(self) -> Epoch {
        self.epoch
    }

    /// The number of the next event.
    pub(crate) fn next_event(self) -> u64 {
        self.event + 1
    }

    pub(crate) fn place(self, stamp: Stamp) -> Place {
        if stamp.epoch != self.epoch {
            if self.is_end && stamp.event == 1 { Place::Next } else { Place::OtherEpoch }
        } else if stamp.event <= self.event {
            Place::Older
        } else if stamp.event == self.event + 1 {
            Place::Next
        } else {
            Place::Gap
        }
    }

    /// Whether the event with this stamp was delivered.
    pub(crate) fn has_reached(self, stamp: Stamp) -> bool {
        self.epoch == stamp.epoch && self.event >= stamp.event
    }

    /// Whether the event with this stamp lies behind: it was delivered, or is void because its epoch is over.
    pub(crate) fn is_past(self, stamp: Stamp) -> bool {
        self.epoch != stamp.epoch || self.event >= stamp.event
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::stamp::EventKind;

    #[test]
    fn an_event_is_next_older_beyond_a_gap_or_of_another_epoch() {
        let stamp = |epoch, event| Stamp { epoch: Epoch::from_u64(epoch), event, seq: 0, num: 1 };
        let position = Position::at(stamp(1, 5));
        assert_eq!(Position::before(stamp(1, 6)), position);
        let cases = [
            (stamp(1, 6), Place::Next),
            (stamp(1, 5), Place::Older),
            (stamp(1, 1), Place::Older),
            (stamp(1, 7), Place::Gap),
            (stamp(2, 6), Place::OtherEpoch),
        ];
        for (stamp, place) in cases {
            assert_eq!(position.place(stamp), place, "{stamp:?}");
        }
    }

    #[test]
    fn a_new_epoch_follows_the_last_leave() {
        let stamp = |epoch, event| Stamp { epoch: Epoch::from_u64(epoch), event, seq: 0, num: 0 };
        let leave = |is_last| RoomEvent {
            room: "r".into(),
            stamp: stamp(1, 5),
            kind: EventKind::Leave,
            member: None,
            id: None,
            body: Bytes::new(),
            is_last,
            is_replaced: false,
        };
        let end = Position::after(&leave(true));
        assert_eq!(end.place(stamp(2, 1)), Place::Next);
        assert_eq!(end.place(stamp(2, 2)), Place::OtherEpoch);
        assert_eq!(end.place(stamp(1, 4)), Place::Older);
        assert_eq!(
            Position::after(&leave(false)).place(stamp(2, 1)),
            Place::OtherEpoch,
            "somebody is hidden there"
        );
    }
}

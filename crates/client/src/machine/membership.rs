//! The membership in the room: the order of its frames, and when messages may be sent.

/// From an `entered` until the room is left or the connection is lost.
#[derive(Debug)]
pub(super) struct Membership {
    /// The room's position when it was entered. The frames up to it are a replay.
    entered_at: u64,
    /// The last frame that arrived.
    last: u64,
    /// How many messages from before it are still to come, ahead of all other frames.
    history: u64,
    /// Frames since then that could not be read and had no `seq`.
    unread: u64,
    /// The server remembers all unacknowledged messages, so they can be sent before the replay has shown
    /// which of them are in the room.
    are_messages_known: bool,
}

/// What a frame's `seq` tells about its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It has arrived before.
    Old,
    /// It is the next frame, after this many that could not be read.
    Next { unread: u64 },
    /// Frames before it are missing.
    TooEarly,
}

impl Membership {
    pub(super) fn new(entered_at: u64, last: u64, history: u64, are_messages_known: bool) -> Membership {
        Membership { entered_at, last, history, unread: 0, are_messages_known }
    }

    /// The last frame that arrived.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// A frame arrives. Returns whether it is of the history, which comes first and is older than all that follows.
    pub(super) fn receive_history(&mut self, seq: u64) -> bool {
        let is_history = self.history > 0 && seq <= self.entered_at;
        self.history = if is_history { self.history - 1 } else { 0 };
        is_history
    }

    /// A frame arrives that is not of the history.
    pub(super) fn receive(&mut self, seq: u64) -> Place {
        let Some(missing) = seq.checked_sub(self.last).and_then(|distance| distance.checked_sub(1)) else {
            return Place::Old;
        };
        if missing > self.unread {
            return Place::TooEarly;
        }
        self.last = seq;
        self.unread = 0;
        Place::Next { unread: missing }
    }

    /// Something arrives that can't be read and has no `seq`. In a replay it has the next `seq`, which is returned. In the
    /// history, it is one of its messages. Otherwise the frame after it shows whether it was one of the room.
    pub(super) fn receive_unreadable(&mut self) -> Option<u64> {
        if self.history > 0 {
            self.history -= 1;
            return None;
        }
        if self.last < self.entered_at {
            self.last += 1;
            return Some(self.last);
        }
        self.unread += 1;
        None
    }

    /// Something arrives that can't be read, and that may be a frame of this room or of another one. The next frame shows
    /// it.
    pub(super) fn note_unreadable(&mut self) {
        self.unread += 1;
    }

    /// This many frames will not arrive.
    pub(super) fn skip(&mut self, missed: u64) {
        self.last = self.last.saturating_add(missed);
    }

    /// Whether the frame with this `seq` is of the replay.
    pub(super) fn is_replayed(&self, seq: u64) -> bool {
        seq <= self.entered_at
    }

    /// Whether frames from before it are still to come.
    pub(super) fn is_replaying(&self) -> bool {
        self.history > 0 || self.last < self.entered_at
    }

    /// Whether messages may be sent. One that is in the replay must not be sent again.
    pub(super) fn may_send(&self) -> bool {
        self.are_messages_known || self.last >= self.entered_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_in_order_and_once() {
        let mut membership = Membership::new(5, 3, 0, false);
        assert!(!membership.may_send() && membership.is_replayed(5) && !membership.is_replayed(6));
        assert_eq!(membership.receive(3), Place::Old);
        assert_eq!(membership.receive(0), Place::Old);
        assert_eq!(membership.receive(4), Place::Next { unread: 0 });
        assert!(!membership.may_send());
        assert_eq!(membership.receive(5), Place::Next { unread: 0 });
        assert!(membership.may_send());
        assert_eq!(membership.receive(7), Place::TooEarly);
        assert_eq!(membership.receive(6), Place::Next { unread: 0 });
        assert_eq!(membership.receive(u64::MAX), Place::TooEarly);
        membership.skip(u64::MAX);
        assert_eq!(membership.receive(u64::MAX), Place::Old);
    }

    #[test]
    fn the_history_comes_first_and_holds_up_no_messages() {
        let mut membership = Membership::new(5, 5, 3, false);
        assert!(membership.is_replaying() && membership.may_send());
        assert!(membership.receive_history(2) && membership.receive_unreadable().is_none());
        assert!(membership.receive_history(5) && !membership.is_replaying());
        assert!(!membership.receive_history(4));
        let mut membership = Membership::new(5, 5, 3, false);
        assert!(!membership.receive_history(6), "it is newer than the enter");
        assert!(!membership.receive_history(4), "the history is over");
    }

    #[test]
    fn unreadable_frames_account_for_a_jump_once() {
        let mut membership = Membership::new(5, 4, 0, true);
        let unreadable = [(); 3].map(|()| membership.receive_unreadable());
        assert_eq!(unreadable, [Some(5), None, None], "the end of the replay, and two more");
        assert_eq!(membership.receive(9), Place::TooEarly);
        assert_eq!(membership.receive(7), Place::Next { unread: 1 });
        assert_eq!(membership.receive(9), Place::TooEarly);
    }
}

//! What an operator sees of rooms. No lock is held for longer than it takes to copy a page of members.

use std::sync::Arc;

use crate::delivery::live_room::{Handle, LiveRoom};
use crate::protocol::position::Position;
use crate::room::{Member, Profile};

/// A room at one moment, with some of its members.
pub(crate) struct RoomSnapshot {
    pub(crate) position: Position,
    /// The number of members of this node, hidden ones included.
    pub(crate) here: usize,
    /// Members of this node, in the order in which they entered.
    pub(crate) members: Vec<MemberSnapshot>,
    /// Whether there are members after these.
    pub(crate) has_more: bool,
}

/// A member of a room.
pub(crate) struct MemberSnapshot {
    pub(crate) member: Arc<Member<Handle>>,
    /// Present if it says something.
    pub(crate) profile: Option<Arc<Profile>>,
}

impl LiveRoom {
    /// The position of the latest frame.
    pub(crate) fn position(&self) -> Position {
        self.lock().position()
    }

    /// Whether a member that reads slowly holds back the senders.
    pub(crate) fn holds_senders(&self) -> bool {
        self.is_held()
    }

    /// The room, with at most `max` members of this node after a place.
    pub(crate) fn snapshot(&self, after: u64, max: usize) -> RoomSnapshot {
        let state = self.lock();
        let all = state.room().members();
        let mut rest = all.after(after);
        let page = rest.by_ref().take(max).map(|member| MemberSnapshot {
            member: member.clone(),
            profile: state.room().profile(member.id).cloned(),
        });
        RoomSnapshot {
            position: state.position(),
            here: all.len(),
            members: page.collect(),
            has_more: rest.next().is_some(),
        }
    }
}

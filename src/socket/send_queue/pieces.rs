//! The frames and gaps that wait in a lane.

use std::collections::VecDeque;

use bytes::Bytes;

/// What kind of frames a piece holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Frames for all members of a room. A slow consumer may miss them.
    Room,
    /// Frames for this client only.
    Own,
    /// Frames that this client has missed, and rosters. They do not count against the bounds, because the client has
    /// requested them. Frames of a room share the memory of its replay buffer.
    Replay,
}

/// Whole frames. Only the first piece may begin with the rest of a partly written frame.
#[derive(Debug)]
pub(super) enum Piece {
    Frames(Kind, Bytes),
    /// This many frames of the room were dropped here.
    Gap(u64),
}

/// Pieces in order. Usually there is only one, which needs no extra allocation.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// Absent if there are none.
    first: Option<Piece>,
    more: Option<VecDeque<Piece>>,
}

impl Pieces {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn first(&self) -> Option<&Piece> {
        self.first.as_ref()
    }

    pub(super) fn first_mut(&mut self) -> Option<&mut Piece> {
        self.first.as_mut()
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Piece> {
        self.more.as_mut().and_then(VecDeque::back_mut).or(self.first.as_mut())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Piece> {
        self.first.iter().chain(self.more.iter().flatten())
    }

    pub(super) fn push(&mut self, piece: Piece) {
        if self.first.is_none() {
            self.first = Some(piece);
        } else {
            self.more.get_or_insert_default().push_back(piece);
        }
    }

    pub(super) fn remove_first(&mut self) {
        self.first = self.more.as_mut().and_then(VecDeque::pop_front);
    }

    /// Removes all pieces.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Piece> + use<> {
        let Pieces { first, more } = std::mem::take(self);
        first.into_iter().chain(more.into_iter().flatten())
    }
}

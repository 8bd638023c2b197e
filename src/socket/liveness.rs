//! Whether a client is alive, as far as heartbeats tell.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Liveness {
    /// Something came since the last heartbeat, or something was taken.
    Seen,
    /// A heartbeat went out, and nothing came since.
    Asked,
    /// The client is kept waiting, and what it sends is not read: silence says nothing.
    Unread,
}

impl Liveness {
    /// A heartbeat goes out.
    pub(super) fn ask(&mut self) {
        if *self == Liveness::Seen {
            *self = Liveness::Asked;
        }
    }

    /// The client takes what it was too slow for: it is slow, not dead.
    pub(super) fn note_progress(&mut self) {
        if *self == Liveness::Asked {
            *self = Liveness::Seen;
        }
    }

    /// Everything that the client has sent was read.
    pub(super) fn note_all_read(&mut self) {
        if *self == Liveness::Unread {
            *self = Liveness::Seen;
        }
    }
}

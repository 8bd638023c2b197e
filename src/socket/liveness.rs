//! Whether a client is alive, judged by heartbeats.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Liveness {
    /// Something was received since the last heartbeat, or the socket accepted something.
    Seen,
    /// A heartbeat was sent, and nothing was received since.
    Asked,
    /// The client is kept waiting and not read, so its silence says nothing.
    Unread,
}

impl Liveness {
    /// A heartbeat is sent.
    pub(super) fn ask(&mut self) {
        if *self == Liveness::Seen {
            *self = Liveness::Asked;
        }
    }

    /// The socket accepts what has waited: the client is slow, not dead.
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

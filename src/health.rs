//! Whether a node can do its work.

use std::time::Instant;

/// Whether these chat rooms can do their work. Created by [`ChatRooms::health`](crate::ChatRooms::health).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// All is well. Without a [broker](crate::ChatRoomsBuilder::broker) that other nodes share, this is always so until
    /// the drain or the shutdown.
    Healthy,
    /// The broker cannot be used. Connections stay open, and members stay in their rooms. Messages are refused as
    /// `unavailable`, and clients send them again.
    ///
    /// Do not take the node out of your load balancer for that: it would lose its connections, and all other nodes
    /// are probably in the same state.
    Degraded {
        /// When this has begun.
        since: Instant,
        /// The latest error, with what to do. It contains no password.
        reason: String,
    },
    /// [`drain`](crate::ChatRooms::drain) was called. Send no clients here. Those that are connected are told to come back
    /// elsewhere, one after the other.
    Draining,
    /// [`shutdown`](crate::ChatRooms::shutdown) was called. Send no clients here.
    ShuttingDown,
}

impl Health {
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn degraded_now(reason: &str) -> Health {
        Health::Degraded { since: Instant::now(), reason: reason.to_owned() }
    }
}

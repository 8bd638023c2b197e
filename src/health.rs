//! Whether a node can do its work.

use std::time::Instant;

/// Whether these chat rooms can do their work. Created by [`ChatRooms::health`](crate::ChatRooms::health).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// No problem is known. Without a [broker](crate::ChatRoomsBuilder::broker) that other nodes share, and without a
    /// [message store](crate::ChatRoomsBuilder::store), this is the health until the drain or the shutdown.
    Healthy,
    /// The broker cannot be used, or the message store has failed. Connections stay open, and members stay in their rooms.
    /// Messages are refused as `unavailable`, and clients send them again.
    ///
    /// The store counts as failed until it answers again and has not failed for ten seconds. It is called only when there
    /// are messages to store or to read, so without any, the node stays degraded.
    ///
    /// Do not take the node out of your load balancer. It would lose its connections, and all other nodes are probably
    /// in the same state.
    Degraded {
        /// When this state began.
        since: Instant,
        /// The latest error. An error of the broker says what to do, and contains no password. An error of the store
        /// contains the text of the error that your [`MessageStore`](crate::store::MessageStore) has returned.
        reason: String,
    },
    /// [`drain`](crate::ChatRooms::drain) was called. Send no clients to this node. It closes its connections
    /// gradually, and tells the clients to come back on another node.
    Draining,
    /// [`shutdown`](crate::ChatRooms::shutdown) was called. Send no clients to this node.
    ShuttingDown,
}

impl Health {
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn degraded_now(reason: &str) -> Health {
        Health::Degraded { since: Instant::now(), reason: reason.to_owned() }
    }
}

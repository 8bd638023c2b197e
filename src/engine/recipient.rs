//! What the engine needs of a connection.

use std::sync::Arc;

use bytes::Bytes;

use crate::config::SlowConsumer;
use crate::protocol::close::LeaveReason;
use crate::room::registry::SharedRoom;
use crate::room::stream::Batch;

/// A connection as rooms, the sweep and the host see it. No call waits for the peer: what its
/// socket doesn't take at once goes into its bounded outbox.
pub(crate) trait Recipient: Send + Sync {
    /// From now on frames of that room are for this connection, from a position on, and this is
    /// done if it reads them too slowly. Called under the room's lock.
    fn attach(&self, room: &Arc<SharedRoom<Arc<dyn Recipient>>>, position: u64, slow: SlowConsumer);

    /// It has left its room.
    fn detach(&self);

    /// Whether anything written can still arrive.
    fn is_reachable(&self) -> bool;

    /// Writes what it has not yet had of a batch of the room it is attached to.
    fn deliver(&self, room: &SharedRoom<Arc<dyn Recipient>>, batch: &Batch);

    /// Writes one frame to this connection alone.
    fn send(&self, frame: Bytes);

    /// Asks its task to end it. The first reason counts.
    fn close(&self, reason: LeaveReason);

    /// The first reason for which it was asked to end and may not keep its seat.
    fn verdict(&self) -> Option<LeaveReason>;

    /// Sends a heartbeat and starts to wait for a sign of life.
    fn beat(&self);

    /// The time for a sign of life is over.
    fn check(&self);
}

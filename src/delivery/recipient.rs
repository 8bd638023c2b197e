//! What a room needs from a member: the session behind it.

use std::sync::Arc;

use crate::delivery::batch::Batch;
use crate::delivery::live_room::LiveRoom;
use crate::delivery::presence::PresenceBatch;
use crate::delivery::transient::TransientBatch;
use crate::hooks::user::User;
use crate::protocol::subprotocol::Subprotocol;

/// A member's session as rooms see it. No call waits for the peer, and none takes a room's lock.
pub(crate) trait Recipient: Send + Sync {
    fn subprotocol(&self) -> Subprotocol;

    /// The authenticated user, if any.
    fn user(&self) -> Option<Arc<User>>;

    /// Whether something that is written now can still arrive.
    fn is_connected(&self) -> bool;

    /// Subscribes this member to the room's frames after this `seq`, and returns false. If it is already subscribed,
    /// pauses the subscription, and returns true. In both cases, frames wait until the answer to the enter is written,
    /// which contains the room's roster, as far as there is one. Called under the room's lock, so it writes nothing.
    fn subscribe(&self, room: &Arc<LiveRoom>, seq: u64) -> bool;

    /// Pauses the subscription to a room, if there is one, until an answer with a page of the roster is written.
    /// Returns whether there is a subscription. Called under the room's lock, so it writes nothing.
    fn pause(&self, room: &LiveRoom) -> bool;

    /// Ends the subscription to a room.
    fn unsubscribe(&self, room: &LiveRoom);

    /// Writes the frames of a batch that the member has not had yet.
    fn deliver(&self, room: &LiveRoom, batch: &Batch);

    /// Writes the transient frames of the other members, unless other frames wait for this member.
    fn deliver_transients(&self, room: &LiveRoom, batch: &TransientBatch);

    /// Writes presence frames. If other frames wait for this member, it gets the room's counts and mode afterwards.
    fn deliver_presence(&self, room: &LiveRoom, batch: &PresenceBatch);

    /// Ends the member's connection, because events of a room were lost. Its client learns of that when it comes back.
    fn send_away(&self);

    /// Ends the member's connection as lost, because its I/O panicked.
    fn fail(&self);
}

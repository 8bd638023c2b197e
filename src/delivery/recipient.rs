//! What a room needs of a member: the session behind it.

use std::sync::Arc;

use crate::delivery::batch::Batch;
use crate::delivery::live_room::LiveRoom;
use crate::hooks::user::User;
use crate::protocol::subprotocol::Subprotocol;

/// A member's session as rooms see it. No call waits for the peer, and none takes a room's lock.
pub(crate) trait Recipient: Send + Sync {
    fn subprotocol(&self) -> Subprotocol;

    /// The authenticated user, if any.
    fn user(&self) -> Option<Arc<User>>;

    /// Whether something that is written can still arrive.
    fn is_connected(&self) -> bool;

    /// From now on the room's frames after this `seq` are for this member. Called under the room's
    /// lock: it writes nothing.
    fn subscribe(&self, room: &Arc<LiveRoom>, seq: u64);

    /// No room's frames are for this member any more.
    fn unsubscribe(&self);

    /// The room's next frames wait, for something that has to be written before them. Called under the
    /// room's lock: it writes nothing.
    fn pause(&self);

    /// Writes the frames of a batch that the member has not had yet.
    fn deliver(&self, room: &LiveRoom, batch: &Batch);

    /// The member's I/O panicked: its connection is lost.
    fn fail(&self);
}

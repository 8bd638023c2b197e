/// What happens to a member whose send queue is full.
///
/// The send queue holds what the socket has not taken, up to
/// [`max_queue_bytes`](crate::Limits::max_queue_bytes) and
/// [`max_queue_frames`](crate::Limits::max_queue_frames). A connection with an empty queue gets a whole burst,
/// whatever its size; from then on the limits apply to what is added. Heartbeats and the close frame bypass
/// the queue.
///
/// Only whole frames of the room are dropped, and the remaining ones keep their order. The member's own enter,
/// messages that you send to it alone, and answers to what it sent are never dropped; if those alone fill the
/// queue, the connection is closed. A client of the `chat-rooms.v1` subprotocol finds
/// `{"event":"lagged","missed":N}` in place of `N` dropped frames; other clients are told nothing. After a
/// dropped enter or leave, a member sees `num` jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SlowConsumer {
    /// Closes the connection with 4001, which tells the client to come back.
    ///
    /// A `chat-rooms.v1` client then receives what it has missed as far as the [`History`](crate::History)
    /// reaches, and learns whether anything is missing. Suits conversations.
    #[default]
    Close,
    /// Drops the older half of the queue. Suits data that is of interest while it is new.
    DropOldest,
    /// Drops new frames until there is room again.
    ///
    /// The last quarter of the queue is reserved for frames to this member alone. Suits data that is needed
    /// from its beginning.
    DropNewest,
    /// Keeps only the latest queued frame of each `event`, and if that is not enough, drops older ones.
    ///
    /// Suits states, where the latest value says it all.
    Latest,
}

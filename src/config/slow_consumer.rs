/// What happens to a member whose send queue is full.
///
/// The send queue holds frames that the socket has not accepted, up to
/// [`max_queue_bytes`](crate::Limits::max_queue_bytes) and
/// [`max_queue_frames`](crate::Limits::max_queue_frames). If the queue is empty, it accepts a whole burst
/// whatever its size; from then on the limits apply to what is added. Heartbeats and the close frame bypass
/// the queue.
///
/// Only whole frames of the room are dropped, and the remaining ones keep their order. The member's own enter, messages
/// that you send to it alone, and answers to its frames are never dropped; if those alone fill the queue, the
/// connection is closed. A client of the `chat-rooms.v1` subprotocol gets `{"event":"lagged","roomId":ROOM,"missed":N}`
/// in place of `N` dropped frames; other clients are told nothing. After a dropped enter or leave, a member sees `num`
/// jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SlowConsumer {
    /// Closes the connection with 4001, which tells the client to reconnect.
    ///
    /// After it has reconnected, a `chat-rooms.v1` client receives the frames that it has missed, as far as the
    /// [`History`](crate::History) reaches, and learns whether any are missing. Suits conversations.
    ///
    /// Before the queue is full, the server holds back the senders of the client's room. This begins when more than a
    /// quarter of the queue is in use, and ends when less than an eighth is. Meanwhile, the server reads the members'
    /// messages at a minimum rate, for all members of the room together: 64 KiB per second, or a sixteenth of
    /// [`max_queue_bytes`](crate::Limits::max_queue_bytes) per second if this is less. A client that reads at least at
    /// this rate is therefore closed only if the members send more than it can read for more than a minute.
    ///
    /// Two limits apply to this delay. A client holds back senders only as long as it makes progress: each byte that
    /// its socket has accepted allows the time that the byte takes at the minimum rate, up to 10 seconds. And each
    /// connection holds back senders for at most 60 seconds in total, and regains 10 of them every minute. Messages
    /// that you send yourself do not wait.
    #[default]
    Close,
    /// Drops the older half of the queue. Suits data that matters only while it is new.
    DropOldest,
    /// Drops new frames until there is room again.
    ///
    /// The last quarter of the queue is reserved for frames to this member alone. Suits data that is needed
    /// from its beginning.
    DropNewest,
    /// Keeps only the latest queued frame of each `event`, and if that is not enough, drops older ones.
    ///
    /// Suits state updates, where only the latest value matters.
    Latest,
}

/// When messages are stored, in rooms with a [store](crate::ChatRoomsBuilder::store).
///
/// [`ChatRoomsBuilder::keep`](crate::ChatRoomsBuilder::keep) sets the default. [`Verdict::keep`](crate::Verdict::keep)
/// can choose for a single message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Keep {
    /// The message is stored first. Only then do the members get it, and its sender the acknowledgement. If it cannot
    /// be stored within [`store_timeout`](crate::Timeouts::store_timeout), the sender gets the error `unavailable`, and
    /// the clients of this project send it again.
    ///
    /// The server takes the next message of the same connection only when it has stored this one. So a connection can
    /// send one message per append, even if its client does not wait for acknowledgements.
    #[default]
    First,
    /// The members get the message at once, and it is stored afterwards. If the store fails for long, or if the server
    /// crashes, the message is missing in the store. If a client sends the message again after its session was lost,
    /// for example in a restart, the members may get it twice, but it is stored once.
    Behind,
    /// The message is not stored. If earlier messages of the room are being stored, it is sent after them.
    Never,
}

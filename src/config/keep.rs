/// What happens to a message in rooms with a [store](crate::ChatRoomsBuilder::store).
///
/// Set the default with [`ChatRoomsBuilder::keep`](crate::ChatRoomsBuilder::keep), and other choices for single messages
/// with [`Verdict::keep`](crate::Verdict::keep).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Keep {
    /// The message is stored first. Only then do the members get it, and its sender the acknowledgement. If it cannot be
    /// stored within [`store_timeout`](crate::Timeouts::store_timeout), the sender gets the error `unavailable`, and the
    /// clients of this project send it again.
    #[default]
    First,
    /// The members get the message at once, and it is stored afterwards. If the store fails for long, or if the server
    /// crashes, the message is missing in the store.
    Behind,
    /// The message is not stored.
    Never,
}

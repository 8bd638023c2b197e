use std::time::Duration;

use crate::config::options::options;

options! {
    /// How long operations may take.
    ///
    /// `Duration::MAX` removes a limit.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_chat_rooms::{ChatRooms, Timeouts};
    ///
    /// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// let timeouts = Timeouts::default().hook_timeout(Duration::from_secs(2));
    /// let rooms = ChatRooms::builder().timeouts(timeouts).build()?;
    /// # drop(rooms);
    /// # Ok(())
    /// # }
    /// ```
    pub struct Timeouts {
        /// Time within which a connection must enter its first room.
        ///
        /// It also bounds how long an accepted upgrade may take to complete. A connection that takes longer
        /// is closed with 4002. A `chat-rooms.v1` client that has authenticated need not enter a room.
        enter_timeout: Duration = Duration::from_secs(10);

        /// Time within which a client must send its token, if one is required.
        ///
        /// A connection that takes longer is closed with 4502.
        auth_timeout: Duration = Duration::from_secs(10);

        /// Time that one call of an async hook may take.
        ///
        /// A call that takes longer counts as a refusal.
        hook_timeout: Duration = Duration::from_secs(10);

        /// Time within which the message store must answer.
        ///
        /// If it takes longer to store a message, the sender gets the error `unavailable`, and sends it again. See
        /// [`ChatRoomsBuilder::store`](crate::ChatRoomsBuilder::store).
        ///
        /// If the store fails before this time is over, the server logs the error and tries again. So if its database
        /// cannot be reached, your store should fail in less than half of this time. Otherwise, the log does not say
        /// why it has failed.
        store_timeout: Duration = Duration::from_secs(5);

        /// Time for the closing handshake.
        close_timeout: Duration = Duration::from_secs(5);

        /// Time for the closing handshakes of a shutdown.
        ///
        /// A client that does not answer its close frame holds up a restart for no longer than this. All others
        /// are told to come back after two seconds at the earliest.
        shutdown_timeout: Duration = Duration::from_secs(1);

        /// Time within which a socket must accept some of what waits in its send queue.
        ///
        /// If a socket accepts nothing for longer, its connection is closed with 4001, even if the client
        /// answers heartbeats. This is checked with each heartbeat. The default is enough for a phone between
        /// two cells.
        write_timeout: Duration = Duration::from_secs(30);

        /// Time after which a connection has to reconnect.
        ///
        /// It is closed with 4003, which tells the client to come back. The time is up to a tenth shorter for
        /// each connection, so that connections that opened at the same time do not end at the same time. Use
        /// it to rebalance connections over your servers, or to have credentials checked again.
        max_lifetime: Duration = Duration::MAX;

        /// How long before its token expires a client is warned; zero for no warning.
        ///
        /// Only clients of the `chat-rooms.v1` subprotocol are warned. The default leaves time to fetch a new
        /// token over a slow network.
        token_warning: Duration = Duration::from_secs(30);
    }
}

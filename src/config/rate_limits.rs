use crate::config::options::options;

options! {
    /// Limits on how fast one connection, one address or one user may send.
    ///
    /// Each rate is a token bucket. `u32::MAX` or `usize::MAX` removes a limit.
    ///
    /// ```
    /// use tower_chat_rooms::{ChatRooms, RateLimits};
    ///
    /// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// let rates = RateLimits::default().max_messages_per_second(500).max_enters_per_minute(600);
    /// let rooms = ChatRooms::builder().rate_limits(rates).build()?;
    /// # drop(rooms);
    /// # Ok(())
    /// # }
    /// ```
    pub struct RateLimits {
        /// Messages per second of one connection.
        ///
        /// After a pause, twice as many may come in one burst. Further messages are dropped with a
        /// `rate_limited` error. The token bucket is refilled only when it is found empty, so up to twice the
        /// burst can get through once.
        ///
        /// Other frames (heartbeat answers, pings, fragments) have a token bucket of their own, with the same
        /// rate plus two frames per heartbeat.
        ///
        /// The default is more than anybody types, and more than a page sends that reports every movement of
        /// the mouse (60 per second). Raise it for bots and other servers.
        max_messages_per_second: u32 = 100;

        /// Bytes of messages per second of one connection.
        ///
        /// After a pause, twice as many may come in one burst; that must be enough for one message of
        /// [`max_message_bytes`](crate::Limits::max_message_bytes).
        max_bytes_per_second: usize = 256 * 1024;

        /// Transient frames per second of one connection.
        ///
        /// After a pause, twice as many may come in one burst. Further ones are dropped without an error. Transient
        /// frames within this rate do not count as messages; those beyond it count as other frames (see above).
        ///
        /// See [`transient_events`](crate::ChatRoomsBuilder::transient_events).
        max_transient_per_second: u32 = 20;

        /// Enters per minute of one connection.
        ///
        /// They may come in one burst. The default allows a client to enter
        /// [`max_memberships`](crate::Limits::max_memberships) rooms at once after a restart. Each enter costs a frame
        /// to every member of the room, and so does leaving the previous room. Further enters get a `rate_limited`
        /// error.
        max_enters_per_minute: u32 = 120;

        /// Rooms that one connection may open per minute.
        ///
        /// A connection opens a room by entering one that has no members. All of them may be opened in one
        /// burst. Further ones get a `rate_limited` error.
        max_new_rooms_per_minute: u32 = 80;

        /// Frames beyond these rates that close a connection with 1008.
        ///
        /// Each frame within the rates offsets one beyond them. The default is one second of sending at
        /// twice the allowed rate.
        max_rate_violations: u32 = 100;

        /// Tokens that one connection may send within a minute.
        ///
        /// Each token is checked by the auth hook, and by the policy for the room that the client is in. Further
        /// tokens get a `rate_limited` error.
        max_auths_per_minute: u32 = 20;

        /// Connections that one IP address may open within a minute.
        ///
        /// Further upgrade requests are refused with 429 before a hook is called. This rate and the following ones
        /// apply where [`max_connections_per_ip`](crate::Limits::max_connections_per_ip) does: they need the
        /// client's address, and are off without that limit.
        max_connects_per_minute_per_ip: u32 = 600;

        /// Enters per minute of one IP address, and of one user, over all connections.
        max_enters_per_minute_per_ip: u32 = 600;

        /// Rooms that one IP address, or one user, may open per minute over all connections.
        max_new_rooms_per_minute_per_ip: u32 = 240;

        /// Failed authentications per minute of one IP address.
        ///
        /// Further upgrade requests are refused with 429 before the auth hook is called, and connections that
        /// send another wrong token are closed with 1008.
        max_failed_auths_per_minute_per_ip: u32 = 60;
    }
}

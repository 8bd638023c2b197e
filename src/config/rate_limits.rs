use crate::config::options::options;

options! {
    /// Limits on what one connection may send per time.
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
        /// After a pause, twice as many may come at once. Further messages are dropped with an error
        /// `rate_limited`. The bucket is filled only when it is found empty, so up to twice the burst can get
        /// through once.
        ///
        /// Other frames (heartbeat answers, pings, fragments) have a bucket of their own: as many, plus two
        /// per heartbeat.
        ///
        /// The default is more than anybody types, and more than a page that reports every movement of the
        /// mouse (60 per second). Raise it for bots and other servers.
        max_messages_per_second: u32 = 100;

        /// Bytes of messages per second of one connection.
        ///
        /// After a pause, twice as many may come at once; that must be enough for one message of
        /// [`max_message_bytes`](crate::Limits::max_message_bytes).
        max_bytes_per_second: usize = 256 * 1024;

        /// Enters per minute of one connection.
        ///
        /// They may come all at once. Each enter costs a frame to every member of the room, and so does
        /// leaving the previous room. Further enters get an error `rate_limited`.
        max_enters_per_minute: u32 = 60;

        /// Rooms that one connection may open per minute.
        ///
        /// A connection opens a room by entering one that has no members. They may be opened all at once.
        /// Further ones get an error `rate_limited`.
        max_new_rooms_per_minute: u32 = 20;

        /// Frames beyond these rates that close a connection with 1008.
        ///
        /// Each frame within the rates makes up for one beyond them. The default is one second of sending at
        /// twice the allowed rate.
        max_rate_violations: u32 = 100;

        /// Tokens that one connection may send within a minute.
        ///
        /// Each of them is checked by the auth hook, and by the policy for the room that the client is in. Beyond
        /// it the client gets an error `rate_limited`.
        max_auths_per_minute: u32 = 20;

        /// Connections that one IP address may open within a minute.
        ///
        /// Further upgrade requests are refused with 429 before a hook is asked. This and the following rates count
        /// where [`max_connections_per_ip`](crate::Limits::max_connections_per_ip) does: they need the client's
        /// address, and are off without that limit.
        max_connects_per_minute_per_ip: u32 = 600;

        /// Enters per minute of one IP address, and of one user, over all connections.
        max_enters_per_minute_per_ip: u32 = 600;

        /// Rooms that one IP address, or one user, may open per minute over all connections.
        max_new_rooms_per_minute_per_ip: u32 = 60;

        /// Failed authentications per minute of one IP address.
        ///
        /// Further upgrade requests are refused with 429 before the auth hook is asked, and connections that send
        /// another wrong token are closed with 1008.
        max_failed_auths_per_minute_per_ip: u32 = 60;
    }
}

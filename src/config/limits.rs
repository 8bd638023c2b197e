use crate::config::options::options;
use crate::ids::MaxLen;

options! {
    /// Limits on sizes and counts.
    ///
    /// Every limit has a safe default. `usize::MAX` or `u32::MAX` removes a limit, except for
    /// [`max_depth`](Limits::max_depth).
    ///
    /// ```
    /// use tower_chat_rooms::{ChatRooms, Limits};
    ///
    /// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// let limits = Limits::default().max_connections(50_000).max_message_bytes(16 * 1024);
    /// let rooms = ChatRooms::builder().limits(limits).build()?;
    /// # drop(rooms);
    /// # Ok(())
    /// # }
    /// ```
    pub struct Limits {
        /// Bytes of one message from a client, all fragments together.
        ///
        /// A longer message closes the connection with 1009 before it is read completely.
        max_message_bytes: usize = 64 * 1024;

        /// Bytes of an enter, without `since`.
        ///
        /// The frame is relayed to the room with all keys that the client adds. A longer one is answered with a
        /// `bad_shape` error.
        max_enter_bytes: usize = 2048;

        /// Nesting depth of arrays and objects in a message.
        ///
        /// It protects the JSON parsers of the other members. A deeper message is answered with a `too_deep`
        /// error. At most 127, which is the depth that common JSON parsers accept: this limit can't be removed.
        max_depth: usize = 64;

        /// Bytes of a member's name in UTF-8.
        max_name_bytes: usize = 128;

        /// Characters of a member's name.
        ///
        /// These are Unicode scalar values. Ideographs and emoji take three or four bytes each and reach
        /// [`max_name_bytes`](Limits::max_name_bytes) first.
        max_name_chars: usize = 64;

        /// Bytes of a room id in UTF-8.
        max_room_id_bytes: usize = 128;

        /// Characters of a room id.
        ///
        /// These are Unicode scalar values.
        max_room_id_chars: usize = 128;

        /// Members of one room.
        ///
        /// A client that enters a full room gets a `room_full` error. Each message costs one write per
        /// member.
        max_room_members: usize = 10_000;

        /// Rooms that exist at the same time.
        ///
        /// A room exists while it has members.
        max_rooms: usize = 65_536;

        /// Rooms that one `chat-rooms.v1` client may be in at the same time.
        ///
        /// A client that enters a further one gets a `too_many_memberships` error. Plain clients are in one room.
        max_memberships: usize = 64;

        /// Simultaneous connections.
        ///
        /// Connections whose upgrade has not completed yet are included. Further upgrade requests are
        /// refused with 503.
        max_connections: usize = 65_536;

        /// Simultaneous connections from one IP address, or from one IPv6 /64 network.
        ///
        /// Further upgrade requests are refused with 429. Behind a proxy, name the proxy with
        /// [`trusted_proxies`](crate::ChatRoomsBuilder::trusted_proxies). Otherwise all clients share the
        /// proxy's address and thus this limit.
        ///
        /// **The limit needs the client's address.** Put a [`PeerAddr`](crate::PeerAddr) into the extensions
        /// of each request. Without it there are no limits per address.
        ///
        /// The default leaves room for a school or an office behind one address, and gives one machine no
        /// more than a 256th of the default [`max_connections`](Limits::max_connections).
        max_connections_per_ip: usize = 256;

        /// Simultaneous connections that have not entered a room yet, or not authenticated.
        ///
        /// Further upgrade requests are refused with 503; connections that have entered a room are not
        /// affected. If your clients stay connected without entering a room, set it to
        /// [`max_connections`](Limits::max_connections). The default lets all clients come back within a few
        /// seconds after a restart.
        max_pending: usize = 16_384;

        /// Frames that may wait in a connection's send queue.
        ///
        /// The send queue holds frames that the kernel's socket buffer does not accept. When it is full, the
        /// [`slow_consumer`](crate::ChatRoomsBuilder::slow_consumer) policy applies. While a room
        /// holds back its senders for a client ([`SlowConsumer::Close`](crate::SlowConsumer::Close)), only the limit on
        /// bytes applies to that client.
        max_queue_frames: usize = 1024;

        /// Bytes that may wait in a connection's send queue.
        ///
        /// The first burst that a socket does not accept is kept whatever its size, so that a client that has
        /// kept up so far does not immediately count as slow. It counts as slow if it reads nothing while
        /// more than this limit arrives. A slow connection therefore holds at most this limit and one burst,
        /// twice the limit in total, and shares most of that memory with the other slow members.
        ///
        /// This limit also bounds the frames that a room collects between two deliveries: an eighth of the limit from
        /// members, and half of it from you. Beyond that, members have to wait, and you get
        /// [`SendError::Busy`](crate::SendError::Busy).
        ///
        /// A client in several rooms that makes progress may have one such limit for each of its rooms waiting, but no more
        /// than eight.
        max_queue_bytes: usize = 1024 * 1024;

        /// Malformed frames in a row that close a connection with 1008.
        max_bad_frames: u32 = 8;

        /// Failed authentications that close a connection with 1008.
        ///
        /// All failures of a connection count, no matter what succeeds in between.
        max_failed_auths: u32 = 8;
    }
}

impl Limits {
    /// Whether an object of this many bytes, with name and count added, does not fit into an empty queue.
    pub(crate) fn is_too_big(&self, bytes: usize) -> bool {
        bytes > self.max_queue_bytes.saturating_sub(self.overhead())
    }

    pub(crate) fn name(&self) -> MaxLen {
        MaxLen { bytes: self.max_name_bytes, chars: self.max_name_chars }
    }

    pub(crate) fn room_id(&self) -> MaxLen {
        MaxLen { bytes: self.max_room_id_bytes, chars: self.max_room_id_chars }
    }

    /// How much a relayed object can grow: by the frame's header, counters, and the name and the room id, each byte of
    /// which may take six in JSON.
    pub(crate) fn overhead(&self) -> usize {
        self.max_name_bytes.saturating_add(self.max_room_id_bytes).saturating_mul(6).saturating_add(128)
    }
}

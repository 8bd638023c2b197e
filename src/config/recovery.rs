use std::time::Duration;

use crate::config::History;
use crate::config::options::options;

options! {
    /// What is kept for clients that lose their connection and come back.
    ///
    /// Only clients of the `chat-rooms.v1` subprotocol can resume.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_chat_rooms::{ChatRooms, History, Recovery};
    ///
    /// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// let recovery =
    ///     Recovery::default().resume_window(Duration::from_secs(10)).history(History::last(100));
    /// let rooms = ChatRooms::builder().recovery(recovery).build()?;
    /// # drop(rooms);
    /// # Ok(())
    /// # }
    /// ```
    pub struct Recovery {
        /// How long the session of a lost connection is kept; zero keeps no sessions.
        ///
        /// A client that comes back within this time resumes its session: the other members see it neither
        /// leave nor enter, the count does not change, and [`RoomEvents`](crate::RoomEvents) are not called.
        /// The session of an authenticated user is kept even if the user is in no room. The user stays online.
        /// A session is not kept if the client closed its connection on purpose, or the server closed it because
        /// of what the client did.
        ///
        /// At most [`max_connections`](crate::Limits::max_connections) sessions are kept, and at most
        /// [`max_connections_per_ip`](crate::Limits::max_connections_per_ip) per address.
        resume_window: Duration = Duration::ZERO;

        /// Frames that each room keeps for members that return.
        ///
        /// A returning member receives the frames that it has missed. The limits of the send queue do not
        /// apply to them.
        history: Option<History> as impl Into<Option<History>> = None;
    }
}

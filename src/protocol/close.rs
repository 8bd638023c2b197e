//! Why memberships and connections end, and the close code of each reason on the wire.

use std::fmt;
use std::ops::RangeInclusive;

pub(crate) use tower_chat_rooms_protocol::close::keeps_session;
pub use tower_chat_rooms_protocol::close::may_reconnect;
use tower_chat_rooms_protocol::close::{
    AUTH_EXPIRED, HEARTBEAT_MISSED, KICKED, LIFETIME_OVER, NEVER_AUTHENTICATED, NEVER_ENTERED,
    NOT_AUTHENTICATED, REPLACED, RESTART, ROOM_CLOSED, SLOW, TOO_BIG, TRY_AGAIN_LATER,
};

/// Why a member has left a room, or why a connection was closed.
///
/// A client may reconnect after the close codes 4000 to 4499, 1001, 1006, 1011, 1012 and 1013. It should stay away
/// after 1008, 4500 to 4999 and all others ([`may_reconnect`]).
///
/// ```
/// use tower_chat_rooms::{LeaveReason, may_reconnect};
///
/// let may = |reason: LeaveReason| reason.close_code().is_none_or(may_reconnect);
/// assert!(may(LeaveReason::Shutdown) && may(LeaveReason::Slow) && may(LeaveReason::Lost));
/// assert!(!may(LeaveReason::Kicked) && !may(LeaveReason::Misbehaved));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaveReason {
    /// The client closed the connection.
    Closed,
    /// The connection was reset, or ended without a close frame.
    Lost,
    /// Nothing was received for the heartbeat's timeout (4000).
    HeartbeatMissed,
    /// The client read too slowly: its send queue was full, or its socket took nothing for the
    /// [`write_timeout`](crate::Timeouts::write_timeout) (4001).
    Slow,
    /// The client did not enter a room within the [`enter_timeout`](crate::Timeouts::enter_timeout) (4002), or did not
    /// enter this one again in that time after it had resumed its session.
    NeverEntered,
    /// The connection reached its [`max_lifetime`](crate::Timeouts::max_lifetime) (4003).
    LifetimeOver,
    /// The client left the room, and its connection stays open.
    Left,
    /// A plain client entered another room on the same connection.
    Moved,
    /// The member entered the same room under another name.
    Renamed,
    /// You called [`kick`](crate::ChatRooms::kick) (4500).
    Kicked,
    /// You called [`close_room`](crate::ChatRooms::close_room) (4501 for a plain client).
    RoomClosed,
    /// The client did not authenticate within the [`auth_timeout`](crate::Timeouts::auth_timeout) (4502).
    NeverAuthenticated,
    /// Another connection has resumed the session (4503).
    Replaced,
    /// The user expired before the client sent a new token (4504).
    AuthExpired,
    /// The auth hook refused the upgrade request of a `chat-rooms.v1` client, whose connection is opened only to
    /// tell it (4505). Other clients get the HTTP status.
    NotAuthenticated,
    /// Names are unique, and the user whose own name the member had has entered the room.
    NameTaken,
    /// The policy refused the member when it was asked again, after a new token or a resumption.
    Denied,
    /// The client violated the WebSocket protocol (1002).
    ProtocolViolation,
    /// The client sent a binary frame (1003).
    Binary,
    /// The client sent text that is not UTF-8 (1007).
    NotUtf8,
    /// The client sent too many malformed frames in a row (1008).
    Misbehaved,
    /// The client continued to exceed its rates (1008).
    Flooded,
    /// The client failed to authenticate too often (1008).
    AuthFailed,
    /// The client sent a message over the limit (1009).
    TooBig,
    /// One of your hooks panicked (1011).
    HookFailed,
    /// The server was shut down or [drained](crate::ChatRooms::drain) (1012).
    Shutdown,
    /// The [broker](crate::ChatRoomsBuilder::broker) could not be reached when the client wanted to enter a room (1013).
    Unavailable,
    /// The [broker](crate::ChatRoomsBuilder::broker) has lost events of a room, for example because it was started again.
    /// The client comes back in order to learn of it (1012). Its session is kept meanwhile.
    EventsLost,
    /// The connection's task was dropped, for example with its runtime.
    Dropped,
    /// The member was connected to another [node](crate::ChatRoomsBuilder::broker), which has ended or was cut off from the
    /// broker for too long, and the client has not resumed its session since.
    NodeLost,
}

impl LeaveReason {
    /// All reasons, in the order of their numbers.
    pub(crate) const ALL: [LeaveReason; LeaveReason::NodeLost as usize + 1] = [
        LeaveReason::Closed,
        LeaveReason::Lost,
        LeaveReason::HeartbeatMissed,
        LeaveReason::Slow,
        LeaveReason::NeverEntered,
        LeaveReason::LifetimeOver,
        LeaveReason::Left,
        LeaveReason::Moved,
        LeaveReason::Renamed,
        LeaveReason::Kicked,
        LeaveReason::RoomClosed,
        LeaveReason::NeverAuthenticated,
        LeaveReason::Replaced,
        LeaveReason::AuthExpired,
        LeaveReason::NotAuthenticated,
        LeaveReason::NameTaken,
        LeaveReason::Denied,
        LeaveReason::ProtocolViolation,
        LeaveReason::Binary,
        LeaveReason::NotUtf8,
        LeaveReason::Misbehaved,
        LeaveReason::Flooded,
        LeaveReason::AuthFailed,
        LeaveReason::TooBig,
        LeaveReason::HookFailed,
        LeaveReason::Shutdown,
        LeaveReason::Unavailable,
        LeaveReason::EventsLost,
        LeaveReason::Dropped,
        LeaveReason::NodeLost,
    ];

    /// Returns the close code that is sent to the client, or `None` if none is sent.
    ///
    /// ```
    /// use tower_chat_rooms::LeaveReason;
    ///
    /// assert_eq!(LeaveReason::Kicked.close_code(), Some(4500));
    /// assert_eq!(LeaveReason::Lost.close_code(), None);
    /// ```
    pub fn close_code(self) -> Option<u16> {
        Some(self.row()?.0)
    }

    /// Returns the reason's name in metrics, such as `heartbeat_missed`.
    ///
    /// ```
    /// use tower_chat_rooms::LeaveReason;
    ///
    /// assert_eq!(LeaveReason::HeartbeatMissed.label(), "heartbeat_missed");
    /// ```
    pub fn label(self) -> &'static str {
        match self {
            LeaveReason::Closed => "closed",
            LeaveReason::Lost => "lost",
            LeaveReason::HeartbeatMissed => "heartbeat_missed",
            LeaveReason::Slow => "slow",
            LeaveReason::NeverEntered => "never_entered",
            LeaveReason::LifetimeOver => "lifetime_over",
            LeaveReason::Left => "left",
            LeaveReason::Moved => "moved",
            LeaveReason::Renamed => "renamed",
            LeaveReason::Kicked => "kicked",
            LeaveReason::RoomClosed => "room_closed",
            LeaveReason::NeverAuthenticated => "never_authenticated",
            LeaveReason::Replaced => "replaced",
            LeaveReason::AuthExpired => "auth_expired",
            LeaveReason::NotAuthenticated => "not_authenticated",
            LeaveReason::NameTaken => "name_taken",
            LeaveReason::Denied => "denied",
            LeaveReason::ProtocolViolation => "protocol_violation",
            LeaveReason::Binary => "binary",
            LeaveReason::NotUtf8 => "not_utf8",
            LeaveReason::Misbehaved => "misbehaved",
            LeaveReason::Flooded => "flooded",
            LeaveReason::AuthFailed => "auth_failed",
            LeaveReason::TooBig => "too_big",
            LeaveReason::HookFailed => "hook_failed",
            LeaveReason::Shutdown => "shutdown",
            LeaveReason::Unavailable => "unavailable",
            LeaveReason::EventsLost => "events_lost",
            LeaveReason::Dropped => "dropped",
            LeaveReason::NodeLost => "node_lost",
        }
    }

    /// Whether a session whose connection ends for this reason can be resumed, where sessions are kept.
    pub(crate) fn keeps_session(self) -> bool {
        use LeaveReason::{EventsLost, HeartbeatMissed, LifetimeOver, Lost, Replaced, Slow, Unavailable};
        matches!(self, Lost | HeartbeatMissed | Slow | LifetimeOver | Replaced | Unavailable | EventsLost)
    }

    /// Code and text of the close frame, with the times in which a client may reconnect, in seconds.
    pub(crate) fn frame(self, retry: RangeInclusive<u32>) -> Option<(u16, String)> {
        let (code, text) = self.row()?;
        Some(match self {
            LeaveReason::Shutdown => (code, format!("{text}; retry in {}-{} s", retry.start(), retry.end())),
            // The server is there.
            LeaveReason::EventsLost => {
                (code, format!("{text}; retry in 0-{} s", retry.end() - retry.start()))
            }
            _ => (code, text.into()),
        })
    }

    /// Code and text of the close frame (RFC 6455 §7.4). The text is at most 123 bytes.
    fn row(self) -> Option<(u16, &'static str)> {
        Some(match self {
            LeaveReason::Closed
            | LeaveReason::Lost
            | LeaveReason::Left
            | LeaveReason::Moved
            | LeaveReason::Renamed
            | LeaveReason::Denied
            | LeaveReason::NameTaken
            | LeaveReason::Dropped
            | LeaveReason::NodeLost => return None,
            LeaveReason::ProtocolViolation => (1002, "protocol error"),
            LeaveReason::Binary => (1003, "only text frames are accepted"),
            LeaveReason::NotUtf8 => (1007, "a text frame contained invalid UTF-8"),
            LeaveReason::Misbehaved => (1008, "too many malformed frames"),
            LeaveReason::Flooded => (1008, "too much too fast: send less"),
            LeaveReason::AuthFailed => (1008, "too many failed authentications"),
            LeaveReason::TooBig => (TOO_BIG, "message too big"),
            LeaveReason::HookFailed => (1011, "internal error"),
            LeaveReason::Shutdown => (RESTART, "the server restarts"),
            LeaveReason::EventsLost => (RESTART, "events of a room were lost"),
            LeaveReason::Unavailable => (TRY_AGAIN_LATER, "the room cannot be reached; try again later"),
            LeaveReason::HeartbeatMissed => (HEARTBEAT_MISSED, "a heartbeat was not answered in time"),
            LeaveReason::Slow => (SLOW, "the client reads too slowly; retry in 1 s"),
            LeaveReason::NeverEntered => (NEVER_ENTERED, "no room was entered in time"),
            LeaveReason::LifetimeOver => {
                (LIFETIME_OVER, "the connection has reached its maximum age; reconnect")
            }
            LeaveReason::Kicked => (KICKED, "kicked"),
            LeaveReason::RoomClosed => (ROOM_CLOSED, "the room was closed"),
            LeaveReason::NeverAuthenticated => {
                (NEVER_AUTHENTICATED, "the client did not authenticate in time")
            }
            LeaveReason::Replaced => (REPLACED, "resumed by another connection"),
            LeaveReason::AuthExpired => (AUTH_EXPIRED, "the token has expired"),
            LeaveReason::NotAuthenticated => (NOT_AUTHENTICATED, "not authenticated"),
        })
    }
}

impl fmt::Display for LeaveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LeaveReason::Closed => "closed by the client",
            LeaveReason::Lost => "connection lost",
            LeaveReason::HeartbeatMissed => "heartbeat missed",
            LeaveReason::Slow => "too slow",
            LeaveReason::NeverEntered => "never entered",
            LeaveReason::Left => "left the room",
            LeaveReason::Moved => "moved to another room",
            LeaveReason::Renamed => "renamed",
            LeaveReason::LifetimeOver => "maximum age reached",
            LeaveReason::Kicked => "kicked",
            LeaveReason::RoomClosed => "room closed",
            LeaveReason::NeverAuthenticated => "never authenticated",
            LeaveReason::Replaced => "replaced by another connection",
            LeaveReason::AuthExpired => "authentication expired",
            LeaveReason::NotAuthenticated => "not authenticated",
            LeaveReason::Denied => "denied by the policy",
            LeaveReason::NameTaken => "name taken by its user",
            LeaveReason::ProtocolViolation => "protocol violation",
            LeaveReason::Binary => "binary frame",
            LeaveReason::NotUtf8 => "invalid UTF-8",
            LeaveReason::Misbehaved => "too many malformed frames",
            LeaveReason::Flooded => "too much too fast",
            LeaveReason::AuthFailed => "too many failed authentications",
            LeaveReason::TooBig => "message too big",
            LeaveReason::HookFailed => "a hook failed",
            LeaveReason::Shutdown => "server shutdown",
            LeaveReason::Unavailable => "broker unavailable",
            LeaveReason::EventsLost => "events lost",
            LeaveReason::Dropped => "dropped by the server",
            LeaveReason::NodeLost => "node lost",
        })
    }
}

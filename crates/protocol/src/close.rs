//! WebSocket close codes, and what they mean for the client's session.
//!
//! The codes 4000 to 4499 ask the client to reconnect, 4500 to 4999 ask it to stay away.

/// The client has left on purpose (RFC 6455).
pub const NORMAL: u16 = 1000;

/// One end is going away: a page that is left, a proxy that reloads (RFC 6455).
pub const GOING_AWAY: u16 = 1001;

/// A close frame without a code. Never sent (RFC 6455).
pub const NO_CODE: u16 = 1005;

/// The connection ended without a close frame. Never sent (RFC 6455).
pub const ABNORMAL: u16 = 1006;

/// A message was over the limit (RFC 6455).
pub const TOO_BIG: u16 = 1009;

/// The server shuts down. Reconnect when its reason says so.
pub const RESTART: u16 = 1012;

/// The server cannot do it at the moment. Reconnect later.
pub const TRY_AGAIN_LATER: u16 = 1013;

/// Nothing was received for the heartbeat's timeout. A client that gives up a connection in order
/// to reconnect closes it with this code as well.
pub const HEARTBEAT_MISSED: u16 = 4000;

/// The client reads too slowly.
pub const SLOW: u16 = 4001;

/// The client entered no room in the time allowed.
pub const NEVER_ENTERED: u16 = 4002;

/// The connection reached the age at which the server closes connections.
pub const LIFETIME_OVER: u16 = 4003;

/// The host has kicked the client.
pub const KICKED: u16 = 4500;

/// The host has closed the room.
pub const ROOM_CLOSED: u16 = 4501;

/// The client did not authenticate in the time allowed.
pub const NEVER_AUTHENTICATED: u16 = 4502;

/// Another connection has resumed the session.
pub const REPLACED: u16 = 4503;

/// The user's authentication has expired.
pub const AUTH_EXPIRED: u16 = 4504;

/// The client was not authenticated at the upgrade.
pub const NOT_AUTHENTICATED: u16 = 4505;

/// Whether a client may reconnect after its connection was closed with this code. Use
/// [`ABNORMAL`] for a connection that ended without a close frame.
///
/// ```
/// use tower_chat_rooms_protocol::close::{self, may_reconnect};
///
/// assert!(may_reconnect(close::ABNORMAL) && may_reconnect(close::SLOW));
/// assert!(!may_reconnect(close::NORMAL) && !may_reconnect(close::KICKED));
/// ```
pub const fn may_reconnect(code: u16) -> bool {
    matches!(code, 1001 | 1006 | 1011..=1013 | 4000..=4499)
}

/// Whether a client that closes its connection with this code wants its session to be kept, in order to
/// resume it. [`GOING_AWAY`] keeps it as well, because proxies send it when they reload. A client that leaves
/// closes with [`NORMAL`].
///
/// ```
/// use tower_chat_rooms_protocol::close::{self, keeps_session};
///
/// assert!(keeps_session(close::HEARTBEAT_MISSED) && keeps_session(close::GOING_AWAY));
/// assert!(!keeps_session(close::NORMAL));
/// ```
pub const fn keeps_session(code: u16) -> bool {
    matches!(code, GOING_AWAY | 4000..=4499)
}

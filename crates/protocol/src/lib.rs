//! What the server and the clients of [tower-chat-rooms] have to agree on.
//!
//! The crate holds constants and the rules for close codes, nothing else. You need it only to
//! write a client of your own.
//!
//! [tower-chat-rooms]: https://docs.rs/tower-chat-rooms
#![no_std]

use core::time::Duration;

pub mod close;

/// The WebSocket subprotocol of the plain protocol. A server chooses it if a client offers it and
/// does not offer [`SUBPROTOCOL_V1`]. A connection without a subprotocol uses the plain protocol as well.
pub const SUBPROTOCOL_PLAIN: &str = "chat-rooms";

/// The WebSocket subprotocol with positions, acknowledgements and session resumption.
pub const SUBPROTOCOL_V1: &str = "chat-rooms.v1";

/// Events that only the server sends. A client that sends one of them receives the error
/// `reserved_event`. A `heartbeat` is allowed as the answer to a heartbeat or, in `chat-rooms.v1`, to ask for one.
///
/// `state`, `members` and `history` are sent by clients of `chat-rooms.v1` as well, and so is `direct`, for a message to a
/// user.
pub const SERVER_EVENTS: [&str; 17] = [
    "out",
    "noAuth",
    "error",
    "heartbeat",
    "welcome",
    "entered",
    "left",
    "resumed",
    "ack",
    "expiring",
    "authenticated",
    "lagged",
    "state",
    "presence",
    "members",
    "direct",
    "history",
];

/// The maximum length of a `cid`, the id that a client gives to a message, in bytes.
pub const MAX_CID_BYTES: usize = 64;

/// How many of a session's most recent message ids the server remembers. A client that keeps more
/// messages than this unacknowledged may have one published twice after a lost connection.
pub const MAX_CIDS: usize = 128;

/// The time of a message's id is the number without this many low bits, in milliseconds since [`MESSAGE_ID_START`].
pub const MESSAGE_ID_COUNTER_BITS: u32 = 12;

/// When the times of message ids begin, since the Unix epoch: 2020-01-01T00:00:00Z.
pub const MESSAGE_ID_START: Duration = Duration::from_secs(1_577_836_800);

/// How many messages an answer to `history` has if the client does not say.
pub const DEFAULT_HISTORY: usize = 50;

/// The most messages that an answer to `history` has.
pub const MAX_HISTORY: usize = 200;

/// The maximum length of a frame with a transient event, as the client sends it, in bytes.
pub const MAX_TRANSIENT_BYTES: usize = 1024;

/// The maximum length of a member's `state` or `info` as JSON text, in bytes.
pub const MAX_PROFILE_BYTES: usize = 1024;

/// The maximum number of members in an `entered` or `members` frame.
pub const MAX_ROSTER_MEMBERS: usize = 100;

/// The maximum length of the list of members in an `entered` or `members` frame, in bytes. A single member may be
/// longer.
pub const MAX_ROSTER_BYTES: usize = 32 * 1024;

/// The maximum number of resume tokens in one `resume`.
pub const MAX_RESUME_TOKENS: usize = 8;

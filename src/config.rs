//! Plain settings: the heartbeat and the limits, with their defaults.

use std::time::Duration;

use crate::ids::MaxLen;

/// How often the server asks each client for a sign of life, and how long it waits for one.
///
/// The server sends `{"event":"heartbeat","message":"ping","num":N}` to every connection once
/// per interval, the connections spread over it, and once when a connection has opened and
/// when it has entered a room. Whatever arrives from the client counts as life. A connection from which nothing has
/// come for `timeout` after a heartbeat is closed and announced as out, which is at most
/// `interval + timeout` after its last sign of life.
///
/// ```
/// use std::time::Duration;
/// use tower_chat_rooms::Heartbeat;
///
/// let fast = Heartbeat::every(Duration::from_secs(1));
/// assert_eq!(fast, Heartbeat::default());
/// assert_eq!(fast.timeout(), Duration::from_secs(1));
///
/// let mobile = Heartbeat::wide_internet();
/// assert_eq!((mobile.interval().as_secs(), mobile.timeout().as_secs()), (25, 20));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    interval: Duration,
    timeout: Duration,
}

impl Heartbeat {
    /// A heartbeat every `interval`, answered within `interval`. At least 50 ms.
    pub fn every(interval: Duration) -> Heartbeat {
        Heartbeat { interval, timeout: interval }
    }

    /// 25 s and 20 s: for clients on phones and behind slow or sleepy networks. It costs a
    /// twenty-fifth of the default and notices a lost client after up to 45 s. A client that
    /// reconnects after 1.5 s without a heartbeat, as the classic tutorial page does, needs
    /// the default instead.
    pub fn wide_internet() -> Heartbeat {
        Heartbeat { interval: Duration::from_secs(25), timeout: Duration::from_secs(20) }
    }

    /// Replaces the time in which a heartbeat must be answered; at most the interval.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Heartbeat {
        Heartbeat { timeout, ..self }
    }

    /// Time between two heartbeats of a connection.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Time in which a heartbeat must be answered.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        Heartbeat::every(Duration::from_secs(1))
    }
}

/// How much of what was said in a room is kept for members who come back.
///
/// Whichever of the three bounds is reached first counts. The memory is given back when the
/// frames grow too old, and when the room's last member has left.
///
/// ```
/// use std::time::Duration;
/// use tower_chat_rooms::History;
///
/// let history = History::last(100).for_at_most(Duration::from_secs(60)).max_bytes(16 * 1024);
/// assert_eq!((history.frames(), history.age().as_secs(), history.bytes()), (100, 60, 16 * 1024));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    frames: usize,
    bytes: usize,
    age: Duration,
}

impl History {
    /// The last `frames` frames of each room: what was said, and who came and went. For at most
    /// 5 minutes, and at most 64 KiB of them.
    pub fn last(frames: usize) -> History {
        History { frames, bytes: 64 * 1024, age: Duration::from_secs(5 * 60) }
    }

    /// Replaces the age up to which a frame is kept.
    #[must_use]
    pub fn for_at_most(self, age: Duration) -> History {
        History { age, ..self }
    }

    /// Replaces the bytes of frames that a room keeps. Up to twice as much is allocated.
    #[must_use]
    pub fn max_bytes(self, bytes: usize) -> History {
        History { bytes, ..self }
    }

    /// Frames that a room keeps.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Bytes of frames that a room keeps.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Age up to which a frame is kept.
    pub fn age(&self) -> Duration {
        self.age
    }
}

/// What is kept for clients that come back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Recovery {
    pub(crate) history: Option<History>,
    /// For how long the seat of a lost member is kept.
    pub(crate) grace: Duration,
}

/// What becomes of a connection when its user's time is over
/// ([`User::expires_at`](crate::User::expires_at)) and no newer token has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnExpiry {
    /// It is told so by `noAuth` and closed with 4504, which tells the client to stay away.
    #[default]
    Close,
    /// It leaves its room and is told so by `noAuth`. It stays open for `auth_timeout`, for the
    /// same user to authenticate in band and enter again.
    WaitForAuth,
}

/// Whether a name may be in a room more than once.
///
/// The connections of one user may always share a name. Another's is taken for as long as he is a
/// member, also while his connection is lost and his seat is kept. What looks alike is not compared
/// ([`Name`](crate::Name)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum UniqueNames {
    /// It may.
    #[default]
    Off,
    /// Once. `Ann` and `ann` are two names.
    Exact,
    /// Once, whether in capitals or not: `Ann`, `ann` and `ANN` are one name, by Unicode's own
    /// rules of upper and lower case.
    AnyCase,
}

/// How members are dealt with.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules {
    pub(crate) on_expiry: OnExpiry,
    pub(crate) unique_names: UniqueNames,
}

/// Every bound on what peers may cost. The builder documents each.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) max_message_bytes: usize,
    pub(crate) max_depth: usize,
    pub(crate) max_name_bytes: usize,
    pub(crate) max_name_chars: usize,
    pub(crate) max_room_id_bytes: usize,
    pub(crate) max_room_id_chars: usize,
    pub(crate) max_room_members: usize,
    pub(crate) max_rooms: usize,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_ip: usize,
    pub(crate) max_pending: usize,
    pub(crate) max_queue_frames: usize,
    pub(crate) max_queue_bytes: usize,
    pub(crate) max_bad_frames: u32,
    pub(crate) enter_timeout: Duration,
    pub(crate) auth_timeout: Duration,
    pub(crate) hook_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) token_warning: Duration,
}

impl Limits {
    /// Whether an object of so many bytes, with name and count added, overflows an empty queue.
    pub(crate) fn is_too_big(&self, bytes: usize) -> bool {
        bytes > self.max_queue_bytes.saturating_sub(self.overhead())
    }

    pub(crate) fn name(&self) -> MaxLen {
        MaxLen { bytes: self.max_name_bytes, chars: self.max_name_chars }
    }

    pub(crate) fn room_id(&self) -> MaxLen {
        MaxLen { bytes: self.max_room_id_bytes, chars: self.max_room_id_chars }
    }

    /// What a relayed object grows by at the most: the frame's header, the count, and the name,
    /// of which JSON may write each byte as six.
    pub(crate) fn overhead(&self) -> usize {
        self.max_name_bytes.saturating_mul(6).saturating_add(64)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_message_bytes: 64 * 1024,
            max_depth: 64,
            max_name_bytes: 128,
            max_name_chars: 64,
            max_room_id_bytes: 128,
            max_room_id_chars: 128,
            max_room_members: 10_000,
            max_rooms: 65_536,
            max_connections: 65_536,
            max_connections_per_ip: 256,
            max_pending: 16_384,
            max_queue_frames: 1024,
            max_queue_bytes: 256 * 1024,
            max_bad_frames: 8,
            enter_timeout: Duration::from_secs(10),
            auth_timeout: Duration::from_secs(10),
            hook_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            token_warning: Duration::from_secs(30),
        }
    }
}

//! Settings on their way to an engine.

mod check;

use std::time::Duration;

use crate::config::{Heartbeat, History, Limits, OnExpiry, Recovery, Rules, SlowConsumer, UniqueNames};
use crate::engine::engine::{Engine, Hooks};
use crate::error::BuildError;
use crate::hooks::auth::Authenticate;
use crate::hooks::events::RoomEvents;
use crate::hooks::policy::RoomPolicy;
use crate::service::origin::Origins;
use crate::service::proxies::TrustedProxies;

/// Builds [`ChatRooms`](crate::ChatRooms): the hooks, the heartbeat, and every limit on what a
/// peer may cost, each with a safe default. No limit at all is `usize::MAX` or
/// `Duration::MAX`.
///
/// ```
/// use std::time::Duration;
/// use tower_chat_rooms::{ChatRooms, Heartbeat};
///
/// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// let rooms = ChatRooms::builder()
///     .heartbeat(Heartbeat::wide_internet())
///     .max_connections(50_000)
///     .max_message_bytes(16 * 1024)
///     .build()?;
/// # drop(rooms);
///
/// let error = ChatRooms::builder().max_message_bytes(512 * 1024).build().unwrap_err();
/// assert!(error.to_string().contains("max_queue_bytes"));
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until it is built"]
#[derive(Default)]
pub struct ChatRoomsBuilder {
    heartbeat: Heartbeat,
    limits: Limits,
    recovery: Recovery,
    rules: Rules,
    hooks: Hooks,
    pub(crate) origins: Origins,
    pub(crate) proxies: TrustedProxies,
}

impl ChatRoomsBuilder {
    /// How often clients are asked for a sign of life. Default: every second.
    pub fn heartbeat(mut self, heartbeat: Heartbeat) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// Who may connect. Default: everybody, as nobody in particular.
    pub fn auth(mut self, auth: impl Authenticate) -> Self {
        self.hooks.auth = Some(Box::new(auth));
        self
    }

    /// Who may enter which room, and what may be said there. Default: everybody everything.
    pub fn policy(mut self, policy: impl RoomPolicy) -> Self {
        self.hooks.policy = Some(Box::new(policy));
        self
    }

    /// Who hears of every enter, leave and message. Default: nobody.
    pub fn events(mut self, events: impl RoomEvents) -> Self {
        self.hooks.events = Some(Box::new(events));
        self
    }

    /// Pages of which origins may connect. Default: those of the host that they connect to, and
    /// whoever is no browser ([`Origins::same_host`]).
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Whose word on the client's address is taken. Default: nobody's, and behind a proxy all clients
    /// have its address, and together [`max_connections_per_ip`](Self::max_connections_per_ip).
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// What was said in a room is kept for members who come back, so that they miss nothing.
    /// Only clients of the `chat-rooms.v1` subprotocol do. Its frames and bytes may be at most
    /// half of `max_queue_frames` and `max_queue_bytes`. Default: nothing is kept.
    pub fn history(mut self, history: History) -> Self {
        self.recovery.history = Some(history);
        self
    }

    /// For how long the seat of a member is kept whose connection was lost. A client that comes
    /// back in time is where it was: the others have seen it neither go nor come, the count has
    /// not moved, and [`RoomEvents`](crate::RoomEvents) were told nothing. Only clients of the
    /// `chat-rooms.v1` subprotocol can; for others, for those who close on purpose, and for those
    /// who were closed for what they did, nothing is kept. At most `max_connections` seats are, and
    /// `max_connections_per_ip` of one address.
    /// Default: zero, which keeps none.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.recovery.grace = grace;
        self
    }

    /// What becomes of a connection whose user's time is over. Default: it is closed.
    pub fn on_expiry(mut self, on_expiry: OnExpiry) -> Self {
        self.rules.on_expiry = on_expiry;
        self
    }

    /// How long before its user's time is over a client of the `chat-rooms.v1` subprotocol is
    /// warned, so that it can send a newer token; zero for no warning. Default: 30 s, enough to
    /// get one over a slow network.
    pub fn token_warning(mut self, ahead: Duration) -> Self {
        self.limits.token_warning = ahead;
        self
    }

    /// Whether two members of a room may have the same name; who comes second gets an error
    /// `name_taken`. Default: they may.
    pub fn unique_names(mut self, unique_names: UniqueNames) -> Self {
        self.rules.unique_names = unique_names;
        self
    }

    /// Bytes of one message of a client, all fragments together. What is longer closes the
    /// connection with 1009, before it is read. Default: 64 KiB.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_message_bytes = bytes;
        self
    }

    /// How deeply arrays and objects may be nested in a message, which protects the parsers of
    /// the other members. Deeper ones get an error `too_deep`. Default: 64.
    pub fn max_depth(mut self, depth: usize) -> Self {
        self.limits.max_depth = depth;
        self
    }

    /// Bytes of a member's name in UTF-8. Default: 128.
    pub fn max_name_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_name_bytes = bytes;
        self
    }

    /// Characters (Unicode scalar values) of a member's name. Default: 64, which is a line of a
    /// roster; ideographs and emoji take three or four bytes each, and meet
    /// [`max_name_bytes`](Self::max_name_bytes) first.
    pub fn max_name_chars(mut self, chars: usize) -> Self {
        self.limits.max_name_chars = chars;
        self
    }

    /// Bytes of a room id in UTF-8. Default: 128.
    pub fn max_room_id_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_room_id_bytes = bytes;
        self
    }

    /// Characters (Unicode scalar values) of a room id. Default: 128, no fewer than bytes, for many
    /// ids are made by machines.
    pub fn max_room_id_chars(mut self, chars: usize) -> Self {
        self.limits.max_room_id_chars = chars;
        self
    }

    /// Members of one room. Who comes when it is full gets an error `room_full`. Each message
    /// costs a write per member. Default: 10,000.
    pub fn max_room_members(mut self, members: usize) -> Self {
        self.limits.max_room_members = members;
        self
    }

    /// Rooms that exist at once; a room exists while somebody is in it. Default: 65,536.
    pub fn max_rooms(mut self, rooms: usize) -> Self {
        self.limits.max_rooms = rooms;
        self
    }

    /// Connections at once, those whose upgrade is under way included. Further upgrades are
    /// refused with 503. Default: 65,536.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.limits.max_connections = connections;
        self
    }

    /// What happens to a member whose queue is full. [`RoomPolicy::slow_consumer`] decides for
    /// single rooms. Default: he is closed with 4001.
    ///
    /// [`RoomPolicy::slow_consumer`]: crate::RoomPolicy::slow_consumer
    pub fn slow_consumer(mut self, slow: SlowConsumer) -> Self {
        self.limits.slow_consumer = slow;
        self
    }

    /// Connections of one peer address at once; of IPv6, of one network of 64 bits. Further upgrades are
    /// refused with 429. Behind a proxy, name it in [`trusted_proxies`](Self::trusted_proxies), or all
    /// clients together have so many.
    ///
    /// **Where the address is not known, there is no such limit**: the host has to put a
    /// [`PeerAddr`](crate::PeerAddr) into the extensions of each request, which tells how.
    ///
    /// Default: 256. A school or an office behind one address fits in, and one machine gets no more than a
    /// 256th of the default `max_connections`.
    pub fn max_connections_per_ip(mut self, connections: usize) -> Self {
        self.limits.max_connections_per_ip = connections;
        self
    }

    /// Connections at once that have not entered a room yet, or not authenticated. Further upgrades are
    /// refused with 503, while those who have entered are served. For hosts whose clients stay connected
    /// without entering, as much as `max_connections`. Default: 16,384, a quarter of that, which is room
    /// enough for all clients to come back after a restart within a few seconds.
    pub fn max_pending(mut self, connections: usize) -> Self {
        self.limits.max_pending = connections;
        self
    }

    /// Frames that may wait for one connection which reads too slowly, beyond what the
    /// kernel's socket buffer holds. What comes on top makes it a
    /// [`slow_consumer`](Self::slow_consumer). Default: 1,024.
    pub fn max_queue_frames(mut self, frames: usize) -> Self {
        self.limits.max_queue_frames = frames;
        self
    }

    /// Bytes that may wait for one connection, as for
    /// [`max_queue_frames`](Self::max_queue_frames). It also bounds what a room gathers: who
    /// says more at once has to wait. The first burst that a socket doesn't take is kept whatever
    /// its size, so that who has kept up so far is not slow at once; if he still reads nothing while
    /// more than this comes, he is. In memory a slow connection holds at most this and one burst,
    /// twice this in all, and shares most of it with the other slow members. Default: 256 KiB,
    /// some seconds of a very busy room.
    pub fn max_queue_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_queue_bytes = bytes;
        self
    }

    /// Time in which a socket must take something of what waits for it. Who takes nothing for so
    /// long, be he alive otherwise, is closed with 4001. Looked at with each heartbeat. Default:
    /// 30 s, in which even a phone between two cells takes something.
    pub fn write_timeout(mut self, time: Duration) -> Self {
        self.limits.write_timeout = time;
        self
    }

    /// Messages per second that a connection may send, and twice as many at once after a pause.
    /// Further ones are dropped with an error `rate_limited`. Other frames (answers to heartbeats,
    /// pings, parts of messages) are counted apart: there may be as many, and two for each heartbeat.
    /// Who was quiet may get up to twice the burst through at once, for the clock is asked only
    /// when it has to be.
    ///
    /// Default: 100, which is beyond anybody's typing, and beyond a page that tells of each
    /// movement of a mouse (60). For bots and other servers give more; for no limit `u32::MAX`.
    pub fn max_messages_per_second(mut self, messages: u32) -> Self {
        self.limits.max_messages_per_second = messages;
        self
    }

    /// Bytes of messages per second that a connection may send, and twice as many at once, as for
    /// [`max_messages_per_second`](Self::max_messages_per_second). Default: 256 KiB, four messages
    /// of the greatest size.
    pub fn max_bytes_per_second(mut self, bytes: usize) -> Self {
        self.limits.max_bytes_per_second = bytes;
        self
    }

    /// How often a connection may enter a room in a minute, all at once if it likes. Each enter
    /// costs a frame to every member, and leaving the old room as many. Further ones get an error
    /// `rate_limited`. Default: 60, more than anybody looks into.
    pub fn max_enters_per_minute(mut self, enters: u32) -> Self {
        self.limits.max_enters_per_minute = enters;
        self
    }

    /// How many rooms a connection may open in a minute by entering where nobody is, as for
    /// [`max_enters_per_minute`](Self::max_enters_per_minute). Default: 20.
    pub fn max_new_rooms_per_minute(mut self, rooms: u32) -> Self {
        self.limits.max_new_rooms_per_minute = rooms;
        self
    }

    /// Frames beyond the rates after which a connection is closed with 1008; each one within them
    /// makes up for one. Default: 100, a second of sending twice as much as is allowed.
    pub fn max_excess(mut self, frames: u32) -> Self {
        self.limits.max_excess = frames;
        self
    }

    /// Time after which a connection is closed with 4003, which tells the client to come back; a
    /// tenth of it less for some, so that those who came together don't go together. For hosts that
    /// want their connections spread anew over their servers, or credentials to be shown again.
    /// Default: `Duration::MAX`, never.
    pub fn max_lifetime(mut self, time: Duration) -> Self {
        self.limits.max_lifetime = time;
        self
    }

    /// Authentications in band that may fail on one connection, all in all: the last of them
    /// closes it with 1008. Nothing makes up for one. Default: 8.
    pub fn max_failed_auths(mut self, failures: u32) -> Self {
        self.limits.max_failed_auths = failures;
        self
    }

    /// Malformed frames in a row that close a connection with 1008. Default: 8.
    pub fn max_bad_frames(mut self, frames: u32) -> Self {
        self.limits.max_bad_frames = frames;
        self
    }

    /// Time until a connection must have entered its first room, and until an upgrade that was
    /// answered must be complete. Who takes longer is closed with 4002. Default: 10 s.
    pub fn enter_timeout(mut self, time: Duration) -> Self {
        self.limits.enter_timeout = time;
        self
    }

    /// Time until somebody must have authenticated in band where that is required. Who takes
    /// longer is closed with 4502. Default: 10 s.
    pub fn auth_timeout(mut self, time: Duration) -> Self {
        self.limits.auth_timeout = time;
        self
    }

    /// Time that a call of an async hook may take before it counts as a refusal. Default: 10 s.
    pub fn hook_timeout(mut self, time: Duration) -> Self {
        self.limits.hook_timeout = time;
        self
    }

    /// Time for the closing handshake, and so for a shutdown. Default: 5 s.
    pub fn close_timeout(mut self, time: Duration) -> Self {
        self.limits.close_timeout = time;
        self
    }

    pub(crate) fn into_engine(self) -> Result<Engine, BuildError> {
        check::check(&self.heartbeat, &self.limits, &self.recovery)?;
        Ok(Engine::new(self.heartbeat, self.limits, self.recovery, self.rules, self.hooks))
    }
}

impl std::fmt::Debug for ChatRoomsBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatRoomsBuilder")
            .field("heartbeat", &self.heartbeat)
            .field("limits", &self.limits)
            .field("origins", &self.origins)
            .field("proxies", &self.proxies)
            .finish_non_exhaustive()
    }
}

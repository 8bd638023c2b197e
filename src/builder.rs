//! The builder: collects hooks and settings, and checks that they fit together.

mod check;
mod weak;

use std::sync::Arc;

use crate::broker::BrokerNode;
use crate::config::{
    Config, Heartbeat, Keep, Limits, OnExpiry, Presence, RateLimits, Recovery, SlowConsumer, Timeouts,
    UniqueNames,
};
use crate::engine::{Engine, Hooks};
use crate::error::BuildError;
use crate::hooks::auth::Authenticate;
use crate::hooks::events::RoomEvents;
use crate::hooks::policy::RoomPolicy;
use crate::http::edge::Gate;
use crate::http::origin::Origins;
use crate::http::proxies::TrustedProxies;
use crate::store::MessageStore;

pub use weak::WeakChatRooms;

/// Builds [`ChatRooms`](crate::ChatRooms).
///
/// ```
/// use std::time::Duration;
/// use tower_chat_rooms::{ChatRooms, Heartbeat, Limits, RateLimits, Recovery};
///
/// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// let rooms = ChatRooms::builder()
///     .heartbeat(Heartbeat::wide_internet())
///     .limits(Limits::default().max_connections(50_000).max_message_bytes(16 * 1024))
///     .rate_limits(RateLimits::default().max_messages_per_second(20))
///     .recovery(Recovery::default().resume_window(Duration::from_secs(10)))
///     .build()?;
/// # drop(rooms);
/// # Ok(())
/// # }
/// ```
///
/// Settings that contradict each other make [`build`](ChatRoomsBuilder::build) fail:
///
/// ```
/// # use tower_chat_rooms::{ChatRooms, Limits};
/// let limits = Limits::default().max_message_bytes(2 << 20);
/// let error = ChatRooms::builder().limits(limits).build().unwrap_err();
/// assert!(error.to_string().contains("Limits::max_queue_bytes"));
/// ```
#[must_use = "a builder does nothing until it is built"]
#[derive(Default)]
pub struct ChatRoomsBuilder {
    config: Config,
    hooks: Hooks,
    handle: WeakChatRooms,
    origins: Origins,
    proxies: TrustedProxies,
    node: Option<BrokerNode>,
}

impl ChatRoomsBuilder {
    /// Returns a handle to the chat rooms that this builder will build, for hooks that need one.
    pub fn handle(&self) -> WeakChatRooms {
        self.handle.clone()
    }

    /// Sets the hook that authenticates connections. Default: none; any client may connect anonymously.
    pub fn auth(mut self, auth: impl Authenticate) -> Self {
        self.hooks.auth = Some(Box::new(auth));
        self
    }

    /// Sets the hook that decides who may enter a room and what may be published there. Default: none;
    /// everything is allowed.
    pub fn policy(mut self, policy: impl RoomPolicy) -> Self {
        self.hooks.policy = Some(Box::new(policy));
        self
    }

    /// Sets the hook that is called on every enter, leave and message. Default: none.
    pub fn events(mut self, events: impl RoomEvents) -> Self {
        self.hooks.events = Some(Arc::new(events));
        self
    }

    /// Sets the origins whose pages may connect. Default: [`Origins::same_host`], pages of the host that
    /// they connect to, and clients that are not browsers.
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Sets the proxies whose forwarding headers are trusted. Default: none.
    ///
    /// Behind a proxy that is not trusted, all clients have the proxy's address and share
    /// [`max_connections_per_ip`](Limits::max_connections_per_ip).
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Sets the heartbeat of plain clients. Default: every second, which the tutorial's page needs. For plain
    /// clients of your own, [`Heartbeat::wide_internet`] costs less.
    pub fn heartbeat(mut self, heartbeat: Heartbeat) -> Self {
        self.config.heartbeat = heartbeat;
        self
    }

    /// Sets the heartbeat of `chat-rooms.v1` clients, which learn it from the server. Default:
    /// [`Heartbeat::wide_internet`], every 25 s, for phones and slow networks.
    pub fn v1_heartbeat(mut self, heartbeat: Heartbeat) -> Self {
        self.config.v1_heartbeat = heartbeat;
        self
    }

    /// Sets the limits on sizes and counts.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Sets the limits on how fast one connection, address or user may send.
    pub fn rate_limits(mut self, rate_limits: RateLimits) -> Self {
        self.config.rate_limits = rate_limits;
        self
    }

    /// Sets how long operations may take.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.config.timeouts = timeouts;
        self
    }

    /// Sets what is kept for clients that lose their connection. Default: nothing.
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        self.config.recovery = recovery;
        self
    }

    /// Sets what happens to a member whose send queue is full. Default: [`SlowConsumer::Close`].
    ///
    /// [`RoomPolicy::slow_consumer`] can decide for each room.
    pub fn slow_consumer(mut self, slow_consumer: SlowConsumer) -> Self {
        self.config.slow_consumer = slow_consumer;
        self
    }

    /// Sets whether members of a room must have different names. Default: [`UniqueNames::Off`].
    ///
    /// A client that enters with a taken name gets an error `name_taken`. A user's own name
    /// ([`User::with_name`](crate::User::with_name)) takes precedence: an anonymous member that has it is removed from
    /// the room, and so is one that has taken it before it authenticated as a user with another name of its own.
    pub fn unique_names(mut self, unique_names: UniqueNames) -> Self {
        self.config.unique_names = unique_names;
        self
    }

    /// Sets what the members of a room learn about each other. Default: [`Presence::Full`].
    ///
    /// [`RoomPolicy::presence`] can choose for each room.
    pub fn presence(mut self, presence: Presence) -> Self {
        self.config.presence = presence;
        self
    }

    /// Sets what happens to a connection whose user has expired. Default: [`OnExpiry::Close`].
    pub fn on_expiry(mut self, on_expiry: OnExpiry) -> Self {
        self.config.on_expiry = on_expiry;
        self
    }

    /// Sets the transient events: events that matter only at the moment, for example typing indicators or pointer
    /// positions. Default: none.
    ///
    /// A transient frame goes to the other members, and not back to its sender. It may get lost:
    ///
    /// - It is not in the room log: it has no `seq` and no acknowledgement, and is not in the history. A member whose
    ///   connection is lost does not get it later.
    /// - Until it is delivered, a newer one of the same member and event replaces it, and a message of that member
    ///   drops it.
    /// - A member that still has other frames to read does not get it ([`Stats::transient_dropped`]).
    /// - It may have at most 1,024 bytes (error `too_big`), and has a rate limit of its own,
    ///   [`RateLimits::max_transient_per_second`].
    ///
    /// [`RoomPolicy::may_send`] is asked about it as about a message. [`RoomEvents::message`] is not called.
    /// [`ChatRooms::send`](crate::ChatRooms::send) sends transient events in the same way, to all members.
    ///
    /// ```
    /// use tower_chat_rooms::ChatRooms;
    ///
    /// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// let rooms = ChatRooms::builder().transient_events(["typing", "pointer"]).build()?;
    /// # drop(rooms);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`Stats::transient_dropped`]: crate::Stats::transient_dropped
    pub fn transient_events(mut self, events: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.config.events.transient = events.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the events that only you may send. A client that sends one gets the error `reserved_event`. Default: none.
    ///
    /// Without this setting, a member can send any event, for example a `notice` that looks like one of yours.
    ///
    /// ```
    /// use tower_chat_rooms::ChatRooms;
    ///
    /// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// let rooms = ChatRooms::builder().host_events(["notice"]).build()?;
    /// # drop(rooms);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A client can also tell from a frame who sent it. In `chat-rooms.v1`, **a room frame of a member always has the
    /// key `member`, and one of the host never does**, because only the server sets this key. In the plain protocol, a
    /// frame of a member always has the member's `name`, so send your own frames without a `name`.
    pub fn host_events(mut self, events: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.config.events.host = events.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the store that keeps the messages of rooms, in your database. Default: none.
    ///
    /// By default, a message is stored before the members of its room get it and before its sender gets the
    /// acknowledgement ([`Keep::First`]). While the store works, the next messages of the room wait, and are then stored
    /// together. Rooms do not wait for each other, and enters and leaves do not wait. [Transient
    /// events](ChatRoomsBuilder::transient_events) and direct messages are not stored.
    ///
    /// If the store fails or takes longer than [`store_timeout`](Timeouts::store_timeout), the sender gets the error
    /// `unavailable`, and the clients of this project send the message again. The store finds it by its
    /// [key](crate::store::StoredMessage::key) if it has it already, so it is stored and published once, even if the
    /// server was started again meanwhile. In this case, it has the id from the first time, which may be lower than
    /// those of messages before it.
    ///
    /// Clients of `chat-rooms.v1` can read the messages again: pages of them with `history`, the latest ones when they enter, and
    /// those that they have missed after a restart. [`RoomPolicy::may_read`](crate::RoomPolicy::may_read) decides who may.
    ///
    /// Messages that the room has in its [`history`](Recovery::history) are read from there. With [`Keep::Behind`], set one that
    /// is long enough: otherwise, a client may miss messages that are not stored yet when it enters.
    ///
    /// The key is the client's `cid` together with the id of its user, if it is authenticated, or the key of
    /// [`send_once`](crate::ChatRooms::send_once).
    ///
    /// A store and a [broker](ChatRoomsBuilder::broker) cannot be used together yet.
    ///
    /// ```
    /// use tower_chat_rooms::store::MemoryStore; // for tests
    /// use tower_chat_rooms::{ChatRooms, Keep};
    ///
    /// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// let rooms = ChatRooms::builder().store(MemoryStore::new()).keep(Keep::Behind).build()?;
    /// # drop(rooms);
    /// # Ok(())
    /// # }
    /// ```
    pub fn store(mut self, store: impl MessageStore) -> Self {
        self.hooks.store = Some(Arc::new(store));
        self
    }

    /// Sets when messages are stored, if there is a [`store`](ChatRoomsBuilder::store). Default: [`Keep::First`].
    ///
    /// [`Verdict::keep`](crate::Verdict::keep) can choose for each message.
    pub fn keep(mut self, keep: Keep) -> Self {
        self.config.keep = Some(keep);
        self
    }

    /// Shares the rooms with other processes, through a broker. Each process is a node. Default: none.
    ///
    /// Give all nodes the same settings and hooks. All members of a room get its frames in the same order, and with the same
    /// numbers, whichever node they are connected to.
    ///
    /// A client that loses its connection can resume its session on any node, within the
    /// [`resume_window`](Recovery::resume_window): the other members do not notice. After a node has crashed, its members
    /// stay in their rooms for that time, if their clients can resume. [`RoomEvents::left`] is then called on another node
    /// than [`RoomEvents::entered`]. In [`Stats`](crate::Stats), a member that moves has left here and entered there.
    ///
    /// The same is true after a [`shutdown`](crate::ChatRooms::shutdown) and a [`drain`](crate::ChatRooms::drain), so you
    /// can deploy a new version node by node. Without a `resume_window`, the members leave, and their clients enter the rooms
    /// again elsewhere. If all nodes are shut down, the members that were kept are removed when a node starts again.
    ///
    /// While the broker cannot be reached, connections stay open. A message waits up to one second, and then gets the error
    /// `unavailable`, after which clients send it again. An enter waits up to five seconds; then the connection is
    /// closed with 1013, and the client comes back later. If events of a room are lost, for example because the broker
    /// was started again, the room's members are disconnected with 1012, so that their clients come back, spread over some
    /// time, and learn of it.
    ///
    /// # The host's calls
    ///
    /// The calls of [`ChatRooms`](crate::ChatRooms) do not wait for other nodes. Those that change or send something work on
    /// all nodes, but the numbers that they return are those of this node, there is no error if a room or a connection does
    /// not exist elsewhere, and if the broker cannot be reached, the other nodes miss the call. Those that tell something
    /// tell what this node knows: [`rooms`](crate::ChatRooms::rooms) are those in which it has members, with the numbers of
    /// all nodes, and [`members`](crate::ChatRooms::members) and users are its own.
    ///
    /// [`ChatRooms::all_nodes`](crate::ChatRooms::all_nodes) has the same calls for all nodes. They ask the others, wait for
    /// their answers, and fail if there is none.
    ///
    /// # Users and direct messages
    ///
    /// A user is online while it has a session on any node. [`RoomEvents::online`] is called by the node on which its first
    /// session begins, and [`RoomEvents::offline`] by the node on which its last one ends. These callbacks, and the session's
    /// others, wait until the broker has answered.
    ///
    /// A [direct message](crate::RoomPolicy::may_send_direct) is acknowledged when all nodes have it on which the user has a
    /// session. Otherwise the client gets the error `unavailable` after a second at most, and sends it again under its id;
    /// nodes that have it already do not deliver it again.
    ///
    /// # Nodes that are lost
    ///
    /// If a node crashes, or cannot reach the broker for too long, another node removes its members and the sessions of its
    /// users, unless a client resumes its session elsewhere. So it does with what a node has kept that was shut down. It
    /// calls [`RoomEvents::left`] for each member, with [`LeaveReason::NodeLost`](crate::LeaveReason::NodeLost), and
    /// [`RoomEvents::offline`] for users that have no other session. A user is kept online for the
    /// [`resume_window`](Recovery::resume_window) if its client could come back. The callbacks get only what the broker
    /// knows: the [`User`](crate::User) has nothing but its id, and there is no `peer`.
    ///
    /// Some of these calls can be missing or repeated:
    ///
    /// - If that node itself ends between removing a member or a user and calling the callback, or cannot reach the broker for
    ///   a minute, the call is lost.
    /// - If the lost node is still there after all, it enters its members again, and calls [`RoomEvents::entered`] and
    ///   [`RoomEvents::online`] again for the members and users that the others have taken for lost. Such a member may
    ///   leave just then, and `left` is called twice.
    /// - The host is told at once when a member leaves while its node cannot reach the broker. If that node then ends, another
    ///   one removes the member, and `left` is called twice.
    /// - If a node ends or is lost, the calls that it has not made yet are lost. If they were `entered` or `online`, another node
    ///   may call `left` or `offline` nevertheless.
    /// - If a client comes back on another node while it enters a room, that node calls `entered`; but not if it cannot reach the
    ///   broker just then, or if the client changes its name.
    /// - While nodes tell a broker that has lost its data of their users again, a user whose session ends may be taken for
    ///   offline although another node has a session of it, and one with another session for online once more.
    ///
    /// # What works differently
    ///
    /// - A session without a room can be resumed only on the node that has kept it, and so can the direct messages that a
    ///   session has missed. Elsewhere, the client learns that there may be some.
    /// - While the broker cannot be reached, no session with a room can be resumed. The connection is closed with 1013, and
    ///   the client comes back later.
    /// - If a client comes back on another node while it leaves a room, or while you remove it, it stays in the room, and
    ///   [`RoomEvents::left`] is called for this and once more when it leaves.
    /// - If [`set_access`](crate::ChatRooms::set_access) has changed whether a member is read-only, the change is lost when
    ///   its client resumes on another node.
    /// - [`History::keep_for`](crate::History::keep_for) has no effect: a room without members on any node is forgotten. This
    ///   includes members that other nodes have removed because their nodes were away for too long.
    /// - If the broker loses its data, sessions may end, and a message that a client sends again because it has got no
    ///   acknowledgement may be published twice.
    /// - A client that reads slowly holds back only the senders of its own node. Those of other nodes may send more than it
    ///   can read, and its [`SlowConsumer`] policy applies earlier.
    /// - [`Left::online`](crate::Left::online) is the number as far as this node knows.
    pub fn broker(mut self, node: BrokerNode) -> Self {
        self.node = Some(node);
        self
    }

    /// The parts of the chat rooms, and the handle that will point to them.
    pub(crate) fn into_parts(self) -> Result<(Engine, Gate, WeakChatRooms), BuildError> {
        check::check(&self.config)?;
        check::check_store(&self.config, self.hooks.store.is_some(), self.node.is_some())?;
        self.log();
        let engine = Engine::new(self.config, self.hooks, self.node);
        Ok((engine, Gate::new(self.origins, self.proxies), self.handle))
    }

    /// Logs what is built, in one line.
    fn log(&self) {
        let Config { heartbeat, v1_heartbeat, .. } = &self.config;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            auth = self.hooks.auth.is_some(),
            policy = self.hooks.policy.is_some(),
            events = self.hooks.events.is_some(),
            store = self.hooks.store.is_some(),
            shared = self.node.is_some(),
            origins = ?self.origins,
            trusted_proxies = ?self.proxies,
            heartbeat = ?heartbeat.interval(),
            v1_heartbeat = ?v1_heartbeat.interval(),
            slow_consumer = ?self.config.slow_consumer,
            changed_options = self.config.changed_options(),
            "chat rooms built"
        );
    }
}

impl std::fmt::Debug for ChatRoomsBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatRoomsBuilder")
            .field("config", &self.config)
            .field("origins", &self.origins)
            .field("proxies", &self.proxies)
            .finish_non_exhaustive()
    }
}

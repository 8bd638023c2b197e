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

    /// Sets the store that keeps the messages of rooms in your database. Default: none.
    ///
    /// By default, the server stores a message before the members of its room get it and before its sender gets the
    /// acknowledgement ([`Keep::First`]). While the store works, the next messages of the room wait, and then the
    /// server stores them together. Rooms do not wait for each other, and enters and leaves do not wait. [Transient
    /// events](ChatRoomsBuilder::transient_events) and direct messages are not stored.
    ///
    /// With [`Keep::First`], the server takes a connection's next message when it has stored the last one. So one
    /// connection can send one message per append, for example a few hundred per second if the database waits for its
    /// disk. Messages of different connections are stored together. If a program has to send more, let it use several
    /// connections, use [`Keep::Behind`], or send the messages as the host ([`send`](crate::ChatRooms::send)), which
    /// need not wait.
    ///
    /// If the store fails or takes longer than [`store_timeout`](Timeouts::store_timeout), the sender gets the error
    /// `unavailable`. The clients of this project then send the message again. If the store already has the message, it
    /// finds it by its [key](crate::store::StoredMessage::key). So the message is stored and published once, even if
    /// the server was restarted in between. It then has the id from the first attempt, which may be lower than the ids
    /// of messages before it.
    ///
    /// Clients of `chat-rooms.v1` can read stored messages: pages of them with `history`, the latest ones when they
    /// enter, and the ones that they missed during a restart. [`RoomPolicy::may_read`](crate::RoomPolicy::may_read)
    /// decides which clients may read.
    ///
    /// The server reads messages from the room's [`history`](Recovery::history) if they are there. With
    /// [`Keep::Behind`], set a history that is long enough. Otherwise, a client that enters may miss messages that are
    /// not stored yet. Very busy rooms also need a history: without it and without a broker, the server reads up to three
    /// times when a client enters. If the room gets another frame during each attempt, the client gets no messages.
    ///
    /// For a client's message, the key is the client's `cid` together with the id of its user, if it is authenticated.
    /// For a message of yours, it is the key of [`send_once`](crate::ChatRooms::send_once).
    ///
    /// If several nodes share a [broker](ChatRoomsBuilder::broker), give them the same store. Each node stores what its own
    /// members and its host send. The broker gives the ids, and lets the nodes take turns, so the store has the messages of
    /// a room in the order in which the members get them. If a node crashes or loses the broker while it has its turn, the
    /// others go on after three seconds at most. `ChatRoomsBuilder::broker` lists what works differently.
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
    /// Give all nodes the same settings and hooks. All members of a room get the same frames in the same order and with
    /// the same numbers, whichever node they are connected to.
    ///
    /// A client that loses its connection can resume its session on any node within the
    /// [`resume_window`](Recovery::resume_window). The other members do not notice. After a node has crashed, its
    /// members stay in their rooms for that time if their clients can resume. When such a member leaves,
    /// [`RoomEvents::left`] is called on another node than [`RoomEvents::entered`]. In [`Stats`](crate::Stats), a
    /// member that moves counts as a leave on the old node and as an enter on the new one.
    ///
    /// Members also stay in their rooms after a [`shutdown`](crate::ChatRooms::shutdown) and a
    /// [`drain`](crate::ChatRooms::drain), so you can deploy a new version node by node. Without a `resume_window`, the
    /// members leave, and their clients enter the rooms again on another node. If all nodes are shut down, the kept
    /// members are removed when a node starts again.
    ///
    /// While the broker cannot be reached, connections stay open. A message waits up to one second. Then its sender
    /// gets the error `unavailable`, and sends it again. An enter waits up to five seconds. Then the connection is
    /// closed with 1013, and the client comes back later. If thousands of clients enter at once, an enter waits while the
    /// broker answers other enters, but not longer than about half a minute. If events of a room are lost, for example
    /// because the broker was restarted, the room's members are disconnected with 1012. Their clients come back, spread
    /// over some time, and learn that messages may be missing.
    ///
    /// # The host's calls
    ///
    /// The calls of [`ChatRooms`](crate::ChatRooms) do not wait for other nodes:
    ///
    /// - Calls that change or send something work on all nodes. The numbers that they return are those of this node.
    ///   They return no error if a room or a connection does not exist on another node. If the broker cannot be
    ///   reached, the other nodes miss the call.
    /// - Calls that list something return what this node knows. [`rooms`](crate::ChatRooms::rooms) lists the rooms in
    ///   which this node has members, with the counts of all nodes. [`members`](crate::ChatRooms::members) and the
    ///   calls about users cover only this node.
    ///
    /// [`ChatRooms::all_nodes`](crate::ChatRooms::all_nodes) has the same calls for all nodes. They wait for the
    /// answers of the other nodes, and fail if an answer is missing.
    ///
    /// # Users and direct messages
    ///
    /// A user is online while it has a session on any node. The node on which its first session begins calls
    /// [`RoomEvents::online`], and the node on which its last session ends calls [`RoomEvents::offline`]. These
    /// callbacks, and the session's other callbacks, wait until the broker has answered.
    ///
    /// A [direct message](crate::RoomPolicy::may_send_direct) is acknowledged when all nodes on which the user has a
    /// session have received it. Otherwise, the client gets the error `unavailable` after a second at most, and sends
    /// the message again under its id. Nodes that already have it do not deliver it again.
    ///
    /// # Nodes that are lost
    ///
    /// If a node crashes, or cannot reach the broker for too long, another node removes its members and the sessions of
    /// its users. Sessions that clients have resumed on other nodes are not affected. After a shutdown, another node
    /// removes in the same way what the stopped node has left behind.
    ///
    /// The other node calls [`RoomEvents::left`] for each member, with
    /// [`LeaveReason::NodeLost`](crate::LeaveReason::NodeLost), and [`RoomEvents::offline`] for each user that has no
    /// other session. A user whose client could come back stays online for the
    /// [`resume_window`](Recovery::resume_window). The callbacks get only what the broker knows: the
    /// [`User`](crate::User) has only its id, and there is no `peer`.
    ///
    /// Some of these calls can be missing or repeated:
    ///
    /// - A call is lost if the other node ends after it has removed a member or a user and before it makes the call. It
    ///   is also lost if that node cannot reach the broker for a minute.
    /// - A node that was taken for lost may still be running. It enters its members again, and calls
    ///   [`RoomEvents::entered`] and [`RoomEvents::online`] again for the members and users that another node has
    ///   removed. If such a member leaves at that moment, `left` is called twice.
    /// - If a member leaves while its node cannot reach the broker, the node calls `left` immediately. If that node
    ///   then ends, another node removes the member and calls `left` again.
    /// - If a node ends or is lost, the calls that it has not made yet are lost. If these were `entered` or `online`,
    ///   another node may still call `left` or `offline`.
    /// - If a client comes back on another node while it enters a room, that node calls `entered`, unless it cannot
    ///   reach the broker at that moment or the client changes its name.
    /// - If the broker loses its data when a node has ended, and no other node has removed its members and users yet, no
    ///   node calls `left` and `offline` for them.
    /// - When the broker has lost its data, the nodes tell it about their users again. Meanwhile, a user whose session
    ///   ends may count as offline although it has a session on another node, and a user that already has a session may
    ///   count as newly online.
    ///
    /// # What works differently
    ///
    /// - A session that is in no room can be resumed only on the node that keeps it. The direct messages that a session
    ///   has missed are also kept only on that node. On other nodes, the client learns that direct messages may be
    ///   missing.
    /// - While the broker cannot be reached, a session that is in a room cannot be resumed. The connection is closed
    ///   with 1013, and the client comes back later.
    /// - If a client comes back on another node while it leaves a room, or while you remove it, it stays in the room.
    ///   [`RoomEvents::left`] is called for this leave, and again when the client really leaves.
    /// - If [`set_access`](crate::ChatRooms::set_access) has changed whether a member is read-only, the change is lost
    ///   when its client resumes on another node. So is an info that you have given a member with
    ///   [`set_info`](crate::ChatRooms::set_info) while the broker could not be reached, if the client resumes before it
    ///   can be reached again.
    /// - [`History::keep_for`](crate::History::keep_for) has no effect. The room's history is deleted when no node has
    ///   members in it any more, even if the last members were removed only because their nodes were away for too long.
    /// - If the broker loses its data, sessions may end. A message that a client sends again because it got no
    ///   acknowledgement may then be published twice.
    /// - With a [store](ChatRoomsBuilder::store), a message kept [`Behind`](crate::Keep::Behind) or
    ///   [`Never`](crate::Keep::Never) waits while another node has its turn at storing messages of the room. A message
    ///   kept `Behind` is stored by its node without a turn. Until it is stored, other nodes have it only in their
    ///   [`history`](Recovery::history). If a client enters while others send, it may get the same message twice, from
    ///   the store and as a frame of the room. Both have the same id. Without a history, the answer to its enter may
    ///   wait another second for the store. Messages of a `RedisPublisher`, or of programs in other languages, are not
    ///   stored. If you send a message to a room without members, it is refused and not stored.
    /// - A client that reads slowly slows down only the senders on its own node. Senders on other nodes may send more
    ///   than it can read, so its [`SlowConsumer`] policy applies earlier.
    /// - A transient frame may arrive up to some milliseconds after a later message of its sender.
    /// - [`Left::online`](crate::Left::online) is the count that this node knows.
    pub fn broker(mut self, node: BrokerNode) -> Self {
        self.node = Some(node);
        self
    }

    /// The parts of the chat rooms, and the handle that will point to them.
    pub(crate) fn into_parts(self) -> Result<(Engine, Gate, WeakChatRooms), BuildError> {
        check::check(&self.config)?;
        check::check_store(&self.config, self.hooks.store.is_some())?;
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
            broker = self.node.is_some(),
            origins = self.origins.summary(),
            trusted_proxies = self.proxies.summary(),
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

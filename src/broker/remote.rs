//! A broker that several processes share. Each of them is a node.
//!
//! A node submits what its members do, and hears the events of each room in which it has members, its own events
//! included. Nothing is applied before its event arrives, so all nodes apply the same events in the same order.

#![cfg_attr(
    not(any(feature = "redis", feature = "test-util")),
    allow(dead_code, reason = "no such broker is compiled")
)]

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::broker::{
    BatchId, BatchOutcome, BatchStart, EventKind, KeptSession, MemberSession, NewSession, NotTaken,
    RoomPlace, Stamp, TakenSession, TokenHash,
};
use crate::config::{History, Recovery};
pub(crate) use crate::error::Unavailable;
use crate::health::Health;
use crate::ids::{ConnectionId, MessageId, Name, RoomId};
use crate::protocol::position::{Epoch, Position};
use crate::protocol::resume::ResumeToken;
use crate::room::Profile;
use crate::stats::BrokerStats;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A node's connection to a broker that several processes share, for
/// [`ChatRoomsBuilder::broker`](crate::ChatRoomsBuilder::broker).
///
/// With the feature `redis`, `BrokerNode::redis` connects to Redis or Valkey. With the feature `test-util`, a
/// `SharedBroker` has nodes for tests.
pub struct BrokerNode {
    pub(crate) broker: Arc<dyn RemoteBroker>,
    pub(crate) events: Box<dyn RemoteEvents>,
}

impl std::fmt::Debug for BrokerNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerNode").field("node", &self.broker.node()).finish_non_exhaustive()
    }
}

/// One stay of a member in a room. A member that leaves and enters again has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct EntryId {
    pub(crate) member: ConnectionId,
    /// Distinguishes the stays of a member.
    pub(crate) number: u64,
}

/// A member that is to enter a room.
#[derive(Debug, Clone)]
pub(crate) struct NewMember {
    pub(crate) entry: EntryId,
    pub(crate) name: Name,
    /// If it is present, it must differ from those of the other members of the room.
    pub(crate) unique: Option<UniqueName>,
    /// It may be hidden.
    pub(crate) profile: Profile,
    /// A stay of a member of this node that ends with the enter. If the member cannot enter, that stay goes on.
    pub(crate) replaces: Option<EntryId>,
    /// Whether its enter has no frame, and its leave neither if its node is gone.
    pub(crate) is_silent: bool,
    /// The session with which it stays in the room if its node is gone.
    pub(crate) session: Option<MemberSession>,
    /// What nodes get with its enter.
    pub(crate) body: Bytes,
    /// What they get with its leave if its node is gone, or if it is replaced.
    pub(crate) leave_body: Bytes,
}

/// A name that only one member of a room may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UniqueName {
    /// The same for all names that count as one.
    pub(crate) key: String,
    /// The user whose members may share the name.
    pub(crate) owner: Option<Arc<str>>,
}

/// A member of a room on any node.
#[derive(Debug, Clone)]
pub(crate) struct RemoteMember {
    pub(crate) entry: EntryId,
    pub(crate) name: Name,
    pub(crate) profile: Profile,
    /// The epoch and the number of the event with which it has entered.
    pub(crate) entered: (Epoch, u64),
}

/// Why a member has not entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotEntered {
    RoomFull,
    NameTaken {
        /// The member that has the name, if it has no owner.
        anonymous: Option<ConnectionId>,
    },
    /// The broker cannot be reached. If the member has entered all the same, its leave follows.
    Unavailable,
}

/// A session of a user, on any node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RemoteSession {
    pub(crate) session: ConnectionId,
    pub(crate) node: u32,
    /// Whether the node is there. If not, the session is kept, so that another node can resume it.
    pub(crate) is_live: bool,
}

/// A member whose node is gone.
#[derive(Debug)]
pub(crate) struct LostMember {
    pub(crate) room: RoomId,
    pub(crate) connection: ConnectionId,
    pub(crate) name: Name,
    pub(crate) user: Option<Arc<str>>,
    pub(crate) is_hidden: bool,
    /// The members that remain.
    pub(crate) num: u64,
}

/// A frame that has its place in the room's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Submitted {
    pub(crate) position: Position,
    pub(crate) id: MessageId,
    /// It was published before, under the same id.
    pub(crate) is_repeat: bool,
}

/// What a node hears.
#[derive(Debug)]
pub(crate) enum RemoteEvent {
    /// The next event of a room.
    Room(RoomEvent),
    /// A frame that is in no order, and that nodes may miss.
    Transient { room: RoomId, body: Bytes },
    /// Events of a room are missing or void. Its next event follows from `stamp`.
    Reset { room: RoomId, stamp: Stamp },
    /// The broker had lost a member of this node, and meanwhile another one has taken its name.
    Evicted { room: RoomId, entry: EntryId },
    /// [`RemoteBroker::send_to_all`] was called, or [`RemoteBroker::send_to_node`] for this node.
    Command { body: Bytes },
    /// This node has taken over a session: comes before the events of its rooms that only its members let this node hear.
    SessionMoved(Box<TakenSession>),
    /// Another node has taken over a session of this node, for the time with this number.
    SessionTaken { session: ConnectionId, generation: u64 },
    /// As above, or the session has ended because this node was away for too long.
    SessionGone { session: ConnectionId, generation: u64 },
    /// This node has removed a member whose node is gone.
    MemberLost(LostMember),
    /// This node has ended the last session of a user, because its node is gone.
    UserOffline { user: Box<str> },
    /// Another node has taken this one for gone, and has ended the last session of a user.
    UserOnline { user: Box<str> },
    /// Another node has taken this one for gone, and has removed a member, which has entered again. Or the host does not know
    /// yet that it has entered ([`RemoteBroker::undo_enter`]).
    EnteredAgain { room: RoomId, connection: ConnectionId },
}

/// An event of a room.
#[derive(Debug, Clone)]
pub(crate) struct RoomEvent {
    pub(crate) room: RoomId,
    pub(crate) stamp: Stamp,
    pub(crate) kind: EventKind,
    /// Whose event it is; `None` if the host has published.
    pub(crate) entry: Option<EntryId>,
    /// Only messages have one.
    pub(crate) id: Option<MessageId>,
    pub(crate) body: Bytes,
    /// Whether it is the leave of a member that enters again with the next event ([`NewMember::replaces`]).
    pub(crate) is_replaced: bool,
}

/// An event with a frame, from a room's log.
#[derive(Debug, Clone)]
pub(crate) struct LoggedEvent {
    pub(crate) event: RoomEvent,
    /// For how long it is in the log.
    pub(crate) age: Duration,
}

/// Puts the events of rooms in order, for several nodes.
///
/// The effects of calls for the same member or session, and of what the host publishes in a room, come in the order of the
/// calls, also if the caller does not wait.
pub(crate) trait RemoteBroker: Send + Sync {
    /// Distinguishes this node's ids from those of all other nodes.
    fn node(&self) -> u32;

    /// Enters a member, unless the room has this many members already, hidden ones included, or another one has its name.
    /// A member that replaces another one enters even if the room is full. From the event of its enter on, this node hears
    /// the room. An enter waits while the broker answers other calls, and fails if it does not answer any call for
    /// [`Progress::PATIENCE`]. A caller that drops the future must call [`RemoteBroker::leave`].
    ///
    /// [`Progress::PATIENCE`]: crate::progress::Progress::PATIENCE
    fn enter(
        &self,
        room: &RoomId,
        member: NewMember,
        max_members: u64,
    ) -> BoxFuture<'static, Result<(), NotEntered>>;

    /// Removes a member of this node: now, or as soon as the broker can be reached. Without a body, the leave is silent.
    /// `generation` is that of its session, or 0.
    fn leave(&self, room: &RoomId, entry: EntryId, generation: u64, body: Option<Bytes>);

    /// As [`RemoteBroker::leave`], for a member whose enter the host does not know of. If another connection has taken its
    /// session over since, on whatever node, the member stays, and that node hears [`RemoteEvent::EnteredAgain`].
    fn undo_enter(&self, room: &RoomId, entry: EntryId, generation: u64, body: Option<Bytes>);

    /// Publishes a message of a member of this node, or of the host: once for each key. It fails if the broker cannot be
    /// reached, or does not know the sender at the moment. If the message has a key, it can be published again under it.
    fn publish(
        &self,
        room: &RoomId,
        entry: Option<EntryId>,
        key: Option<&str>,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Submitted, Unavailable>>;

    /// Begins a batch of this many messages, or prolongs it: until it has ended, no other batch of the room begins. `floor` is
    /// the id of the latest message in the store, if the broker has asked for it. It fails if the broker cannot be reached, or
    /// if nobody is in the room.
    fn begin_batch(
        &self,
        room: &RoomId,
        batch: BatchId,
        len: usize,
        floor: Option<MessageId>,
    ) -> BoxFuture<'static, Result<BatchStart, Unavailable>>;

    /// Ends a batch, and publishes its messages, each of them once for each key. The answers are in their order. It fails if the
    /// broker cannot be reached, if nobody is in the room any more, or if the batch has ended by itself. What the store has of
    /// the batch then counts as not published.
    fn finish_batch(
        &self,
        room: &RoomId,
        batch: BatchId,
        outcome: BatchOutcome,
    ) -> BoxFuture<'static, Result<Vec<Submitted>, Unavailable>>;

    /// Where a room is now, and which messages a client may have missed whose latest message has the id `after`; `None` if the
    /// broker cannot be reached.
    fn place(&self, room: &RoomId, after: Option<MessageId>) -> BoxFuture<'static, Option<RoomPlace>>;

    /// Sends a body that is in no order, and that nodes may miss.
    fn send_transient(&self, room: &RoomId, body: Bytes);

    /// Replaces the profile of a member of this node: now, or as soon as the broker can be reached. The change is void if
    /// another node has taken the member over by then. The body of its event is [`wire::encode_profile`]'s.
    ///
    /// If the broker has lost the member, and it is entered again, the body of that enter is the first one's. If the
    /// member has another profile by then, an event with that one follows immediately.
    ///
    /// [`wire::encode_profile`]: crate::broker::wire::encode_profile
    fn set_profile(&self, room: &RoomId, entry: EntryId, name: &Name, profile: &Profile);

    /// Lets the members of this user share the name of a member of this node: now, or as soon as the broker can be
    /// reached.
    fn set_owner(&self, room: &RoomId, entry: EntryId, owner: &str);

    /// The members of a room, hidden ones included, in the order in which they entered; `None` if the broker cannot be reached.
    fn members(&self, room: &RoomId) -> BoxFuture<'static, Option<Vec<RemoteMember>>>;

    /// The latest events of a room that have frames, up to this stamp, as far as the history has room for them; `None` if
    /// the broker cannot be reached. Frames may be missing at the beginning, but not in between.
    fn log(
        &self,
        room: &RoomId,
        until: Stamp,
        history: History,
    ) -> BoxFuture<'static, Option<Vec<LoggedEvent>>>;

    /// Keeps the logs of rooms, and the ids of messages, for as long as clients need them. Called once.
    fn keep_logs(&self, recovery: &Recovery);

    /// The rooms that have members on any node, with their numbers of members.
    fn rooms(&self) -> BoxFuture<'static, Result<Vec<(RoomId, u64)>, Unavailable>>;

    /// Begins a session of a user: now, or as soon as the broker can be reached. Should this node be gone, the session is
    /// kept for the window. Answers whether it is the first session of the user on any node.
    fn begin_user(
        &self,
        user: &str,
        session: ConnectionId,
        window: Duration,
    ) -> BoxFuture<'static, Result<bool, Unavailable>>;

    /// Ends a session of a user: now, or as soon as the broker can be reached. Answers whether it was the last session of
    /// the user on any node.
    fn end_user(&self, user: &str, session: ConnectionId) -> BoxFuture<'static, Result<bool, Unavailable>>;

    /// The sessions of a user on all nodes, in no order.
    fn user_sessions(&self, user: &str) -> BoxFuture<'static, Result<Vec<RemoteSession>, Unavailable>>;

    /// All nodes, this one included.
    fn nodes(&self) -> BoxFuture<'static, Result<Vec<u32>, Unavailable>>;

    /// Sends a body to all nodes, this one included. Nodes may miss it.
    fn send_to_all(&self, body: Bytes);

    /// Sends a body to one node, which may miss it.
    fn send_to_node(&self, node: u32, body: Bytes);

    /// Sends a body to the other nodes on which a user has sessions. They may miss it. Those for the same user come in order.
    fn send_to_user(&self, user: &str, body: Bytes);

    /// Whether the broker can be used.
    fn health(&self) -> Health;

    /// What the node has done so far.
    fn stats(&self) -> BrokerStats;

    /// The hash of a token.
    fn hash(&self, token: &ResumeToken) -> TokenHash;

    /// Keeps a session, so that it can be resumed on any node. Until that has worked, no member of it can enter.
    fn open_session(&self, session: NewSession);

    /// Changes the user of a session of this node, who alone can resume it.
    fn set_user(&self, session: &KeptSession, user: Option<&str>);

    /// Gives a session of this node another token: now, or as soon as the broker can be reached. Fails if it is not this
    /// node's any more.
    fn rename_session(
        &self,
        session: &KeptSession,
        new: &TokenHash,
    ) -> BoxFuture<'static, Result<(), Unavailable>>;

    /// Forgets a session of this node, whose members leave: now, or as soon as the broker can be reached. The answer tells
    /// whether it was this node's until now.
    fn close_session(&self, session: &KeptSession) -> BoxFuture<'static, bool>;

    /// Takes a session over, with its members, and gives it a new token. Then this node hears
    /// [`RemoteEvent::SessionMoved`].
    fn take_over(
        &self,
        token: &TokenHash,
        new: &TokenHash,
        user: Option<&str>,
    ) -> BoxFuture<'static, Result<(), NotTaken>>;

    /// Removes the members of this node, except those of sessions that it has not closed, and ends its events. Those
    /// sessions can be resumed on other nodes for their windows. Then another node removes their members.
    fn close(&self) -> BoxFuture<'static, ()>;
}

/// The events of a node.
pub(crate) trait RemoteEvents: Send {
    /// The next event; `None` after the node was closed.
    fn next(&mut self) -> BoxFuture<'_, Option<RemoteEvent>>;
}

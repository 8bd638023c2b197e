//! The callbacks for enters, leaves, messages and users.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::hooks::message::Message;
use crate::hooks::user::User;
use crate::ids::{ConnectionId, Name, RoomId};
use crate::protocol::close::LeaveReason;

/// Callbacks for enters, leaves, messages and users.
///
/// Each `entered` is followed by exactly one `left` for the same membership, no matter what ends it. Each `online` is
/// followed by exactly one `offline` for the same user, and all other callbacks of the user are called between them.
/// There is one exception: with a [store](crate::ChatRoomsBuilder::store), a member may leave while its message is being
/// stored. Then `message` is called after `left`, and perhaps after `offline`.
///
/// If several nodes share a [broker](crate::ChatRoomsBuilder::broker), this is true of all nodes together. Each
/// callback is called on one node, usually the node of the connection. If that node [is
/// lost](crate::ChatRoomsBuilder::broker), another node makes the call. The nodes make their calls in the order of the
/// broker, but do not wait for each other. If a user goes offline on one node and then comes online on another one, the
/// calls can overlap, or reach a database in the opposite order.
///
/// No callback is called under a lock, so you can call [`ChatRooms`](crate::ChatRooms) from it. Callbacks run in the
/// connection's task, or in a task of the room, and must not block: for longer work, spawn a task or use
/// [`event_channel`](crate::event_channel).
/// A panic ends at most the callback's own connection. Calls for different connections may overlap.
///
/// No callback is called inside another one. If you end other sessions from a callback, for example with
/// [`ChatRooms::kick`](crate::ChatRooms::kick), their callbacks follow after your callback has returned.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use tower_chat_rooms::{ChatRooms, Entered, Left, RoomEvents};
///
/// #[derive(Default)]
/// struct Members(AtomicUsize);
///
/// impl RoomEvents for Members {
///     fn entered(&self, _: &Entered) {
///         self.0.fetch_add(1, Ordering::Relaxed);
///     }
///
///     fn left(&self, event: &Left) {
///         self.0.fetch_sub(1, Ordering::Relaxed);
///         println!("{} left {}: {}", event.name, event.room, event.reason);
///     }
/// }
///
/// ChatRooms::builder().events(Members::default()).build().unwrap();
/// ```
///
/// A closure receives all events:
///
/// ```
/// use tower_chat_rooms::{ChatRooms, RoomEvent};
///
/// let rooms = ChatRooms::builder().events(|event: RoomEvent<'_>| println!("{event:?}")).build().unwrap();
/// # drop(rooms);
/// ```
pub trait RoomEvents: Send + Sync + 'static {
    /// Called when a connection has entered a room.
    fn entered(&self, event: &Entered) {
        let _ = event;
    }

    /// Called when a connection has left a room. If a member's node is lost, another node makes the call, with
    /// [`LeaveReason::NodeLost`].
    fn left(&self, event: &Left) {
        let _ = event;
    }

    /// Called when a message was sent to a room, by a member or with [`ChatRooms::send`](crate::ChatRooms::send).
    ///
    /// For one room, the calls are in the order in which the members get the messages, and do not overlap. Calls for
    /// different rooms may overlap. If a call takes long, the next messages of the room are delivered, but their
    /// senders wait for their own calls. With a [broker](crate::ChatRoomsBuilder::broker), only the node that has sent
    /// a message makes the call, in the order in which the broker has answered this node.
    ///
    /// If you answer messages from this callback, check [`Message::sender`]. Your answers are reported as well, so if
    /// you answered every message, this would never end.
    ///
    /// It is not called for [transient events](crate::ChatRoomsBuilder::transient_events). [`RoomPolicy::may_send`] is
    /// asked about them.
    ///
    /// [`RoomPolicy::may_send`]: crate::RoomPolicy::may_send
    fn message(&self, event: &Message) {
        let _ = event;
    }

    /// Called when a client has sent a direct message to a user ([`RoomPolicy::may_send_direct`]), even if the message
    /// has not reached the user. You can store the message, or send a push notification if it has
    /// [reached](DirectMessage::reached) no connection. Not called for what you send with
    /// [`ChatRooms::send_to_user`](crate::ChatRooms::send_to_user).
    ///
    /// ```
    /// use tower_chat_rooms::{ChatRooms, DirectMessage, RoomEvents};
    ///
    /// struct Push;
    ///
    /// impl RoomEvents for Push {
    ///     fn direct(&self, event: &DirectMessage<'_>) {
    ///         if event.reached == 0 {
    ///             println!("push to {}: a message from {}", event.to, event.user.id());
    ///         }
    ///     }
    /// }
    ///
    /// ChatRooms::builder().events(Push).build().unwrap();
    /// ```
    ///
    /// [`RoomPolicy::may_send_direct`]: crate::RoomPolicy::may_send_direct
    fn direct(&self, event: &DirectMessage<'_>) {
        let _ = event;
    }

    /// Called when a user comes online, with its first session.
    ///
    /// A session of a user begins when its connection opens, if it was authenticated at the upgrade, or when its client
    /// has authenticated over the connection. The client need not enter a room. See also
    /// [`ChatRooms::is_online`](crate::ChatRooms::is_online).
    ///
    /// For one user, calls of `online` and `offline` alternate and do not overlap. `online` is called before `entered`
    /// for any room that is entered as this user. A connection that was in a room before it authenticated has entered
    /// it anonymously.
    ///
    /// If several nodes share a [broker](crate::ChatRoomsBuilder::broker), the first session on any node counts.
    fn online(&self, event: &UserOnline) {
        let _ = event;
    }

    /// Called when a user goes offline, after its last session has ended and `left` was called for all of its
    /// memberships. A session whose user's authentication has expired does not count until it authenticates again
    /// ([`OnExpiry::WaitForAuth`](crate::OnExpiry::WaitForAuth)).
    ///
    /// A session whose connection is lost ends after the [`resume_window`](crate::Recovery::resume_window), unless the
    /// client resumes it.
    ///
    /// If several nodes share a [broker](crate::ChatRoomsBuilder::broker), the last session on any node counts.
    fn offline(&self, event: &UserOffline) {
        let _ = event;
    }

    /// Called when the engine has been shut down. No other callback follows.
    fn ended(&self) {}
}

impl<F> RoomEvents for F
where
    F: Fn(RoomEvent<'_>) + Send + Sync + 'static,
{
    fn entered(&self, event: &Entered) {
        self(RoomEvent::Entered(event));
    }

    fn left(&self, event: &Left) {
        self(RoomEvent::Left(event));
    }

    fn message(&self, event: &Message) {
        self(RoomEvent::Message(event));
    }

    fn direct(&self, event: &DirectMessage<'_>) {
        self(RoomEvent::Direct(event));
    }

    fn online(&self, event: &UserOnline) {
        self(RoomEvent::Online(event));
    }

    fn offline(&self, event: &UserOffline) {
        self(RoomEvent::Offline(event));
    }
}

/// An event, for closures.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum RoomEvent<'a> {
    /// See [`RoomEvents::entered`].
    Entered(&'a Entered),
    /// See [`RoomEvents::left`].
    Left(&'a Left),
    /// See [`RoomEvents::message`].
    Message(&'a Message),
    /// See [`RoomEvents::direct`].
    Direct(&'a DirectMessage<'a>),
    /// See [`RoomEvents::online`].
    Online(&'a UserOnline),
    /// See [`RoomEvents::offline`].
    Offline(&'a UserOffline),
}

/// A connection has entered a room.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Entered {
    /// The connection.
    pub connection: ConnectionId,
    /// The client's address, if you supply a [`PeerAddr`](crate::PeerAddr).
    pub peer: Option<SocketAddr>,
    /// The room.
    pub room: RoomId,
    /// The member's name in the room.
    pub name: Name,
    /// The user, if authenticated.
    pub user: Option<Arc<User>>,
    /// The number of members after the enter, including this one. Hidden members do not count.
    pub online: usize,
    /// Whether the other members do not see this one ([`Access::hidden`](crate::Access::hidden)).
    pub is_hidden: bool,
}

/// A connection has left a room.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Left {
    /// The connection.
    pub connection: ConnectionId,
    /// The client's address, if you supply a [`PeerAddr`](crate::PeerAddr).
    pub peer: Option<SocketAddr>,
    /// The room.
    pub room: RoomId,
    /// The name that the member had in the room.
    pub name: Name,
    /// The user, if authenticated. For [`LeaveReason::NodeLost`], it has only its id.
    pub user: Option<Arc<User>>,
    /// The number of members that remained. Hidden members do not count.
    pub online: usize,
    /// Why the member has left.
    pub reason: LeaveReason,
    /// Whether the other members did not see this one ([`Access::hidden`](crate::Access::hidden)).
    pub is_hidden: bool,
}

/// A client has sent a direct message to a user.
#[derive(Clone)]
#[non_exhaustive]
pub struct DirectMessage<'a> {
    /// The sender's connection.
    pub connection: ConnectionId,
    /// The sender.
    pub user: &'a Arc<User>,
    /// The id of the user that the message was sent to. There may be no such user.
    pub to: &'a str,
    /// The frame as the sender sent it (or as the policy replaced it), a JSON object, without the keys that only the
    /// server sets and without `to`.
    pub body: &'a str,
    /// The number of open connections that the message has reached, as
    /// [`ChatRooms::send_to_user`](crate::ChatRooms::send_to_user) counts them.
    pub reached: usize,
}

/// Messages may be confidential, so the body is not shown.
impl fmt::Debug for DirectMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectMessage")
            .field("connection", &self.connection)
            .field("user", &self.user)
            .field("to", &self.to)
            .field("reached", &self.reached)
            .finish_non_exhaustive()
    }
}

/// A user has come online.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UserOnline {
    /// The user, as authenticated for the first session.
    pub user: Arc<User>,
}

/// A user has gone offline.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UserOffline {
    /// The user, as last authenticated for the last session. If the node of that session is lost, it has only its id.
    pub user: Arc<User>,
}

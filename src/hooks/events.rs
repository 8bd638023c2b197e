//! The callbacks: who has entered, who has left, what was said.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::hooks::user::User;
use crate::ids::{ConnectionId, Name, RoomId};
use crate::protocol::close::LeaveReason;

/// Hears of every enter, every leave and every message.
///
/// Each `entered` is followed by exactly one `left` for that membership, whatever ends it.
/// Both are called by the member's own task and under no lock, so that they may call
/// [`ChatRooms`](crate::ChatRooms) themselves. They must not block: hand longer work to a task,
/// or use [`event_channel`](crate::event_channel). A panic in one ends at most its own
/// connection. Calls for different connections may overlap.
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
/// A closure takes all three:
///
/// ```
/// use tower_chat_rooms::{ChatRooms, RoomEvent};
///
/// let rooms = ChatRooms::builder().events(|event: RoomEvent<'_>| println!("{event:?}")).build().unwrap();
/// # drop(rooms);
/// ```
pub trait RoomEvents: Send + Sync + 'static {
    /// A connection is now a member of a room.
    fn entered(&self, event: &Entered) {
        let _ = event;
    }

    /// A connection is no longer a member of a room.
    fn left(&self, event: &Left) {
        let _ = event;
    }

    /// A member's message has gone out to its room.
    fn message(&self, event: &Message<'_>) {
        let _ = event;
    }

    /// The engine has been shut down: nothing more will come.
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

    fn message(&self, event: &Message<'_>) {
        self(RoomEvent::Message(event));
    }
}

/// Any of the three, for closures.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum RoomEvent<'a> {
    /// See [`RoomEvents::entered`].
    Entered(&'a Entered),
    /// See [`RoomEvents::left`].
    Left(&'a Left),
    /// See [`RoomEvents::message`].
    Message(&'a Message<'a>),
}

/// A connection is now a member of a room.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Entered {
    /// The connection.
    pub connection: ConnectionId,
    /// The client's address, where the host gave a [`PeerAddr`](crate::PeerAddr).
    pub peer: Option<SocketAddr>,
    /// The room.
    pub room: RoomId,
    /// The member's name there.
    pub name: Name,
    /// The user, where one is authenticated.
    pub user: Option<Arc<User>>,
    /// Members of the room, this one included, when it entered.
    pub online: usize,
}

/// A connection is no longer a member of a room.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Left {
    /// The connection.
    pub connection: ConnectionId,
    /// The client's address, where the host gave a [`PeerAddr`](crate::PeerAddr).
    pub peer: Option<SocketAddr>,
    /// The room.
    pub room: RoomId,
    /// The name that the member had there.
    pub name: Name,
    /// The user, where one was authenticated.
    pub user: Option<Arc<User>>,
    /// Members of the room that remained when it left.
    pub online: usize,
    /// Why.
    pub reason: LeaveReason,
}

/// A message that has gone out to a room.
#[derive(Clone)]
#[non_exhaustive]
pub struct Message<'a> {
    /// The sender's connection.
    pub connection: ConnectionId,
    /// The room.
    pub room: &'a RoomId,
    /// The sender's name there.
    pub name: &'a Name,
    /// The user, where one is authenticated.
    pub user: Option<&'a Arc<User>>,
    /// The event's name, mostly `message`.
    pub event: &'a str,
    /// The frame as the sender wrote it (or as the policy replaced it), a JSON object.
    pub body: &'a str,
}

/// What was said may be secret, so it is not shown.
impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("connection", &self.connection)
            .field("room", &self.room)
            .field("name", &self.name)
            .field("user", &self.user)
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}

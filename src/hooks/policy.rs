//! The room policy: who may enter a room, and what may be sent there.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;

use serde::Serialize;

use crate::config::SlowConsumer;
use crate::error::SendError;
use crate::hooks::user::{Denied, User};
use crate::ids::{ConnectionId, Name, RoomId};
use crate::protocol::host_frame;
use crate::protocol::inbound::message_of;

/// Decides who may enter a room, and what happens to each message.
///
/// ```
/// use tower_chat_rooms::{ChatRooms, Denied, EnterRequest, MessageRequest, RoomPolicy, Verdict};
///
/// struct MyPolicy;
///
/// impl RoomPolicy for MyPolicy {
///     async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<(), Denied> {
///         match request.room().as_str() {
///             "staff" if request.user().is_none() => Err(Denied::new("only for staff: log in first")),
///             _ => Ok(()),
///         }
///     }
///
///     fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
///         if request.text().is_some_and(|text| text.contains("spam")) { Verdict::refuse("no spam") } else { Verdict::allow() }
///     }
/// }
///
/// ChatRooms::builder().policy(MyPolicy).build().unwrap();
/// ```
///
/// A closure only decides who may enter:
///
/// ```
/// use tower_chat_rooms::{ChatRooms, Denied, EnterRequest};
///
/// let rooms = ChatRooms::builder()
///     .policy(|request: &EnterRequest<'_>| {
///         if request.room().as_str().is_empty() { Err(Denied::new("name a room")) } else { Ok(()) }
///     })
///     .build()
///     .unwrap();
/// # drop(rooms);
/// ```
pub trait RoomPolicy: Send + Sync + 'static {
    /// Decides whether a connection may enter a room under a name. Default: yes.
    ///
    /// A call that takes longer than [`hook_timeout`](crate::Timeouts::hook_timeout) is dropped and counts as a
    /// refusal.
    ///
    /// When a member sends a new token or resumes its session, its rights may have changed, so the policy is asked
    /// again for its room ([`EnterRequest::is_renewal`]). A refusal then removes the member from the room; its
    /// connection stays open.
    ///
    /// # Errors
    ///
    /// If the connection may not enter. The client is told the reason.
    fn may_enter(&self, request: &EnterRequest<'_>) -> impl Future<Output = Result<(), Denied>> + Send {
        let _ = request;
        async { Ok(()) }
    }

    /// Decides whether a client that enters a room may read what was published there before. Default: yes.
    ///
    /// This is asked only if the builder keeps a [`history`](crate::Recovery::history), and only about frames that the
    /// client has not been there for: if a `chat-rooms.v1` client asks for the latest messages, returns after its
    /// session has ended, or returns after the room was empty or the server has restarted. What was published while a
    /// client was a member is its own to recover.
    ///
    /// A call that takes longer than [`hook_timeout`](crate::Timeouts::hook_timeout) is dropped and counts as a
    /// refusal.
    ///
    /// ```
    /// use tower_chat_rooms::{ChatRooms, Denied, History, ReadRequest, Recovery, RoomPolicy};
    ///
    /// struct OnlyUsers;
    ///
    /// impl RoomPolicy for OnlyUsers {
    ///     async fn may_read(&self, request: &ReadRequest<'_>) -> Result<(), Denied> {
    ///         request.user().map(|_| ()).ok_or(Denied::new("log in to read what was said before"))
    ///     }
    /// }
    ///
    /// let recovery = Recovery::default().history(History::last(100));
    /// ChatRooms::builder().recovery(recovery).policy(OnlyUsers).build().unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// If the client may not read them. It enters nevertheless, and gets the frames from its enter on.
    fn may_read(&self, request: &ReadRequest<'_>) -> impl Future<Output = Result<(), Denied>> + Send {
        let _ = request;
        async { Ok(()) }
    }

    /// Decides what happens to a message. Default: the message is sent.
    ///
    /// This is called for every message, so it must be fast.
    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        let _ = request;
        Verdict::allow()
    }

    /// Chooses what happens to slow consumers in a room. Default: `None`, the builder's
    /// [`slow_consumer`](crate::ChatRoomsBuilder::slow_consumer).
    ///
    /// This is called at each enter, not for each message.
    ///
    /// ```
    /// use tower_chat_rooms::{ChatRooms, RoomId, RoomPolicy, SlowConsumer};
    ///
    /// struct Prices;
    ///
    /// impl RoomPolicy for Prices {
    ///     fn slow_consumer(&self, room: &RoomId) -> Option<SlowConsumer> {
    ///         room.as_str().starts_with("price/").then_some(SlowConsumer::Latest)
    ///     }
    /// }
    ///
    /// assert_eq!(Prices.slow_consumer(&RoomId::from("price/tea")), Some(SlowConsumer::Latest));
    /// ChatRooms::builder().policy(Prices).build().unwrap();
    /// ```
    fn slow_consumer(&self, room: &RoomId) -> Option<SlowConsumer> {
        let _ = room;
        None
    }
}

impl<F> RoomPolicy for F
where
    F: Fn(&EnterRequest<'_>) -> Result<(), Denied> + Send + Sync + 'static,
{
    fn may_enter(&self, request: &EnterRequest<'_>) -> impl Future<Output = Result<(), Denied>> + Send {
        std::future::ready(self(request))
    }
}

/// A request to enter a room.
pub struct EnterRequest<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) user: Option<&'a User>,
    pub(crate) name: &'a Name,
    pub(crate) room: &'a RoomId,
    pub(crate) from: Option<&'a RoomId>,
    pub(crate) body: Option<&'a str>,
    pub(crate) is_renewal: bool,
}

/// Leaves out the frame, which may hold a secret.
impl fmt::Debug for EnterRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnterRequest")
            .field("connection", &self.connection)
            .field("peer", &self.peer)
            .field("user", &self.user)
            .field("name", &self.name)
            .field("room", &self.room)
            .field("from", &self.from)
            .field("is_renewal", &self.is_renewal)
            .finish_non_exhaustive()
    }
}

impl EnterRequest<'_> {
    /// The connection.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The client's address, if you supply a [`PeerAddr`](crate::PeerAddr).
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The user, if authenticated.
    pub fn user(&self) -> Option<&User> {
        self.user
    }

    /// The name in the room.
    pub fn name(&self) -> &Name {
        self.name
    }

    /// The room.
    pub fn room(&self) -> &RoomId {
        self.room
    }

    /// The enter frame, a JSON object, with all keys that the client has added: they are relayed to the room.
    /// `None` if the client is in the room already.
    pub fn body(&self) -> Option<&str> {
        self.body
    }

    /// The room that the connection would leave.
    pub fn from(&self) -> Option<&RoomId> {
        self.from
    }

    /// Whether the connection is a member already and has sent a new token or resumed its session. A refusal then
    /// removes it from the room.
    pub fn is_renewal(&self) -> bool {
        self.is_renewal
    }
}

/// A request to read what was published in a room before.
#[derive(Debug)]
pub struct ReadRequest<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) user: Option<&'a User>,
    pub(crate) name: &'a Name,
    pub(crate) room: &'a RoomId,
    pub(crate) last: Option<usize>,
}

impl ReadRequest<'_> {
    /// The connection.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The client's address, if you supply a [`PeerAddr`](crate::PeerAddr).
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The user, if authenticated.
    pub fn user(&self) -> Option<&User> {
        self.user
    }

    /// The name in the room.
    pub fn name(&self) -> &Name {
        self.name
    }

    /// The room.
    pub fn room(&self) -> &RoomId {
        self.room
    }

    /// How many of the latest messages the client has asked for. `None` if it wants to continue from where it was.
    pub fn last(&self) -> Option<usize> {
        self.last
    }
}

/// A message that a member wants to send to its room.
pub struct MessageRequest<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) user: Option<&'a User>,
    pub(crate) name: &'a Name,
    pub(crate) room: &'a RoomId,
    pub(crate) event: &'a str,
    pub(crate) body: &'a str,
}

impl MessageRequest<'_> {
    /// The connection.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The user, if authenticated.
    pub fn user(&self) -> Option<&User> {
        self.user
    }

    /// The sender's name in the room.
    pub fn name(&self) -> &Name {
        self.name
    }

    /// The room.
    pub fn room(&self) -> &RoomId {
        self.room
    }

    /// The name of the event, usually `message`.
    pub fn event(&self) -> &str {
        self.event
    }

    /// The frame as the client sent it, a JSON object.
    pub fn body(&self) -> &str {
        self.body
    }

    /// The text of the message, if `message` is a string: what its readers see, without JSON's escapes.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        message_of(self.body)
    }
}

/// Messages may be confidential, so the body is not shown.
impl fmt::Debug for MessageRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageRequest")
            .field("connection", &self.connection)
            .field("user", &self.user)
            .field("name", &self.name)
            .field("room", &self.room)
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}

/// What happens to a message. Returned by [`RoomPolicy::may_send`].
#[derive(Debug)]
pub struct Verdict(pub(crate) Ruling);

pub(crate) enum Ruling {
    Allow,
    Replace(String),
    Drop,
    Refuse(Denied),
}

/// Leaves out the message.
impl fmt::Debug for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ruling::Allow => "Allow",
            Ruling::Replace(_) => "Replace",
            Ruling::Drop => "Drop",
            Ruling::Refuse(_) => "Refuse",
        })
    }
}

impl Verdict {
    /// Sends the message unchanged.
    pub fn allow() -> Verdict {
        Verdict(Ruling::Allow)
    }

    /// Sends another message instead. Like any other message, it gets `name` and `num`, and in `chat-rooms.v1` the
    /// original's `cid`.
    ///
    /// # Errors
    ///
    /// If the value does not serialize to a JSON object with a string `event`.
    pub fn replace(value: &impl Serialize) -> Result<Verdict, SendError> {
        Ok(Verdict(Ruling::Replace(host_frame::serialize(value)?)))
    }

    /// Drops the message without telling the sender.
    pub fn drop_silently() -> Verdict {
        Verdict(Ruling::Drop)
    }

    /// Drops the message and sends the sender an error `denied` with a reason.
    pub fn refuse(reason: impl Into<std::borrow::Cow<'static, str>>) -> Verdict {
        Verdict(Ruling::Refuse(Denied::new(reason)))
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// `RoomPolicy` as a trait object.
pub(crate) trait ErasedPolicy: Send + Sync {
    fn may_enter<'a>(&'a self, request: &'a EnterRequest<'a>) -> BoxFuture<'a, Result<(), Denied>>;
    fn may_read<'a>(&'a self, request: &'a ReadRequest<'a>) -> BoxFuture<'a, Result<(), Denied>>;
    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict;
    fn slow_consumer(&self, room: &RoomId) -> Option<SlowConsumer>;
}

impl<P: RoomPolicy> ErasedPolicy for P {
    fn may_enter<'a>(&'a self, request: &'a EnterRequest<'a>) -> BoxFuture<'a, Result<(), Denied>> {
        Box::pin(RoomPolicy::may_enter(self, request))
    }

    fn may_read<'a>(&'a self, request: &'a ReadRequest<'a>) -> BoxFuture<'a, Result<(), Denied>> {
        Box::pin(RoomPolicy::may_read(self, request))
    }

    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        RoomPolicy::may_send(self, request)
    }

    fn slow_consumer(&self, room: &RoomId) -> Option<SlowConsumer> {
        RoomPolicy::slow_consumer(self, room)
    }
}

//! The room policy: who may enter a room, and what may be sent there.

mod access;
mod requests;
mod verdict;

use std::pin::Pin;

use crate::config::{Presence, SlowConsumer};
use crate::hooks::user::Denied;
use crate::ids::RoomId;

pub use access::Access;
pub use requests::{DirectRequest, EnterRequest, MessageRequest, ReadRequest};
pub use verdict::Verdict;
pub(crate) use verdict::{Decision, Ruling};

/// Decides who may enter a room, and what happens to each message.
///
/// ```
/// use tower_chat_rooms::{Access, ChatRooms, Denied, EnterRequest, MessageRequest, RoomPolicy, Verdict};
///
/// struct MyPolicy;
///
/// impl RoomPolicy for MyPolicy {
///     async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
///         match request.room().as_str() {
///             "staff" if request.user().is_none() => Err(Denied::new("only for staff: log in first")),
///             "news" => Ok(Access::member().read_only()),
///             _ => Ok(Access::member()),
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
/// A closure decides only who may enter. Instead of an [`Access`], it may return `()`:
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
    /// Decides whether a connection may enter a room under a name, and with which [`Access`]. Default: every connection
    /// may enter as a [member](Access::member).
    ///
    /// A call that takes longer than [`hook_timeout`](crate::Timeouts::hook_timeout) is dropped and counts as a
    /// refusal.
    ///
    /// When a member sends a new token or resumes its session, its rights may have changed, so the policy is asked
    /// again for its rooms ([`EnterRequest::is_renewal`]). A refusal then removes the member from the room; its
    /// connection stays open. Otherwise a changed [`Access::info`] or [`Access::read_only`] is applied.
    ///
    /// # Errors
    ///
    /// If the connection may not enter. The client is told the reason.
    fn may_enter(&self, request: &EnterRequest<'_>) -> impl Future<Output = Result<Access, Denied>> + Send {
        let _ = request;
        async { Ok(Access::member()) }
    }

    /// Decides whether a client may read what was published in a room before. Default: yes.
    ///
    /// This is called when a `chat-rooms.v1` client
    ///
    /// - asks for earlier messages with `history`,
    /// - enters the room and asks for the latest messages, or
    /// - enters the room and asks for missed frames after its session has ended, the room was empty, or the server has
    ///   restarted.
    ///
    /// If there is neither a [`history`](crate::Recovery::history) nor a [store](crate::ChatRoomsBuilder::store), it is
    /// called only for the first case. A client may always recover frames that were published during its membership.
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
    /// If the client may not read these frames. It still enters, and gets the frames from its enter on. A request with
    /// `history` is refused, and the client gets the reason.
    fn may_read(&self, request: &ReadRequest<'_>) -> impl Future<Output = Result<(), Denied>> + Send {
        let _ = request;
        async { Ok(()) }
    }

    /// Decides what happens to a message. Default: the message is sent.
    ///
    /// This is called for every message, and for every frame with a
    /// [transient event](crate::ChatRoomsBuilder::transient_events), so it must be fast. If the decision takes time, return
    /// [`Verdict::later`].
    ///
    /// It is also called for every state that a client sets, with the event `state` and the value in the key `state` of
    /// the body. If it refuses the state in an enter, the client enters without one.
    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        let _ = request;
        Verdict::allow()
    }

    /// Decides what happens to a direct message, which a `chat-rooms.v1` client sends to all sessions of a user.
    /// Default: it is refused.
    ///
    /// Only authenticated users can send direct messages. Messages to users that do not exist or are offline reach
    /// nobody, but [`RoomEvents::direct`](crate::RoomEvents::direct) is called for them too. A client learns the number
    /// of connections that its message has reached, and thus whether the user is online. Allow only messages to users
    /// whose online status the client may know. Direct messages count as messages for the rate limits.
    ///
    /// If the decision takes time, return [`Verdict::later`]. With [`Verdict::drop_silently`], the sender is told the
    /// number of the user's connections, as if the message had reached them.
    ///
    /// In this example, members of the same room may write to each other:
    ///
    /// ```
    /// use tower_chat_rooms::{ChatRooms, DirectRequest, RoomPolicy, Verdict, WeakChatRooms};
    ///
    /// struct Neighbours {
    ///     rooms: WeakChatRooms,
    /// }
    ///
    /// impl RoomPolicy for Neighbours {
    ///     fn may_send_direct(&self, request: &DirectRequest<'_>) -> Verdict {
    ///         let Some(rooms) = self.rooms.upgrade() else { return Verdict::refuse("the server is shutting down") };
    ///         let theirs = rooms.rooms_of(request.to());
    ///         let share_a_room = rooms.rooms_of(request.user().id()).iter().any(|room| theirs.contains(room));
    ///         if share_a_room { Verdict::allow() } else { Verdict::refuse("you are in no room with this user") }
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// let builder = ChatRooms::builder();
    /// let rooms = builder.handle();
    /// let rooms = builder.policy(Neighbours { rooms }).build()?;
    /// # drop(rooms);
    /// # Ok(())
    /// # }
    /// ```
    fn may_send_direct(&self, request: &DirectRequest<'_>) -> Verdict {
        let _ = request;
        Verdict::refuse("direct messages are not allowed here")
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

    /// Chooses what the members of a room learn about each other. Default: `None`, the builder's
    /// [`presence`](crate::ChatRoomsBuilder::presence).
    ///
    /// This is called at each enter, but the result takes effect only if the enter opens the room. The room keeps it
    /// until it ends.
    ///
    /// ```
    /// use tower_chat_rooms::{ChatRooms, Presence, RoomId, RoomPolicy};
    ///
    /// struct Streams;
    ///
    /// impl RoomPolicy for Streams {
    ///     // Or a `Presence::auto` that `Streams` holds.
    ///     fn presence(&self, room: &RoomId) -> Option<Presence> {
    ///         room.as_str().starts_with("stream/").then_some(Presence::Count)
    ///     }
    /// }
    ///
    /// assert_eq!(Streams.presence(&RoomId::from("stream/7")), Some(Presence::Count));
    /// ChatRooms::builder().policy(Streams).build().unwrap();
    /// ```
    fn presence(&self, room: &RoomId) -> Option<Presence> {
        let _ = room;
        None
    }
}

impl<F, A> RoomPolicy for F
where
    F: Fn(&EnterRequest<'_>) -> Result<A, Denied> + Send + Sync + 'static,
    A: Into<Access>,
{
    fn may_enter(&self, request: &EnterRequest<'_>) -> impl Future<Output = Result<Access, Denied>> + Send {
        std::future::ready(self(request).map(Into::into))
    }
}

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// `RoomPolicy` as a trait object.
pub(crate) trait ErasedPolicy: Send + Sync {
    fn may_enter<'a>(&'a self, request: &'a EnterRequest<'a>) -> BoxFuture<'a, Result<Access, Denied>>;
    fn may_read<'a>(&'a self, request: &'a ReadRequest<'a>) -> BoxFuture<'a, Result<(), Denied>>;
    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict;
    fn may_send_direct(&self, request: &DirectRequest<'_>) -> Verdict;
    fn slow_consumer(&self, room: &RoomId) -> Option<SlowConsumer>;
    fn presence(&self, room: &RoomId) -> Option<Presence>;
}

impl<P: RoomPolicy> ErasedPolicy for P {
    fn may_enter<'a>(&'a self, request: &'a EnterRequest<'a>) -> BoxFuture<'a, Result<Access, Denied>> {
        Box::pin(RoomPolicy::may_enter(self, request))
    }

    fn may_read<'a>(&'a self, request: &'a ReadRequest<'a>) -> BoxFuture<'a, Result<(), Denied>> {
        Box::pin(RoomPolicy::may_read(self, request))
    }

    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        RoomPolicy::may_send(self, request)
    }

    fn may_send_direct(&self, request: &DirectRequest<'_>) -> Verdict {
        RoomPolicy::may_send_direct(self, request)
    }

    fn slow_consumer(&self, room: &RoomId) -> Option<SlowConsumer> {
        RoomPolicy::slow_consumer(self, room)
    }

    fn presence(&self, room: &RoomId) -> Option<Presence> {
        RoomPolicy::presence(self, room)
    }
}

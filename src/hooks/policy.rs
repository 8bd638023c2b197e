//! The room policy: who may enter which room, and what may be said there.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;

use serde::Serialize;

use crate::error::SendError;
use crate::hooks::user::{Denied, User};
use crate::ids::{ConnectionId, Name, RoomId};

/// Decides who may enter a room, and whether a message goes out.
///
/// ```
/// use tower_chat_rooms::{ChatRooms, Denied, EnterRequest, MessageRequest, RoomPolicy, Verdict};
///
/// struct House;
///
/// impl RoomPolicy for House {
///     async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<(), Denied> {
///         match request.room().as_str() {
///             "staff" if request.user().is_none() => Err(Denied::new("staff only: log in first")),
///             _ => Ok(()),
///         }
///     }
///
///     fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
///         if request.body().contains("spam") { Verdict::refuse("no spam, please") } else { Verdict::allow() }
///     }
/// }
///
/// ChatRooms::builder().policy(House).build().unwrap();
/// ```
///
/// A closure decides on entering alone:
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
    /// May this connection enter this room under this name? By default yes. A call that takes
    /// longer than the builder's `hook_timeout` is dropped and counts as a no.
    ///
    /// A member who authenticates in band is asked about again for the room that he is in, each
    /// time, for his rights may have changed ([`EnterRequest::is_renewal`]). A no then takes him out
    /// of the room; his connection stays.
    fn may_enter(&self, request: &EnterRequest<'_>) -> impl Future<Output = Result<(), Denied>> + Send {
        let _ = request;
        async { Ok(()) }
    }

    /// May this message go to the room? By default yes. Called for every message: be quick.
    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        let _ = request;
        Verdict::allow()
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

/// Who wants to enter what.
#[derive(Debug)]
pub struct EnterRequest<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) user: Option<&'a User>,
    pub(crate) name: &'a Name,
    pub(crate) room: &'a RoomId,
    pub(crate) from: Option<&'a RoomId>,
    pub(crate) is_renewal: bool,
}

impl EnterRequest<'_> {
    /// The connection.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The client's address, where the host gave a [`PeerAddr`](crate::PeerAddr).
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The user, where one is authenticated.
    pub fn user(&self) -> Option<&User> {
        self.user
    }

    /// The name he would have there.
    pub fn name(&self) -> &Name {
        self.name
    }

    /// The room.
    pub fn room(&self) -> &RoomId {
        self.room
    }

    /// The room that he would leave for it.
    pub fn from(&self) -> Option<&RoomId> {
        self.from
    }

    /// Whether he is in the room already, and has authenticated anew: may he stay?
    pub fn is_renewal(&self) -> bool {
        self.is_renewal
    }
}

/// A message on its way to a room.
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

    /// The user, where one is authenticated.
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

    /// The event's name, mostly `message`.
    pub fn event(&self) -> &str {
        self.event
    }

    /// The frame as it came, a JSON object.
    pub fn body(&self) -> &str {
        self.body
    }
}

/// What is said may be secret, so it is not shown.
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

/// What happens to a message.
#[derive(Debug)]
pub struct Verdict(pub(crate) Ruling);

pub(crate) enum Ruling {
    Allow,
    Replace(String),
    Drop,
    Refuse(Denied),
}

/// Without what is said.
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
    /// It goes out as it is.
    pub fn allow() -> Verdict {
        Verdict(Ruling::Allow)
    }

    /// Another goes out in its place; `name` and `num` are added as to any other, and by
    /// `chat-rooms.v1` the `cid` of the message.
    ///
    /// # Errors
    /// If the value does not serialize to a JSON object.
    pub fn replace(value: &impl Serialize) -> Result<Verdict, SendError> {
        let text = serde_json::to_string(value).map_err(|e| SendError::Json(e.into()))?;
        if !text.starts_with('{') {
            return Err(SendError::NotAnObject);
        }
        Ok(Verdict(Ruling::Replace(text)))
    }

    /// It goes nowhere, and the sender is not told.
    pub fn drop_silently() -> Verdict {
        Verdict(Ruling::Drop)
    }

    /// It goes nowhere, and the sender gets an error frame with the code `denied`.
    pub fn refuse(reason: impl Into<std::borrow::Cow<'static, str>>) -> Verdict {
        Verdict(Ruling::Refuse(Denied::new(reason)))
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// `RoomPolicy` without its types.
pub(crate) trait ErasedPolicy: Send + Sync {
    fn may_enter<'a>(&'a self, request: &'a EnterRequest<'a>) -> BoxFuture<'a, Result<(), Denied>>;
    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict;
}

impl<P: RoomPolicy> ErasedPolicy for P {
    fn may_enter<'a>(&'a self, request: &'a EnterRequest<'a>) -> BoxFuture<'a, Result<(), Denied>> {
        Box::pin(RoomPolicy::may_enter(self, request))
    }

    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        RoomPolicy::may_send(self, request)
    }
}

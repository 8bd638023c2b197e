//! Users, client addresses, and refusals with a reason.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Extensions;
use serde::Serialize;
use tokio::time::Instant;

use crate::error::SendError;
use crate::protocol::host_frame;

/// An authenticated user. Created by an [`Authenticate`](crate::Authenticate) hook.
///
/// ```
/// use tower_chat_rooms::User;
///
/// #[derive(Clone, Debug, PartialEq)]
/// struct Role(&'static str);
///
/// let user = User::new("u-17").with_name("Ann").with(Role("moderator"));
/// assert_eq!(user.id(), "u-17");
/// assert_eq!(user.get::<Role>(), Some(&Role("moderator")));
/// ```
#[derive(Clone)]
pub struct User {
    id: Box<str>,
    name: Option<Box<str>>,
    info: Option<Arc<str>>,
    expiry: Option<Expiry>,
    extensions: Extensions,
}

/// When a user expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// By the system clock, which can be set.
    At(SystemTime),
    /// By the monotonic clock.
    On(Instant),
}

impl User {
    /// Creates a user with an id of your choice.
    pub fn new(id: impl Into<String>) -> User {
        User { id: id.into().into(), name: None, info: None, expiry: None, extensions: Extensions::new() }
    }

    /// Sets the user's name in every room. The name that the client sends is then ignored.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> User {
        self.name = Some(name.into().into());
        self
    }

    /// Sets the user's info, which the members of its rooms see in addition to its name: a JSON value of your choice,
    /// for example with a role or the URL of a picture. `null` means no info.
    ///
    /// Only clients of `chat-rooms.v1` get it, and only in a room with [`Presence::Full`](crate::Presence::Full). For a
    /// single room, [`Access::info`](crate::Access::info) takes precedence.
    ///
    /// ```
    /// use serde_json::json;
    /// use tower_chat_rooms::User;
    ///
    /// # fn main() -> Result<(), tower_chat_rooms::SendError> {
    /// let user = User::new("u-17").with_info(&json!({"avatar": "/avatars/17.png"}))?;
    /// # drop(user);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the value cannot be serialized, has more than 1,024 bytes of JSON, or is nested more than 124 deep.
    pub fn with_info(mut self, info: &impl Serialize) -> Result<User, SendError> {
        self.info = host_frame::info(info)?;
        Ok(self)
    }

    /// Sets when the user expires. By default it never does.
    ///
    /// Before that, the client has to send a new token or to reconnect. [`OnExpiry`](crate::OnExpiry) decides what
    /// happens otherwise.
    ///
    /// The remaining time is computed when the user is accepted. Setting the system clock forward does not shorten
    /// it; setting it back extends it by an hour at most.
    #[must_use]
    pub fn expires_at(mut self, time: SystemTime) -> User {
        self.expiry = Some(Expiry::At(time));
        self
    }

    /// Sets how long from now the user expires, independently of the system clock. Replaces
    /// [`User::expires_at`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_chat_rooms::User;
    ///
    /// let user = User::new("u-17").expires_in(Duration::from_secs(60));
    /// assert!(user.time_left().unwrap() <= Duration::from_secs(60));
    /// assert_eq!(User::new("u-18").time_left(), None);
    /// ```
    #[must_use]
    pub fn expires_in(mut self, time: Duration) -> User {
        // A time beyond the clock's range never comes.
        self.expiry = Instant::now().checked_add(time).map(Expiry::On);
        self
    }

    /// Attaches a value, which every hook can [`get`](User::get) by its type.
    #[must_use]
    pub fn with<T: Clone + Send + Sync + 'static>(mut self, value: T) -> User {
        self.extensions.insert(value);
        self
    }

    /// Returns the id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the name in every room, or `None` if the client chooses it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the time until the user expires, or `None` if it never does.
    pub fn time_left(&self) -> Option<Duration> {
        self.expiry.map(|expiry| expiry.left(Instant::now(), SystemTime::now()))
    }

    pub(crate) fn info(&self) -> Option<&Arc<str>> {
        self.info.as_ref()
    }

    pub(crate) fn expiry(&self) -> Option<Expiry> {
        self.expiry
    }

    /// Returns the value of this type that [`User::with`] has attached.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.extensions.get()
    }
}

impl Expiry {
    pub(crate) fn left(self, now: Instant, wall: SystemTime) -> Duration {
        match self {
            Expiry::At(time) => time.duration_since(wall).unwrap_or_default(),
            Expiry::On(time) => time.saturating_duration_since(now),
        }
    }
}

/// Attached values may be secret, so they are not shown.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The client's address, in the extensions of a request.
///
/// Insert it into each request where you accept connections. The hooks find it in the request's `Parts` and in the
/// events and requests that they get. **Without it there are no limits per address**
/// ([`max_connections_per_ip`](crate::Limits::max_connections_per_ip)). If it is the address of one of the
/// [`TrustedProxies`](crate::TrustedProxies), it is replaced with the client's address.
///
/// axum has its own type for this, `ConnectInfo`. A middleware can convert it:
///
/// ```
/// use std::net::SocketAddr;
/// use axum::extract::{ConnectInfo, Request};
/// use axum::middleware::{Next, from_fn};
/// use tower_chat_rooms::{ChatRooms, PeerAddr};
///
/// # let rooms = ChatRooms::builder().build().unwrap();
/// let app = axum::Router::new().route_service("/chat", rooms.service()).layer(from_fn(
///     |ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request, next: Next| {
///         request.extensions_mut().insert(PeerAddr(peer));
///         next.run(request)
///     },
/// ));
/// # let _: axum::extract::connect_info::IntoMakeServiceWithConnectInfo<axum::Router, SocketAddr> =
/// #     app.into_make_service_with_connect_info();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// A refusal with a reason that is sent to the client.
///
/// ```
/// use tower_chat_rooms::Denied;
///
/// assert_eq!(Denied::new("members only").reason(), "members only");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    reason: Cow<'static, str>,
}

impl Denied {
    /// Creates a refusal. The reason is sent to the client: say what it can do, and reveal no secrets.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Denied {
        Denied { reason: reason.into() }
    }

    /// Returns the reason.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub(crate) fn into_reason(self) -> Cow<'static, str> {
        self.reason
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Denied {}

/// For `?` after [`Access::info`](crate::Access::info) and [`User::with_info`]. The client is told that the info is not
/// valid, but not what is in it.
impl From<SendError> for Denied {
    fn from(error: SendError) -> Denied {
        Denied::new(match error {
            SendError::Json(_) => "the server's info about you could not be serialized".into(),
            other => format!("the server's info about you is not valid: {other}"),
        })
    }
}

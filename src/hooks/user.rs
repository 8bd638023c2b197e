//! Who is behind a connection, as far as the host's auth hook knows.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::Extensions;
use tokio::time::Instant;

/// An authenticated user, as an [`Authenticate`](crate::Authenticate) hook describes him.
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
    expiry: Option<Expiry>,
    extensions: Extensions,
}

/// When somebody's time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// By the wall's clock, which may be set.
    At(SystemTime),
    /// By the clock that only goes forward.
    On(Instant),
}

impl User {
    /// A user with the host's own id for him.
    pub fn new(id: impl Into<String>) -> User {
        User { id: id.into().into(), name: None, expiry: None, extensions: Extensions::new() }
    }

    /// The name he has in every room, whatever name the client claims on entering.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> User {
        self.name = Some(name.into().into());
        self
    }

    /// He is this user until then, and has to authenticate anew: in band before that, or by another
    /// connection. What happens otherwise, [`OnExpiry`](crate::OnExpiry) says. By default there is
    /// no end.
    ///
    /// The time that is left is counted from when he is let in. A clock that is set forward ends
    /// nobody's earlier; set back, it lengthens it by an hour at most.
    #[must_use]
    pub fn expires_at(mut self, time: SystemTime) -> User {
        self.expiry = Some(Expiry::At(time));
        self
    }

    /// The same for so long from now, whatever the clock says; in place of an earlier
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
        // What is beyond the clock's range never comes.
        self.expiry = Instant::now().checked_add(time).map(Expiry::On);
        self
    }

    /// Attaches a value of the host's, to be found again in every hook by its type.
    #[must_use]
    pub fn with<T: Clone + Send + Sync + 'static>(mut self, value: T) -> User {
        self.extensions.insert(value);
        self
    }

    /// The host's id for him.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name he has in every room; `None` where the client chooses it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// For how long he is still this user; `None` for no end.
    pub fn time_left(&self) -> Option<Duration> {
        self.expiry.map(|expiry| expiry.left(Instant::now(), SystemTime::now()))
    }

    pub(crate) fn expiry(&self) -> Option<Expiry> {
        self.expiry
    }

    /// What [`User::with`] has attached.
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

/// The attached values may be secret, so they are not shown.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The address of the client, for hosts that know it.
///
/// Put it into the request's extensions where the connection is accepted; the hooks find it in
/// the request's `Parts`, and later in what they are told about a connection. **Without it there
/// is no limit of connections per address**
/// ([`max_connections_per_ip`](crate::Limits::max_connections_per_ip)). Behind a proxy
/// that is named in [`TrustedProxies`](crate::TrustedProxies) it becomes the client's.
///
/// axum has a type of its own for this; with `into_make_service_with_connect_info::<SocketAddr>()`
/// one line maps it:
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

/// A refusal with a reason that the client is shown.
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
    /// A refusal. The reason goes to the client: say what he can do, and nothing secret.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Denied {
        Denied { reason: reason.into() }
    }

    /// What the client is told.
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

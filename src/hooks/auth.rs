//! The auth hook: which user a connection belongs to.

use std::borrow::Cow;
use std::pin::Pin;

use http::{HeaderValue, StatusCode, request::Parts};

use crate::error::SendError;
use crate::hooks::user::{Denied, User};

/// Authenticates connections.
///
/// There are two ways; implement one or both. [`on_upgrade`](Authenticate::on_upgrade) sees the upgrade
/// request, with its headers, cookies, URI and extensions. [`on_token`](Authenticate::on_token) gets the token of
/// `{"event":"auth","message":TOKEN}`, because browsers cannot set headers on a WebSocket.
///
/// ```
/// use http::request::Parts;
/// use tower_chat_rooms::{Admission, AuthRefusal, Authenticate, ChatRooms, Denied, User};
///
/// struct Sessions;
///
/// impl Authenticate for Sessions {
///     async fn on_upgrade(&self, request: &Parts) -> Result<Admission, AuthRefusal> {
///         match request.headers.get("x-session").and_then(|v| v.to_str().ok()) {
///             Some("s3cret") => Ok(Admission::user(User::new("u-1").with_name("Ann"))),
///             Some(_) => Err(AuthRefusal::unauthorized("the session has ended; log in again")),
///             None => Ok(Admission::pending_auth()),
///         }
///     }
///
///     async fn on_token(&self, token: &str) -> Result<User, Denied> {
///         if token == "s3cret" { Ok(User::new("u-1")) } else { Err(Denied::new("log in again")) }
///     }
/// }
///
/// ChatRooms::builder().auth(Sessions).build().unwrap();
/// ```
///
/// A closure checks tokens only, and makes a token required:
///
/// ```
/// use tower_chat_rooms::{ChatRooms, Denied, User};
///
/// let rooms = ChatRooms::builder()
///     .auth(|token: String| async move {
///         if token == "s3cret" { Ok(User::new("u-1")) } else { Err(Denied::new("log in again")) }
///     })
///     .build()
///     .unwrap();
/// # drop(rooms);
/// ```
///
/// A call that takes longer than [`hook_timeout`](crate::Timeouts::hook_timeout) is dropped and counts as a refusal. A
/// panic ends only its own connection. Tokens are never relayed or logged.
pub trait Authenticate: Send + Sync + 'static {
    /// Authenticates an upgrade request. Default: accepts it as [`Admission::pending_auth`].
    ///
    /// # Errors
    ///
    /// If the request is refused. The refusal is the response. A client that offers `chat-rooms.v1` gets the reason
    /// over a connection instead, because a browser hides the response from the page. That connection is then closed
    /// with 4505.
    fn on_upgrade(&self, request: &Parts) -> impl Future<Output = Result<Admission, AuthRefusal>> + Send {
        let _ = request;
        async { Ok(Admission::pending_auth()) }
    }

    /// Authenticates with a token that the client has sent over the connection. Default: refuses every token.
    ///
    /// A client can send a token at any time. Re-authentication extends the session ([`User::expires_at`]); it
    /// cannot change the user. The [`RoomPolicy`](crate::RoomPolicy) is asked again about the rooms that it is in.
    ///
    /// # Errors
    ///
    /// If the token is not valid. The client is told the reason.
    fn on_token(&self, token: &str) -> impl Future<Output = Result<User, Denied>> + Send {
        let _ = token;
        async { Err(Denied::new("tokens are not accepted here; authenticate with the upgrade request")) }
    }
}

impl<F, Fut> Authenticate for F
where
    F: Fn(String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<User, Denied>> + Send,
{
    fn on_token(&self, token: &str) -> impl Future<Output = Result<User, Denied>> + Send {
        self(token.to_owned())
    }
}

/// How a connection is accepted.
#[derive(Debug, Clone)]
pub struct Admission {
    user: Option<User>,
    pending_auth: bool,
    protocol: Option<HeaderValue>,
}

impl Admission {
    /// As a user.
    pub fn user(user: User) -> Admission {
        Admission { user: Some(user), pending_auth: false, protocol: None }
    }

    /// Without a user. The client can still become one by sending a token.
    pub fn anonymous() -> Admission {
        Admission { user: None, pending_auth: false, protocol: None }
    }

    /// Provisionally: the client has to send a token.
    ///
    /// Until one is accepted, every other event is answered with `noAuth`. After
    /// [`auth_timeout`](crate::Timeouts::auth_timeout) the connection is closed.
    pub fn pending_auth() -> Admission {
        Admission { user: None, pending_auth: true, protocol: None }
    }

    /// Chooses one of the subprotocols (`Sec-WebSocket-Protocol`) that the client has offered.
    ///
    /// It is used if the client has offered none of the crate's own subprotocols, `chat-rooms.v1` and `chat-rooms`.
    /// Browsers refuse a connection if they have offered subprotocols and none was chosen.
    #[must_use]
    pub fn with_protocol(mut self, mut protocol: HeaderValue) -> Admission {
        // It may hold a token.
        protocol.set_sensitive(true);
        self.protocol = Some(protocol);
        self
    }

    pub(crate) fn take_protocol(&mut self) -> Option<HeaderValue> {
        self.protocol.take()
    }

    pub(crate) fn into_parts(self) -> (Option<User>, bool) {
        (self.user, self.pending_auth)
    }
}

/// A refusal of an upgrade request, with a status and a reason.
#[derive(Debug, Clone)]
pub struct AuthRefusal {
    status: StatusCode,
    reason: Cow<'static, str>,
    challenge: Option<HeaderValue>,
}

impl AuthRefusal {
    /// Creates a refusal with any status. Browsers hide the status from scripts, which see close code 1006.
    pub fn new(status: StatusCode, reason: impl Into<Cow<'static, str>>) -> AuthRefusal {
        AuthRefusal { status, reason: reason.into(), challenge: None }
    }

    /// 401: authentication is required or has failed.
    pub fn unauthorized(reason: impl Into<Cow<'static, str>>) -> AuthRefusal {
        AuthRefusal::new(StatusCode::UNAUTHORIZED, reason)
    }

    /// 403: this user may not connect.
    pub fn forbidden(reason: impl Into<Cow<'static, str>>) -> AuthRefusal {
        AuthRefusal::new(StatusCode::FORBIDDEN, reason)
    }

    /// Adds a `WWW-Authenticate` header (RFC 9110 §11.6.1).
    #[must_use]
    pub fn with_challenge(mut self, challenge: HeaderValue) -> AuthRefusal {
        self.challenge = Some(challenge);
        self
    }

    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the body of the response.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub(crate) fn challenge(&self) -> Option<&HeaderValue> {
        self.challenge.as_ref()
    }
}

/// 500, for `?` after [`User::with_info`]. The client is told that the info is not valid, but not what is in it.
impl From<SendError> for AuthRefusal {
    fn from(error: SendError) -> AuthRefusal {
        AuthRefusal::new(StatusCode::INTERNAL_SERVER_ERROR, Denied::from(error).into_reason())
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// `Authenticate` as a trait object.
pub(crate) trait ErasedAuth: Send + Sync {
    fn on_upgrade<'a>(&'a self, request: &'a Parts) -> BoxFuture<'a, Result<Admission, AuthRefusal>>;
    fn on_token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<User, Denied>>;
}

impl<A: Authenticate> ErasedAuth for A {
    fn on_upgrade<'a>(&'a self, request: &'a Parts) -> BoxFuture<'a, Result<Admission, AuthRefusal>> {
        Box::pin(Authenticate::on_upgrade(self, request))
    }

    fn on_token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<User, Denied>> {
        Box::pin(Authenticate::on_token(self, token))
    }
}

//! The auth hook: who is behind a connection, asked at the upgrade and in band.

use std::borrow::Cow;
use std::pin::Pin;

use http::{HeaderValue, StatusCode, request::Parts};

use crate::hooks::user::{Denied, User};

/// Decides who may connect, and as whom.
///
/// It is asked twice: at the upgrade, where headers, cookies, the URI and extensions can be
/// read, and whenever the client sends `{"event":"auth","message":TOKEN}`, for browsers can't
/// set headers on a WebSocket. Implement the one you need, or both:
///
/// ```
/// use http::request::Parts;
/// use tower_chat_rooms::{Admission, AuthRefusal, Authenticate, ChatRooms, Denied, User};
///
/// struct Sessions;
///
/// impl Authenticate for Sessions {
///     async fn at_upgrade(&self, request: &Parts) -> Result<Admission, AuthRefusal> {
///         match request.headers.get("x-session").and_then(|v| v.to_str().ok()) {
///             Some("s3cret") => Ok(Admission::user(User::new("u-1").with_name("Ann"))),
///             Some(_) => Err(AuthRefusal::unauthorized("the session has ended; log in again")),
///             None => Ok(Admission::auth_first()),
///         }
///     }
///
///     async fn in_band(&self, token: &str) -> Result<User, Denied> {
///         if token == "s3cret" { Ok(User::new("u-1")) } else { Err(Denied::new("log in again")) }
///     }
/// }
///
/// ChatRooms::builder().auth(Sessions).build().unwrap();
/// ```
///
/// A closure does for tokens in band alone; the token is then required:
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
/// A call that takes longer than the builder's `hook_timeout` is dropped and counts as a
/// refusal; one that panics ends its own connection alone. Tokens are never relayed or logged.
pub trait Authenticate: Send + Sync + 'static {
    /// Looks at the upgrade request. By default everyone is let in and must authenticate in
    /// band.
    fn at_upgrade(&self, request: &Parts) -> impl Future<Output = Result<Admission, AuthRefusal>> + Send {
        let _ = request;
        async { Ok(Admission::auth_first()) }
    }

    /// Checks a token sent in band. By default every token is refused.
    ///
    /// A client may send one at any time. It makes nobody into another user, but prolongs the time
    /// of the one he is ([`User::expires_at`]), and has the [`RoomPolicy`](crate::RoomPolicy) asked
    /// again about the room that he is in.
    fn in_band(&self, token: &str) -> impl Future<Output = Result<User, Denied>> + Send {
        let _ = token;
        async { Err(Denied::new("tokens are not taken here; authenticate with the upgrade request")) }
    }
}

impl<F, Fut> Authenticate for F
where
    F: Fn(String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<User, Denied>> + Send,
{
    fn in_band(&self, token: &str) -> impl Future<Output = Result<User, Denied>> + Send {
        self(token.to_owned())
    }
}

/// How a connection is let in.
#[derive(Debug, Clone)]
pub struct Admission {
    user: Option<User>,
    auth_first: bool,
    protocol: Option<HeaderValue>,
}

impl Admission {
    /// As this user.
    pub fn user(user: User) -> Admission {
        Admission { user: Some(user), auth_first: false, protocol: None }
    }

    /// As nobody in particular; the client chooses a name on entering. An in-band token can
    /// still make him a user.
    pub fn anonymous() -> Admission {
        Admission { user: None, auth_first: false, protocol: None }
    }

    /// For now: until an in-band token has been accepted, every event is answered with
    /// `noAuth`, and whoever doesn't authenticate within `auth_timeout` is closed.
    pub fn auth_first() -> Admission {
        Admission { user: None, auth_first: true, protocol: None }
    }

    /// Answers the upgrade with this `Sec-WebSocket-Protocol`, which must be one of those that
    /// the client offered. Browsers refuse a connection on which they offered some and none
    /// was chosen. Without it, `chat-rooms` is chosen where it was offered.
    #[must_use]
    pub fn with_protocol(mut self, mut protocol: HeaderValue) -> Admission {
        // Tokens come this way.
        protocol.set_sensitive(true);
        self.protocol = Some(protocol);
        self
    }

    pub(crate) fn take_protocol(&mut self) -> Option<HeaderValue> {
        self.protocol.take()
    }

    pub(crate) fn into_parts(self) -> (Option<User>, bool) {
        (self.user, self.auth_first)
    }
}

/// Refuses an upgrade with a status and a reason.
#[derive(Debug, Clone)]
pub struct AuthRefusal {
    status: StatusCode,
    reason: Cow<'static, str>,
    challenge: Option<HeaderValue>,
}

impl AuthRefusal {
    /// With any status. Browsers hide it from scripts, which see close code 1006.
    pub fn new(status: StatusCode, reason: impl Into<Cow<'static, str>>) -> AuthRefusal {
        AuthRefusal { status, reason: reason.into(), challenge: None }
    }

    /// 401: who are you?
    pub fn unauthorized(reason: impl Into<Cow<'static, str>>) -> AuthRefusal {
        AuthRefusal::new(StatusCode::UNAUTHORIZED, reason)
    }

    /// 403: not you.
    pub fn forbidden(reason: impl Into<Cow<'static, str>>) -> AuthRefusal {
        AuthRefusal::new(StatusCode::FORBIDDEN, reason)
    }

    /// Adds a `WWW-Authenticate` header (RFC 9110 §11.6.1).
    #[must_use]
    pub fn with_challenge(mut self, challenge: HeaderValue) -> AuthRefusal {
        self.challenge = Some(challenge);
        self
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The body of the answer.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub(crate) fn challenge(&self) -> Option<&HeaderValue> {
        self.challenge.as_ref()
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// `Authenticate` without its types, so that `ChatRooms` needs no type parameter.
pub(crate) trait ErasedAuth: Send + Sync {
    fn at_upgrade<'a>(&'a self, request: &'a Parts) -> BoxFuture<'a, Result<Admission, AuthRefusal>>;
    fn in_band<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<User, Denied>>;
}

impl<A: Authenticate> ErasedAuth for A {
    fn at_upgrade<'a>(&'a self, request: &'a Parts) -> BoxFuture<'a, Result<Admission, AuthRefusal>> {
        Box::pin(Authenticate::at_upgrade(self, request))
    }

    fn in_band<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<User, Denied>> {
        Box::pin(Authenticate::in_band(self, token))
    }
}

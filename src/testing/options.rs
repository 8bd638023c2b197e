//! How a client of a test connects.

use std::fmt;
use std::net::SocketAddr;

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::Value;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::testing::TestClient;
use crate::testing::caller::Caller;
use crate::testing::connection::Connection;
use crate::testing::server::Connector;

/// Characters of a body that an error shows.
const MAX_EXCERPT: usize = 200;

/// Options of a connection. Created by [`TestServer::options`](crate::testing::TestServer::options).
///
/// ```
/// use tower_chat_rooms::testing::{ConnectError, TestServer};
/// use tower_chat_rooms::{Admission, AuthRefusal, Authenticate, ChatRooms, Denied, User};
///
/// struct OneToken;
///
/// impl Authenticate for OneToken {
///     async fn on_upgrade(&self, request: &http::request::Parts) -> Result<Admission, AuthRefusal> {
///         match request.headers.get("authorization") {
///             Some(token) if token == "Bearer sesame" => Ok(Admission::user(User::new("u-1"))),
///             _ => Err(AuthRefusal::unauthorized("a token is required")),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// let server = TestServer::new(ChatRooms::builder().auth(OneToken).build()?);
/// let mut ann = server.options().bearer_token("sesame").connect().await;
/// ann.enter("ann", "lobby").await;
/// let refused = server.options().bearer_token("salami").try_connect().await;
/// assert!(matches!(refused, Err(ConnectError::Closed { code: 4505, .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct ConnectOptions {
    connector: Connector,
    is_plain: bool,
    path: String,
    headers: HeaderMap,
    peer: Option<SocketAddr>,
}

impl ConnectOptions {
    pub(super) fn new(connector: Connector) -> ConnectOptions {
        let path = "/".to_owned();
        ConnectOptions { connector, is_plain: false, path, headers: HeaderMap::new(), peer: None }
    }

    /// Uses the plain protocol. The default is `chat-rooms.v1`.
    pub fn plain(mut self) -> ConnectOptions {
        self.is_plain = true;
        self
    }

    /// Sets the path and query of the request. The default is `/`.
    pub fn path(mut self, path: impl Into<String>) -> ConnectOptions {
        self.path = path.into();
        self
    }

    /// Sends a header `Authorization: Bearer TOKEN`.
    ///
    /// # Panics
    /// If the token cannot be in a header.
    pub fn bearer_token(self, token: &str) -> ConnectOptions {
        let value = format!("Bearer {token}").parse().expect("a token of visible ASCII");
        self.header(AUTHORIZATION, value)
    }

    /// Adds a header to the request.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> ConnectOptions {
        self.headers.append(name, value);
        self
    }

    /// Sets the client's address, which the request has as its [`PeerAddr`](crate::PeerAddr). By default, it has none.
    pub fn peer(mut self, peer: SocketAddr) -> ConnectOptions {
        self.peer = Some(peer);
        self
    }

    /// Connects.
    ///
    /// # Panics
    /// If the server refuses the connection.
    #[track_caller]
    pub fn connect(self) -> impl Future<Output = TestClient> {
        let caller = Caller::here();
        async move {
            let path = self.path.clone();
            match TestClient::connect(self, caller).await {
                Ok(client) => client,
                Err(error) => error.fail(caller, &path),
            }
        }
    }

    /// Connects, and returns an error if the server refuses the connection.
    ///
    /// # Errors
    /// How the server has refused the connection.
    #[track_caller]
    pub fn try_connect(self) -> impl Future<Output = Result<TestClient, ConnectError>> {
        TestClient::connect(self, Caller::here())
    }

    pub(super) fn request_path(&self) -> &str {
        &self.path
    }

    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Does the handshake.
    pub(super) async fn open(&self, caller: Caller) -> Result<Connection, ConnectError> {
        let mut request = match format!("ws://test{}", self.path).into_client_request() {
            Ok(request) => request,
            Err(error) => caller.fail(format_args!("`{}` is not a path: {error}", self.path)),
        };
        if !self.is_plain {
            let protocol = HeaderValue::from_static("chat-rooms.v1");
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        request.headers_mut().extend(self.headers.clone());
        match client_async(request, self.connector.open(self.peer)).await {
            Ok((socket, response)) => {
                assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
                Ok(Connection::new(socket))
            }
            Err(Error::Http(response)) => Err(ConnectError::Refused(response.map(Option::unwrap_or_default))),
            Err(error) => caller.fail(format_args!("the handshake failed: {error}")),
        }
    }
}

/// How the server has refused a connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// With a response instead of 101.
    Refused(Response<Vec<u8>>),
    /// After the upgrade. `chat-rooms.v1` clients learn in this way that they must authenticate, because browsers do
    /// not show pages the response to an upgrade.
    #[non_exhaustive]
    Closed {
        /// The frame with the reason, if there is one.
        frame: Option<Value>,
        /// The close code.
        code: u16,
    },
}

impl ConnectError {
    /// Fails the test, and says if the path may be wrong.
    pub(super) fn fail(&self, caller: Caller, path: &str) -> ! {
        match self {
            ConnectError::Refused(response) if is_of_another_route(response.status()) => {
                let (status, body) = (response.status(), Excerpt(response.body()));
                caller.fail(format_args!(
                    "no WebSocket at `{path}` ({status}); choose the path with `.options().path(…)`{body}"
                ))
            }
            error => caller.fail(error),
        }
    }
}

/// Whether a page or the router answers in this way, rather than the chat rooms.
fn is_of_another_route(status: StatusCode) -> bool {
    let is_of_router = matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
    status.is_success() || status.is_redirection() || is_of_router
}

/// The start of a body, after a colon.
struct Excerpt<'a>(&'a [u8]);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(self.0);
        let body = body.trim();
        if body.is_empty() {
            return Ok(());
        }
        match body.char_indices().nth(MAX_EXCERPT) {
            Some((end, _)) => write!(f, ": {}…", &body[..end]),
            None => write!(f, ": {body}"),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Refused(response) => {
                let (status, body) = (response.status(), Excerpt(response.body()));
                write!(f, "the server has refused the connection with {status}{body}")
            }
            ConnectError::Closed { frame: Some(frame), code } => {
                write!(f, "the server has closed the connection with {code}: {frame}")
            }
            ConnectError::Closed { frame: None, code } => {
                write!(f, "the server has closed the connection with {code}")
            }
        }
    }
}

impl std::error::Error for ConnectError {}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut headers: Vec<_> = self.headers.keys().map(HeaderName::as_str).collect();
        headers.sort_unstable();
        f.debug_struct("ConnectOptions")
            .field("is_plain", &self.is_plain)
            .field("path", &self.path)
            .field("headers", &headers)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

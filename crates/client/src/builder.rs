//! Settings on their way to a client.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tokio::sync::{mpsc, oneshot};

use crate::dial::{Dial, Route, Tcp, Token};
use crate::driver::Driver;
use crate::error::ClientError;
use crate::handle::Client;
use crate::machine::Plan;
use crate::queue::queue;

/// Describes a [`Client`]; awaiting it connects, and is done once the client is in its room.
#[must_use = "a client connects when its builder is awaited"]
pub struct ClientBuilder {
    url: String,
    dial: Option<Box<dyn Dial>>,
    name: String,
    room: String,
    token: Token,
    token_in_header: bool,
    headers: HeaderMap,
    backoff: (Duration, Duration),
    connect_timeout: Duration,
    first_timeout: Duration,
    max_unsent: usize,
    max_events: usize,
    max_frame_bytes: usize,
}

/// The longest wait that makes sense between two attempts.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl ClientBuilder {
    pub(crate) fn new(url: String, dial: Option<Box<dyn Dial>>) -> ClientBuilder {
        ClientBuilder {
            url,
            dial,
            name: String::new(),
            room: String::new(),
            token: Token::None,
            token_in_header: false,
            headers: HeaderMap::new(),
            backoff: (Duration::from_millis(500), Duration::from_secs(30)),
            connect_timeout: Duration::from_secs(10),
            first_timeout: Duration::from_secs(30),
            max_unsent: 128,
            max_events: 1024,
            max_frame_bytes: 1024 * 1024,
        }
    }

    /// The name to have in the room. Servers refuse to let nobody in, unless they know his name
    /// from elsewhere.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The room. Default: the one with the empty name.
    pub fn room(mut self, room: impl Into<String>) -> Self {
        self.room = room.into();
        self
    }

    /// A token that authenticates the client, now and whenever it comes back. A server that
    /// refuses it closes the client for good.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Token::Fixed(token.into());
        self
    }

    /// A token that is asked for anew at each attempt to connect, for those that expire. An error
    /// fails the attempt. After three refused ones in a row the client is closed for good.
    ///
    /// ```
    /// use tower_chat_rooms_client::Client;
    ///
    /// async fn fetch_token() -> Result<String, std::io::Error> {
    ///     Ok("eyJ...".into())
    /// }
    ///
    /// let client = Client::connect("wss://example.com/chat").name("bot").token_with(fetch_token);
    /// # drop(client);
    /// ```
    pub fn token_with<F, Fut, E>(mut self, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: fmt::Display + 'static,
    {
        self.token = Token::Asked(Box::new(ask));
        self
    }

    /// Sends the token as `Authorization: Bearer` with the handshake, rather than in band.
    pub fn token_in_header(mut self) -> Self {
        self.token_in_header = true;
        self
    }

    /// Adds a header to the handshake, for example a cookie.
    pub fn add_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// How long to wait between attempts to connect: at random up to a bound, which begins with
    /// `first`, doubles with each failure and ends at `longest`. A connection that lasts longer
    /// than `longest` sets it back. What the server asks for (`retry in N s`, `Retry-After`)
    /// comes on top. Default: 500 ms and 30 s.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = (first, longest);
        self
    }

    /// Time for an attempt to connect, and then for the server to let the client into the room.
    /// Default: 10 s.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// How long to try, at first, to be in the room before giving up. Later the client tries for
    /// as long as it is wanted. Default: 30 s.
    pub fn first_timeout(mut self, time: Duration) -> Self {
        self.first_timeout = time;
        self
    }

    /// Messages that may wait to be sent for the first time, as they do without a connection.
    /// Further ones fail ([`ClientError::QueueFull`]). Default: 128.
    pub fn max_unsent(mut self, messages: usize) -> Self {
        self.max_unsent = messages;
        self
    }

    /// Events that may wait for the application; what comes then is described at [`Client`].
    /// Default: 1,024.
    pub fn max_events(mut self, events: usize) -> Self {
        self.max_events = events;
        self
    }

    /// Bytes of a frame of the server. A longer one closes the client for good, for it would
    /// come again. Default: 1 MiB.
    pub fn max_frame_bytes(mut self, bytes: usize) -> Self {
        self.max_frame_bytes = bytes;
        self
    }

    /// Connects, as awaiting the builder does. The client's own task is spawned on the present
    /// tokio runtime; dropping this future ends it.
    ///
    /// # Errors
    /// If a setting can't work, the server refuses the client for good, or the client is not in
    /// its room in time.
    pub async fn open(self) -> Result<Client, ClientError> {
        let uri = self.check()?;
        let dial = match self.dial {
            Some(dial) => dial,
            None => Box::new(Tcp::to(&uri).await?),
        };
        let plan = Plan {
            name: self.name,
            room: self.room,
            credential: self.token.credential(),
            backoff: self.backoff,
            step_timeout: self.connect_timeout,
            first_timeout: self.first_timeout,
            max_unsent: self.max_unsent,
        };
        let route = Route {
            uri,
            headers: self.headers,
            token: self.token,
            token_in_header: self.token_in_header,
            max_frame_bytes: self.max_frame_bytes,
            dial,
        };
        let (commands, orders) = mpsc::channel(self.max_unsent);
        let (events, listener) = queue(self.max_events);
        let (first, connected) = oneshot::channel();
        let client = Client::new(listener, commands);
        tokio::spawn(Driver::new(plan, route, orders, events, first).run());
        let gone = |_| Err(ClientError::Unreachable("the client's task has ended".into()));
        connected.await.unwrap_or_else(gone).map(|()| client)
    }

    fn check(&self) -> Result<Uri, ClientError> {
        let refuse = |text: String| Err(ClientError::Config(text));
        for (name, value) in [
            ("max_unsent", self.max_unsent),
            ("max_events", self.max_events),
            ("max_frame_bytes", self.max_frame_bytes),
        ] {
            if value == 0 {
                return refuse(format!("{name} is 0, so nothing would work"));
            }
        }
        let (first, longest) = self.backoff;
        if first.is_zero() || first > longest || longest > A_DAY {
            return refuse(format!(
                "the backoff from {first:?} to {longest:?} must be more than zero, rise, and end within a day"
            ));
        }
        for (name, value) in
            [("connect_timeout", self.connect_timeout), ("first_timeout", self.first_timeout)]
        {
            if value.is_zero() {
                return refuse(format!("{name} is zero, so nothing could be in time"));
            }
        }
        self.url.parse().map_err(|e| ClientError::Config(format!("{:?} is no URL: {e}", self.url)))
    }
}

impl IntoFuture for ClientBuilder {
    type Output = Result<Client, ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

/// The token is secret, so it is not shown.
impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("url", &self.url)
            .field("name", &self.name)
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}

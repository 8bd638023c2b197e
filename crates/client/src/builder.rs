//! The builder of a client.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::chat::Chat;
use crate::client::{Client, state_value, task_ended};
use crate::commands::Commands;
use crate::dial::{Connector, Dial, Tcp, Token};
use crate::driver::Driver;
use crate::error::ClientError;
use crate::events;
use crate::machine::{RoomSettings, Settings};
use crate::target::Target;

/// Builds a [`Client`], or with [`ManyRooms`] a [`Chat`]. Awaiting the builder connects; it completes once the client is
/// in its room, or the chat is connected.
#[must_use = "a client connects when its builder is awaited"]
pub struct ClientBuilder<R = OneRoom> {
    rooms: R,
    url: String,
    dial: Option<Box<dyn Dial>>,
    token: Token,
    token_in_header: bool,
    headers: HeaderMap,
    backoff: (Duration, Duration),
    connect_timeout: Duration,
    first_timeout: Duration,
    max_attempts: Option<u32>,
    max_unsent: usize,
    max_events: usize,
    max_frame_bytes: usize,
}

/// A connection for one room: see [`Client::connect`].
#[derive(Debug, Default)]
pub struct OneRoom(RoomSettings, Option<ClientError>);

/// A connection for any number of rooms: see [`Chat::connect`].
#[derive(Debug, Default)]
pub struct ManyRooms(());

/// The longest accepted wait between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(24 * 60 * 60);

impl ClientBuilder {
    /// The name in the room. A server refuses a client without a name, unless it takes the name
    /// from the client's authentication.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.rooms.0.name = name.into();
        self
    }

    /// The room. Default: the room with the empty id.
    pub fn room(mut self, room: impl Into<String>) -> Self {
        self.rooms.0.id = room.into();
        self
    }

    /// How many of the latest messages to get when the client enters the room for the first time. Default: none.
    ///
    /// They come before all other frames of the room, as [`Message`](crate::ClientEvent::Message)s with
    /// [`is_history`](crate::RoomFrame::is_history). There are fewer if the server keeps fewer or does not let the
    /// client read them. If the connection is lost before all of them have arrived, the rest does not come later.
    ///
    /// Ask for fewer than [`max_events`](ClientBuilder::max_events). If the queue of events is full, messages may be
    /// dropped. An [`Overflow`](crate::ClientEvent::Overflow) then reports how many.
    pub fn history(mut self, messages: usize) -> Self {
        self.rooms.0.history = messages;
        self
    }

    /// The state of this member when it enters, such as `{"status": "away"}`: see
    /// [`ClientSender::set_state`](crate::ClientSender::set_state). Default: none.
    ///
    /// [`open`](ClientBuilder::open) fails if the value can't be serialized, or has more than 1,024 bytes of JSON.
    pub fn state(mut self, state: &(impl Serialize + ?Sized)) -> Self {
        match state_value(state) {
            Ok(state) => self.rooms.0.state = state,
            Err(error) => self.rooms.1 = Some(error),
        }
        self
    }

    /// How many members of the room to request: see [`Presence::members`](crate::Presence::members). The server sends
    /// the first members, at most 100, by itself. The client requests further ones until it knows this many. With 0, it
    /// requests none. Default: 1,000.
    pub fn roster(mut self, members: usize) -> Self {
        self.rooms.0.roster = members;
        self
    }

    /// Connects and enters the room, just as awaiting the builder does. The client's task is spawned on the current tokio
    /// runtime; dropping this future ends it.
    ///
    /// # Errors
    ///
    /// If a setting is invalid, the server refuses the client for good, or the client does not
    /// enter its room in time.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn open(self) -> Result<Client, ClientError> {
        let (settings, connector, OneRoom(room, refused), limits) = self.finish().await?;
        if let Some(error) = refused {
            return Err(error);
        }
        let (commands, receiver) = Commands::new(limits.max_unsent);
        let key = commands.next_key();
        let (client, join, entered) =
            Client::joining(key, &commands, room, limits.max_unsent, limits.max_events);
        tokio::spawn(Driver::with_room(settings, connector, receiver, join).run());
        entered.await.unwrap_or_else(|_| Err(task_ended())).map(|()| client)
    }
}

impl ClientBuilder<ManyRooms> {
    /// Connects, just as awaiting the builder does. The chat's task is spawned on the current tokio runtime; dropping this
    /// future ends it.
    ///
    /// A token that is sent over the open connection is not checked yet when this completes. If the server refuses it,
    /// the chat is closed, and the first [`join`](Chat::join) fails.
    ///
    /// # Errors
    ///
    /// If a setting is invalid, the server refuses the connection for good, or there is no connection in time.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn open(self) -> Result<Chat, ClientError> {
        let (settings, connector, ManyRooms(()), limits) = self.finish().await?;
        let (commands, receiver) = Commands::new(limits.max_unsent);
        let (event_sender, events) = events::channel(limits.max_events);
        let (connected, first_connection) = oneshot::channel();
        let chat = Chat::new(events, commands, limits.max_unsent, limits.max_events);
        tokio::spawn(Driver::new(settings, connector, receiver, event_sender, connected).run());
        first_connection.await.unwrap_or_else(|_| Err(task_ended())).map(|()| chat)
    }
}

/// How much may wait in a room.
struct Limits {
    max_unsent: usize,
    max_events: usize,
}

impl<R> ClientBuilder<R> {
    pub(crate) fn new(url: String, dial: Option<Box<dyn Dial>>) -> ClientBuilder<R>
    where
        R: Default,
    {
        ClientBuilder {
            rooms: R::default(),
            url,
            dial,
            token: Token::None,
            token_in_header: false,
            headers: HeaderMap::new(),
            backoff: (Duration::from_millis(500), Duration::from_secs(10)),
            connect_timeout: Duration::from_secs(10),
            first_timeout: Duration::from_secs(30),
            max_attempts: None,
            max_unsent: 128,
            max_events: 1024,
            max_frame_bytes: 1024 * 1024,
        }
    }

    /// A token that authenticates the client, each time it connects. If the server refuses the
    /// token, the client is closed for good. For tokens that expire, use
    /// [`token_with`](ClientBuilder::token_with).
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Token::Fixed(token.into());
        self
    }

    /// A function that provides tokens, for tokens that expire.
    ///
    /// The client calls it for each attempt to connect, when the server warns that the token expires soon, and when the
    /// server has refused a token. It sends a new token on the current connection; other members notice nothing. If the
    /// function fails, the client calls it again later. After three refused tokens in a row, the client is closed for
    /// good.
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
    pub fn token_with<F, Fut, E>(mut self, provide: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: fmt::Display + 'static,
    {
        self.token = Token::Provided(Box::new(provide));
        self
    }

    /// Sends the token in the handshake as `Authorization: Bearer`. Default: over the open connection.
    pub fn token_in_header(mut self) -> Self {
        self.token_in_header = true;
        self
    }

    /// Adds a header to the handshake, for example a cookie.
    pub fn add_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// How long to wait between attempts: a random time up to a bound that starts at `first`, doubles with each
    /// attempt and never exceeds `longest`. The bound is reset after ten seconds in the room. If the server says when
    /// to reconnect (`retry in A-B s`, `Retry-After`), the client follows that instead. If the server says so again before
    /// the client was in the room for ten seconds, the client adds a random time up to `B - A` or to a bound that grows
    /// in the same way, whichever is longer, to `A`. After a connection that broke, the first bound is one second. While
    /// the server keeps the session, the bound is at most half of the time that is left to resume it, or one second if
    /// that is longer.
    ///
    /// An enter that the server refuses temporarily is sent again after such a wait. If the server says when
    /// (`retryAfter`), the client adds a random time up to half of that, or up to one second if the server says so again.
    ///
    /// Default: 500 ms and 10 s.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = (first, longest);
        self
    }

    /// Time allowed for an attempt to connect, and then for each answer until the client is in its room. After attempts
    /// without an answer, the client allows up to four times as long. Default: 10 s.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// Time allowed for connecting for the first time, and for entering a room for the first time. After that, the client
    /// tries to reconnect until it is dropped, or for [`max_attempts`](ClientBuilder::max_attempts). Default: 30 s.
    pub fn first_timeout(mut self, time: Duration) -> Self {
        self.first_timeout = time;
        self
    }

    /// The number of failed attempts in a row after which the client is closed for good, with
    /// [`ClientError::GaveUp`]. In a [`Chat`], attempts to enter a room count for that room only. Default: unlimited.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// The maximum number of messages to a room that may wait to be sent for the first time. Messages wait while the client is
    /// not in its room, and if the application sends faster than the server allows. Further messages fail
    /// with [`ClientError::QueueFull`]. Default: 128.
    pub fn max_unsent(mut self, messages: usize) -> Self {
        self.max_unsent = messages;
        self
    }

    /// The maximum number of events of a room that may wait for the application. [`Client`] and [`Chat`] describe what
    /// happens at the limit. Default: 1,024.
    pub fn max_events(mut self, events: usize) -> Self {
        self.max_events = events;
        self
    }

    /// The largest frame that the client accepts, in bytes. A larger one closes the client for good,
    /// because the server would replay it after each reconnect. Default: 1 MiB.
    pub fn max_frame_bytes(mut self, bytes: usize) -> Self {
        self.max_frame_bytes = bytes;
        self
    }

    async fn finish(self) -> Result<(Settings, Connector, R, Limits), ClientError> {
        self.check()?;
        let target = Target::parse(&self.url)?;
        let dial = match self.dial {
            Some(dial) => dial,
            None => Box::new(Tcp::to(&target).await?),
        };
        let settings = Settings {
            credential: self.token.credential(),
            backoff: self.backoff,
            step_timeout: self.connect_timeout,
            first_timeout: self.first_timeout,
            max_attempts: self.max_attempts.unwrap_or(u32::MAX),
            max_unsent: self.max_unsent,
        };
        let connector = Connector {
            uri: target.uri().clone(),
            headers: self.headers,
            token: self.token,
            token_in_header: self.token_in_header,
            max_frame_bytes: self.max_frame_bytes,
            dial,
        };
        let limits = Limits { max_unsent: self.max_unsent, max_events: self.max_events };
        Ok((settings, connector, self.rooms, limits))
    }

    fn check(&self) -> Result<(), ClientError> {
        let refuse = |text: String| Err(ClientError::Config(text));
        for (name, value) in [
            ("max_unsent", self.max_unsent),
            ("max_events", self.max_events),
            ("max_frame_bytes", self.max_frame_bytes),
            ("max_attempts", self.max_attempts.map_or(1, |attempts| attempts as usize)),
        ] {
            if value == 0 {
                return refuse(format!("{name} must be at least 1"));
            }
        }
        let (first, longest) = self.backoff;
        if first.is_zero() || first > longest || longest > MAX_BACKOFF {
            return refuse(format!(
                "the backoff from {first:?} to {longest:?} must start above zero, not decrease, and be at most a day"
            ));
        }
        for (name, value) in
            [("connect_timeout", self.connect_timeout), ("first_timeout", self.first_timeout)]
        {
            if value.is_zero() {
                return refuse(format!("{name} must be more than zero"));
            }
        }
        Ok(())
    }
}

impl IntoFuture for ClientBuilder {
    type Output = Result<Client, ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

impl IntoFuture for ClientBuilder<ManyRooms> {
    type Output = Result<Chat, ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

/// Leaves out the token.
impl<R: fmt::Debug> fmt::Debug for ClientBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("url", &self.url)
            .field("rooms", &self.rooms)
            .finish_non_exhaustive()
    }
}

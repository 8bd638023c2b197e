//! The application's handle to a connection with any number of rooms.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::body::Body;
use crate::builder::{ClientBuilder, ManyRooms};
use crate::commands::{Command, Commands};
use crate::dial::Dial;
use crate::event::ChatEvent;
use crate::events::EventReceiver;
use crate::join::JoinBuilder;
use crate::sending::Sending;

/// A connection that can be in several rooms at the same time.
///
/// [`join`](Chat::join) enters a room and returns a [`Client`](crate::Client) for it, with its own events. The connection has
/// events of its own, too: the chat is a stream of [them](ChatEvent). You can ignore them.
///
/// When the connection breaks, all rooms reconnect together. They share a session, and the server's rates: messages to
/// different rooms are sent in the order of the calls. If one room refuses the client, removes it or puts off a message,
/// the others are not affected.
///
/// Dropping a client leaves its room. The connection is closed when the chat and all of its clients are
/// dropped, or by [`close`](Chat::close). A server closes a connection that enters no room in time, by default 10 s, unless
/// the client has authenticated. The chat then is [`Idle`](crate::ChatState::Idle) until you join a room.
///
/// ```
/// use tower_chat_rooms_client::{Chat, ClientEvent};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let rooms = tower_chat_rooms::ChatRooms::builder().build()?;
/// # let app = axum::Router::new().route_service("/chat", rooms.service());
/// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let url = format!("ws://{}/chat", listener.local_addr()?);
/// # tokio::spawn(async move { axum::serve(listener, app).await });
/// let chat = Chat::connect(url).await?;
/// let mut tea = chat.join("tea", "ann").await?;
/// let coffee = chat.join("coffee", "ann").await?;
/// coffee.leave().await;
/// tea.sender().send("hello").await?;
/// while let Some(event) = tea.recv().await {
///     if let ClientEvent::Message(frame) = event {
///         assert_eq!(frame.message(), "hello");
///         break;
///     }
/// }
/// chat.close().await;
/// # Ok(())
/// # }
/// ```
///
/// # Backpressure
///
/// Each room has a queue of events, and so has the chat, with [`max_events`](ClientBuilder::max_events) each. A program
/// that takes no events of one room does not block the others: while the queue of that room is full, the client drops the
/// room's frames. Once the application has taken half of the events, the client has the dropped frames replayed. If the
/// queues of all rooms are full, the client first stops reading for a while, as [`Client`](crate::Client) describes. Of the chat's own
/// events, those that find their queue full are dropped, and an [`Overflow`](ChatEvent::Overflow) tells how many.
#[derive(Debug)]
#[must_use = "a chat that is dropped closes its connection, unless there are rooms"]
pub struct Chat {
    events: EventReceiver<ChatEvent>,
    handle: ChatHandle,
}

/// Joins rooms for a [`Chat`]. Clones join for the same chat and don't keep it alive.
#[derive(Debug, Clone)]
pub struct ChatHandle {
    commands: Commands,
    max_unsent: usize,
    max_events: usize,
}

impl Chat {
    /// Starts to build a connection to the server at this `ws://` or `wss://` URL. `wss://` needs the feature
    /// `rustls`.
    pub fn connect(url: impl Into<String>) -> ClientBuilder<ManyRooms> {
        ClientBuilder::new(url.into(), None)
    }

    /// Like [`connect`](Chat::connect), over connections that the application opens: see [`Client::over`](crate::Client::over).
    pub fn over<F, Fut, IO>(url: impl Into<String>, dial: F) -> ClientBuilder<ManyRooms>
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = std::io::Result<IO>> + Send + 'static,
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        ClientBuilder::new(url.into(), Some(Box::new(dial) as Box<dyn Dial>))
    }

    pub(crate) fn new(
        events: EventReceiver<ChatEvent>,
        commands: Commands,
        max_unsent: usize,
        max_events: usize,
    ) -> Chat {
        Chat { events, handle: ChatHandle { commands, max_unsent, max_events } }
    }

    /// Returns a handle for joining rooms.
    pub fn handle(&self) -> ChatHandle {
        self.handle.clone()
    }

    /// Enters a room when awaited: see [`ChatHandle::join`].
    pub fn join(&self, room: impl Into<String>, name: impl Into<String>) -> JoinBuilder {
        self.handle.join(room, name)
    }

    /// Sends a direct message to a user: see [`ChatHandle::send_to_user`].
    ///
    /// # Errors
    ///
    /// As for [`ChatHandle::send_to_user`].
    pub fn send_to_user(&self, user: impl Into<String>, message: &(impl Serialize + ?Sized)) -> Sending {
        self.handle.send_to_user(user, message)
    }

    /// Sends another token now: see [`ChatHandle::authenticate`].
    pub fn authenticate(&self) {
        self.handle.authenticate();
    }

    /// Returns the next event of the connection; `None` after [`Closed`](crate::ChatState::Closed). Also available as
    /// a [`Stream`].
    pub async fn recv(&mut self) -> Option<ChatEvent> {
        std::future::poll_fn(|cx| self.events.poll_next(cx)).await
    }

    /// Leaves all rooms and closes the connection with a closing handshake.
    pub async fn close(self) {
        self.handle.close().await;
    }
}

impl Stream for Chat {
    type Item = ChatEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ChatEvent>> {
        self.events.poll_next(cx)
    }
}

impl ChatHandle {
    /// Enters a room under this name when awaited, and completes once the client is in the room. While there is no
    /// connection, it waits for one. If the server refuses the client only temporarily, it tries again. Dropping the
    /// future leaves the room.
    ///
    /// It fails if the server refuses the client for good, the client does not enter the room within
    /// [`first_timeout`](ClientBuilder::first_timeout), the chat is in the room already, or the chat is closed.
    ///
    /// ```no_run
    /// # async fn run(chat: tower_chat_rooms_client::Chat) -> Result<(), tower_chat_rooms_client::ClientError> {
    /// let tea = chat.join("tea", "ann").await?;
    /// let coffee = chat.join("coffee", "ann").history(20).await?; // the latest messages first
    /// # Ok(())
    /// # }
    /// ```
    pub fn join(&self, room: impl Into<String>, name: impl Into<String>) -> JoinBuilder {
        let commands = self.commands.clone();
        JoinBuilder::new(commands, room.into(), name.into(), self.max_unsent, self.max_events)
    }

    /// Sends a direct message to a user, over all of the user's connections. A client of this crate receives it as
    /// [`ChatEvent::Direct`] with the event `direct`. Both clients must be authenticated, and the server's policy must
    /// allow the message; by default, it refuses all (`denied`).
    ///
    /// The returned future resolves to the number of open connections that the message has reached. If it is 0, the
    /// message may still arrive: a client whose connection is lost receives it if it resumes its session.
    ///
    /// While there is no connection, the message waits. The client sends it again until it is acknowledged, and sends
    /// direct messages in the order of these calls. The server delivers the message once, unless the session ends
    /// before the client has received the acknowledgement.
    ///
    /// ```no_run
    /// # async fn run(chat: tower_chat_rooms_client::ChatHandle) -> Result<(), tower_chat_rooms_client::ClientError> {
    /// let reached = chat.send_to_user("u-1", "hello").await?;
    /// println!("sent to {reached} connections");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the value can't be serialized, the server refuses the message, the message is too long, too many direct
    /// messages are waiting to be sent, or the chat is closed before the acknowledgement.
    pub fn send_to_user(&self, user: impl Into<String>, message: &(impl Serialize + ?Sized)) -> Sending {
        Sending::to_user(&self.commands, user.into(), Body::of_direct(message))
    }

    /// Like [`send_to_user`](Self::send_to_user), but sends an object, which may have keys besides `message`.
    ///
    /// # Errors
    ///
    /// As for [`send_to_user`](Self::send_to_user), or if the value is not an object, or has keys that the protocol
    /// reserves.
    pub fn send_object_to_user(
        &self,
        user: impl Into<String>,
        object: &(impl Serialize + ?Sized),
    ) -> Sending {
        Sending::to_user(&self.commands, user.into(), Body::of_direct_object(object))
    }

    /// Calls the function of [`token_with`](ClientBuilder::token_with) and sends the token over the connection, for example
    /// after the user was given more rights. The server then asks its policy again about the rooms. Does nothing if there
    /// is no such function, or no connection: the next one has a new token in any case.
    ///
    /// If the server refuses the token, the client emits an [`Error`](crate::ChatEvent::Error), and the one before stays
    /// valid.
    pub fn authenticate(&self) {
        // Fails only if the chat is closed.
        self.commands.send(Command::Authenticate);
    }

    /// Leaves all rooms and closes the connection for good, with a closing handshake. Messages that are not
    /// acknowledged by then fail.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        // Fails only if the chat is closed already.
        if self.commands.send(Command::Close { done }) {
            let _ = closed.await;
        }
    }
}

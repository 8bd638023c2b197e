//! The application's handles to a client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot, watch};
use tower_chat_rooms_protocol::{MAX_TRANSIENT_BYTES, close};

use crate::body::Body;
use crate::builder::ClientBuilder;
use crate::commands::{Ack, Command, Commands, Join, Outlet, StateSlot, Status};
use crate::dial::Dial;
use crate::error::ClientError;
use crate::event::{ClientEvent, ClientState, Position};
use crate::events::{self, EventReceiver};
use crate::history::HistoryRequest;
use crate::machine::{RoomKey, RoomSettings};
use crate::presence::Presence;
use crate::sending::Sending;

/// A member of a room, over the network, through the `chat-rooms.v1` subprotocol.
///
/// The client is a stream of [events](ClientEvent). When its connection breaks, it reconnects by
/// itself, resumes its session and receives the missed frames if the server keeps both, and
/// sends unacknowledged messages again. A [`Gap`](ClientEvent::Gap) tells you that frames were missed.
///
/// A client has a connection of its own if you [`connect`](Client::connect) it. Dropping it then leaves the room, closes
/// the connection and ends its task. For several rooms on one connection, use a [`Chat`](crate::Chat), which has a client
/// for each of its rooms. Dropping one of these only leaves its room.
///
/// ```
/// use tower_chat_rooms_client::{Client, ClientEvent};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let rooms = tower_chat_rooms::ChatRooms::builder().build()?;
/// # let app = axum::Router::new().route_service("/chat", rooms.service());
/// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let url = format!("ws://{}/chat", listener.local_addr()?);
/// # tokio::spawn(async move { axum::serve(listener, app).await });
/// let mut client = Client::connect(url).name("bot").room("lobby").await?;
/// let seq = client.sender().send("hello").await?;
/// while let Some(event) = client.recv().await {
///     if let ClientEvent::Message(frame) = event {
///         assert_eq!((frame.name(), frame.message()), (Some("bot"), &"hello".into()));
///         assert!(frame.is_own() && frame.seq() == Some(seq));
///         break;
///     }
/// }
/// client.leave().await;
/// # Ok(())
/// # }
/// ```
///
/// # Backpressure
///
/// At most [`max_events`](ClientBuilder::max_events) events wait for the application. When this
/// limit is reached, the client stops reading its connection, so that the server has to wait, but still
/// tells the server that it is alive. If this lasts longer than ten seconds or the server's
/// heartbeat timeout, the client reads on to receive acknowledgements and heartbeats, and drops
/// the room's frames. Once the application has taken half of the events, the client has the dropped frames
/// replayed. (With several rooms, see [`Chat`](crate::Chat).)
///
/// So a program that takes no events can still send, its memory is bounded, and it misses no frame
/// without a [`Gap`](ClientEvent::Gap) or an [`Overflow`](ClientEvent::Overflow).
#[derive(Debug)]
#[must_use = "a client that is dropped leaves its room"]
pub struct Client {
    events: EventReceiver<ClientEvent>,
    sender: ClientSender,
    status: watch::Receiver<Status>,
}

/// Sends messages for a [`Client`]. Clones send for the same client and don't keep it alive.
#[derive(Debug, Clone)]
pub struct ClientSender {
    commands: Commands,
    room: RoomKey,
    /// For messages that wait for the client's task.
    permits: Arc<Semaphore>,
    /// For transient frames that wait for the client's task.
    transient_permits: Arc<Semaphore>,
    room_id: Arc<str>,
    state: StateSlot,
    status: watch::Receiver<Status>,
}

/// Transient frames of a room that may wait for the client's task.
const MAX_WAITING_TRANSIENTS: usize = 32;

/// The maximum length of a member's state, in bytes.
const MAX_STATE_BYTES: usize = 1024;

impl Client {
    /// Starts to build a client of the server at this `ws://` or `wss://` URL. `wss://` needs the
    /// feature `rustls`.
    pub fn connect(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(url.into(), None)
    }

    /// Like [`connect`](Client::connect), over connections that the application opens: a Unix
    /// socket, a proxy's tunnel, another TLS implementation. `dial` is called for every attempt. The URL
    /// is used only for the WebSocket handshake, which the client performs.
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn run() -> Result<(), tower_chat_rooms_client::ClientError> {
    /// use tokio::net::UnixStream;
    /// use tower_chat_rooms_client::Client;
    ///
    /// let dial = || UnixStream::connect("/run/chat.sock");
    /// let client = Client::over("ws://localhost/chat", dial).name("bot").room("lobby").await?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    pub fn over<F, Fut, IO>(url: impl Into<String>, dial: F) -> ClientBuilder
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = std::io::Result<IO>> + Send + 'static,
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        ClientBuilder::new(url.into(), Some(Box::new(dial) as Box<dyn Dial>))
    }

    /// A client that is to enter a room, what its task has to know, and the result of entering.
    pub(crate) fn joining(
        key: RoomKey,
        commands: &Commands,
        room: RoomSettings,
        max_unsent: usize,
        max_events: usize,
    ) -> (Client, Join, oneshot::Receiver<Result<(), ClientError>>) {
        let (event_sender, events) = events::channel(max_events);
        let (status_sender, status) = watch::channel(Status::default());
        let (entered, first_enter) = oneshot::channel();
        let permits = Arc::new(Semaphore::new(max_unsent.min(Semaphore::MAX_PERMITS)));
        let state = StateSlot::default();
        let sender = ClientSender {
            commands: commands.clone(),
            room: key,
            permits,
            transient_permits: Arc::new(Semaphore::new(MAX_WAITING_TRANSIENTS)),
            room_id: room.id.as_str().into(),
            state: state.clone(),
            status: status.clone(),
        };
        let outlet = Outlet { events: event_sender, status: status_sender, state, entered: Some(entered) };
        (Client { events, sender, status }, Join { key, room, outlet }, first_enter)
    }

    /// Returns a handle for sending messages.
    pub fn sender(&self) -> ClientSender {
        self.sender.clone()
    }

    /// Returns the next event; `None` after [`Closed`](crate::ClientState::Closed). Also available as a
    /// [`Stream`].
    pub async fn recv(&mut self) -> Option<ClientEvent> {
        std::future::poll_fn(|cx| self.events.poll_next(cx)).await
    }

    /// The client's state. It may be newer than the last event that was taken.
    pub fn state(&self) -> ClientState {
        // There is one, because the application gets a client only once it has entered.
        self.status.borrow().state.clone().unwrap_or(ClientState::Online)
    }

    /// The position of the last frame of the room that was received. Its event may not have been taken yet.
    pub fn position(&self) -> Option<Position> {
        self.status.borrow().room_status.position.clone()
    }

    /// The id of this member, the same as that of [`RoomFrame::member`](crate::RoomFrame::member). It changes if the
    /// session could not be resumed.
    pub fn member(&self) -> Option<String> {
        self.status.borrow().room_status.member.as_deref().map(str::to_owned)
    }

    /// Returns who is in the room, as far as the client knows. This may be newer than the last event that was taken,
    /// but is never older. While the client is not in its room, this is what the client knew last, marked as
    /// incomplete.
    ///
    /// ```
    /// # fn show(client: &tower_chat_rooms_client::Client) {
    /// let presence = client.presence();
    /// for member in presence.members().unwrap_or_default() {
    ///     println!("{}{}", member.name(), if member.is_own() { " (you)" } else { "" });
    /// }
    /// # }
    /// ```
    pub fn presence(&self) -> Presence {
        self.status.borrow().room_status.presence.clone()
    }

    /// Returns whether this member may only read. The server refuses its messages to the room with `read_only`. When this
    /// changes while the client is in the room, it emits [`ReadOnly`](ClientEvent::ReadOnly).
    pub fn is_read_only(&self) -> bool {
        self.status.borrow().room_status.is_read_only
    }

    /// Returns whether this member is hidden: the other members do not see it, and it is not counted.
    pub fn is_hidden(&self) -> bool {
        self.status.borrow().room_status.is_hidden
    }

    /// Leaves the room, as [`ClientSender::leave`] does.
    pub async fn leave(self) {
        self.sender.leave().await;
    }
}

impl Stream for Client {
    type Item = ClientEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ClientEvent>> {
        self.events.poll_next(cx)
    }
}

impl ClientSender {
    /// Publishes `message` in the room. The returned future resolves to its sequence number once
    /// the server has acknowledged it. While the client is not in its room, the message waits, for as
    /// long as that takes. The client sends it again until it is acknowledged. Messages keep the order of
    /// these calls, also over all rooms of a [`Chat`](crate::Chat), and are sent at most as fast as the server allows. If
    /// the server refuses a message only temporarily (`rate_limited`, or `internal` or `unavailable` with a `retryAfter`),
    /// the client sends it again later, before those to the same room that have not been sent yet. After `internal` or
    /// `unavailable` without a `retryAfter`, the send fails at once.
    ///
    /// The server publishes the message once. There is one exception: if the server has forgotten the session
    /// meanwhile, because of a restart or because it has neither a resume window nor a history, a message whose
    /// acknowledgement was lost may be published twice.
    ///
    /// # Errors
    ///
    /// If the value can't be serialized, the message is too long for the server or refused by it, the server has declared
    /// its event as transient ([`send_transient`](Self::send_transient)), too many messages are waiting to be sent, or the
    /// client is closed before the acknowledgement.
    pub fn send(&self, message: &(impl Serialize + ?Sized)) -> Sending {
        self.send_event("message", message)
    }

    /// Like [`send`](Self::send), with another event name than `message`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), or if the protocol reserves the event name.
    pub fn send_event(&self, event: &str, message: &(impl Serialize + ?Sized)) -> Sending {
        self.publish(Body::of_message(event, message))
    }

    /// Like [`send`](Self::send), with an object with any keys. If it has no `event`, it is a `message`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), or if the value is not an object, or has keys or an event name
    /// that the protocol reserves.
    pub fn send_object(&self, object: &(impl Serialize + ?Sized)) -> Sending {
        self.publish(Body::of_object(object))
    }

    /// Reads messages that were sent before: the latest ones, or those before or after a message. Await the returned
    /// request to send it. The server reads the messages from its message store. Without a store, it reads them from
    /// the history that it keeps in memory. The client emits no events for these messages.
    ///
    /// The request waits while the client is not in its room, and is sent again after a lost connection. If the server
    /// refuses it, it is not sent again.
    ///
    /// ```no_run
    /// # async fn scroll_up(client: &tower_chat_rooms_client::Client, oldest: u64) -> Result<(), tower_chat_rooms_client::ClientError> {
    /// let page = client.sender().history().before(oldest).limit(100).await?;
    /// for frame in &page.messages {
    ///     println!("{}: {}", frame.name().unwrap_or("the host"), frame.message());
    /// }
    /// println!("{}", if page.has_more { "..." } else { "the beginning" });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The request fails if the server refuses it (`denied` if the host does not allow it, `unavailable` if the message
    /// store does not answer), if an id or limit is [invalid](ClientError::Config), if too many messages are waiting to be
    /// sent ([`QueueFull`](ClientError::QueueFull)), or if the client is closed.
    pub fn history(&self) -> HistoryRequest {
        HistoryRequest::new(self.commands.clone(), self.room, self.permits.clone())
    }

    /// Sends a transient event to the other members of the room: a hint that may get lost, such as that somebody is
    /// typing. The others receive it as [`ClientEvent::Transient`].
    ///
    /// The frame is sent now or not at all. The client drops it while it is not in the room, while messages to the room
    /// wait to be sent, if the connection is too slow, or if it would exceed the server's rate for transient events. It is
    /// not acknowledged and not sent again. If the server refuses it, the client emits an
    /// [`Error`](ClientEvent::Error) without saying which frame it is about.
    ///
    /// Any of them may get lost, the last one too. So let what you show expire: for example, repeat `typing` every three
    /// seconds, and show it for five.
    ///
    /// ```no_run
    /// # fn on_key(client: &tower_chat_rooms_client::Client) -> Result<(), tower_chat_rooms_client::ClientError> {
    /// client.sender().send_transient("typing", &true)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the server has not declared the event as transient, the value can't be serialized, the frame has more than 1,024
    /// bytes, or the connection is closed for good. A frame that is dropped is no error.
    pub fn send_transient(
        &self,
        event: &str,
        message: &(impl Serialize + ?Sized),
    ) -> Result<(), ClientError> {
        let body = Body::of_message(event, message)?;
        if !self.status.borrow().transient_events.iter().any(|declared| declared == event) {
            return Err(ClientError::Value(format!(
                "the server has declared no transient event {event:?}: use `send_event`, or declare it there"
            )));
        }
        let bytes = body.transient(&self.room_id).len();
        if bytes > MAX_TRANSIENT_BYTES {
            return Err(ClientError::TooBig { bytes, max: MAX_TRANSIENT_BYTES });
        }
        // Without a permit, too many of them wait already.
        let Ok(permit) = self.transient_permits.clone().try_acquire_owned() else { return Ok(()) };
        let command = Command::SendTransient { room: self.room, body, permit };
        if self.commands.send(command) { Ok(()) } else { Err(task_ended()) }
    }

    /// Sets the state of this member, such as `{"status": "away"}`. The other members see it as
    /// [`Member::state`](crate::Member::state) if the room's mode is [`Full`](crate::PresenceMode::Full). `null`
    /// removes it.
    ///
    /// The client sends only the newest state, at most every 100 ms, and sends it again when it enters as a new member.
    /// If the server refuses the state, the client emits an [`Error`](ClientEvent::Error), and the previous state
    /// stays.
    ///
    /// ```no_run
    /// # fn on_idle(client: &tower_chat_rooms_client::Client) -> Result<(), tower_chat_rooms_client::ClientError> {
    /// client.sender().set_state(&serde_json::json!({"status": "away"}))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the value can't be serialized or has more than 1,024 bytes of JSON, or if the client is closed.
    pub fn set_state(&self, state: &(impl Serialize + ?Sized)) -> Result<(), ClientError> {
        let state = state_value(state)?;
        // Otherwise the task has been told already, and takes the newer state.
        let is_told = !self.state.put(state);
        if is_told || self.commands.send(Command::SetState(self.room)) { Ok(()) } else { Err(task_ended()) }
    }

    /// Sends a direct message to a user: see [`ChatHandle::send_to_user`](crate::ChatHandle::send_to_user).
    ///
    /// # Errors
    ///
    /// As for [`ChatHandle::send_to_user`](crate::ChatHandle::send_to_user).
    pub fn send_to_user(&self, user: impl Into<String>, message: &(impl Serialize + ?Sized)) -> Sending {
        Sending::to_user(&self.commands, user.into(), Body::of_direct(message))
    }

    /// Like [`send_to_user`](Self::send_to_user), but sends an object, which may have keys besides `message`.
    ///
    /// # Errors
    ///
    /// As for [`ChatHandle::send_object_to_user`](crate::ChatHandle::send_object_to_user).
    pub fn send_object_to_user(
        &self,
        user: impl Into<String>,
        object: &(impl Serialize + ?Sized),
    ) -> Sending {
        Sending::to_user(&self.commands, user.into(), Body::of_direct_object(object))
    }

    /// Sends another token now: see [`ChatHandle::authenticate`](crate::ChatHandle::authenticate).
    pub fn authenticate(&self) {
        // Fails only if the client is closed.
        self.commands.send(Command::Authenticate);
    }

    /// Enters the room again if the client is [`Outside`](crate::ClientState::Outside) of it, for example after
    /// the application has asked the server for more rights. An event reports the result. Does nothing in any
    /// other state.
    pub async fn enter(&self) {
        // Fails only if the client is closed.
        self.commands.send(Command::Enter(self.room));
    }

    /// Leaves the room for good. The client's stream ends once its last events are taken. Messages that are not
    /// acknowledged by then fail.
    ///
    /// If the client has a connection of its own, this closes it with a closing handshake. Otherwise, it completes once
    /// the server has answered. While there is no connection, it completes immediately, and the next connection leaves the
    /// room.
    pub async fn leave(&self) {
        let (done, left) = oneshot::channel();
        // Fails only if the client is closed already.
        if self.commands.send(Command::Leave { room: self.room, done }) {
            let _ = left.await;
        }
    }

    fn publish(&self, body: Result<Body, ClientError>) -> Sending {
        let (ack, acknowledged) = oneshot::channel();
        Sending::new(body.and_then(|body| {
            let permit = self.permits.clone().try_acquire_owned().map_err(|_| ClientError::QueueFull)?;
            let command = Command::Publish { room: self.room, body, ack: Ack::Message(ack), permit };
            if self.commands.send(command) { Ok(acknowledged) } else { Err(task_ended()) }
        }))
    }
}

/// Serializes the state of a member. Fails if it is longer than the server accepts.
pub(crate) fn state_value(state: &(impl Serialize + ?Sized)) -> Result<Value, ClientError> {
    let state = serde_json::to_value(state).map_err(|e| ClientError::Value(e.to_string()))?;
    let bytes = state.to_string().len();
    if bytes > MAX_STATE_BYTES {
        return Err(ClientError::TooBig { bytes, max: MAX_STATE_BYTES });
    }
    Ok(state)
}

pub(crate) fn task_ended() -> ClientError {
    ClientError::Closed { code: close::ABNORMAL, reason: "the client's task has ended".into() }
}

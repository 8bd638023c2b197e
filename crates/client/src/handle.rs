//! The application's handles on a client.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tower_chat_rooms_protocol::SERVER_EVENTS;

use crate::builder::ClientBuilder;
use crate::dial::Dial;
use crate::driver::Command;
use crate::error::ClientError;
use crate::event::ClientEvent;
use crate::queue::Listener;

/// A member of a room over the network, by the `chat-rooms.v1` subprotocol.
///
/// It is a stream of what happens there. When its connection breaks it comes back by itself, to
/// the same seat and without having missed anything where the server keeps both, and sends again
/// what was not acknowledged; a [`Gap`](ClientEvent::Gap) says where something was missed.
/// Dropping it leaves the room and ends its task.
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
/// let place = client.sender().send("hello").await?;
/// while let Some(event) = client.recv().await {
///     if let ClientEvent::Message(frame) = event {
///         assert_eq!((frame.name(), frame.message()), (Some("bot"), &"hello".into()));
///         assert!(frame.is_own() && frame.seq() == Some(place));
///         break;
///     }
/// }
/// client.leave().await;
/// # Ok(())
/// # }
/// ```
///
/// # Slow programs
/// Events have to be taken: at most [`max_events`](ClientBuilder::max_events) wait. When so many
/// do, the client stops reading its connection, so that the server has to wait, and goes on
/// telling the server that it is alive. If that lasts longer than the server waits for a sign of
/// life, acknowledgements and heartbeats are read again and the room's frames are dropped; once
/// half of the events are taken, the client connects anew to have them replayed. So a program
/// that takes no events can still send, memory is bounded, and nothing is missed without a
/// [`Gap`](ClientEvent::Gap) or an [`Overflow`](ClientEvent::Overflow).
#[derive(Debug)]
#[must_use = "a client that is dropped leaves its room"]
pub struct Client {
    events: Listener,
    sender: ClientSender,
}

/// Speaks for a [`Client`]. Clones speak for the same one, and don't keep it alive.
#[derive(Debug, Clone)]
pub struct ClientSender {
    commands: mpsc::Sender<Command>,
}

/// The future of a message's acknowledgement: its place among the room's frames.
///
/// The message is on its way, whether this is awaited or dropped.
#[derive(Debug)]
#[must_use = "only its result tells whether the message has arrived"]
pub struct Sending(Result<oneshot::Receiver<Result<u64, ClientError>>, ClientError>);

impl Client {
    /// Begins to describe a client of the server at this `ws://` or `wss://` URL. For `wss` the
    /// feature `rustls` is needed.
    pub fn connect(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(url.into(), None)
    }

    /// The same over connections that the application opens: a Unix socket, a proxy's tunnel, TLS
    /// of another kind. `dial` is called for every attempt. The URL serves for the handshake only,
    /// which the client makes.
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

    pub(crate) fn new(events: Listener, commands: mpsc::Sender<Command>) -> Client {
        Client { events, sender: ClientSender { commands } }
    }

    /// A handle to speak with.
    pub fn sender(&self) -> ClientSender {
        self.sender.clone()
    }

    /// The next event; `None` after [`Closed`](ClientEvent::Closed). Also by [`Stream`].
    pub async fn recv(&mut self) -> Option<ClientEvent> {
        std::future::poll_fn(|cx| self.events.poll_next(cx)).await
    }

    /// Leaves the room and closes the connection in good order.
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
    /// Says `message` in the room, and tells its place there once the server has it. It waits
    /// while the client has no connection, for as long as that takes, and is sent again as long
    /// as it is not acknowledged. Messages stay in the order of these calls.
    ///
    /// The server takes it once. Only where it has forgotten the client meanwhile, by a restart or
    /// because it keeps neither seats nor history, a message whose acknowledgement was lost may be
    /// said twice.
    ///
    /// # Errors
    /// If the value can't be serialized, the message is too long for the server or refused by it,
    /// too many wait to be sent, or the client is closed for good before it is acknowledged.
    pub fn send(&self, message: &(impl Serialize + ?Sized)) -> Sending {
        self.send_event("message", message)
    }

    /// The same under another event's name than `message`.
    ///
    /// # Errors
    /// As for [`send`](Self::send), or if the name is one of the protocol's own.
    pub fn send_event(&self, event: &str, message: &(impl Serialize + ?Sized)) -> Sending {
        let object = serde_json::to_value(message).map_err(|e| ClientError::Value(e.to_string()));
        let object = object.map(|message| Map::from_iter([("message".into(), message)]));
        self.say(object.and_then(|object| body(event, object)))
    }

    /// The same for an object with whatever keys; without an `event` it is a `message`.
    ///
    /// # Errors
    /// As for [`send`](Self::send), or if the value is no object, or has keys or an event of the
    /// protocol's own.
    pub fn send_object(&self, object: &(impl Serialize + ?Sized)) -> Sending {
        self.say(object_body(object))
    }

    /// Leaves the room for good and closes the connection in good order. The client's stream ends
    /// once its last events are taken. What is not acknowledged by then fails.
    pub async fn leave(&self) {
        let (done, left) = oneshot::channel();
        // It is closed already where the order can't be given.
        if self.commands.send(Command::Leave { done }).await.is_ok() {
            let _ = left.await;
        }
    }

    fn say(&self, body: Result<String, ClientError>) -> Sending {
        let (answer, answered) = oneshot::channel();
        Sending(body.and_then(|body| {
            let sent = self.commands.try_send(Command::Send { body, answer });
            sent.map(|()| answered).map_err(|e| match e {
                mpsc::error::TrySendError::Full(_) => ClientError::QueueFull,
                mpsc::error::TrySendError::Closed(_) => ended(),
            })
        }))
    }
}

fn object_body(value: &(impl Serialize + ?Sized)) -> Result<String, ClientError> {
    let refuse = |text: String| Err(ClientError::Value(text));
    let mut object = match serde_json::to_value(value) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return refuse("the value is not a JSON object; give a map or a struct".into()),
        Err(e) => return refuse(e.to_string()),
    };
    for key in ["cid", "name", "num", "seq"] {
        if object.contains_key(key) {
            return refuse(format!("the key {key:?} is the protocol's own"));
        }
    }
    match object.remove("event") {
        None => body("message", object),
        Some(Value::String(event)) => body(&event, object),
        Some(_) => refuse("the \"event\" must be a string".into()),
    }
}

/// The object's text without its closing brace, the event first.
fn body(event: &str, rest: Map<String, Value>) -> Result<String, ClientError> {
    if ["auth", "enter"].contains(&event) || SERVER_EVENTS.contains(&event) {
        return Err(ClientError::Value(format!("the event {event:?} is the protocol's own")));
    }
    let mut text = format!(r#"{{"event":{}"#, Value::from(event));
    for (key, value) in rest {
        text.push_str(&format!(",{}:{value}", Value::from(key)));
    }
    Ok(text)
}

fn ended() -> ClientError {
    ClientError::Closed { code: 1006, reason: "the client's task has ended".into() }
}

impl Future for Sending {
    type Output = Result<u64, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(answered) => Pin::new(answered).poll(cx).map(|answer| answer.unwrap_or_else(|_| Err(ended()))),
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

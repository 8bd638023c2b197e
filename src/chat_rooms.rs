//! `ChatRooms`, the host's handle.

mod all_nodes;
mod members;
mod sending;
mod users;

use std::borrow::Cow;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::either::Either;

use crate::broker::commands::Command;
use crate::browser::page::ChatPage;
use crate::browser::script::ClientScript;
use crate::builder::{ChatRoomsBuilder, WeakChatRooms};
use crate::config::{Drain, Keep};
use crate::connection::{Opening, serve};
use crate::delivery::{Draft, Keeping, LiveRoom, NotPublished};
#[cfg(feature = "test-util")]
use crate::engine::consistency::ConsistencyReport;
use crate::engine::{Draining, Engine};
use crate::error::{BuildError, SendError};
use crate::health::Health;
use crate::hooks::auth::Admission;
use crate::hooks::message::Message;
use crate::http::edge::{Edge, Gate};
use crate::http::layer::ChatRoomsLayer;
use crate::http::refusal::Refusal;
use crate::http::service::{ChatRoomsService, NoService, Route};
use crate::ids::{ConnectionId, MessageId, RoomId};
use crate::protocol::host_frame::{self, HostFrame};
use crate::protocol::inbound::{self, Body};
use crate::protocol::position::Position;
use crate::protocol::receipt::Receipt;
use crate::protocol::subprotocol::Subprotocol;
use crate::socket::Transport;
use crate::stats::Stats;

pub use all_nodes::{AllNodes, RoomCount, RoomMember};
pub use members::{MemberInfo, RoomInfo};
pub use sending::{Sending, Sent};

/// A handle to a set of chat rooms.
///
/// It creates the service or layer that clients connect to, sends messages, lists rooms and members, removes
/// members, and shuts down. All clones, layers and services share the same rooms. In hooks, use
/// a [`WeakChatRooms`](crate::WeakChatRooms).
///
/// The calls wait for nothing outside of this process. If several processes share a [broker](ChatRoomsBuilder::broker),
/// use [`ChatRooms::all_nodes`] for calls that ask all of them.
///
/// ```
/// use serde_json::json;
/// use tower_chat_rooms::{ChatRooms, SendError};
///
/// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// let rooms = ChatRooms::builder().build()?;
/// let service = rooms.service(); // for a route of a router
/// let layer = rooms.layer("/chat"); // around another service
///
/// // No client has entered yet:
/// assert!(rooms.rooms().is_empty());
/// let sent = rooms.send("lobby", &json!({"event": "notice", "message": "hi"}));
/// assert!(matches!(sent, Err(SendError::NoSuchRoom)));
/// # drop((service, layer));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ChatRooms {
    engine: Arc<Engine>,
    edge: Arc<Edge>,
}

impl ChatRooms {
    fn new(engine: Arc<Engine>, gate: Arc<Gate>) -> ChatRooms {
        ChatRooms { edge: Arc::new(Edge::new(engine.clone(), gate)), engine }
    }

    /// Returns a builder with default settings.
    pub fn builder() -> ChatRoomsBuilder {
        ChatRoomsBuilder::default()
    }

    /// Returns a service that serves chat connections, for a router to mount at any path.
    ///
    /// Every request to it must be a WebSocket handshake; other requests get 426.
    pub fn service(&self) -> ChatRoomsService<NoService> {
        ChatRoomsService::new(self.edge.clone(), Route::All, NoService(()))
    }

    /// Returns a layer that serves chat connections at one path and passes on all other requests, including those
    /// to the path that are not WebSocket handshakes.
    ///
    /// Paths are compared by their segments, so `/chat` and `/chat/` are the same. They are compared percent-encoded, as
    /// browsers send them, so `/grün` and `/gr%C3%BCn` are the same, too.
    ///
    /// # Panics
    ///
    /// If no request can have this path: it must start with `/`, and must not have a query, captures or wildcards. See
    /// [`try_layer`](ChatRooms::try_layer) for paths that you read from a configuration.
    #[track_caller]
    pub fn layer(&self, path: &str) -> ChatRoomsLayer {
        self.try_layer(path).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Like [`layer`](ChatRooms::layer), but returns an error instead of panicking.
    ///
    /// # Errors
    ///
    /// If no request can have this path. The error says what to write instead.
    pub fn try_layer(&self, path: &str) -> Result<ChatRoomsLayer, BuildError> {
        ChatRoomsLayer::new(self.edge.clone(), path)
    }

    /// Returns a service that serves the browser client, an ES module.
    ///
    /// Mount it next to the chat, and import `connect` from it in your page. It answers `GET` and `HEAD` at any path.
    /// Browsers check each time whether the script has changed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use axum::Router;
    /// use axum::body::Body;
    /// use http::Request;
    /// use tower::ServiceExt;
    ///
    /// let rooms = tower_chat_rooms::ChatRooms::builder().build()?;
    /// let app: Router = Router::new()
    ///     .route_service("/chat", rooms.service())
    ///     .route_service("/chat/chat-rooms.js", rooms.client_script());
    ///
    /// let response = app.oneshot(Request::get("/chat/chat-rooms.js").body(Body::empty())?).await?;
    /// assert_eq!(response.headers()["content-type"], "text/javascript; charset=utf-8");
    /// let script = axum::body::to_bytes(response.into_body(), usize::MAX).await?;
    /// assert!(std::str::from_utf8(&script)?.contains("export function connect(url, options)"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn client_script(&self) -> ClientScript {
        ClientScript::new()
    }

    /// Returns a service that serves a chat page and the files that the page needs.
    ///
    /// Visitors choose a name and enter rooms there. The page connects to the path `chat` below its own: to `/chat` if the
    /// page is at `/`, but to `/talk/chat` if it is at `/talk`. [`ChatPage::with_chat_path`] changes this. The service
    /// answers `GET` and `HEAD` at any path. The page's `Content-Security-Policy` allows only its own files and chats on
    /// the same origin.
    ///
    /// The page shows who is typing if you declare the [transient event](crate::ChatRoomsBuilder::transient_events)
    /// `typing`, and earlier messages if the server keeps a [history](crate::Recovery::history). If a member's info is
    /// a string, or an object with a string `title`, the page shows that text next to the name. If clients need a
    /// token, give it to the visitor in the address, as in `/#token=...`, or in a cookie.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use axum::Router;
    /// use axum::body::Body;
    /// use http::Request;
    /// use tower::ServiceExt;
    ///
    /// let rooms = tower_chat_rooms::ChatRooms::builder().transient_events(["typing"]).build()?;
    /// let app: Router = Router::new()
    ///     .route_service("/", rooms.page().with_title("Support").with_room("help"))
    ///     .route_service("/chat", rooms.service());
    ///
    /// let response = app.oneshot(Request::get("/").body(Body::empty())?).await?;
    /// assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    /// # Ok(())
    /// # }
    /// ```
    pub fn page(&self) -> ChatPage {
        ChatPage::new()
    }

    /// Serves a connection over any I/O until it ends, after you have completed its WebSocket handshake.
    ///
    /// If you have chosen the subprotocol `chat-rooms.v1`, say so with [`Admission::with_protocol`]. The future must
    /// run within a tokio runtime. Dropping it ends the connection without a closing handshake; callbacks and counts
    /// stay correct.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// use tower_chat_rooms::{Admission, ChatRooms};
    ///
    /// let rooms = ChatRooms::builder().build()?;
    /// let (ours, theirs) = tokio::io::duplex(1024);
    /// drop(theirs);
    /// rooms.serve(ours, Admission::anonymous()).await;
    /// assert_eq!(rooms.stats().accepted, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn serve<IO>(&self, io: IO, admission: Admission) -> impl Future<Output = ()> + Send
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve_from(io, admission, None)
    }

    /// Serves a connection as [`serve`](ChatRooms::serve) does, and passes the client's address to the hooks and to
    /// [`max_connections_per_ip`](crate::Limits::max_connections_per_ip).
    pub async fn serve_from<IO>(&self, io: IO, admission: Admission, peer: Option<SocketAddr>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.open(Transport::Other(Box::new(io)), admission, peer).await;
    }

    /// Opens a connection, and returns the future that runs it until it ends.
    fn open(
        &self,
        io: Transport,
        mut admission: Admission,
        peer: Option<SocketAddr>,
    ) -> impl Future<Output = ()> + use<> {
        let permit = match self.engine.admission.admit(peer.map(|peer| peer.ip())) {
            Ok(permit) => permit,
            Err(error) => {
                Refusal::from(error).count(&self.engine);
                return Either::Left(ready(()));
            }
        };
        let subprotocol = Subprotocol::of(admission.take_protocol().as_ref());
        let (first, max_write) = (Bytes::new(), usize::MAX);
        let opening = Opening { permit, admission, peer, subprotocol, first, max_write };
        Either::Right(serve(self.engine.clone(), io, opening))
    }

    /// Sends a JSON object to all members of a room.
    ///
    /// All members receive it at the same place among the room's other frames. The object needs a string `event`. Its
    /// `num` is set to the number of members. You may set a `name`.
    ///
    /// You can call this from a callback, because you need not await the returned [`Sending`]. Await it to learn the id
    /// of the message:
    ///
    /// ```
    /// # async fn notify(rooms: tower_chat_rooms::ChatRooms) -> Result<(), tower_chat_rooms::SendError> {
    /// use serde_json::json;
    ///
    /// let sent = rooms.send("lobby", &json!({"event": "notice", "message": "We close at ten."}))?.await?;
    /// println!("sent as {:?}", sent.id);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the room has no members, if the value is not an object with an `event` or is too big, or if too many frames
    /// of the room are waiting ([`SendError::Busy`]).
    pub fn send(&self, room: impl AsRef<str>, value: &impl Serialize) -> Result<Sending, SendError> {
        self.send_with_key(room.as_ref(), None, value)
    }

    /// Sends a JSON object to all members of a room as [`send`](ChatRooms::send) does, but only once for each key. If
    /// you do not know whether an earlier call was successful, repeat it with the same key.
    ///
    /// The room remembers the last 128 keys, as long as it has members. A [store](ChatRoomsBuilder::store) remembers
    /// the keys of all messages that it has. With a broker, keys are remembered for as long as the ids of clients'
    /// messages. For [transient events](crate::ChatRoomsBuilder::transient_events), the key has no effect.
    ///
    /// # Errors
    ///
    /// As [`send`](ChatRooms::send), or if the key has more than 250 bytes.
    pub fn send_once(
        &self,
        room: impl AsRef<str>,
        key: impl AsRef<str>,
        value: &impl Serialize,
    ) -> Result<Sending, SendError> {
        self.send_with_key(room.as_ref(), Some(key.as_ref()), value)
    }

    /// Returns the position of the latest frame of a room, or `None` if there is no such room. Later frames have higher
    /// positions, in the same epoch or in another one.
    ///
    /// With a broker, this is the latest position that this node knows, and it knows only the rooms in which it has
    /// members.
    pub fn position(&self, room: impl AsRef<str>) -> Option<Position> {
        self.engine.rooms.position(room.as_ref())
    }

    fn send_with_key(
        &self,
        room: &str,
        key: Option<&str>,
        value: &impl Serialize,
    ) -> Result<Sending, SendError> {
        let text = self.serialize(value)?;
        let body = Body::of_host(&text).ok_or(SendError::NotAnObject)?;
        if key.is_some_and(|key| key.len() > MAX_KEY_BYTES) {
            return Err(SendError::KeyTooLong);
        }
        if self.engine.rooms.is_remote() {
            return Ok(self.send_to_all_nodes(&RoomId::from(room), key, &text, &body));
        }
        let room = self.engine.rooms.get(room).filter(|room| room.has_members());
        let room = room.ok_or(SendError::NoSuchRoom)?;
        let frame = body.host_frame(room.id());
        let sent = match self.transient_event(&text) {
            Some(event) => {
                let sent = self.engine.rooms.send_transient(&room, &event, &frame);
                sent.map(|()| Sending::transient())
            }
            None => {
                let describe = |receipt| host_message(room.id(), receipt, &text);
                let keep = self.engine.config().keep.unwrap_or_default();
                match self.engine.rooms.publish(&room, key, keep, &frame, describe) {
                    Ok((receipt, calling)) => {
                        self.engine.rooms.call_for_host(calling);
                        Ok(Sending::sent(receipt))
                    }
                    Err(NotPublished::IsStored) => self.keep(&room, key, keep, &text).map(Sending::kept),
                    Err(error) => Err(error),
                }
            }
        };
        match sent {
            Ok(sending) => Ok(sending),
            Err(NotPublished::Closed) => Err(SendError::NoSuchRoom),
            // Only members can be read-only.
            Err(
                NotPublished::BatchFull
                | NotPublished::Held
                | NotPublished::InFlight
                | NotPublished::ReadOnly
                | NotPublished::IsStored
                | NotPublished::StoreFull
                | NotPublished::IsRemote,
            ) => Err(SendError::Busy),
        }
    }

    /// Sends a JSON object to one connection.
    ///
    /// The object needs a string `event` and is sent unchanged, with one exception: `chat-rooms.v1` clients get it
    /// without the key `direct`, which numbers [direct messages](ChatRooms::send_to_user). Do not use the key `seq`,
    /// because a `chat-rooms.v1` client would take the object for a frame of its room.
    ///
    /// If the connection breaks first, the client does not get the object. Use
    /// [`send_to_user`](ChatRooms::send_to_user) if it must get the object even after it has reconnected.
    ///
    /// # Errors
    ///
    /// If the connection is not open (even if its session is kept), or if the value is not an object with an `event`
    /// or is too big.
    pub fn send_to(&self, connection: ConnectionId, value: &impl Serialize) -> Result<(), SendError> {
        let object = &*self.serialize(value)?;
        if self.engine.send_to(connection, &HostFrame::new(object)) {
            return Ok(());
        }
        match self.engine.nodes() {
            Some(nodes) => {
                nodes.tell_others(Command::SendTo { connection, object });
                Ok(())
            }
            None => Err(SendError::NoSuchConnection),
        }
    }

    /// Sends a JSON object to every open connection, in a room or not, and returns the number of connections.
    ///
    /// The object needs a string `event` and is sent as by [`send_to`](ChatRooms::send_to). It has no defined place among
    /// the frames of a room.
    /// Other tasks can run between two sends.
    ///
    /// # Errors
    ///
    /// If the value is not an object with an `event`, or is too big.
    pub async fn broadcast(&self, value: &impl Serialize) -> Result<usize, SendError> {
        let object = &*self.serialize(value)?;
        self.engine.tell_others(Command::Broadcast { object });
        Ok(self.engine.broadcast(&HostFrame::new(object)).await)
    }

    /// Closes a connection with 4500, which tells the client to stay away.
    ///
    /// If the connection is lost and its session is kept, the session ends. Returns whether this node had the
    /// connection or the session. Otherwise, all other [nodes](ChatRoomsBuilder::broker) are told to close it.
    /// [`AllNodes::kick`] returns whether one of them had it.
    pub fn kick(&self, connection: ConnectionId) -> bool {
        let is_here = self.engine.kick(connection);
        if !is_here {
            self.engine.remove_elsewhere(Command::Kick(connection));
        }
        is_here
    }

    /// Closes a room and removes its members. Returns the number of members.
    ///
    /// Plain clients are disconnected with 4501. Clients of `chat-rooms.v1` stay connected, and stay in their other
    /// rooms.
    ///
    /// A client that enters the same id afterwards opens a new room. To prevent that, refuse it in your
    /// [`RoomPolicy`](crate::RoomPolicy).
    pub fn close_room(&self, room: impl AsRef<str>) -> usize {
        self.engine.remove_elsewhere(Command::CloseRoom(room.as_ref()));
        self.engine.close_room(room.as_ref()).members
    }

    /// Returns current numbers and counters.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Returns whether the chat rooms can do their work, for example for a readiness endpoint.
    ///
    /// ```
    /// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// use http::StatusCode;
    /// use tower_chat_rooms::{ChatRooms, Health};
    ///
    /// /// The answer to a load balancer that asks whether to send clients here.
    /// fn readiness(rooms: &ChatRooms) -> (StatusCode, String) {
    ///     match rooms.health() {
    ///         Health::Healthy => (StatusCode::OK, "healthy".to_owned()),
    ///         // Its connections stay open, and all other nodes are probably in the same state.
    ///         Health::Degraded { since, reason } => {
    ///             (StatusCode::OK, format!("degraded for {} s: {reason}", since.elapsed().as_secs()))
    ///         }
    ///         // Draining or shutting down.
    ///         _ => (StatusCode::SERVICE_UNAVAILABLE, "stopping".to_owned()),
    ///     }
    /// }
    /// # let rooms = ChatRooms::builder().build()?;
    /// # assert_eq!(readiness(&rooms).0, StatusCode::OK);
    /// # Ok(())
    /// # }
    /// ```
    pub fn health(&self) -> Health {
        self.engine.health()
    }

    /// Compares members, counts, sessions, users and resume tokens with each other, for tests.
    ///
    /// While the engine is idle, the report has no faults. While members enter and leave, it can have transient ones.
    ///
    /// ```
    /// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// let rooms = tower_chat_rooms::ChatRooms::builder().build()?;
    /// assert!(rooms.check_consistency().faults.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "test-util")]
    #[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
    pub fn check_consistency(&self) -> ConsistencyReport {
        self.engine.check_consistency()
    }

    /// Drains this process: moves its clients to other processes before it stops. Use it for rolling deployments.
    ///
    /// From now on, [`is_draining`](ChatRooms::is_draining) returns true, [`health`](ChatRooms::health) returns
    /// [`Health::Draining`](crate::Health::Draining), and upgrades are refused with 503 and `Retry-After`. After the
    /// [`ready_delay`](Drain::ready_delay), the connections are closed with 1012, evenly over the time of the drain and
    /// in random order. Each client first gets the frames in its send queue, and is told to come back within a second.
    /// The drain ends when all connections have ended. Then call [`shutdown`](ChatRooms::shutdown). If you call
    /// `shutdown` earlier, it cuts the drain short.
    ///
    /// With a [broker](ChatRoomsBuilder::broker), the sessions of clients that can resume are kept. Their members stay
    /// in their rooms, no callback is called, and the clients resume on other nodes. A session that is not resumed ends
    /// after the [`resume_window`](crate::Recovery::resume_window). This node ends it while it is running. After that,
    /// another node ends it, with [`LeaveReason::NodeLost`](crate::LeaveReason::NodeLost). All other members leave when
    /// their connection is closed.
    ///
    /// If no other process takes over the clients, call `shutdown` without a drain.
    ///
    /// The drain runs in the background. The returned [`Draining`] reports its progress, and is a future that completes
    /// at its end. A drain cannot be undone. If a drain is already running, the call returns that drain and ignores its
    /// argument.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// use std::time::Duration;
    /// use tower_chat_rooms::{ChatRooms, Drain};
    ///
    /// let rooms = ChatRooms::builder().build()?;
    /// let draining = rooms.drain(Drain::over(Duration::from_secs(30)));
    /// println!("{} connections to close", draining.progress().connections);
    /// let drained = draining.await;
    /// println!("{} connections closed in {:?}", drained.closed, drained.took);
    /// rooms.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn drain(&self, drain: Drain) -> Draining {
        self.engine.drain(drain)
    }

    /// Returns whether [`drain`](ChatRooms::drain) or [`shutdown`](ChatRooms::shutdown) was called.
    pub fn is_draining(&self) -> bool {
        self.engine.admission.is_draining()
    }

    /// Shuts down: refuses further upgrades, closes every connection with 1012, which tells clients to reconnect, and
    /// waits until all have ended.
    ///
    /// This takes at most about [`shutdown_timeout`](crate::Timeouts::shutdown_timeout). Afterwards,
    /// [`left`](crate::RoomEvents::left) has been called for every member, and no task is left. Clients are told to
    /// reconnect at different times, after two seconds at the earliest. A shutdown cannot be undone.
    ///
    /// With a [broker](ChatRoomsBuilder::broker), the sessions of clients that can resume are kept, as in a
    /// [`drain`](ChatRooms::drain). Their members stay in their rooms, and `left` is not called for them. Their clients
    /// resume on other nodes, or on this one if it is started again in time. Sessions that are not resumed within the
    /// [`resume_window`](crate::Recovery::resume_window) are ended by another node.
    ///
    /// The shutdown yields to other tasks while it ends many sessions. If you drop the future before it completes, some
    /// clients may not have been told to reconnect. Call it again then.
    pub async fn shutdown(&self) {
        self.engine.shutdown().await;
    }

    /// Has a message stored and sent to the members of a room.
    fn keep(
        &self,
        room: &Arc<LiveRoom>,
        key: Option<&str>,
        keep: Keep,
        text: &str,
    ) -> Result<Keeping, NotPublished> {
        let body = Body::of_host(text).ok_or(NotPublished::Closed)?;
        // Until it is published, it has no place.
        let position = self.engine.rooms.position(room.id().as_str()).ok_or(NotPublished::Closed)?;
        let message = host_message(room.id(), Receipt { position, id: MessageId::ZERO }, text);
        let key = key.map(|key| format!("host:{key}"));
        let draft = Draft { body, tail: Box::default(), member: None, key, message };
        self.engine.rooms.keep(room, keep, draft)
    }

    /// Sends a frame to the members of a room on all nodes.
    fn send_to_all_nodes(&self, room: &RoomId, key: Option<&str>, text: &str, body: &Body<'_>) -> Sending {
        let frame = body.host_frame(room);
        let (id, body) = (room.clone(), text.to_owned());
        let describe = move |receipt| host_message(&id, receipt, &body);
        let rooms = &self.engine.rooms;
        match self.transient_event(text) {
            Some(event) => {
                rooms.send_transient_for_host(room, &event, &frame);
                Sending::transient()
            }
            None => Sending::submitted(rooms.submit_for_host(room, key, &frame, describe)),
        }
    }

    /// The event of a frame, if the event is transient.
    fn transient_event<'a>(&self, frame: &'a str) -> Option<Cow<'a, str>> {
        let events = &self.engine.config().events;
        if events.transient.is_empty() {
            return None;
        }
        inbound::event_of(frame).filter(|event| events.is_transient(event))
    }

    fn serialize(&self, value: &impl Serialize) -> Result<String, SendError> {
        let text = host_frame::serialize(value)?;
        if self.engine.config().limits.is_too_big(text.len()) {
            return Err(SendError::TooBig);
        }
        Ok(text)
    }
}

/// The maximum length of a key of the host.
const MAX_KEY_BYTES: usize = 250;

/// What the host is told of its own message.
fn host_message(room: &RoomId, receipt: Receipt, body: &str) -> Message {
    let Receipt { position, id } = receipt;
    Message {
        room: room.clone(),
        id,
        position,
        time: id.time(),
        cid: None,
        sender: None,
        event: inbound::event_of(body).unwrap_or_default().into_owned(),
        body: body.to_owned(),
    }
}

impl ChatRoomsBuilder {
    /// Builds the chat rooms.
    ///
    /// # Errors
    ///
    /// If settings are invalid or contradict each other. The error says which ones and what to change.
    pub fn build(self) -> Result<ChatRooms, BuildError> {
        let (engine, gate, handle) = self.into_parts()?;
        let (engine, gate) = (Arc::new(engine), Arc::new(gate));
        handle.set(&engine, &gate);
        // A node answers the others before it has clients.
        engine.start_hearing();
        Ok(ChatRooms::new(engine, gate))
    }
}

impl WeakChatRooms {
    /// Returns the chat rooms. `None` before they are built, and after they were dropped: all handles, layers and
    /// services are gone, and no connection is left.
    pub fn upgrade(&self) -> Option<ChatRooms> {
        self.get().map(|(engine, gate)| ChatRooms::new(engine, gate))
    }
}

impl std::fmt::Debug for ChatRooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatRooms").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

//! `ChatRooms`, the host's handle.

mod all_nodes;
mod members;
mod messages;
mod operation;
mod sending;
mod users;

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::either::Either;

use crate::broker::commands::Command;
use crate::browser::page::ChatPage;
use crate::browser::script::ClientScript;
use crate::builder::{ChatRoomsBuilder, WeakChatRooms};
use crate::connection::{Opening, serve};
use crate::engine::Engine;
use crate::error::BuildError;
use crate::hooks::auth::Admission;
use crate::http::edge::{Edge, Gate};
use crate::http::layer::ChatRoomsLayer;
use crate::http::refusal::Refusal;
use crate::http::service::{ChatRoomsService, NoService, Route};
use crate::ids::ConnectionId;
use crate::protocol::subprotocol::Subprotocol;
use crate::socket::Transport;

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

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
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
    ///
    /// To send the members a message before, await it: `rooms.send(room, &goodbye)?.await?`. With a
    /// [broker](ChatRoomsBuilder::broker) or a [store](ChatRoomsBuilder::store), [`send`](Self::send) returns before the
    /// message is published.
    pub fn close_room(&self, room: impl AsRef<str>) -> usize {
        self.engine.remove_elsewhere(Command::CloseRoom(room.as_ref()));
        self.engine.close_room(room.as_ref()).members
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

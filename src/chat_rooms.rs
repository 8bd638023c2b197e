//! The host's handle on its chat rooms.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::browser::script::ClientScript;
use crate::builder::ChatRoomsBuilder;
use crate::connection::{Opening, serve};
use crate::delivery::NotPublished;
use crate::engine::Engine;
#[cfg(feature = "test-util")]
use crate::engine::consistency::ConsistencyReport;
use crate::error::{BuildError, SendError};
use crate::hooks::auth::Admission;
use crate::hooks::user::User;
use crate::http::edge::Edge;
use crate::http::layer::ChatRoomsLayer;
use crate::http::refusal::Refusal;
use crate::http::service::{ChatRoomsService, NoService, Route};
use crate::ids::{ConnectionId, Name, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::frame;
use crate::protocol::inbound::Body;
use crate::protocol::subprotocol::Subprotocol;
use crate::stats::Stats;

/// Live chat rooms: the handle through which the host mounts them, speaks in them, looks at
/// them and ends them.
///
/// All clones, and all layers and services made from them, share one engine.
///
/// ```
/// use serde_json::json;
/// use tower_chat_rooms::{ChatRooms, SendError};
///
/// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// let rooms = ChatRooms::builder().build()?;
/// let service = rooms.service(); // for a route of its own
/// let layer = rooms.layer("/chat"); // in front of an existing stack
///
/// // Nobody has entered yet:
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
    /// Begins with the defaults.
    pub fn builder() -> ChatRoomsBuilder {
        ChatRoomsBuilder::default()
    }

    /// Returns a service that serves chat connections, for a router to mount at any path.
    ///
    /// Every request to it must be a WebSocket handshake; others get 426.
    pub fn service(&self) -> ChatRoomsService<NoService> {
        ChatRoomsService::new(self.edge.clone(), Route::All, NoService(()))
    }

    /// Returns a layer that serves chat connections at one path and passes all other requests on, including those
    /// to the path that are not WebSocket handshakes.
    ///
    /// Paths are compared by their segments, so `/chat` and `/chat/` are the same.
    ///
    /// # Panics
    ///
    /// If no request can have this path: it must start with `/`, has no query, captures or wildcards, and is
    /// percent-encoded as browsers send it.
    #[track_caller]
    pub fn layer(&self, path: &str) -> ChatRoomsLayer {
        ChatRoomsLayer::new(self.edge.clone(), path)
    }

    /// A service that serves the browser client, an ES module: mount it beside the chat, and a
    /// page imports `connect` from there. `GET` and `HEAD` are answered, whatever the path; browsers
    /// ask each time whether it has changed.
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

    /// Serves a connection whose WebSocket handshake the host has made itself, over any I/O,
    /// until it ends. Inside a tokio runtime. Where the subprotocol `chat-rooms.v1` was chosen, the
    /// admission has to say so ([`Admission::with_protocol`]).
    ///
    /// Dropping the future ends the connection without a closing handshake; callbacks and
    /// counts stay exact.
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
    pub async fn serve<IO>(&self, io: IO, admission: Admission)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve_from(io, admission, None).await;
    }

    /// The same with the client's address, which the hooks then see, and by which
    /// [`max_connections_per_ip`](crate::Limits::max_connections_per_ip) counts.
    pub async fn serve_from<IO>(&self, io: IO, mut admission: Admission, peer: Option<SocketAddr>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let permit = match self.engine.admission.admit(peer.map(|peer| peer.ip())) {
            Ok(permit) => permit,
            Err(error) => return Refusal::from(error).count(&self.engine),
        };
        let subprotocol = Subprotocol::of(admission.take_protocol().as_ref());
        let (first, max_write) = (Bytes::new(), usize::MAX);
        let opening = Opening { permit, admission, peer, subprotocol, first, max_write };
        serve(self.engine.clone(), Box::new(io), opening).await;
    }

    /// Sends a JSON object to all members of a room, in one order with what the members say.
    /// It is given the room's count as `num`; a `name` in it is the host's to choose.
    ///
    /// # Errors
    /// If nobody is in that room, the value is not an object or too big, or the room is so crowded with
    /// messages that this one would have to wait ([`SendError::Busy`]).
    pub fn send(&self, room: impl AsRef<str>, value: &impl Serialize) -> Result<(), SendError> {
        let text = self.serialize(value)?;
        let body = Body::of_host(&text).ok_or(SendError::NotAnObject)?;
        let room = self.engine.rooms.get(room.as_ref()).ok_or(SendError::NoSuchRoom)?;
        match self.engine.rooms.publish(&room, &body.host_frame()) {
            Ok(_) => Ok(()),
            Err(NotPublished::Closed) => Err(SendError::NoSuchRoom),
            Err(NotPublished::BatchFull | NotPublished::Held) => Err(SendError::Busy),
        }
    }

    /// Sends a JSON object to one connection, as it is. A client of `chat-rooms.v1` takes what has a
    /// `seq` for a frame of its room: use another key.
    ///
    /// # Errors
    /// If the connection is not open any more, or was lost and its seat is kept, or the value is not an object or too big.
    pub fn send_to(&self, connection: ConnectionId, value: &impl Serialize) -> Result<(), SendError> {
        let text = self.serialize(value)?;
        let session = self.engine.sessions.get(connection).ok_or(SendError::NoSuchConnection)?;
        match session.send(&frame::text(text.as_bytes())) {
            true => Ok(()),
            false => Err(SendError::NoSuchConnection),
        }
    }

    /// Sends a JSON object to every open connection, as it is, whether it has entered a room or
    /// not. Returns to how many it was sent. Other tasks run in between; each room's own order
    /// is not kept with it.
    ///
    /// # Errors
    /// If the value is not an object or too big.
    pub async fn send_all(&self, value: &impl Serialize) -> Result<usize, SendError> {
        let frame = frame::text(self.serialize(value)?.as_bytes());
        let mut reached = 0;
        for (n, session) in self.engine.sessions.all().iter().enumerate() {
            if n > 0 && n % 64 == 0 {
                tokio::task::yield_now().await;
            }
            reached += usize::from(session.send(&frame));
        }
        Ok(reached)
    }

    /// The rooms in which somebody is, in no order.
    pub fn rooms(&self) -> Vec<RoomInfo> {
        let rooms = self.engine.rooms.all();
        rooms.iter().map(|room| RoomInfo { id: room.id().clone(), online: room.online() }).collect()
    }

    /// The members of a room in the order in which they came; none if there is no such room.
    pub fn members(&self, room: impl AsRef<str>) -> Vec<MemberInfo> {
        let Some(room) = self.engine.rooms.get(room.as_ref()) else { return Vec::new() };
        room.members()
            .iter()
            .map(|m| MemberInfo {
                connection: m.id,
                name: m.name.clone(),
                user: m.handle.user(),
                is_connected: m.handle.is_connected(),
            })
            .collect()
    }

    /// Closes a connection with 4500, which tells the client to stay away. A member whose
    /// connection is lost loses his seat. Returns whether there was one.
    pub fn kick(&self, connection: ConnectionId) -> bool {
        let session = self.engine.sessions.get(connection);
        session.is_some_and(|session| self.engine.sessions.close(&session, LeaveReason::Kicked))
    }

    /// Closes a room: its members' connections end with 4501, and nothing more is said there.
    /// Who enters the same id from now on opens a new room; to prevent that, have the
    /// [`RoomPolicy`](crate::RoomPolicy) say no. Returns how many members it had.
    pub fn close_room(&self, room: impl AsRef<str>) -> usize {
        self.engine.close_room(room.as_ref())
    }

    /// Counters of what is and what has been.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Compares rosters, counts, sessions and resume tokens with each other. For tests: on an engine that is
    /// at rest nothing may be found. While members enter and leave, what is just being done can show up.
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

    /// Refuses further upgrades, closes every connection with 1012 ("come back"), and waits
    /// until all have ended, at most about `close_timeout`. Every member has been told of as
    /// `left` then, and no task of the engine is left. It can't be taken back.
    pub async fn shutdown(&self) {
        self.engine.shutdown().await;
    }

    fn serialize(&self, value: &impl Serialize) -> Result<String, SendError> {
        let text = serde_json::to_string(value).map_err(|e| SendError::Json(e.into()))?;
        if !text.starts_with('{') {
            return Err(SendError::NotAnObject);
        }
        if self.engine.config().limits.is_too_big(text.len()) {
            return Err(SendError::TooBig);
        }
        Ok(text)
    }
}

impl ChatRoomsBuilder {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// If they contradict each other or can't work; the error names them.
    pub fn build(mut self) -> Result<ChatRooms, BuildError> {
        let (origins, proxies) = (std::mem::take(&mut self.origins), std::mem::take(&mut self.proxies));
        let engine = Arc::new(self.into_engine()?);
        Ok(ChatRooms { edge: Arc::new(Edge::new(engine.clone(), origins, proxies)), engine })
    }
}

/// A room that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomInfo {
    /// Its id.
    pub id: RoomId,
    /// How many are in it.
    pub online: usize,
}

/// A member of a room.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MemberInfo {
    /// The connection.
    pub connection: ConnectionId,
    /// The member's name in the room.
    pub name: Name,
    /// The user, where one was authenticated when he entered.
    pub user: Option<Arc<User>>,
    /// Whether he has a connection now. If not, it was lost, and his seat is kept for
    /// [`resume_window`](crate::Recovery::resume_window).
    pub is_connected: bool,
}

impl std::fmt::Debug for ChatRooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatRooms").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

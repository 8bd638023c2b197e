//! The server of a test.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tower::Service;

use crate::chat_rooms::ChatRooms;
use crate::hooks::user::PeerAddr;
use crate::testing::{ConnectOptions, TestClient};

/// How many bytes the pipe between client and server holds in each direction.
const PIPE: usize = 64 * 1024;

type BoxError = Box<dyn Error + Send + Sync>;

/// Serves one end of a pipe, for a client with this address.
type Serve = dyn Fn(DuplexStream, Option<SocketAddr>) + Send + Sync;

/// Serves chat rooms in memory, for tests. See the [module's documentation](crate::testing).
///
/// # Panics
/// When it is dropped, if [`ChatRooms::check_consistency`] finds a fault. It does not panic if the thread is already
/// panicking.
pub struct TestServer {
    rooms: ChatRooms,
    serve: Arc<Serve>,
}

impl TestServer {
    /// Serves chat rooms at every path.
    #[must_use]
    pub fn new(rooms: ChatRooms) -> TestServer {
        let service = rooms.service();
        TestServer::with_service(rooms, service)
    }

    /// Serves an application that includes the chat rooms, for example an axum `Router`.
    ///
    /// ```
    /// use axum::Router;
    /// use tower_chat_rooms::ChatRooms;
    /// use tower_chat_rooms::testing::TestServer;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// let rooms = ChatRooms::builder().build()?;
    /// let app = Router::new().route_service("/chat", rooms.service());
    /// let server = TestServer::with_service(rooms, app);
    /// let mut ann = server.options().path("/chat").connect().await;
    /// ann.enter("ann", "lobby").await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_service<S, B>(rooms: ChatRooms, service: S) -> TestServer
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let serve = move |io, peer: Option<SocketAddr>| {
            let service = service.clone();
            let service = service_fn(move |mut request: Request<Incoming>| {
                let mut service = service.clone();
                async move {
                    if let Some(peer) = peer {
                        request.extensions_mut().insert(PeerAddr(peer));
                    }
                    std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
                    service.call(request).await
                }
            });
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(io), service).with_upgrades();
            tokio::spawn(async move {
                // The client sees that the connection has ended.
                let _ = connection.await;
            });
        };
        TestServer { rooms, serve: Arc::new(serve) }
    }

    /// Returns the chat rooms.
    #[must_use]
    pub fn rooms(&self) -> &ChatRooms {
        &self.rooms
    }

    /// Connects an anonymous `chat-rooms.v1` client to `/`.
    ///
    /// # Panics
    /// If the server refuses it.
    #[track_caller]
    pub fn connect(&self) -> impl Future<Output = TestClient> {
        self.options().connect()
    }

    /// Returns options for a client, for example to connect with a token.
    pub fn options(&self) -> ConnectOptions {
        ConnectOptions::new(Connector { serve: self.serve.clone() })
    }

    /// Waits until the server has handled everything that clients have sent, and all tasks wait for something.
    ///
    /// Use it only in paused time. It lets a millisecond pass.
    pub async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if !thread::panicking() {
            let report = self.rooms.check_consistency();
            assert!(report.faults.is_empty(), "the chat rooms are inconsistent: {report:?}");
        }
    }
}

impl fmt::Debug for TestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").field("rooms", &self.rooms).finish_non_exhaustive()
    }
}

/// Opens connections to a server.
#[derive(Clone)]
pub(super) struct Connector {
    serve: Arc<Serve>,
}

impl Connector {
    /// Returns the client's end of a new connection.
    pub(super) fn open(&self, peer: Option<SocketAddr>) -> DuplexStream {
        let (server, client) = tokio::io::duplex(PIPE);
        (self.serve)(server, peer);
        client
    }
}

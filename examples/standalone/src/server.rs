//! Accepts connections and serves HTTP on them. A connection that does not become a WebSocket lasts for a limited
//! time, no matter what its client does.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_chat_rooms::PeerAddr;

use crate::listen::{Listener, Socket};
use crate::open_files::{Reserve, Shortage, is_out_of_files};
use crate::sockets::{Permit, Sockets};

/// Bytes of the head of a request. hyper's default is 400 KiB, which each socket of an address could hold until its
/// time is over.
const MAX_HEAD: usize = 32 * 1024;

/// Time after an error for which nothing is accepted, because the next attempt would most likely fail, too.
const PAUSE: Duration = Duration::from_millis(50);

/// Time for responses in progress when a connection has to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The limits of HTTP connections.
#[derive(Debug)]
pub(crate) struct HttpLimits {
    /// Time within which a client must send the head of a request.
    pub(crate) head_timeout: Duration,
    /// Time after which a connection is closed, unless it has become a WebSocket.
    pub(crate) http_timeout: Duration,
    /// Sockets of one address that have not become WebSockets.
    pub(crate) max_sockets_per_address: usize,
}

/// An HTTP/1.1 server.
pub(crate) struct Server<S> {
    listeners: Vec<Listener>,
    shortage: Shortage,
    http: http1::Builder,
    service: S,
    sockets: Sockets,
    http_timeout: Duration,
    connections: TaskTracker,
    stopping: CancellationToken,
}

impl<S, B> Server<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Future: Send> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data: Send> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    pub(crate) fn new(listeners: Vec<Listener>, service: S, limits: &HttpLimits) -> Server<S> {
        let mut http = http1::Builder::new();
        // It starts when the connection is accepted, and again after each response.
        let head_timeout = Some(limits.head_timeout).filter(|timeout| *timeout < Duration::MAX);
        http.timer(TokioTimer::new()).header_read_timeout(head_timeout).max_buf_size(MAX_HEAD);
        Server {
            listeners,
            shortage: Shortage::default(),
            http,
            service,
            sockets: Sockets::new(limits.max_sockets_per_address),
            http_timeout: limits.http_timeout,
            connections: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }
    }

    /// Accepts connections until `stop` completes.
    pub(crate) async fn run_until<T>(&self, stop: impl Future<Output = T>) -> T {
        let accept = join_all(self.listeners.iter().map(|listener| self.accept(listener)));
        let mut stop = pin!(stop);
        tokio::select! {
            stopped = stop.as_mut() => stopped,
            // There are no listeners.
            _ = accept => stop.await,
        }
    }

    /// Accepts connections forever.
    async fn accept(&self, listener: &Listener) {
        let mut reserve = Reserve::new();
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => {
                    self.serve(socket, peer);
                    if let Some(connections) = self.shortage.end(Instant::now()) {
                        tracing::info!(connections, "there are file descriptors for new connections again");
                    }
                }
                Err(error) if is_out_of_files(&error) => {
                    let refused = reserve.refuse(listener).await;
                    if refused.as_ref().is_ok_and(|refused| !refused) {
                        continue;
                    }
                    if let Some(connections) = self.shortage.add(Instant::now()) {
                        tracing::error!(
                            connections,
                            "new connections are refused with 503, because no file descriptor is left: raise the limit \
                             (`ulimit -n`; in systemd `LimitNOFILE=`)"
                        );
                    }
                    if refused.is_err() {
                        sleep(PAUSE).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%listener, %error, "accept failed");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Stops listening and waits until all connections have ended, for at most about a second.
    pub(crate) async fn stop(self) {
        drop(self.listeners);
        self.stopping.cancel();
        self.connections.close();
        self.connections.wait().await;
    }

    /// Serves a connection in a task of its own.
    fn serve(&self, socket: Socket, peer: SocketAddr) {
        let Some(permit) = self.sockets.admit(peer.ip()) else {
            tracing::debug!(%peer, "connection closed: too many sockets of one address");
            return;
        };
        // The chat rooms take the TCP stream out of hyper's connection, so it must be a stream of this type.
        match socket {
            Socket::Tcp(stream) => self.serve_stream(stream, peer, permit),
            #[cfg(unix)]
            Socket::Unix(stream) => self.serve_stream(stream, peer, permit),
        }
    }

    fn serve_stream<IO>(&self, stream: IO, peer: SocketAddr, permit: Permit)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = self.service.clone();
        let service = service_fn(move |mut request| {
            request.extensions_mut().insert(PeerAddr(peer));
            service.call(request)
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let ending = timeout(self.http_timeout, self.stopping.clone().cancelled_owned());
        self.connections.spawn(async move {
            // An upgrade ends the connection for hyper, and so gives the permit back.
            let _permit = permit;
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                stopped = ending => {
                    let reason = if stopped.is_ok() { "the server stops" } else { "it has reached --http-timeout" };
                    tracing::debug!(%peer, reason, "closing a connection");
                    connection.as_mut().graceful_shutdown();
                    let Ok(ended) = timeout(STOP_TIMEOUT, connection).await else {
                        tracing::debug!(%peer, "connection closed, because it took too long to end");
                        return;
                    };
                    ended
                }
            };
            match ended {
                Ok(()) => tracing::debug!(%peer, "HTTP ended: the client has closed, or it is a WebSocket now"),
                Err(error) => tracing::debug!(%peer, %error, "connection closed"),
            }
        });
    }
}

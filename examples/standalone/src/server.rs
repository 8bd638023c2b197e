//! Accepts connections and serves HTTP on them. A connection that does not become a WebSocket lasts for a limited
//! time, no matter what its client does.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_chat_rooms::{ChatRoomsService, PeerAddr};

use crate::site::Site;
use crate::sockets::{Permit, Sockets};

/// Connections that can wait to be accepted. With `TcpListener::bind` it would be 128, too few for the clients that
/// come back at the same time after a restart.
const BACKLOG: u32 = 4096;

/// Bytes of the head of a request. hyper's default is 400 KiB, which each socket of an address could hold until its
/// time is over.
const MAX_HEAD: usize = 32 * 1024;

/// Time for responses in progress when a connection has to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

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
pub(crate) struct Server {
    listener: TcpListener,
    http: http1::Builder,
    service: TowerToHyperService<ChatRoomsService<Site>>,
    sockets: Sockets,
    http_timeout: Duration,
    connections: TaskTracker,
    draining: CancellationToken,
}

impl Server {
    pub(crate) fn new(listener: TcpListener, service: ChatRoomsService<Site>, limits: &HttpLimits) -> Server {
        let mut http = http1::Builder::new();
        // It starts when the connection is accepted, and again after each response.
        let head_timeout = Some(limits.head_timeout).filter(|timeout| *timeout < Duration::MAX);
        http.timer(TokioTimer::new()).header_read_timeout(head_timeout).max_buf_size(MAX_HEAD);
        Server {
            listener,
            http,
            service: TowerToHyperService::new(service),
            sockets: Sockets::new(limits.max_sockets_per_address),
            http_timeout: limits.http_timeout,
            connections: TaskTracker::new(),
            draining: CancellationToken::new(),
        }
    }

    /// Accepts connections until `stop` completes.
    pub(crate) async fn run_until(&self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = &mut stop => return,
            };
            match accepted {
                Ok((stream, peer)) => self.serve(stream, peer),
                Err(error) => {
                    // Usually there are too many open files. Open connections continue, and some of them will end.
                    tracing::warn!(%error, "accept failed");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Frees the port and waits until all connections have ended, for at most about a second.
    pub(crate) async fn drain(self) {
        drop(self.listener);
        self.draining.cancel();
        self.connections.close();
        self.connections.wait().await;
    }

    /// Serves a connection in a task of its own.
    fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        let Some(permit) = self.sockets.admit(peer.ip()) else {
            tracing::debug!(%peer, "too many sockets of one address");
            return;
        };
        let service = self.service.clone();
        let service = service_fn(move |mut request| {
            request.extensions_mut().insert(PeerAddr(peer));
            service.call(request)
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let ending = timeout(self.http_timeout, self.draining.clone().cancelled_owned());
        self.connections.spawn(async move {
            // An upgrade ends the connection for hyper, and so gives the permit back.
            let _permit: Permit = permit;
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                _ = ending => {
                    connection.as_mut().graceful_shutdown();
                    let Ok(ended) = timeout(DRAIN_TIMEOUT, connection).await else {
                        tracing::debug!(%peer, "connection took too long");
                        return;
                    };
                    ended
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "connection ended");
            }
        });
    }
}

/// Binds a listener that lets many clients wait to be accepted.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server can bind the port while connections of the previous one are still in TIME_WAIT. On Windows
    // the option would allow others to take the port.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

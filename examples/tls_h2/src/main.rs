//! Chat rooms over TLS, with HTTP/2 if the client speaks it, otherwise with HTTP/1.1. A browser has its page and all of
//! its chat connections on one TCP connection.
//!
//! `cargo run -p tls_h2` (`PORT=8080` for another port), then open the address that it prints and let the browser
//! accept the certificate, which is self-signed and new at each start. In production, use one from a certificate
//! authority, or leave TLS to a proxy.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tower::ServiceBuilder;
use tower_chat_rooms::{ChatRooms, PeerAddr};

/// Time for the TLS handshake and the head of the first request, and between two pings of an HTTP/2 connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of the head of an HTTP/1.1 request; hyper's default is 400 KiB.
const MAX_HEAD: usize = 32 * 1024;

/// Bytes that hyper keeps for a WebSocket over HTTP/2 whose client does not read; hyper's default is 400 KiB.
const MAX_SEND: usize = 64 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let rooms = ChatRooms::builder().build()?;
    let tls = TlsAcceptor::from(Arc::new(tls_config()?));
    let listener = listen()?;
    println!("chat rooms on https://localhost:{}/", listener.local_addr()?.port());

    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    // Without the CONNECT protocol, browsers open an HTTP/1.1 connection for each WebSocket. The heartbeat ends a
    // WebSocket whose client is gone, and pings end the HTTP/2 connection below it.
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_TIMEOUT)
        .max_send_buf_size(MAX_SEND)
        .enable_connect_protocol();
    let open = GracefulShutdown::new();
    let site = Router::new().route_service("/", rooms.page().with_chat_path(""));
    let service = ServiceBuilder::new().layer(rooms.layer("/")).service(site);
    let mut stop = pin!(tokio::signal::ctrl_c());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            stopped = &mut stop => break stopped?,
        };
        let Ok((stream, peer)) = accepted else {
            // The client is gone again, or too many files are open and some will be closed.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        // The chat rooms see the TLS stream only, so they cannot do this themselves.
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("{peer}: frames may be late, because TCP_NODELAY cannot be set: {error}");
        }
        let deadline = tokio::time::Instant::now() + HEAD_TIMEOUT;
        let has_request = Arc::new(Notify::new());
        let first_request = has_request.clone();
        let service = ServiceBuilder::new()
            .map_request(move |request| {
                has_request.notify_one();
                with_peer(request, peer)
            })
            .service(service.clone());
        let (tls, http, watcher) = (tls.clone(), http.clone(), open.watcher());
        tokio::spawn(async move {
            let Ok(Ok(stream)) = timeout_at(deadline, tls.accept(stream)).await else { return };
            let connection = http
                .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service))
                .into_owned();
            let mut connection = pin!(watcher.watch(connection));
            // hyper's own time limits start with the first bytes of HTTP.
            let ended = tokio::select! {
                ended = &mut connection => ended,
                begun = timeout_at(deadline, first_request.notified()) => match begun {
                    Ok(()) => connection.await,
                    Err(_) => return,
                },
            };
            if let Err(error) = ended {
                eprintln!("{peer}: {error}");
            }
        });
    }

    println!("draining {} chat connections", rooms.stats().connections);
    drop(listener);
    // An HTTP/2 connection can end after its WebSockets have ended.
    rooms.shutdown().await;
    let _ = timeout(Duration::from_secs(1), open.shutdown()).await;
    Ok(())
}

/// `TcpListener::bind` would let only 128 clients wait to be accepted, too few for those that come back after a
/// restart.
fn listen() -> Result<TcpListener, Box<dyn Error>> {
    let port = std::env::var("PORT").map_or(Ok(3443), |port| port.parse())?;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    let bound = socket.bind(SocketAddr::from(([127, 0, 0, 1], port)));
    bound.map_err(|e| format!("can't listen on port {port}: {e}; choose another one with PORT"))?;
    Ok(socket.listen(4096)?)
}

/// A self-signed certificate for this machine, and both versions of HTTP for the client to choose from.
fn tls_config() -> Result<ServerConfig, Box<dyn Error>> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key.into())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Prints the request's version of HTTP, and passes the client's address on to the chat rooms.
fn with_peer(mut request: Request<Incoming>, peer: SocketAddr) -> Request<Incoming> {
    println!("{:?} {} {}", request.version(), request.method(), request.uri().path());
    request.extensions_mut().insert(PeerAddr(peer));
    request
}

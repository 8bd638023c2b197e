//! Chat rooms over TLS, by HTTP/2 where the client speaks it and by HTTP/1.1 where it doesn't: a
//! browser has its page and all its chat connections on one TCP connection.
//!
//! `cargo run -p tls_h2` (`PORT=8080` for another port), then open the address that it prints and let
//! the browser accept the certificate, which is self-signed and made at each start. In production use
//! one from an authority, or leave TLS to a proxy.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tower::ServiceBuilder;
use tower_chat_rooms::{ChatRooms, PeerAddr};

const PAGE: &str = include_str!("../../standalone/page.html");

/// Time for the TLS handshake, and for a request's head.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let rooms = ChatRooms::builder().build()?;
    let tls = TlsAcceptor::from(Arc::new(tls_config()?));
    let port = std::env::var("PORT").unwrap_or_else(|_| "3443".into());
    let address = format!("127.0.0.1:{port}");
    let listener = TcpListener::bind(&address)
        .await
        .map_err(|e| format!("can't listen on {address}: {e}; choose another port with PORT"))?;
    println!("chat rooms on https://localhost:{}/", listener.local_addr()?.port());

    let mut server = Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_WITHIN);
    // Without it browsers open an HTTP/1.1 connection for each WebSocket.
    server.http2().enable_connect_protocol();
    // The heartbeat ends a WebSocket whose client is gone; this ends the HTTP/2 connection below it.
    server.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20));
    let open = GracefulShutdown::new();
    let site = Router::new()
        .route("/", get(async || Html(PAGE)))
        .route_service("/chat-rooms.js", rooms.client_script());
    let service = ServiceBuilder::new().layer(rooms.layer("/")).service(site);
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            stopped = &mut stop => break stopped?,
        };
        let Ok((stream, peer)) = accepted else {
            // The client has gone again, or too many files are open; some of those will end.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        // The chat rooms see only the TLS stream, and so can't do it.
        stream.set_nodelay(true)?;
        let service = ServiceBuilder::new().map_request(move |r| seen(r, peer)).service(service.clone());
        let (tls, server, watcher) = (tls.clone(), server.clone(), open.watcher());
        tokio::spawn(async move {
            let Ok(Ok(stream)) = timeout(HANDSHAKE_WITHIN, tls.accept(stream)).await else { return };
            let connection = server
                .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service))
                .into_owned();
            if let Err(error) = watcher.watch(connection).await {
                eprintln!("{peer}: {error}");
            }
        });
    }

    println!("draining {} chat connections", rooms.stats().connections);
    drop(listener);
    // An HTTP/2 connection can end once its WebSockets have.
    rooms.shutdown().await;
    let _ = timeout(Duration::from_secs(5), open.shutdown()).await;
    Ok(())
}

/// A self-signed certificate for this machine, and both HTTP versions for the client to choose from.
fn tls_config() -> Result<ServerConfig, Box<dyn Error>> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key.into())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Prints each request's HTTP version, and tells the chat rooms the client's address.
fn seen(mut request: Request<Incoming>, peer: SocketAddr) -> Request<Incoming> {
    println!("{:?} {} {}", request.version(), request.method(), request.uri().path());
    request.extensions_mut().insert(PeerAddr(peer));
    request
}

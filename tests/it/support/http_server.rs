//! A hyper server over duplex I/O, for HTTP/1.1 byte by byte and for HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::{Layer, ServiceBuilder, service_fn};
use tower_chat_rooms::{ChatRooms, PeerAddr};

/// How long hyper waits for a request's head.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n\
                                    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Connects to a server with chat rooms at `/chat` and a page everywhere else.
pub(crate) fn open_http(rooms: &ChatRooms, peer: Option<SocketAddr>) -> DuplexStream {
    let (server_io, client_io) = tokio::io::duplex(64 * 1024);
    let service = ServiceBuilder::new()
        .map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().extend(peer.map(PeerAddr).map(extensions).unwrap_or_default());
            request
        })
        .service(rooms.layer("/chat").layer(service_fn(page)));
    tokio::spawn(async move {
        let mut server = Builder::new(TokioExecutor::new());
        server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        server.http2().enable_connect_protocol();
        let service = TowerToHyperService::new(service);
        // Tests see a client's errors on the client's side.
        let _ = server.serve_connection_with_upgrades(TokioIo::new(server_io), service).await;
    });
    client_io
}

fn extensions(peer: PeerAddr) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    extensions.insert(peer);
    extensions
}

async fn page(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new("page".into())))
}

/// A response of HTTP/1.1.
#[derive(Debug)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Sends bytes and reads one response. The connection stays open.
pub(crate) async fn send_request(io: &mut DuplexStream, bytes: &[u8]) -> HttpResponse {
    // The server may close before it has read everything.
    let _ = io.write_all(bytes).await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    io.read_exact(&mut body).await.unwrap();
    HttpResponse { status, head, body: String::from_utf8(body).unwrap() }
}

/// Sends the usual handshake with one change.
pub(crate) async fn handshake_with_replacement(rooms: &ChatRooms, from: &str, to: &str) -> HttpResponse {
    assert!(HANDSHAKE.contains(from));
    let request = HANDSHAKE.replacen(from, to, 1) + "\r\n";
    send_request(&mut open_http(rooms, None), request.as_bytes()).await
}

/// Sends the usual handshake with more headers.
pub(crate) async fn handshake_with_headers(rooms: &ChatRooms, more: &str) -> HttpResponse {
    let request = format!("{HANDSHAKE}{more}\r\n");
    send_request(&mut open_http(rooms, None), request.as_bytes()).await
}

//! Servers on TCP ports, and clients for them.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tower::{Service, ServiceBuilder};
use tower_chat_rooms::{PeerAddr, ResponseBody};

pub(crate) type TcpWebSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub(crate) async fn serve_axum(app: Router) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A hyper server for any tower service, by hyper itself or by hyper-util.
pub(crate) async fn serve_hyper<S>(service: S, http1_only: bool) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<ResponseBody<Full<Bytes>>>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let service = ServiceBuilder::new()
                .map_request(move |mut request: Request<Incoming>| {
                    request.extensions_mut().insert(PeerAddr(peer));
                    request
                })
                .service(service.clone());
            let service = TowerToHyperService::new(service);
            tokio::spawn(async move {
                let io = TokioIo::new(stream);
                if http1_only {
                    let server = hyper::server::conn::http1::Builder::new();
                    server.serve_connection(io, service).with_upgrades().await.unwrap();
                } else {
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    server.serve_connection_with_upgrades(io, service).await.unwrap();
                }
            });
        }
    });
    address
}

/// A page that shows its path.
pub(crate) async fn path_page(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(format!("page {}", request.uri().path()).into())))
}

/// Connects a WebSocket.
pub(crate) async fn connect_tcp(address: SocketAddr, path: &str) -> Result<TcpWebSocket, Error> {
    let (ws, _) = connect_async(format!("ws://{address}{path}")).await?;
    Ok(ws)
}

/// The next frame that is not a heartbeat.
pub(crate) async fn next_frame(ws: &mut TcpWebSocket) -> Value {
    loop {
        if let Message::Text(text) = ws.next().await.unwrap().unwrap() {
            let value: Value = serde_json::from_str(&text).unwrap();
            if value["event"] != "heartbeat" {
                return value;
            }
        }
    }
}

/// Sends a request that no client library would send. Returns what the server sends until it closes.
pub(crate) async fn raw_request(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    String::from_utf8_lossy(&response).into_owned()
}

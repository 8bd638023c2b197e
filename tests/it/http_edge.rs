//! The HTTP edge over real sockets: axum and hyper, mounted in every documented way.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_chat_rooms::{
    Admission, AuthRefusal, Authenticate, ChatRooms, Limits, PeerAddr, Refusal, RefusalKind, ResponseBody,
    TrustedProxies, User,
};

use crate::support::{
    HANDSHAKE, LogCapture, assert_empty, default_rooms, open_http, send_request, text_frame,
};

type Ws = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>;

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn serve_axum(app: Router) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A hyper server for any tower service, by hyper itself or by hyper-util.
async fn serve_hyper<S>(service: S, http1_only: bool) -> SocketAddr
where
    S: Service<
            Request<hyper::body::Incoming>,
            Response = Response<ResponseBody<Full<Bytes>>>,
            Error = Infallible,
        > + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let service = ServiceBuilder::new()
                .map_request(move |mut request: Request<hyper::body::Incoming>| {
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

async fn page(request: Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(format!("page {}", request.uri().path()).into())))
}

async fn connect(address: SocketAddr, path: &str) -> Result<Ws, Error> {
    let (ws, _) = tokio_tungstenite::connect_async(format!("ws://{address}{path}")).await?;
    Ok(ws)
}

async fn next(ws: &mut Ws) -> Value {
    loop {
        if let Message::Text(text) = ws.next().await.unwrap().unwrap() {
            let value: Value = serde_json::from_str(&text).unwrap();
            if value["event"] != "heartbeat" {
                return value;
            }
        }
    }
}

/// Two clients chat and leave.
async fn chat(address: SocketAddr, path: &str) {
    let mut ann = connect(address, path).await.unwrap();
    ann.send(Message::text(r#"{"event":"enter","message":"ann","roomId":"r"}"#)).await.unwrap();
    assert_eq!(next(&mut ann).await["num"], 1);
    let mut bob = connect(address, path).await.unwrap();
    bob.send(Message::text(r#"{"event":"enter","message":"bob","roomId":"r"}"#)).await.unwrap();
    assert_eq!(next(&mut bob).await["num"], 2);
    assert_eq!(next(&mut ann).await["name"], "bob");
    bob.send(Message::text(r#"{"event":"message","message":"hi"}"#)).await.unwrap();
    assert_eq!(next(&mut ann).await, json!({"event": "message", "message": "hi", "name": "bob", "num": 2}));
    bob.close(None).await.unwrap();
    assert_eq!(next(&mut ann).await, json!({"event": "out", "name": "bob", "num": 1}));
    ann.close(None).await.unwrap();
    while let Some(Ok(_)) = ann.next().await {}
}

/// Sends a raw request that no client library would send, and returns the response.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn handshake(headers: &str) -> String {
    format!("GET /chat HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

#[tokio::test]
async fn axum_routes_can_be_nested_and_merged() {
    let rooms = default_rooms();
    let inside = Router::new().route_service("/chat", rooms.service());
    let app = Router::new()
        .route("/", get(|| async { "home" }))
        .nest("/deep/er", inside.clone())
        .nest_service("/at", rooms.service())
        .merge(inside);
    let address = serve_axum(app).await;
    for path in ["/chat", "/deep/er/chat", "/at", "/at/any/where"] {
        chat(address, path).await;
    }
    assert!(raw(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.ends_with("home"));
    let plain = raw(address, "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let plain = plain.to_lowercase();
    assert!(plain.starts_with("http/1.1 426"), "{plain}");
    assert!(plain.contains("sec-websocket-version: 13\r\n") && plain.contains("upgrade: websocket\r\n"));
    rooms.shutdown().await;
    assert_empty(&rooms);
}

#[tokio::test]
async fn an_axum_layer_covers_earlier_routes_only() {
    let rooms = default_rooms();
    let app = Router::new()
        .route("/", get(|| async { "home" }))
        .nest("/deep", Router::new().route("/x", get(|| async { "x" })))
        // A path without a route reaches the fallback, which the layer covers too.
        .layer(rooms.layer("/chat"));
    let address = serve_axum(app.clone()).await;
    chat(address, "/chat").await;
    assert!(
        raw(address, "GET /deep/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.ends_with("x")
    );
    // A router that is merged later has a fallback of its own, which the layer does not cover.
    let late = Router::new().route("/late", get(|| async { "late" }));
    let merged = serve_axum(app.clone().merge(late)).await;
    assert!(matches!(connect(merged, "/chat").await, Err(Error::Http(r)) if r.status() == 404));
    // A nested router sees another path.
    let nested = serve_axum(Router::new().nest("/api", app.clone())).await;
    assert!(matches!(connect(nested, "/api/chat").await, Err(Error::Http(r)) if r.status() == 404));
    // Around the whole router, as a service, the layer covers everything.
    let around = Router::new().fallback_service(rooms.layer("/chat").layer(app));
    chat(serve_axum(around).await, "/chat").await;
}

#[tokio::test]
async fn hyper_alone_and_with_hyper_util() {
    let rooms = default_rooms();
    for http1_only in [true, false] {
        let address = serve_hyper(rooms.layer("/chat").layer(service_fn(page)), http1_only).await;
        chat(address, "/chat").await;
        chat(address, "/chat/?token=x").await;
        let other = raw(address, "GET /chats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(other.ends_with("page /chats"), "{other}");
        let plain = raw(address, "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(plain.ends_with("page /chat"), "{plain}");
        assert!(matches!(connect(address, "/elsewhere").await, Err(Error::Http(r)) if r.status() == 200));
    }
    rooms.shutdown().await;
    assert_empty(&rooms);
}

#[tokio::test]
async fn bytes_after_the_handshake_are_not_lost() {
    let rooms = default_rooms();
    for http1_only in [true, false] {
        let address = serve_hyper(rooms.layer("/chat").layer(service_fn(page)), http1_only).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut bytes = handshake(
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        )
        .into_bytes();
        bytes.extend(text_frame(r#"{"event":"enter","message":"ann","roomId":"r"}"#));
        stream.write_all(&bytes).await.unwrap();
        let mut received = Vec::new();
        while !String::from_utf8_lossy(&received).contains(r#""num":1}"#) {
            assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
        }
        assert!(received.starts_with(b"HTTP/1.1 101"));
    }
}

#[tokio::test]
async fn refusals_say_what_is_missing() {
    let rooms = ChatRooms::builder().limits(Limits::default().max_connections(1)).build().unwrap();
    let address = serve_hyper(rooms.layer("/chat").layer(service_fn(page)), true).await;
    let good = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (from, to, status, text) in [
        ("Connection: Upgrade", "Connection: close", "400", "`Connection: Upgrade`"),
        ("Upgrade: websocket", "Upgrade: h2c", "400", "`Upgrade: websocket`"),
        ("Version: 13", "Version: 8", "426", "version 13"),
        ("Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: short", "400", "`Sec-WebSocket-Key`"),
    ] {
        let answer =
            raw(address, &handshake(&format!("{}Connection: close\r\n", good.replace(from, to)))).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains(text), "{answer}");
    }
    let post = handshake(&format!("{good}Connection: close\r\n")).replace("GET", "POST");
    assert!(raw(address, &post).await.starts_with("HTTP/1.1 405"));
    let ann = connect(address, "/chat").await.unwrap();
    let full = raw(address, &handshake(&format!("{good}Connection: close\r\n"))).await;
    assert!(full.starts_with("HTTP/1.1 503") && full.to_lowercase().contains("retry-after"), "{full}");
    drop(ann);
    rooms.shutdown().await;
    let down = raw(address, &handshake(&format!("{good}Connection: close\r\n"))).await;
    assert!(down.starts_with("HTTP/1.1 503") && down.contains("shutting down"), "{down}");
    assert_eq!(rooms.stats().refused, 7);
}

fn upgrade_request() -> Request<()> {
    let mut request = "ws://x/chat".into_client_request().unwrap();
    *request.uri_mut() = "/chat".parse().unwrap();
    request
}

#[tokio::test]
async fn a_request_without_an_upgrade_is_refused_with_the_fix() {
    let rooms = default_rooms();
    let response = rooms.service().oneshot(upgrade_request()).await.unwrap();
    assert_eq!(response.status(), 500);
    let refusal = response.extensions().get::<Refusal>().unwrap();
    assert_eq!(refusal.kind(), RefusalKind::NotUpgradable);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(std::str::from_utf8(&body).unwrap().contains("with_upgrades"));
    assert_eq!(rooms.stats().connections, 0);
}

/// Sends handshakes to a hyper server without upgrades until each connection has ended.
async fn connect_without_upgrades(rooms: &ChatRooms, times: usize) {
    for _ in 0..times {
        let (mut client_io, server_io) = tokio::io::duplex(64 * 1024);
        let service = TowerToHyperService::new(rooms.service());
        let server = hyper::server::conn::http1::Builder::new();
        let served = tokio::spawn(server.serve_connection(TokioIo::new(server_io), service));
        assert_eq!(send_request(&mut client_io, format!("{HANDSHAKE}\r\n").as_bytes()).await.status, 101);
        served.await.unwrap().unwrap();
        while rooms.stats().connections > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_upgrades_is_reported_once() {
    let capture = LogCapture::default();
    let _guard = capture.listen("debug");
    let rooms = default_rooms();
    connect_without_upgrades(&rooms, 3).await;
    let log = capture.text();
    assert_eq!(capture.count("ERROR"), 1, "{log}");
    assert_eq!(capture.count("with_upgrades()"), 1, "{log}");
    assert_eq!(capture.count("DEBUG tower_chat_rooms::http::edge"), 2, "{log}");
    // Each engine reports it.
    connect_without_upgrades(&default_rooms(), 1).await;
    assert_eq!(capture.count("with_upgrades()"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_missing_peer_address_is_reported_once_where_it_is_needed() {
    let proxies = || TrustedProxies::new(["10.0.0.0/8"]).unwrap();
    let unlimited = || ChatRooms::builder().limits(Limits::default().max_connections_per_ip(usize::MAX));
    for (builder, peer, reports) in [
        (ChatRooms::builder(), None, 1),
        (ChatRooms::builder(), Some("127.0.0.1:7"), 0),
        (unlimited(), None, 0),
        (unlimited().trusted_proxies(proxies()), None, 1),
        (unlimited().trusted_proxies(proxies()), Some("127.0.0.1:7"), 0),
    ] {
        let capture = LogCapture::default();
        let _guard = capture.listen("info");
        let rooms = builder.build().unwrap();
        for _ in 0..3 {
            let peer = peer.map(|peer| peer.parse().unwrap());
            let answer =
                send_request(&mut open_http(&rooms, peer), format!("{HANDSHAKE}\r\n").as_bytes()).await;
            assert_eq!(answer.status, 101);
        }
        assert_eq!(capture.count("PeerAddr"), reports, "{}", capture.text());
        assert_eq!(capture.count("WARN"), reports, "{}", capture.text());
    }
}

#[test]
#[should_panic(expected = r#"invalid path "/a/{id}" for a chat rooms layer: a layer has one fixed path"#)]
fn a_layer_with_a_path_that_never_matches_panics() {
    default_rooms().layer("/a/{id}");
}

struct MyAuth;

impl Authenticate for MyAuth {
    async fn on_upgrade(&self, request: &http::request::Parts) -> Result<Admission, AuthRefusal> {
        tokio::task::yield_now().await;
        let peer = request.extensions.get::<PeerAddr>().map(|p| p.0.ip().to_string()).unwrap_or_default();
        match request.uri.query() {
            Some("panic") => panic!("on purpose"),
            Some("no") => Err(AuthRefusal::unauthorized("log in").with_challenge("Bearer".parse().unwrap())),
            Some("proto") => Ok(Admission::anonymous().with_protocol("mine".parse().unwrap())),
            _ => Ok(Admission::user(User::new("u").with_name(peer))),
        }
    }
}

#[tokio::test]
async fn the_auth_hook_sees_the_request_and_its_refusal_is_the_response() {
    let rooms = ChatRooms::builder().auth(MyAuth).build().unwrap();
    let address = serve_hyper(rooms.layer("/chat").layer(service_fn(page)), false).await;
    let mut ann = connect(address, "/chat").await.unwrap();
    ann.send(Message::text(r#"{"event":"enter","message":"?"}"#)).await.unwrap();
    assert_eq!(next(&mut ann).await["name"], "127.0.0.1");
    let Err(Error::Http(refused)) = connect(address, "/chat?no").await else { panic!() };
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    let Err(Error::Http(failed)) = connect(address, "/chat?panic").await else { panic!() };
    assert_eq!(failed.status(), 500);
    let mut request = format!("ws://{address}/chat?proto").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "yours, mine".parse().unwrap());
    let (_ws, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "mine");
    assert_eq!(rooms.stats().refused, 2);
}

#[tokio::test]
async fn readiness_is_that_of_the_inner_service() {
    let rooms = default_rooms();
    let (mut inner, handle) = tower_pair();
    let mut service = rooms.layer("/chat").layer(&mut inner);
    let waker = std::task::Waker::noop();
    let mut cx = std::task::Context::from_waker(waker);
    assert!(Service::<Request<()>>::poll_ready(&mut service, &mut cx).is_pending());
    handle.send(()).await.unwrap();
    assert!(Service::<Request<()>>::poll_ready(&mut service, &mut cx).is_ready());
}

/// A service that is ready after a message.
struct Gate(tokio::sync::mpsc::Receiver<()>);

fn tower_pair() -> (Gate, tokio::sync::mpsc::Sender<()>) {
    let (tx, rx) = tokio::sync::mpsc::channel(1);
    (Gate(rx), tx)
}

impl Service<Request<()>> for &mut Gate {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        self.0.poll_recv(cx).map(|_| Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        std::future::ready(Ok(Response::new(Full::default())))
    }
}

#[tokio::test]
async fn services_are_clone_send_and_sync() {
    fn check<T: Clone + Send + Sync + 'static>(_: &T) {}
    let rooms = default_rooms();
    check(&rooms);
    check(&rooms.service());
    check(&rooms.layer("/"));
    check(&rooms.layer("/").layer(service_fn(page)));
}

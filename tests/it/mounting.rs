//! The layer and the service in axum and hyper, over TCP, mounted in every documented way.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::Full;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Error, Message};
use tower::{Layer, Service, service_fn};

use crate::support::{
    HANDSHAKE, assert_empty, connect_tcp, default_rooms, next_frame, path_page, raw_request, serve_axum,
    serve_hyper, text_frame,
};

/// Two clients chat and leave.
async fn chat(address: SocketAddr, path: &str) {
    let mut ann = connect_tcp(address, path).await.unwrap();
    ann.send(Message::text(r#"{"event":"enter","message":"ann","roomId":"r"}"#)).await.unwrap();
    assert_eq!(next_frame(&mut ann).await["num"], 1);
    let mut bob = connect_tcp(address, path).await.unwrap();
    bob.send(Message::text(r#"{"event":"enter","message":"bob","roomId":"r"}"#)).await.unwrap();
    assert_eq!(next_frame(&mut bob).await["num"], 2);
    assert_eq!(next_frame(&mut ann).await["name"], "bob");
    bob.send(Message::text(r#"{"event":"message","message":"hi"}"#)).await.unwrap();
    assert_eq!(
        next_frame(&mut ann).await,
        json!({"event": "message", "message": "hi", "name": "bob", "num": 2})
    );
    bob.close(None).await.unwrap();
    assert_eq!(next_frame(&mut ann).await, json!({"event": "out", "name": "bob", "num": 1}));
    ann.close(None).await.unwrap();
    while let Some(Ok(_)) = ann.next().await {}
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
    assert!(
        raw_request(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .ends_with("home")
    );
    let plain = raw_request(address, "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
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
        raw_request(address, "GET /deep/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .ends_with("x")
    );
    // A router that is merged later has a fallback of its own, which the layer does not cover.
    let late = Router::new().route("/late", get(|| async { "late" }));
    let merged = serve_axum(app.clone().merge(late)).await;
    assert!(matches!(connect_tcp(merged, "/chat").await, Err(Error::Http(r)) if r.status() == 404));
    // A nested router sees another path.
    let nested = serve_axum(Router::new().nest("/api", app.clone())).await;
    assert!(matches!(connect_tcp(nested, "/api/chat").await, Err(Error::Http(r)) if r.status() == 404));
    // Around the whole router, as a service, the layer covers everything.
    let around = Router::new().fallback_service(rooms.layer("/chat").layer(app));
    chat(serve_axum(around).await, "/chat").await;
}

#[tokio::test]
async fn hyper_alone_and_with_hyper_util() {
    let rooms = default_rooms();
    for http1_only in [true, false] {
        let address = serve_hyper(rooms.layer("/chat").layer(service_fn(path_page)), http1_only).await;
        chat(address, "/chat").await;
        chat(address, "/chat/?token=x").await;
        let other = raw_request(address, "GET /chats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(other.ends_with("page /chats"), "{other}");
        let plain = raw_request(address, "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(plain.ends_with("page /chat"), "{plain}");
        assert!(matches!(connect_tcp(address, "/elsewhere").await, Err(Error::Http(r)) if r.status() == 200));
    }
    rooms.shutdown().await;
    assert_empty(&rooms);
}

#[tokio::test]
async fn bytes_after_the_handshake_are_not_lost() {
    let rooms = default_rooms();
    for http1_only in [true, false] {
        let address = serve_hyper(rooms.layer("/chat").layer(service_fn(path_page)), http1_only).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut bytes = format!("{HANDSHAKE}\r\n").into_bytes();
        bytes.extend(text_frame(r#"{"event":"enter","message":"ann","roomId":"r"}"#));
        stream.write_all(&bytes).await.unwrap();
        let mut received = Vec::new();
        while !String::from_utf8_lossy(&received).contains(r#""num":1}"#) {
            assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
        }
        assert!(received.starts_with(b"HTTP/1.1 101"));
    }
}

#[test]
#[should_panic(expected = r#"invalid path "/a/{id}" for a chat rooms layer: a layer has one fixed path"#)]
fn a_layer_with_a_path_that_never_matches_panics() {
    default_rooms().layer("/a/{id}");
}

/// A service that is ready after a message.
struct Gate(mpsc::Receiver<()>);

impl Service<Request<()>> for Gate {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_recv(cx).map(|_| Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(Full::default())))
    }
}

#[tokio::test]
async fn readiness_is_that_of_the_inner_service() {
    let (opener, receiver) = mpsc::channel(1);
    let mut service = default_rooms().layer("/chat").layer(Gate(receiver));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Service::<Request<()>>::poll_ready(&mut service, &mut cx).is_pending());
    opener.send(()).await.unwrap();
    assert!(Service::<Request<()>>::poll_ready(&mut service, &mut cx).is_ready());
}

#[tokio::test]
async fn services_are_clone_send_and_sync() {
    fn check<T: Clone + Send + Sync + 'static>(_: &T) {}
    let rooms = default_rooms();
    check(&rooms);
    check(&rooms.service());
    check(&rooms.layer("/"));
    check(&rooms.layer("/").layer(service_fn(path_page)));
}

//! WebSocket over HTTP/2 (RFC 8441), by hyper's client.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};
use tower_chat_rooms::{Heartbeat, Limits, Origins};

use crate::support::{Client, assert_empty, builder, default_rooms, open_http, unlimited};

type Ws = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// The flow-control window of a stream. hyper's default is larger.
const WINDOW: u32 = 65_535;

/// A client's HTTP/2 connection.
struct Http2 {
    sender: SendRequest<Empty<Bytes>>,
}

impl Http2 {
    async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Http2 {
        let mut client = http2::Builder::new(TokioExecutor::new());
        client.initial_stream_window_size(WINDOW);
        let (sender, connection) = client.handshake(TokioIo::new(io)).await.unwrap();
        // Ends when the test drops the sender, or with the server.
        tokio::spawn(async { drop(connection.await) });
        let mut http2 = Http2 { sender };
        // With the response, the settings have arrived in which the server enables the extended CONNECT.
        let page = Request::get("https://example.com/page").body(Empty::new()).unwrap();
        let page = http2.sender.send_request(page).await.unwrap();
        assert_eq!((page.status().as_u16(), page.version()), (200, Version::HTTP_2));
        http2
    }

    async fn request(&mut self, change: impl FnOnce(&mut Request<Empty<Bytes>>)) -> Response<Incoming> {
        let mut request = Request::connect("https://example.com/chat")
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .header("origin", "https://example.com")
            .body(Empty::new())
            .unwrap();
        change(&mut request);
        self.sender.send_request(request).await.unwrap()
    }

    async fn connect(&mut self) -> Ws {
        let response = self.request(|_| {}).await;
        assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
        let headers = response.headers();
        assert!(
            !headers.contains_key("sec-websocket-accept") && !headers.contains_key("upgrade"),
            "{headers:?}"
        );
        let io = hyper::upgrade::on(response).await.unwrap();
        WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Client, None).await
    }

    async fn enter(&mut self, name: &str) -> Ws {
        let mut ws = self.connect().await;
        send(&mut ws, json!({"event": "enter", "message": name, "roomId": "r"})).await;
        assert_eq!(next(&mut ws).await["name"], name);
        ws
    }
}

async fn send(ws: &mut Ws, value: Value) {
    ws.send(Message::text(value.to_string())).await.unwrap();
}

async fn next_message(ws: &mut Ws) -> Option<Result<Message, Error>> {
    loop {
        match ws.next().await {
            Some(Ok(Message::Text(text))) if text.contains(r#""event":"heartbeat""#) => {
                let _ = ws.send(Message::text(r#"{"event":"heartbeat","message":"pong"}"#)).await;
            }
            other => return other,
        }
    }
}

async fn next(ws: &mut Ws) -> Value {
    let message = next_message(ws).await.unwrap().unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

/// The code of the close frame, after which the stream ends.
async fn closed(ws: &mut Ws) -> u16 {
    loop {
        match next_message(ws).await.unwrap().unwrap() {
            Message::Close(frame) => {
                assert!(ws.next().await.is_none());
                return frame.unwrap().code.into();
            }
            _ => continue,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn clients_over_http2_and_http1_chat_and_leave() {
    let rooms = default_rooms();
    let mut http2 = Http2::over(open_http(&rooms, None)).await;
    let mut ann = http2.enter("ann").await;
    let mut bob = http2.enter("bob").await;
    assert_eq!(next(&mut ann).await["num"], 2);
    let mut carol = Client::enter(&rooms, "carol", "r").await;
    for ws in [&mut ann, &mut bob] {
        assert_eq!(next(ws).await["name"], "carol");
    }
    // Larger than an HTTP/2 frame.
    let long = "x".repeat(60_000);
    send(&mut ann, json!({"event": "message", "message": long})).await;
    for ws in [&mut ann, &mut bob] {
        assert_eq!(next(ws).await, json!({"event": "message", "message": long, "name": "ann", "num": 3}));
    }
    assert_eq!(carol.next().await["message"], long);
    carol.send(json!({"event": "message", "message": "hi"})).await;
    for ws in [&mut ann, &mut bob] {
        assert_eq!(next(ws).await["message"], "hi");
    }
    // The client closes.
    bob.close(None).await.unwrap();
    assert!(matches!(next_message(&mut bob).await, Some(Ok(Message::Close(_)))));
    assert!(bob.next().await.is_none());
    assert_eq!(next(&mut ann).await, json!({"event": "out", "name": "bob", "num": 2}));
    // The server closes.
    let id = rooms.members("r").iter().find(|member| member.name.as_str() == "ann").unwrap().connection;
    assert!(rooms.kick(id));
    assert_eq!(closed(&mut ann).await, 4500);
    // The HTTP/2 connection is still open.
    let mut dot = http2.enter("dot").await;
    let (_, code) = tokio::join!(rooms.shutdown(), closed(&mut dot));
    assert_eq!(code, 1012);
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_reset_stream_leaves_and_so_do_all_streams_of_a_lost_connection() {
    let rooms = default_rooms();
    let mut http2 = Http2::over(open_http(&rooms, None)).await;
    let mut other = Http2::over(open_http(&rooms, None)).await;
    let mut ann = http2.enter("ann").await;
    let bob = other.enter("bob").await;
    let carol = other.enter("carol").await;
    for name in ["bob", "carol"] {
        assert_eq!(next(&mut ann).await["name"], name);
    }
    drop(bob);
    assert_eq!(next(&mut ann).await, json!({"event": "out", "name": "bob", "num": 2}));
    drop((carol, other));
    assert_eq!(next(&mut ann).await, json!({"event": "out", "name": "carol", "num": 1}));
    drop((ann, http2));
    while rooms.stats().connections > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_delays_no_other_and_holds_little() {
    const QUEUE: usize = 256 * 1024;
    // hyper holds one write in h2, one that waits for capacity, and two in a channel. Each has at most 16 KiB.
    const HYPER: usize = 4 * 16 * 1024;
    // Messages of 2 kB, which are published one by one, and in bursts of 40 kB.
    for messages in [1, 20] {
        let rooms = unlimited()
            .limits(Limits::default().max_message_bytes(4096).max_queue_bytes(QUEUE))
            .heartbeat(Heartbeat::wide_internet())
            .build()
            .unwrap();
        let mut http2 = Http2::over(open_http(&rooms, None)).await;
        let mut ann = http2.enter("ann").await;
        // Another stream of the same connection.
        let mut slow = http2.enter("slow").await;
        assert_eq!(next(&mut ann).await["name"], "slow");
        let begin = Instant::now();
        let (mut published, mut burst) = (0, 0);
        while rooms.stats().slow == 0 {
            for n in 0..messages {
                rooms.send("r", &json!({"event": "notice", "message": "x".repeat(2000), "n": n})).unwrap();
            }
            burst = 0;
            loop {
                let frame = next(&mut ann).await;
                if frame["event"] == "notice" {
                    burst += frame_bytes(&frame.to_string());
                    if frame["n"] == messages - 1 {
                        break;
                    }
                }
            }
            published += burst;
            assert!(published < 1_000_000, "the slow client is not closed");
        }
        assert!(begin.elapsed() < Duration::from_secs(1));
        let mut received = 0;
        let code = loop {
            match next_message(&mut slow).await.unwrap().unwrap() {
                Message::Close(frame) => break u16::from(frame.unwrap().code),
                message => received += frame_bytes(message.to_text().unwrap()),
            }
        };
        assert_eq!(code, 4001);
        // Whatever hyper had taken was received.
        let window = WINDOW as usize;
        assert!((window..=window + HYPER).contains(&received), "{received}");
        // The others were dropped: a full send queue, and the burst that was too much for it.
        let dropped = published - received;
        assert!((QUEUE..=QUEUE + burst).contains(&dropped), "{dropped}");
    }
}

/// The size of a server's text frame of up to 64 KiB.
fn frame_bytes(text: &str) -> usize {
    text.len() + if text.len() > 125 { 4 } else { 2 }
}

#[tokio::test(start_paused = true)]
async fn refusals_are_http2_responses() {
    let rooms = builder().limits(Limits::default().max_connections(1)).build().unwrap();
    let mut http2 = Http2::over(open_http(&rooms, None)).await;
    let header = |name: &'static str, value: &'static str| {
        move |request: &mut Request<Empty<Bytes>>| {
            drop(request.headers_mut().insert(name, value.parse().unwrap()))
        }
    };
    let _ann = http2.connect().await;
    for (change, status, text) in [
        (header("origin", "https://evil.example"), 403, "origin"),
        (header("origin", "null"), 403, "origin"),
        (header("sec-websocket-version", "8"), 400, "version 13"),
        (header("x", "y"), 503, "too many connections"),
    ] {
        let response = http2.request(change).await;
        assert_eq!(response.status(), status);
        let headers = response.headers();
        assert!(!headers.contains_key("upgrade") && !headers.contains_key("connection"), "{headers:?}");
        assert_eq!(headers.contains_key("sec-websocket-version"), status == 400);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(std::str::from_utf8(&body).unwrap().contains(text), "{body:?}");
    }
    // Other requests pass through.
    let other =
        http2.request(|request| *request.uri_mut() = "https://example.com/other".parse().unwrap()).await;
    assert_eq!(other.status(), 200);
    let plain = http2.request(|request| {
        *request.method_mut() = http::Method::GET;
        request.extensions_mut().clear();
    });
    assert_eq!(plain.await.into_body().collect().await.unwrap().to_bytes(), "page");
    let stats = rooms.stats();
    assert_eq!((stats.refused_origin, stats.refused_handshake, stats.refused_full), (2, 1, 1));
}

/// axum enables the extended CONNECT itself.
#[tokio::test]
async fn axum_serves_it_on_a_route() {
    let rooms = builder().origins(Origins::list(["https://example.com"]).unwrap()).build().unwrap();
    let app = axum::Router::new()
        .route("/page", axum::routing::get(|| async { "page" }))
        .route_service("/chat", rooms.service())
        .nest_service("/deep", rooms.service());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut http2 = Http2::over(TcpStream::connect(address).await.unwrap()).await;
    let mut ann = http2.enter("ann").await;
    send(&mut ann, json!({"event": "message", "message": "hi"})).await;
    assert_eq!(next(&mut ann).await["message"], "hi");
    let deep =
        http2.request(|request| *request.uri_mut() = "https://example.com/deep/x".parse().unwrap()).await;
    assert_eq!(deep.status(), 200);
    ann.close(None).await.unwrap();
    while let Some(Ok(_)) = ann.next().await {}
    drop(deep);
    rooms.shutdown().await;
    assert_empty(&rooms);
}

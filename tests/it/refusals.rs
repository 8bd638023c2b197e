//! Refused requests, and servers that are not set up for upgrades: what the client and the log are told.

use std::time::Duration;

use futures_util::SinkExt;
use http::Request;
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tower::{Layer, ServiceExt, service_fn};
use tower_chat_rooms::{
    Admission, AuthRefusal, Authenticate, ChatRooms, Limits, PeerAddr, Refusal, RefusalKind, TrustedProxies,
    User,
};

use crate::support::{
    HANDSHAKE, LogCapture, builder, connect_tcp, default_rooms, next_frame, open_http, path_page,
    raw_request, send_request, serve_hyper,
};

fn handshake(headers: &str) -> String {
    format!("GET /chat HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

#[tokio::test]
async fn refusals_say_what_is_missing() {
    let rooms = builder().limits(Limits::default().max_connections(1)).build().unwrap();
    let address = serve_hyper(rooms.layer("/chat").layer(service_fn(path_page)), true).await;
    let headers = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (from, to, status, text) in [
        ("Connection: Upgrade", "Connection: close", "400", "`Connection: Upgrade`"),
        ("Upgrade: websocket", "Upgrade: h2c", "400", "`Upgrade: websocket`"),
        ("Version: 13", "Version: 8", "426", "version 13"),
        ("Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: short", "400", "`Sec-WebSocket-Key`"),
    ] {
        let response =
            raw_request(address, &handshake(&format!("{}Connection: close\r\n", headers.replace(from, to))))
                .await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
        assert!(response.contains(text), "{response}");
    }
    let post = handshake(&format!("{headers}Connection: close\r\n")).replace("GET", "POST");
    assert!(raw_request(address, &post).await.starts_with("HTTP/1.1 405"));
    let ann = connect_tcp(address, "/chat").await.unwrap();
    let full = raw_request(address, &handshake(&format!("{headers}Connection: close\r\n"))).await;
    assert!(full.starts_with("HTTP/1.1 503") && full.to_lowercase().contains("retry-after"), "{full}");
    drop(ann);
    rooms.shutdown().await;
    let down = raw_request(address, &handshake(&format!("{headers}Connection: close\r\n"))).await;
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

/// Sends a handshake to a server without upgrades, by hyper or by hyper-util, until the connection has ended.
async fn connect_without_upgrades(rooms: &ChatRooms, http1_only: bool) {
    let (mut client_io, server_io) = tokio::io::duplex(64 * 1024);
    let (io, service) = (TokioIo::new(server_io), TowerToHyperService::new(rooms.service()));
    let served = tokio::spawn(async move {
        if http1_only {
            http1::Builder::new().serve_connection(io, service).await.unwrap();
        } else {
            auto::Builder::new(TokioExecutor::new()).serve_connection(io, service).await.unwrap();
        }
    });
    assert_eq!(send_request(&mut client_io, format!("{HANDSHAKE}\r\n").as_bytes()).await.status, 101);
    served.await.unwrap();
    while rooms.stats().connections > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_upgrades_is_reported_once_per_minute() {
    for http1_only in [true, false] {
        let capture = LogCapture::default();
        let _guard = capture.listen("debug");
        let rooms = default_rooms();
        for _ in 0..3 {
            connect_without_upgrades(&rooms, http1_only).await;
        }
        let log = capture.text();
        assert_eq!(capture.count("ERROR"), 1, "{log}");
        assert_eq!(capture.count("with_upgrades()"), 1, "{log}");
        assert_eq!(capture.count("connection closed: the server does not support upgrades"), 3, "{log}");
        tokio::time::advance(Duration::from_secs(60)).await;
        connect_without_upgrades(&rooms, http1_only).await;
        assert_eq!(capture.count("suppressed=2"), 1, "{}", capture.text());
        // Each engine reports it.
        connect_without_upgrades(&default_rooms(), http1_only).await;
        assert_eq!(capture.count("with_upgrades()"), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_peer_address_is_reported_once_where_it_is_needed() {
    let proxies = || TrustedProxies::new(["10.0.0.0/8"]).unwrap();
    let unlimited = || builder().limits(Limits::default().max_connections_per_ip(usize::MAX));
    for (builder, peer, reports) in [
        (builder(), None, 1),
        (builder(), Some("127.0.0.1:7"), 0),
        (unlimited(), None, 0),
        (unlimited().trusted_proxies(proxies()), None, 1),
        (unlimited().trusted_proxies(proxies()), Some("127.0.0.1:7"), 0),
    ] {
        let capture = LogCapture::default();
        let _guard = capture.listen("info");
        let rooms = builder.build().unwrap();
        for _ in 0..3 {
            let peer = peer.map(|peer| peer.parse().unwrap());
            let response =
                send_request(&mut open_http(&rooms, peer), format!("{HANDSHAKE}\r\n").as_bytes()).await;
            assert_eq!(response.status, 101);
        }
        assert_eq!(capture.count("PeerAddr"), reports, "{}", capture.text());
        assert_eq!(capture.count("WARN"), reports, "{}", capture.text());
    }
}

struct MyAuth;

impl Authenticate for MyAuth {
    async fn on_upgrade(&self, request: &Parts) -> Result<Admission, AuthRefusal> {
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
    let rooms = builder().auth(MyAuth).build().unwrap();
    let address = serve_hyper(rooms.layer("/chat").layer(service_fn(path_page)), false).await;
    let mut ann = connect_tcp(address, "/chat").await.unwrap();
    ann.send(Message::text(r#"{"event":"enter","message":"?"}"#)).await.unwrap();
    assert_eq!(next_frame(&mut ann).await["name"], "127.0.0.1");
    let Err(Error::Http(refused)) = connect_tcp(address, "/chat?no").await else { panic!() };
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    let Err(Error::Http(failed)) = connect_tcp(address, "/chat?panic").await else { panic!() };
    assert_eq!(failed.status(), 500);
    let mut request = format!("ws://{address}/chat?proto").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "yours, mine".parse().unwrap());
    let (_ws, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "mine");
    assert_eq!(rooms.stats().refused, 2);
}

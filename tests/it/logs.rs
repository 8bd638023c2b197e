//! What the log says: one line for the start and the end, the reason of each close, and mistakes of the configuration
//! with their fix, no matter how often clients run into them.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Empty;
use tower::{Layer, ServiceExt, service_fn};
use tower_chat_rooms::{ChatRooms, Limits, Recovery};

use crate::support::{Client, HANDSHAKE, LogCapture, builder, default_rooms, open_http, send_request};

/// Sends a handshake with one change, and returns the status.
async fn handshake_with(rooms: &ChatRooms, (from, to): (&str, &str)) -> u16 {
    assert!(HANDSHAKE.contains(from));
    let request = format!("{}\r\n", HANDSHAKE.replace(from, to));
    let mut io = open_http(rooms, Some("10.0.0.7:7".parse().unwrap()));
    send_request(&mut io, request.as_bytes()).await.status
}

#[tokio::test(start_paused = true)]
async fn what_a_proxy_may_have_done_is_reported_once_per_minute() {
    for (change, status, fix) in [
        (("HTTP/1.1", "HTTP/1.0"), 505, "proxy_http_version 1.1"),
        (("Upgrade: websocket\r\n", ""), 400, "proxy_set_header Upgrade $http_upgrade"),
        (("Connection: Upgrade", "Connection: close"), 400, "proxy_set_header Connection \"upgrade\""),
        (("Host:", "Origin: https://evil.example\r\nHost:"), 403, "ChatRoomsBuilder::origins"),
    ] {
        let capture = LogCapture::default();
        let _guard = capture.listen("info");
        let rooms = default_rooms();
        for _ in 0..20 {
            assert_eq!(handshake_with(&rooms, change).await, status);
        }
        let log = capture.text();
        assert_eq!((capture.count("WARN"), capture.count(fix)), (1, 1), "{log}");
        assert!(status == 403 || log.contains("peer=\"10.0.0.7:7\""), "{log}");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(handshake_with(&rooms, change).await, status);
        assert_eq!((capture.count("WARN"), capture.count("suppressed=19")), (2, 1), "{}", capture.text());
    }
}

#[tokio::test(start_paused = true)]
async fn what_scanners_send_is_not_reported() {
    let capture = LogCapture::default();
    let _guard = capture.listen("info");
    let rooms = default_rooms();
    for (change, status) in [
        (("Version: 13", "Version: 8"), 426),
        (("dGhlIHNhbXBsZSBub25jZQ==", "x"), 400),
        (("GET", "POST"), 405),
        (("/chat", "/elsewhere"), 200),
        (("/chat", "/"), 200),
    ] {
        assert_eq!(handshake_with(&rooms, change).await, status, "{change:?}");
    }
    assert_eq!(capture.count("WARN") + capture.count("ERROR"), 0, "{}", capture.text());
}

/// The statuses of handshakes for these paths, behind a layer at `/api/chat`. Nothing here can be upgraded.
async fn statuses(rooms: &ChatRooms, paths: &[&str]) -> Vec<u16> {
    let rest = service_fn(async |_| Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new())));
    let service = rooms.layer("/api/chat").layer(rest);
    let mut statuses = Vec::new();
    for path in paths {
        let request = Request::get(*path).header("host", "x").header("connection", "upgrade");
        let request = request.header("upgrade", "websocket").header("sec-websocket-version", "13");
        let request = request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").body(()).unwrap();
        statuses.push(service.clone().oneshot(request).await.unwrap().status().as_u16());
    }
    statuses
}

/// As inside a nested router, which removes its prefix from the path.
#[tokio::test]
async fn a_layer_that_sees_only_the_end_of_its_path_is_reported() {
    let capture = LogCapture::default();
    let _guard = capture.listen("info");
    assert_eq!(statuses(&default_rooms(), &["/other", "/"]).await, [200, 200]);
    // Once the layer has seen its path, something else is at the other one.
    assert_eq!(statuses(&default_rooms(), &["/api/chat", "/chat"]).await, [500, 200]);
    assert_eq!(capture.count("without the router's prefix"), 0, "{}", capture.text());
    assert_eq!(statuses(&default_rooms(), &["/chat", "/chat", "/chat"]).await, [200; 3]);
    assert_eq!(capture.count("without the router's prefix"), 1, "{}", capture.text());
}

#[tokio::test]
async fn a_request_whose_extensions_were_removed_is_reported() {
    let capture = LogCapture::default();
    let _guard = capture.listen("info");
    assert_eq!(statuses(&default_rooms(), &["/api/chat", "/api/chat"]).await, [500, 500]);
    assert_eq!(capture.count("ERROR"), 1, "{}", capture.text());
    assert_eq!(capture.count("serve connections with `with_upgrades()`"), 1, "{}", capture.text());
}

#[tokio::test(start_paused = true)]
async fn the_start_and_the_end_are_one_line_each() {
    let capture = LogCapture::default();
    let _guard = capture.listen("info");
    let recovery = Recovery::default().resume_window(Duration::from_secs(10));
    let rooms = builder().limits(Limits::default().max_rooms(7)).recovery(recovery).build().unwrap();
    let log = capture.text();
    assert_eq!(capture.count("INFO"), 1, "{log}");
    assert!(log.contains("auth=false") && log.contains("max_rooms=7, resume_window=10s"), "{log}");
    assert!(
        log.contains("origins=\"same host\" trusted_proxies=\"none\"") && log.contains("v1_heartbeat=25s"),
        "{log}"
    );
    let _open = [Client::enter(&rooms, "ann", "r").await, Client::enter(&rooms, "bob", "r").await];
    rooms.shutdown().await;
    assert_eq!(capture.count("INFO"), 2, "{}", capture.text());
    assert_eq!(capture.count("chat rooms shut down"), 1, "{}", capture.text());
    assert_eq!(capture.count("connections=2"), 1, "{}", capture.text());
}

#[tokio::test(start_paused = true)]
async fn each_close_has_its_reason() {
    let capture = LogCapture::default();
    let _guard = capture.listen("debug");
    let rooms = default_rooms();
    Client::enter(&rooms, "ann", "r").await.close().await;
    Client::enter(&rooms, "bob", "r").await.disconnect().await;
    let silent = Client::enter(&rooms, "cleo", "r").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut dan = Client::enter(&rooms, "dan", "r").await;
    rooms.kick(rooms.members("r")[0].connection);
    dan.close_code().await;
    rooms.shutdown().await;
    drop(silent);
    let log = capture.text();
    for reason in ["closed by the client", "connection lost", "heartbeat missed", "kicked"] {
        let closed = log.lines().filter(|line| line.contains("connection closed") && line.contains(reason));
        assert_eq!(closed.count(), 1, "{reason}: {log}");
    }
}

//! Unusual and malformed handshakes, through hyper.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_chat_rooms::{Limits, Origins};

use crate::support::{
    HANDSHAKE, HEAD_TIMEOUT, builder, default_rooms, handshake_with_headers, handshake_with_replacement,
    open_http, send_request, text_frame, unlimited,
};

#[tokio::test(start_paused = true)]
async fn malformed_headers_are_refused_one_by_one() {
    let rooms = default_rooms();
    let cases = [
        // Missing, wrong and repeated headers.
        ("Host: example.com\r\n", "", 400, "`Host`"),
        ("Host: example.com", "Host: example.com\r\nHost: example.com", 400, "`Host`"),
        ("Host: example.com", "Host: ", 400, "`Host`"),
        ("Host: example.com", "Host: a b", 400, "`Host`"),
        ("Upgrade: websocket", "Upgrade: websockets", 400, "`Upgrade: websocket`"),
        ("Upgrade: websocket\r\n", "", 400, "`Upgrade: websocket`"),
        ("Connection: Upgrade\r\n", "", 400, "`Connection: Upgrade`"),
        ("Connection: Upgrade", "Connection: not-upgrade", 400, "`Connection: Upgrade`"),
        ("Version: 13", "Version: 14", 426, "version 13"),
        ("Version: 13", "Version: 013", 426, "version 13"),
        ("Version: 13", "Version: 13, 13", 426, "version 13"),
        ("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 13", 426, "version 13"),
        ("Sec-WebSocket-Version: 13\r\n", "", 426, "version 13"),
        ("ub25jZQ==", "ub25jZQ=", 400, "`Sec-WebSocket-Key`"),
        ("ub25jZQ==", "ub25jZQ==\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", 400, "`Sec-WebSocket-Key`"),
        ("ub25jZQ==", "ub25jZQ==, AAAA", 400, "`Sec-WebSocket-Key`"),
        ("dGhlIHNhbXBs", "dGhlIHNhbX\u{e9}", 400, "`Sec-WebSocket-Key`"),
        // Other methods and versions.
        ("GET", "POST", 405, "GET"),
        ("GET", "get", 405, "GET"),
        ("HTTP/1.1", "HTTP/1.0", 505, "HTTP/1.1"),
        // A body could be mistaken for frames.
        ("Upgrade:", "Content-Length: 2\r\nUpgrade:", 400, "no body"),
        ("Upgrade:", "Transfer-Encoding: chunked\r\nUpgrade:", 400, "no body"),
    ];
    for (from, to, status, text) in cases {
        let answer = handshake_with_replacement(&rooms, from, to).await;
        assert_eq!(answer.status, status, "{to:?}: {answer:?}");
        assert!(answer.body.contains(text), "{to:?}: {answer:?}");
        assert_eq!(answer.head.contains("\r\nsec-websocket-version: 13\r\n"), status == 426, "{answer:?}");
        assert!(!answer.head.contains("sec-websocket-accept"), "{answer:?}");
    }
    let stats = rooms.stats();
    assert_eq!((stats.refused, stats.refused_handshake), (cases.len() as u64, cases.len() as u64));
    assert_eq!((stats.accepted, stats.connections, stats.pending), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn unusual_but_valid_handshakes_are_accepted() {
    let rooms = default_rooms();
    for (from, to) in [
        ("Host", "hOST"),
        ("Upgrade: websocket", "UPGRADE:WebSocket"),
        ("Upgrade: websocket", "Upgrade: h2c,\t websocket , x"),
        ("Connection: Upgrade", "connection: keep-alive\r\nConnection: close, upgrade"),
        ("GET /chat", "GET ws://example.com/chat"),
        ("GET /chat", "GET http://other.example:81/chat?x"),
        ("GET /chat", "GET //chat/"),
        ("Host", "Content-Length: 0\r\nHost"),
        ("GET", "\r\n\r\nGET"),
    ] {
        let answer = handshake_with_replacement(&rooms, from, to).await;
        assert_eq!(answer.status, 101, "{to:?}: {answer:?}");
        assert!(
            answer.head.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
            "{answer:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn extensions_and_unknown_subprotocols_are_not_chosen() {
    let rooms = default_rooms();
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-webkit-deflate-frame\r\n\
                 Sec-WebSocket-Protocol: soap, mqtt\r\n";
    let answer = handshake_with_headers(&rooms, offer).await;
    assert_eq!(answer.status, 101);
    assert!(
        !answer.head.contains("sec-websocket-ext") && !answer.head.contains("sec-websocket-proto"),
        "{answer:?}"
    );
    let answer = handshake_with_headers(
        &rooms,
        "Sec-WebSocket-Protocol: soap\r\nSec-WebSocket-Protocol: , chat-rooms\r\n",
    )
    .await;
    assert!(answer.head.contains("\r\nsec-websocket-protocol: chat-rooms\r\n"), "{answer:?}");
    // A compressed frame is an error.
    let mut io = open_http(&rooms, None);
    send_request(&mut io, format!("{HANDSHAKE}{offer}\r\n").as_bytes()).await;
    io.write_all(&[0xc1, 0x80, 0, 0, 0, 0]).await.unwrap();
    io.shutdown().await.unwrap();
    let mut rest = Vec::new();
    io.read_to_end(&mut rest).await.unwrap();
    let close = rest.iter().rposition(|byte| *byte == 0x88).unwrap();
    assert_eq!(rest[close + 2..close + 4], 1002u16.to_be_bytes());
}

#[tokio::test(start_paused = true)]
async fn huge_heads_are_refused_by_hyper_and_take_no_permit() {
    let rooms = builder().limits(Limits::default().max_connections(1)).build().unwrap();
    let long = format!("Cookie: {}\r\n", "x".repeat(1 << 20));
    let many = "X: y\r\n".repeat(200);
    for more in [long, many] {
        assert_eq!(handshake_with_headers(&rooms, &more).await.status, 431);
    }
    // As large as hyper accepts.
    let large =
        format!("Cookie: {}\r\nSec-WebSocket-Protocol: {}\r\n", "x".repeat(100_000), "a,".repeat(50_000));
    assert_eq!(handshake_with_headers(&rooms, &large).await.status, 101);
}

#[tokio::test(start_paused = true)]
async fn slow_heads_take_no_permit() {
    let rooms = builder().limits(Limits::default().max_connections(1)).build().unwrap();
    let mut slow = open_http(&rooms, None);
    slow.write_all(&HANDSHAKE.as_bytes()[..100]).await.unwrap();
    // Byte by byte, but in time.
    let mut other = open_http(&rooms, None);
    let request = format!("{HANDSHAKE}\r\n");
    let (last, bytes) = request.as_bytes().split_last().unwrap();
    for byte in bytes {
        other.write_all(&[*byte]).await.unwrap();
        tokio::time::advance(HEAD_TIMEOUT / 2 / bytes.len() as u32).await;
    }
    assert_eq!(send_request(&mut other, &[*last]).await.status, 101);
    // hyper ends the other one.
    let mut rest = Vec::new();
    let begin = tokio::time::Instant::now();
    slow.read_to_end(&mut rest).await.unwrap();
    assert!(begin.elapsed() <= HEAD_TIMEOUT + Duration::from_secs(1));
    assert_eq!((rooms.stats().accepted, rooms.stats().refused), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn frames_sent_with_the_handshake_are_handled() {
    let rooms = unlimited().build().unwrap();
    let mut io = open_http(&rooms, None);
    let mut bytes = format!("{HANDSHAKE}\r\n").into_bytes();
    bytes.extend(text_frame(r#"{"event":"enter","message":"ann","roomId":"r"}"#));
    for n in 0..500 {
        bytes.extend(text_frame(&format!(r#"{{"event":"message","message":{n}}}"#)));
    }
    // The last frame comes in two parts.
    let half = bytes.len() - 5;
    assert_eq!(send_request(&mut io, &bytes[..half]).await.status, 101);
    io.write_all(&bytes[half..]).await.unwrap();
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains(r#""message":499,"name":"ann""#) {
        assert_ne!(io.read_buf(&mut received).await.unwrap(), 0);
    }
    let received = String::from_utf8_lossy(&received);
    let places: Vec<_> = (0..500).map(|n| received.find(&format!(r#""message":{n},"#)).unwrap()).collect();
    assert!(places.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn a_body_is_not_mistaken_for_frames_and_the_connection_continues() {
    let rooms = default_rooms();
    let mut io = open_http(&rooms, None);
    let enter = text_frame(r#"{"event":"enter","message":"ann"}"#);
    let mut bytes = format!("{HANDSHAKE}Content-Length: {}\r\n\r\n", enter.len()).into_bytes();
    bytes.extend(&enter);
    assert_eq!(send_request(&mut io, &bytes).await.status, 400);
    let mut chunked =
        format!("{HANDSHAKE}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", enter.len()).into_bytes();
    chunked.extend(&enter);
    chunked.extend(b"\r\n0\r\n\r\n");
    assert_eq!(send_request(&mut io, &chunked).await.status, 400);
    assert_eq!(rooms.stats().entered, 0);
    // The refused requests have left nothing on the connection.
    assert_eq!(send_request(&mut io, format!("{HANDSHAKE}\r\n").as_bytes()).await.status, 101);
}

#[tokio::test(start_paused = true)]
async fn pages_of_other_origins_are_refused() {
    let rooms = default_rooms();
    for (origin, status) in [
        ("https://example.com", 101),
        ("http://example.com", 101),
        ("https://evil.example", 403),
        ("https://example.com.evil.example", 403),
        ("https://example.com:8443", 403),
        ("null", 403),
        ("", 403),
    ] {
        let answer = handshake_with_headers(&rooms, &format!("Origin: {origin}\r\n")).await;
        assert_eq!(answer.status, status, "{origin}: {answer:?}");
        assert_eq!(status == 403, answer.body.contains("origin"), "{answer:?}");
    }
    assert_eq!(handshake_with_headers(&rooms, "").await.status, 101);
    let stats = rooms.stats();
    assert_eq!((stats.refused, stats.refused_origin, stats.accepted), (5, 5, 3));

    let origins = Origins::list(["https://app.example"]).unwrap().require_header();
    let rooms = builder().origins(origins).build().unwrap();
    for (header, status) in
        [("Origin: https://app.example\r\n", 101), ("Origin: https://example.com\r\n", 403), ("", 403)]
    {
        assert_eq!(handshake_with_headers(&rooms, header).await.status, status, "{header}");
    }
    let rooms = builder().origins(Origins::any()).build().unwrap();
    assert_eq!(handshake_with_headers(&rooms, "Origin: null\r\n").await.status, 101);
}

use super::*;
use http::Request;
use proptest::prelude::*;

fn request(change: impl FnOnce(&mut Parts)) -> Parts {
    let (mut parts, ()) = Request::builder()
        .header("Host", "x")
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Version", "13")
        .body(())
        .unwrap()
        .into_parts();
    change(&mut parts);
    parts
}

fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut Parts) {
    move |p| {
        p.headers.remove(name);
        if !value.is_empty() {
            p.headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

fn add(name: &'static str, value: &'static str) -> impl FnOnce(&mut Parts) {
    move |p| {
        p.headers.append(name, HeaderValue::from_static(value));
    }
}

#[test]
fn the_example_of_the_rfc_is_answered() {
    let response = verify(&request(|_| {})).unwrap().into_response::<crate::http::body::NoBody>();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
}

#[test]
fn headers_are_case_insensitive_token_lists() {
    for change in [
        set("connection", "keep-alive, UPGRADE"),
        set("connection", "upgrade,keep-alive"),
        set("upgrade", "WebSocket"),
        set("upgrade", "h2c, websocket"),
    ] {
        assert!(verify(&request(change)).is_ok());
    }
    assert!(verify(&request(add("connection", "keep-alive"))).is_ok());
    assert!(verify(&request(add("content-length", "0"))).is_ok());
}

#[test]
fn each_violation_has_its_refusal() {
    use RefusalKind::*;
    let check = |change: Box<dyn FnOnce(&mut Parts)>, kind| {
        assert_eq!(verify(&request(change)), Err(kind));
    };
    check(Box::new(|p| p.method = http::Method::POST), Method);
    check(Box::new(|p| p.version = http::Version::HTTP_10), HttpVersion);
    check(Box::new(set("connection", "")), ConnectionHeader);
    check(Box::new(set("connection", "keep-alive")), ConnectionHeader);
    check(Box::new(set("connection", "no-upgrade")), ConnectionHeader);
    check(Box::new(set("upgrade", "h2c")), UpgradeHeader);
    check(Box::new(set("upgrade", "websockets")), UpgradeHeader);
    check(Box::new(set("sec-websocket-version", "")), WebSocketVersion);
    check(Box::new(set("sec-websocket-version", "8")), WebSocketVersion);
    check(Box::new(add("sec-websocket-version", "13")), WebSocketVersion);
    check(Box::new(set("sec-websocket-key", "")), Key);
    check(Box::new(set("sec-websocket-key", "c2hvcnQ=")), Key);
    check(Box::new(set("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=!")), Key);
    check(Box::new(add("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")), Key);
    for host in ["", " ", "a b", "user@example.com", "example.com/path"] {
        check(Box::new(|p| drop(p.headers.insert("host", HeaderValue::from_static(host)))), Host);
    }
    check(Box::new(|p| drop(p.headers.remove("host"))), Host);
    check(Box::new(add("host", "x")), Host);
    check(Box::new(add("content-length", "1")), Body);
    check(Box::new(add("content-length", "x")), Body);
    check(Box::new(add("transfer-encoding", "chunked")), Body);
    check(Box::new(|p| p.version = http::Version::HTTP_2), HttpVersion);
    check(Box::new(|p| p.version = http::Version::HTTP_3), HttpVersion);
}

#[test]
fn only_offered_subprotocols_are_chosen() {
    let mut accept = verify(&request(add("sec-websocket-protocol", "soap, chat-rooms"))).unwrap();
    accept.choose(Some(HeaderValue::from_static("soap")));
    assert_eq!(accept.protocol.unwrap(), "chat-rooms");
    let both = verify(&request(add("sec-websocket-protocol", "chat-rooms, chat-rooms.v1"))).unwrap();
    assert_eq!(
        (both.subprotocol(), both.protocol.unwrap()),
        (Subprotocol::V1, HeaderValue::from_static("chat-rooms.v1"))
    );
    assert_eq!(verify(&request(add("sec-websocket-protocol", "soap"))).unwrap().protocol, None);
}

#[cfg(feature = "http2")]
fn connect(change: impl FnOnce(&mut Parts)) -> Parts {
    let (mut parts, ()) = Request::builder()
        .method("CONNECT")
        .version(Version::HTTP_2)
        .uri("https://example.com/chat")
        .header("Sec-WebSocket-Version", "13")
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .body(())
        .unwrap()
        .into_parts();
    change(&mut parts);
    parts
}

#[cfg(feature = "http2")]
#[test]
fn an_extended_connect_is_answered_200_without_a_key() {
    let accept = verify(&connect(add("sec-websocket-protocol", "x, chat-rooms.v1"))).unwrap();
    let response = accept.into_response::<crate::http::body::NoBody>();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().len(), 1);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat-rooms.v1");
}

#[cfg(feature = "http2")]
#[test]
fn an_invalid_connect_is_refused() {
    use RefusalKind::*;
    let check = |change: Box<dyn FnOnce(&mut Parts)>, kind| {
        assert_eq!(verify(&connect(change)), Err(kind));
    };
    check(Box::new(|p| p.method = http::Method::GET), HttpVersion);
    check(Box::new(|p| p.extensions.clear()), HttpVersion);
    check(Box::new(|p| drop(p.extensions.insert(hyper::ext::Protocol::from_static("h2c")))), HttpVersion);
    check(Box::new(|p| p.uri = "/chat".parse().unwrap()), Host);
    check(Box::new(set("sec-websocket-version", "")), WebSocketVersion);
    check(Box::new(set("sec-websocket-version", "8")), WebSocketVersion);
    check(Box::new(add("sec-websocket-version", "13")), WebSocketVersion);
    check(Box::new(add("content-length", "5")), Body);
    // Without an authority, as a gateway from HTTP/1.1 may send it, `Host` is needed.
    assert!(
        verify(&connect(|p| {
            p.uri = "/chat".parse().unwrap();
            p.headers.insert("host", HeaderValue::from_static("example.com"));
        }))
        .is_ok()
    );
}

#[cfg(feature = "http2")]
#[test]
fn only_a_connect_for_websocket_is_an_upgrade() {
    let meant = |parts| is_meant(&Request::from_parts(parts, ()));
    assert!(meant(connect(|_| {})));
    assert!(!meant(connect(|p| p.extensions.clear())));
    assert!(!meant(connect(|p| drop(p.extensions.insert(hyper::ext::Protocol::from_static("connect-udp"))))));
    assert!(!meant(connect(|p| p.method = http::Method::GET)));
    assert!(!meant(connect(|p| p.uri = "example.com:443".parse().unwrap())));
}

/// A header's values: mostly one valid value, sometimes none or several.
fn values(good: &'static [&'static str]) -> impl Strategy<Value = Vec<HeaderValue>> {
    let one = prop_oneof![
        8 => proptest::sample::select(good).prop_map(HeaderValue::from_static),
        1 => proptest::collection::vec(proptest::sample::select((b' '..=b'~').chain(0x80..=0xff).collect::<Vec<u8>>()), 0..30)
            .prop_map(|bytes| HeaderValue::from_bytes(&bytes).unwrap()),
    ];
    prop_oneof![
        12 => one.clone().prop_map(|value| vec![value]),
        1 => proptest::collection::vec(one, 0..3),
    ]
}

fn any_parts() -> impl Strategy<Value = Parts> {
    const HEADERS: [(&str, &[&str]); 8] = [
        ("host", &["x", "x:80", "[::1]:3000"]),
        ("upgrade", &["websocket", "WebSocket", "h2c, websocket", "h2c"]),
        ("connection", &["Upgrade", "keep-alive, upgrade", "UPGRADE", "close"]),
        ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ==", "AAAAAAAAAAAAAAAAAAAAAA==", "AAAA"]),
        ("sec-websocket-version", &["13", "13", "8", "13, 8"]),
        ("sec-websocket-protocol", &["chat-rooms", "a,b", "chat-rooms.v1, chat-rooms"]),
        ("sec-websocket-extensions", &["permessage-deflate", "x; y=\"z\""]),
        ("content-length", &["0", "0", "0", "7"]),
    ];
    let headers = HEADERS.map(|(name, good)| values(good).prop_map(move |values| (name, values)));
    let method = prop_oneof![9 => Just(http::Method::GET), 1 => Just(http::Method::POST), 1 => Just(http::Method::CONNECT)];
    let version = prop_oneof![
        9 => Just(Version::HTTP_11),
        1 => proptest::sample::select(vec![Version::HTTP_09, Version::HTTP_10, Version::HTTP_2, Version::HTTP_3]),
    ];
    (method, version, Vec::from(headers)).prop_map(|(method, version, headers)| {
        request(|parts| {
            (parts.method, parts.version) = (method, version);
            parts.headers.clear();
            for (name, values) in headers {
                for value in values {
                    parts.headers.append(name, value);
                }
            }
        })
    })
}

/// A second implementation of RFC 6455 §4.2.1.
fn satisfies_the_rfc(parts: &Parts) -> bool {
    let all = |name: &str| -> Vec<String> {
        let values = parts.headers.get_all(name).into_iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    };
    let has = |name, token| {
        all(name)
            .join(",")
            .to_ascii_lowercase()
            .split(',')
            .any(|word| word.trim_matches([' ', '\t']) == token)
    };
    let key = all("sec-websocket-key");
    let digits = key.first().and_then(|key| key.strip_suffix("==")).unwrap_or_default();
    parts.method == "GET"
        && parts.version == Version::HTTP_11
        && all("host").len() == 1
        && has("upgrade", "websocket")
        && has("connection", "upgrade")
        && all("sec-websocket-version") == ["13"]
        && key.len() == 1
        && digits.len() == 22
        && digits.chars().all(|c| c.is_ascii_alphanumeric() || c == '+' || c == '/')
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn accepted_requests_are_valid_handshakes(parts in any_parts()) {
        if let Ok(accept) = verify(&parts) {
            prop_assert!(satisfies_the_rfc(&parts), "{parts:?}");
            // The protocol was offered, and no extension is used.
            let response = accept.into_response::<crate::http::body::NoBody>();
            prop_assert_eq!(response.status(), 101);
            if let Some(chosen) = response.headers().get("sec-websocket-protocol") {
                prop_assert!(offers(&parts.headers).any(|offered| *chosen == *offered));
            }
            prop_assert!(!response.headers().contains_key("sec-websocket-extensions"));
        }
    }

    #[test]
    fn valid_handshakes_are_accepted(parts in any_parts()) {
        let has_body = parts.headers.get_all("content-length").into_iter().any(|length| length != "0");
        let host = parts.headers.get("host").and_then(host);
        if satisfies_the_rfc(&parts) && !has_body && host.is_some() {
            prop_assert!(verify(&parts).is_ok(), "{parts:?}");
        }
    }
}

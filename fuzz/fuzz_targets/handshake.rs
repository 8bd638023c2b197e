//! An upgrade request of arbitrary parts: it is refused with a reason, or it was sound.

#![no_main]

use arbitrary::Arbitrary;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, Uri, Version};
use libfuzzer_sys::fuzz_target;
use tower::ServiceExt;
use tower_chat_rooms::{NoService, Refusal, RefusalKind};
use tower_chat_rooms_fuzz::{rooms, run};

#[derive(Debug, Arbitrary)]
struct Parts<'a> {
    method: u8,
    version: u8,
    uri: &'a [u8],
    /// Headers of a sound handshake that stay as they are.
    sound: u8,
    headers: Vec<(u8, &'a [u8])>,
}

const NAMES: [&str; 12] = [
    "upgrade",
    "connection",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "host",
    "origin",
    "authorization",
    "cookie",
    "x-forwarded-for",
    "forwarded",
];

const SOUND: [(&str, &str); 5] = [
    ("host", "example.com"),
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fuzz_target!(|parts: Parts<'_>| {
    let mut request = Request::new(http_body_util::Empty::<bytes::Bytes>::new());
    let methods = [Method::GET, Method::POST, Method::CONNECT, Method::OPTIONS];
    *request.method_mut() = methods[usize::from(parts.method) % methods.len()].clone();
    let versions = [Version::HTTP_11, Version::HTTP_10, Version::HTTP_2, Version::HTTP_3];
    *request.version_mut() = versions[usize::from(parts.version) % versions.len()];
    if let Ok(uri) = Uri::try_from(parts.uri) {
        *request.uri_mut() = uri;
    }
    for (n, (name, value)) in SOUND.into_iter().enumerate() {
        if parts.sound & (1 << n) != 0 {
            request.headers_mut().append(name, HeaderValue::from_static(value));
        }
    }
    for (name, value) in &parts.headers {
        let name = HeaderName::from_static(NAMES[usize::from(*name) % NAMES.len()]);
        if let Ok(value) = HeaderValue::from_bytes(value) {
            request.headers_mut().append(name, value);
        }
    }
    run(async {
        let (rooms, _) = rooms();
        let Ok(response) = rooms.service().oneshot(request).await;
        // Nothing here can be upgraded: a sound handshake gets as far as to find that out.
        let refusal = response.extensions().get::<Refusal>().expect("a refusal says why");
        assert_eq!(refusal.status(), response.status());
        assert!(response.status().is_client_error() || response.status().is_server_error());
        if refusal.kind() == RefusalKind::NotUpgradable {
            assert_eq!(parts.version % 4, 0, "only HTTP/1.1 is upgraded");
        }
        assert_eq!(rooms.stats().connections, 0, "its place was given back");
        let _ = std::any::type_name::<NoService>();
    });
});

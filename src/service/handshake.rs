//! The opening handshake, a pure verdict on the request's head (RFC 6455 §4.2.1).

use http::header::{
    CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::protocol::wire::{self, Wire};
use crate::service::body::ResponseBody;
use crate::service::refusal::RefusalKind;

/// A sound handshake, ready to be answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Accept {
    key: String,
    protocol: Option<HeaderValue>,
}

/// Whether a request means WebSocket at all, however badly it says so.
pub(crate) fn is_meant(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, "websocket") || headers.contains_key(SEC_WEBSOCKET_KEY)
}

/// Checks the head of an upgrade request.
pub(crate) fn verify(parts: &Parts) -> Result<Accept, RefusalKind> {
    let headers = &parts.headers;
    if parts.method != Method::GET {
        return Err(RefusalKind::Method);
    }
    if parts.version != Version::HTTP_11 {
        return Err(RefusalKind::HttpVersion);
    }
    if !has_token(headers, &UPGRADE, "websocket") {
        return Err(RefusalKind::NoUpgradeWebSocket);
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Err(RefusalKind::NoConnectionUpgrade);
    }
    if only(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|v| v != "13") {
        return Err(RefusalKind::Version);
    }
    let key = only(headers, &SEC_WEBSOCKET_KEY).ok_or(RefusalKind::Key)?;
    if !is_key(key.as_bytes()) {
        return Err(RefusalKind::Key);
    }
    let offered = [wire::V1, wire::PLAIN].into_iter().find(|own| offers(headers).any(|p| p == *own));
    let protocol = offered.map(HeaderValue::from_static);
    Ok(Accept { key: derive_accept_key(key.as_bytes()), protocol })
}

impl Accept {
    /// Chooses another of the offered subprotocols, where none has been chosen.
    pub(crate) fn choose(&mut self, protocol: Option<HeaderValue>) {
        if self.protocol.is_none() {
            self.protocol = protocol;
        }
    }

    /// What the connection will speak.
    pub(crate) fn wire(&self) -> Wire {
        Wire::of(self.protocol.as_ref())
    }

    /// 101 (RFC 6455 §4.2.2).
    pub(crate) fn into_response<B>(self) -> Response<ResponseBody<B>> {
        let mut response = Response::new(ResponseBody::text(String::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Ok(accept) = HeaderValue::try_from(self.key) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if let Some(protocol) = self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

/// The subprotocols that the client offers, in its order.
pub(crate) fn offers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    tokens(headers, &SEC_WEBSOCKET_PROTOCOL)
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|t| t.eq_ignore_ascii_case(token))
}

/// The value of a header that must stand there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut all = headers.get_all(name).into_iter();
    all.next().filter(|_| all.next().is_none())
}

/// 16 bytes in base64: 22 digits and two signs of padding. Of the last digit only the two upper
/// bits are used; not every client leaves the others at zero.
fn is_key(key: &[u8]) -> bool {
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22].iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
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
    fn the_sample_of_the_rfc_is_answered() {
        let response = verify(&request(|_| {})).unwrap().into_response::<crate::service::body::NoBody>();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!response.headers().contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn headers_are_lists_of_tokens_without_case() {
        for change in [
            set("connection", "keep-alive, UPGRADE"),
            set("connection", "upgrade,keep-alive"),
            set("upgrade", "WebSocket"),
            set("upgrade", "h2c, websocket"),
        ] {
            assert!(verify(&request(change)).is_ok());
        }
        assert!(verify(&request(add("connection", "keep-alive"))).is_ok());
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        use RefusalKind::*;
        let check = |change: Box<dyn FnOnce(&mut Parts)>, kind| {
            assert_eq!(verify(&request(change)), Err(kind));
        };
        check(Box::new(|p| p.method = http::Method::POST), Method);
        check(Box::new(|p| p.version = http::Version::HTTP_10), HttpVersion);
        check(Box::new(set("connection", "")), NoConnectionUpgrade);
        check(Box::new(set("connection", "keep-alive")), NoConnectionUpgrade);
        check(Box::new(set("connection", "no-upgrade")), NoConnectionUpgrade);
        check(Box::new(set("upgrade", "h2c")), NoUpgradeWebSocket);
        check(Box::new(set("upgrade", "websockets")), NoUpgradeWebSocket);
        check(Box::new(set("sec-websocket-version", "")), Version);
        check(Box::new(set("sec-websocket-version", "8")), Version);
        check(Box::new(add("sec-websocket-version", "13")), Version);
        check(Box::new(set("sec-websocket-key", "")), Key);
        check(Box::new(set("sec-websocket-key", "c2hvcnQ=")), Key);
        check(Box::new(set("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=!")), Key);
        check(Box::new(add("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")), Key);
    }

    #[test]
    fn our_subprotocol_is_chosen_and_no_other_unasked() {
        let mut accept = verify(&request(add("sec-websocket-protocol", "soap, chat-rooms"))).unwrap();
        accept.choose(Some(HeaderValue::from_static("soap")));
        assert_eq!(accept.protocol.unwrap(), "chat-rooms");
        let both = verify(&request(add("sec-websocket-protocol", "chat-rooms, chat-rooms.v1"))).unwrap();
        assert_eq!(
            (both.wire(), both.protocol.unwrap()),
            (Wire::V1, HeaderValue::from_static("chat-rooms.v1"))
        );
        assert_eq!(verify(&request(add("sec-websocket-protocol", "soap"))).unwrap().protocol, None);
    }

    proptest! {
        #[test]
        fn no_header_value_panics(name in 0usize..5, value in "[ -~]{0,40}") {
            let name = ["connection", "upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol"][name];
            let _ = verify(&request(|p| {
                p.headers.insert(name, HeaderValue::from_str(&value).unwrap());
            }));
        }
    }
}

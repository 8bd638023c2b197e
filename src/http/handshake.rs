//! The opening handshake: checks a request's head and answers it (RFC 6455 §4.2, RFC 8441 §5).

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::Authority;
use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::http::body::ResponseBody;
use crate::http::refusal::RefusalKind;
use crate::protocol::subprotocol::{self, Subprotocol};

/// The answer to a valid handshake.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Accept {
    /// The value of `Sec-WebSocket-Accept`; `None` in HTTP/2.
    key: Option<String>,
    /// The chosen subprotocol.
    protocol: Option<HeaderValue>,
}

/// Whether a request is meant to be an upgrade to WebSocket, valid or not.
pub(crate) fn is_meant<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    has_token(headers, &UPGRADE, "websocket")
        || headers.contains_key(SEC_WEBSOCKET_KEY)
        // An ordinary CONNECT has no path.
        || (request.version() == Version::HTTP_2
            && request.method() == Method::CONNECT
            && !request.uri().path().is_empty()
            && is_websocket(request.extensions()))
}

/// Whether an extended CONNECT is for WebSocket. Without the feature `http2`, there is no way to tell, so it may be.
fn is_websocket(extensions: &Extensions) -> bool {
    #[cfg(feature = "http2")]
    return extensions
        .get::<hyper::ext::Protocol>()
        .is_some_and(|p| p.as_str().eq_ignore_ascii_case("websocket"));
    #[cfg(not(feature = "http2"))]
    return {
        let _ = extensions;
        true
    };
}

/// Checks the head of an upgrade request.
pub(crate) fn verify(parts: &Parts) -> Result<Accept, RefusalKind> {
    let headers = &parts.headers;
    let is_http2 = parts.version == Version::HTTP_2;
    if is_http2 {
        verify_connect(parts)?
    } else {
        verify_upgrade(parts)?
    }
    if only(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|v| v != "13") {
        return Err(RefusalKind::WebSocketVersion);
    }
    if has_body(headers) {
        return Err(RefusalKind::Body);
    }
    let key = if is_http2 { None } else { Some(derive_accept_key(verify_key(headers)?)) };
    let offered =
        [subprotocol::V1, subprotocol::PLAIN].into_iter().find(|own| offers(headers).any(|p| p == *own));
    Ok(Accept { key, protocol: offered.map(HeaderValue::from_static) })
}

/// Checks an extended CONNECT (RFC 8441 §5).
fn verify_connect(parts: &Parts) -> Result<(), RefusalKind> {
    if cfg!(not(feature = "http2")) || parts.method != Method::CONNECT || !is_websocket(&parts.extensions) {
        return Err(RefusalKind::HttpVersion);
    }
    authority(parts).map(drop).ok_or(RefusalKind::Host)
}

/// Checks an upgrade request of HTTP/1.1 (RFC 6455 §4.2.1).
fn verify_upgrade(parts: &Parts) -> Result<(), RefusalKind> {
    let headers = &parts.headers;
    if parts.method != Method::GET {
        return Err(RefusalKind::Method);
    }
    if parts.version != Version::HTTP_11 {
        return Err(RefusalKind::HttpVersion);
    }
    if !has_token(headers, &UPGRADE, "websocket") {
        return Err(RefusalKind::UpgradeHeader);
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Err(RefusalKind::ConnectionHeader);
    }
    if only(headers, &HOST).and_then(host).is_none() {
        return Err(RefusalKind::Host);
    }
    Ok(())
}

fn verify_key(headers: &HeaderMap) -> Result<&[u8], RefusalKind> {
    let key = only(headers, &SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    key.filter(|key| is_key(key)).ok_or(RefusalKind::Key)
}

/// The host that a request is for: the URI's authority (HTTP/2 and the absolute form), or else `Host`.
pub(crate) fn authority(parts: &Parts) -> Option<Authority> {
    match parts.uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => only(&parts.headers, &HOST).and_then(host),
    }
}

fn host(value: &HeaderValue) -> Option<Authority> {
    Authority::try_from(value.as_bytes()).ok().filter(|authority| !authority.as_str().contains('@'))
}

/// Whether there is a body. It could be mistaken for frames, here or in a proxy.
fn has_body(headers: &HeaderMap) -> bool {
    let is_zero = |length: &HeaderValue| length.to_str().is_ok_and(|l| l.trim().parse() == Ok(0u64));
    headers.contains_key(TRANSFER_ENCODING) || !headers.get_all(CONTENT_LENGTH).into_iter().all(is_zero)
}

impl Accept {
    /// Chooses a subprotocol, unless one has been chosen.
    pub(crate) fn choose(&mut self, protocol: Option<HeaderValue>) {
        if self.protocol.is_none() {
            self.protocol = protocol;
        }
    }

    /// The wire protocol of the connection.
    pub(crate) fn subprotocol(&self) -> Subprotocol {
        Subprotocol::of(self.protocol.as_ref())
    }

    /// 101 (RFC 6455 §4.2.2), or 200 in HTTP/2 (RFC 8441 §5).
    pub(crate) fn into_response<B>(self) -> Response<ResponseBody<B>> {
        let mut response = Response::new(ResponseBody::default());
        if let Some(accept) = self.key.and_then(|key| HeaderValue::try_from(key).ok()) {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if let Some(protocol) = self.protocol {
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

/// The subprotocols that the client offers, in its order of preference.
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

/// The value of a header that must occur once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut all = headers.get_all(name).into_iter();
    all.next().filter(|_| all.next().is_none())
}

/// Whether the text is 16 bytes in base64: 22 digits and two padding characters. The unused bits of the last digit
/// are not checked, because not every client sets them to zero.
fn is_key(key: &[u8]) -> bool {
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22].iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

#[cfg(test)]
mod tests;

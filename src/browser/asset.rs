//! Files that the crate serves over HTTP, and how browsers cache them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

const REFUSAL: &str = "GET only\n";

/// A text with its type, and a tag that changes exactly when the text changes.
#[derive(Debug, Clone)]
pub(super) struct Asset {
    kind: &'static str,
    text: Bytes,
    tag: HeaderValue,
}

impl Asset {
    pub(super) fn new(kind: &'static str, text: impl Into<Bytes>) -> Asset {
        let text = text.into();
        let tag = format!("\"{:016x}\"", fnv1a(&text));
        Asset { kind, text, tag: HeaderValue::from_str(&tag).expect("hex digits are valid in a header") }
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        str::from_utf8(&self.text).expect("assets are UTF-8")
    }

    /// Answers `GET` and `HEAD`. Browsers ask each time whether the text has changed.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<AssetBody> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let refusal = Bytes::from_static(REFUSAL.as_bytes());
            let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", refusal);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let mut response = if self.is_known(request.headers()) {
            let mut response = Response::new(AssetBody(None));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            respond(StatusCode::OK, self.kind, self.text.clone())
        };
        if request.method() == Method::HEAD {
            *response.body_mut() = AssetBody(None);
        }
        let headers = response.headers_mut();
        headers.insert(ETAG, self.tag.clone());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }

    /// Whether the client has this text already (RFC 9110 §13.1.2). Tags are compared weakly, because a proxy that
    /// compresses the response makes them weak.
    fn is_known(&self, headers: &HeaderMap) -> bool {
        let values = headers.get_all(IF_NONE_MATCH);
        let tags = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        let own = self.tag.as_bytes();
        tags.map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == own)
    }
}

fn respond(status: StatusCode, kind: &'static str, text: Bytes) -> Response<AssetBody> {
    let length = text.len();
    let mut response = Response::new(AssetBody(Some(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Response body of [`ClientScript`](crate::ClientScript), [`ChatPage`](crate::ChatPage) and
/// [`AdminService`](crate::AdminService).
#[derive(Debug)]
pub struct AssetBody(Option<Bytes>);

impl AssetBody {
    pub(crate) fn new(text: Bytes) -> AssetBody {
        AssetBody(Some(text))
    }

    pub(crate) fn empty() -> AssetBody {
        AssetBody(None)
    }
}

impl Body for AssetBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

//! Refused upgrade requests: the reason, and the response made from it.

use std::borrow::Cow;
use std::fmt;

use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE,
    WWW_AUTHENTICATE,
};
use http::{Response, StatusCode, Version};

use crate::admission::NoPermit;
use crate::engine::Engine;
use crate::hooks::auth::AuthRefusal;
use crate::http::body::ResponseBody;

/// Why an upgrade request was refused.
///
/// A response that refuses an upgrade has one in its extensions, so that your own middleware can log or count it.
/// Its text is the body of the response.
///
/// ```
/// use tower_chat_rooms::{Refusal, RefusalKind};
///
/// fn is_misconfigured_proxy<B>(response: &http::Response<B>) -> bool {
///     let refusal = response.extensions().get::<Refusal>();
///     refusal.is_some_and(|refusal| refusal.kind() == RefusalKind::ConnectionHeader)
/// }
/// # assert!(!is_misconfigured_proxy(&http::Response::new(())));
/// ```
#[derive(Debug, Clone)]
pub struct Refusal {
    kind: RefusalKind,
    text: Cow<'static, str>,
    auth: Option<AuthRefusal>,
    /// HTTP/2 has no 426.
    is_http2: bool,
}

/// The kinds of [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// 426 (400 in HTTP/2): the request is not an upgrade request.
    NotAnUpgrade,
    /// 405: the method is not GET (RFC 6455 §4.1).
    Method,
    /// 505: the HTTP version has no upgrades, or the feature `http2` is needed.
    HttpVersion,
    /// 400: `Connection: Upgrade` is missing.
    ConnectionHeader,
    /// 400: `Upgrade: websocket` is missing.
    UpgradeHeader,
    /// 426 (400 in HTTP/2): the version of the WebSocket protocol is not 13 (RFC 6455 §4.2.2).
    WebSocketVersion,
    /// 400: `Sec-WebSocket-Key` is missing, repeated, or not 16 bytes in base64.
    Key,
    /// 400: `Host` is missing, repeated, or not a host (RFC 6455 §4.2.1).
    Host,
    /// 400: the request has a body.
    Body,
    /// 403: the page has another origin ([`Origins`](crate::Origins)).
    Origin,
    /// 500: the server does not support upgrades.
    NotUpgradable,
    /// The auth hook refused. The status is the hook's.
    Auth,
    /// The auth hook panicked (500), or did not answer in time (503).
    AuthFailed,
    /// 503: [`max_connections`](crate::Limits::max_connections) is reached.
    TooManyConnections,
    /// 503: [`max_pending`](crate::Limits::max_pending) connections have not entered a room yet.
    TooManyPending,
    /// 429: [`max_connections_per_ip`](crate::Limits::max_connections_per_ip) is reached for the client's address.
    TooManyFromAddress,
    /// 429: the client's address connects, or fails to authenticate, too often
    /// ([`max_connects_per_minute_per_ip`](crate::RateLimits::max_connects_per_minute_per_ip)).
    TooFast,
    /// 503: the server is being [drained](crate::ChatRooms::drain).
    Draining,
    /// 503: the server is shutting down.
    ShuttingDown,
}

impl Refusal {
    pub(crate) fn new(kind: RefusalKind) -> Refusal {
        Refusal { kind, text: kind.text().into(), auth: None, is_http2: false }
    }

    /// The auth hook has refused the request.
    pub(crate) fn by_auth(auth: AuthRefusal) -> Refusal {
        let text = auth.reason().to_owned().into();
        Refusal { text, auth: Some(auth), ..Refusal::new(RefusalKind::Auth) }
    }

    /// The auth hook has failed.
    pub(crate) fn failed(auth: AuthRefusal) -> Refusal {
        Refusal { kind: RefusalKind::AuthFailed, ..Refusal::by_auth(auth) }
    }

    /// Adapts the refusal to the HTTP version of the request.
    pub(crate) fn over(self, version: Version) -> Refusal {
        Refusal { is_http2: version == Version::HTTP_2, ..self }
    }

    pub(crate) fn count(&self, engine: &Engine) {
        let counters = &engine.context.counters;
        match self.kind {
            RefusalKind::Origin => counters.refused_origin.add(1),
            RefusalKind::Auth | RefusalKind::AuthFailed => counters.refused_auth.add(1),
            RefusalKind::TooManyConnections | RefusalKind::TooManyPending => counters.refused_full.add(1),
            RefusalKind::TooManyFromAddress | RefusalKind::TooFast => counters.refused_per_ip.add(1),
            RefusalKind::Draining | RefusalKind::ShuttingDown => counters.refused_stopping.add(1),
            RefusalKind::NotAnUpgrade
            | RefusalKind::Method
            | RefusalKind::HttpVersion
            | RefusalKind::ConnectionHeader
            | RefusalKind::UpgradeHeader
            | RefusalKind::WebSocketVersion
            | RefusalKind::Key
            | RefusalKind::Host
            | RefusalKind::Body
            | RefusalKind::NotUpgradable => counters.refused_handshake.add(1),
        }
        tracing::debug!(kind = ?self.kind, "connection refused");
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the kind.
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        if let Some(auth) = &self.auth {
            return auth.status();
        }
        match self.kind.status() {
            StatusCode::UPGRADE_REQUIRED if self.is_http2 => StatusCode::BAD_REQUEST,
            status => status,
        }
    }

    pub(crate) fn into_response<B>(self) -> Response<ResponseBody<B>> {
        let status = self.status();
        let mut response = Response::new(ResponseBody::text(format!("{self}\n")));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        if self.kind.status() == StatusCode::UPGRADE_REQUIRED {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(self.kind.retry_after()));
        }
        if self.kind == RefusalKind::Method {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        if let Some(challenge) = self.auth.as_ref().and_then(AuthRefusal::challenge) {
            headers.insert(WWW_AUTHENTICATE, challenge.clone());
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<RefusalKind> for Refusal {
    fn from(kind: RefusalKind) -> Refusal {
        Refusal::new(kind)
    }
}

impl From<NoPermit> for Refusal {
    fn from(reason: NoPermit) -> Refusal {
        Refusal::new(match reason {
            NoPermit::Full => RefusalKind::TooManyConnections,
            NoPermit::TooManyPending => RefusalKind::TooManyPending,
            NoPermit::PeerFull => RefusalKind::TooManyFromAddress,
            NoPermit::TooFast => RefusalKind::TooFast,
            NoPermit::Draining => RefusalKind::Draining,
            NoPermit::ShuttingDown => RefusalKind::ShuttingDown,
        })
    }
}

impl RefusalKind {
    /// The status over HTTP/1.1, unless the auth hook has chosen one.
    fn status(self) -> StatusCode {
        match self {
            RefusalKind::NotAnUpgrade | RefusalKind::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            RefusalKind::Method => StatusCode::METHOD_NOT_ALLOWED,
            RefusalKind::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            RefusalKind::ConnectionHeader
            | RefusalKind::UpgradeHeader
            | RefusalKind::Key
            | RefusalKind::Host
            | RefusalKind::Body => StatusCode::BAD_REQUEST,
            RefusalKind::NotUpgradable => StatusCode::INTERNAL_SERVER_ERROR,
            RefusalKind::Auth | RefusalKind::Origin => StatusCode::FORBIDDEN,
            RefusalKind::TooManyFromAddress | RefusalKind::TooFast => StatusCode::TOO_MANY_REQUESTS,
            RefusalKind::AuthFailed
            | RefusalKind::TooManyConnections
            | RefusalKind::TooManyPending
            | RefusalKind::Draining
            | RefusalKind::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The seconds after which a client may try again.
    fn retry_after(self) -> &'static str {
        match self {
            // A load balancer soon knows that it has to choose another server.
            RefusalKind::Draining => "1",
            _ => "5",
        }
    }

    fn text(self) -> &'static str {
        match self {
            RefusalKind::NotAnUpgrade => {
                "this path accepts WebSocket connections only: use a WebSocket client"
            }
            RefusalKind::Method => "a WebSocket handshake must be a GET request",
            RefusalKind::HttpVersion => {
                "a WebSocket handshake needs HTTP/1.1 (a proxy may have used HTTP/1.0), or an extended CONNECT of \
                 HTTP/2, for which the server needs the feature `http2` of `tower-chat-rooms`"
            }
            RefusalKind::ConnectionHeader => {
                "the request has no `Connection: Upgrade`; a proxy may have removed it"
            }
            RefusalKind::UpgradeHeader => {
                "the request has no `Upgrade: websocket`; a proxy may have removed it"
            }
            RefusalKind::WebSocketVersion => "only version 13 of the WebSocket protocol is supported",
            RefusalKind::Key => "the request needs one `Sec-WebSocket-Key` of 16 bytes in base64",
            RefusalKind::Host => "the request needs one `Host`",
            RefusalKind::Body => {
                "a WebSocket handshake has no body: leave out `Content-Length` and `Transfer-Encoding`"
            }
            RefusalKind::Origin => {
                "pages of this origin may not connect. If the page is the server's own, a proxy must pass `Host` on \
                 unchanged, or the server must list the origin"
            }
            RefusalKind::NotUpgradable => {
                "the server cannot upgrade this connection: it must be served with upgrades (hyper: \
                 `with_upgrades`), and no middleware may remove the request's extensions"
            }
            RefusalKind::Auth => "not authorized",
            RefusalKind::AuthFailed => "authentication did not finish in time; try again later",
            RefusalKind::TooManyConnections => "the server has too many connections; try again later",
            RefusalKind::TooManyPending => {
                "too many connections have not entered a room yet; try again later"
            }
            RefusalKind::TooFast => "too many attempts from this address; try again in a minute",
            RefusalKind::TooManyFromAddress => {
                "your address has too many connections; close some, or try again later"
            }
            RefusalKind::Draining => {
                "the server accepts no more connections, because it is about to stop; try again, on another server"
            }
            RefusalKind::ShuttingDown => "the server is shutting down; try again in a few seconds",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

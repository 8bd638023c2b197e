//! Why an upgrade was refused, typed and as a response.

use std::borrow::Cow;
use std::fmt;

use http::header::{
    CONTENT_TYPE, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode, Version};

use crate::engine::engine::{Engine, NoPermit};
use crate::hooks::auth::AuthRefusal;
use crate::service::body::ResponseBody;

/// Why an upgrade was refused. It is in the extensions of the refusing response, for the
/// host's own middleware to log or count; its text is the response's body.
///
/// ```
/// use tower_chat_rooms::{Refusal, RefusalKind};
///
/// fn is_fault_of_a_proxy<B>(response: &http::Response<B>) -> bool {
///     response.extensions().get::<Refusal>().is_some_and(|r| r.kind() == RefusalKind::NoConnectionUpgrade)
/// }
/// # assert!(!is_fault_of_a_proxy(&http::Response::new(())));
/// ```
#[derive(Debug, Clone)]
pub struct Refusal {
    kind: RefusalKind,
    text: Cow<'static, str>,
    auth: Option<AuthRefusal>,
    /// Where nothing is upgraded, and 400 stands for 426.
    over_http2: bool,
}

/// The kinds of [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// 426 (400 in HTTP/2): an ordinary request came to a path where only WebSocket is spoken.
    NotAnUpgrade,
    /// 405: the method is not GET (RFC 6455 §4.1).
    Method,
    /// 505: the HTTP version knows no upgrade, or the feature `http2` is needed for it.
    HttpVersion,
    /// 400: the request lacks `Connection: Upgrade`.
    NoConnectionUpgrade,
    /// 400: the request lacks `Upgrade: websocket`.
    NoUpgradeWebSocket,
    /// 426 (400 in HTTP/2): another version of the protocol than 13 was asked for (RFC 6455 §4.2.2).
    Version,
    /// 400: `Sec-WebSocket-Key` is missing, given twice, or no 16 bytes in base64.
    Key,
    /// 400: `Host` is missing, given twice, or no host (RFC 6455 §4.2.1).
    Host,
    /// 400: a handshake has no body.
    Body,
    /// 403: the request comes from a page of another origin ([`Origins`](crate::Origins)).
    Origin,
    /// 500: the server that hosts the service does not support upgrades.
    NotUpgradable,
    /// The auth hook's own status: it refused.
    Auth,
    /// 500: the auth hook panicked. 503: it gave no answer in time.
    AuthFailed,
    /// 503: as many connections as allowed are open.
    Full,
    /// 503: as many connections as allowed have not entered a room yet
    /// ([`max_pending`](crate::Limits::max_pending)).
    Crowded,
    /// 429: the client's address has as many connections as allowed
    /// ([`max_connections_per_ip`](crate::Limits::max_connections_per_ip)).
    PeerFull,
    /// 503: the server is shutting down.
    ShuttingDown,
}

impl Refusal {
    pub(crate) fn new(kind: RefusalKind) -> Refusal {
        Refusal { kind, text: kind.text().into(), auth: None, over_http2: false }
    }

    pub(crate) fn by_auth(auth: AuthRefusal) -> Refusal {
        let text = auth.reason().to_owned().into();
        Refusal { text, auth: Some(auth), ..Refusal::new(RefusalKind::Auth) }
    }

    pub(crate) fn failed(auth: AuthRefusal) -> Refusal {
        Refusal { kind: RefusalKind::AuthFailed, ..Refusal::by_auth(auth) }
    }

    /// As an answer in this version of HTTP.
    pub(crate) fn over(self, version: Version) -> Refusal {
        Refusal { over_http2: version == Version::HTTP_2, ..self }
    }

    pub(crate) fn count(&self, engine: &Engine) {
        let counters = &engine.counters;
        counters.refused.add(1);
        match self.kind {
            RefusalKind::Origin => counters.refused_origin.add(1),
            RefusalKind::Auth | RefusalKind::AuthFailed => counters.refused_auth.add(1),
            RefusalKind::Full | RefusalKind::Crowded => counters.refused_full.add(1),
            RefusalKind::PeerFull => counters.refused_per_ip.add(1),
            RefusalKind::ShuttingDown => {}
            RefusalKind::NotAnUpgrade
            | RefusalKind::Method
            | RefusalKind::HttpVersion
            | RefusalKind::NoConnectionUpgrade
            | RefusalKind::NoUpgradeWebSocket
            | RefusalKind::Version
            | RefusalKind::Key
            | RefusalKind::Host
            | RefusalKind::Body
            | RefusalKind::NotUpgradable => counters.refused_handshake.add(1),
        }
        tracing::debug!(kind = ?self.kind, "connection refused");
    }

    /// What kind of refusal it is.
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        if let Some(auth) = &self.auth {
            return auth.status();
        }
        match self.kind {
            RefusalKind::NotAnUpgrade | RefusalKind::Version if self.over_http2 => StatusCode::BAD_REQUEST,
            RefusalKind::NotAnUpgrade | RefusalKind::Version => StatusCode::UPGRADE_REQUIRED,
            RefusalKind::Method => StatusCode::METHOD_NOT_ALLOWED,
            RefusalKind::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            RefusalKind::NoConnectionUpgrade
            | RefusalKind::NoUpgradeWebSocket
            | RefusalKind::Key
            | RefusalKind::Host
            | RefusalKind::Body => StatusCode::BAD_REQUEST,
            RefusalKind::PeerFull => StatusCode::TOO_MANY_REQUESTS,
            RefusalKind::NotUpgradable => StatusCode::INTERNAL_SERVER_ERROR,
            RefusalKind::Auth | RefusalKind::Origin => StatusCode::FORBIDDEN,
            RefusalKind::AuthFailed
            | RefusalKind::Full
            | RefusalKind::Crowded
            | RefusalKind::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(crate) fn into_response<B>(self) -> Response<ResponseBody<B>> {
        let mut response = Response::new(ResponseBody::text(format!("{self}\n")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.status() == StatusCode::UPGRADE_REQUIRED {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        if matches!(self.kind, RefusalKind::NotAnUpgrade | RefusalKind::Version) {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if matches!(self.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        if self.kind == RefusalKind::Method {
            headers.insert(http::header::ALLOW, HeaderValue::from_static("GET"));
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
            NoPermit::Full => RefusalKind::Full,
            NoPermit::Crowded => RefusalKind::Crowded,
            NoPermit::PeerFull => RefusalKind::PeerFull,
            NoPermit::ShuttingDown => RefusalKind::ShuttingDown,
        })
    }
}

impl RefusalKind {
    fn text(self) -> &'static str {
        match self {
            RefusalKind::NotAnUpgrade => "only WebSocket is spoken here: connect with a WebSocket client",
            RefusalKind::Method => "a WebSocket handshake must be a GET request",
            RefusalKind::HttpVersion => {
                "a WebSocket handshake needs HTTP/1.1 (a proxy may have spoken HTTP/1.0), or an extended \
                 CONNECT of HTTP/2, for which `tower-chat-rooms` needs its feature `http2`"
            }
            RefusalKind::NoConnectionUpgrade => {
                "the request lacks `Connection: Upgrade`; a proxy may have dropped it"
            }
            RefusalKind::NoUpgradeWebSocket => {
                "the request lacks `Upgrade: websocket`; a proxy may have dropped it"
            }
            RefusalKind::Version => "only version 13 of the WebSocket protocol is spoken here",
            RefusalKind::Key => "the request needs one `Sec-WebSocket-Key` of 16 bytes in base64",
            RefusalKind::Host => "the request needs one `Host`",
            RefusalKind::Body => {
                "a WebSocket handshake has no body: leave out `Content-Length` and `Transfer-Encoding`"
            }
            RefusalKind::Origin => {
                "pages of this origin may not connect here. If it is the server's own: a proxy must hand on \
                 `Host` as it came, or the server must list the origin"
            }
            RefusalKind::NotUpgradable => {
                "the server can't upgrade this connection: it must be served with upgrades (hyper: \
                 `with_upgrades`), and no layer may take the request's extensions away"
            }
            RefusalKind::Auth => "refused",
            RefusalKind::AuthFailed => "who you are could not be checked; try again later",
            RefusalKind::Full => "as many connections as allowed are open; try again later",
            RefusalKind::Crowded => "too many connections have not entered a room yet; try again later",
            RefusalKind::PeerFull => {
                "your address has as many connections as allowed; close some, or try again later"
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

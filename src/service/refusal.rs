//! Why an upgrade was refused, typed and as a response.

use std::borrow::Cow;
use std::fmt;

use http::header::{
    CONTENT_TYPE, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};

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
}

/// The kinds of [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// 426: an ordinary request came to a path where only WebSocket is spoken.
    NotAnUpgrade,
    /// 405: the method is not GET (RFC 6455 §4.1).
    Method,
    /// 505: the HTTP version knows no upgrade.
    HttpVersion,
    /// 400: the request lacks `Connection: Upgrade`.
    NoConnectionUpgrade,
    /// 400: the request lacks `Upgrade: websocket`.
    NoUpgradeWebSocket,
    /// 426: another version of the protocol than 13 was asked for (RFC 6455 §4.2.2).
    Version,
    /// 400: `Sec-WebSocket-Key` is missing, given twice, or no 16 bytes in base64.
    Key,
    /// 500: the server that hosts the service does not support upgrades.
    NotUpgradable,
    /// The auth hook's own status: it refused.
    Auth,
    /// 500: the auth hook panicked. 503: it gave no answer in time.
    AuthFailed,
    /// 503: as many connections as allowed are open.
    Full,
    /// 503: the server is shutting down.
    ShuttingDown,
}

impl Refusal {
    pub(crate) fn new(kind: RefusalKind) -> Refusal {
        Refusal { kind, text: kind.text().into(), auth: None }
    }

    pub(crate) fn by_auth(auth: AuthRefusal) -> Refusal {
        Refusal { kind: RefusalKind::Auth, text: auth.reason().to_owned().into(), auth: Some(auth) }
    }

    pub(crate) fn failed(auth: AuthRefusal) -> Refusal {
        Refusal { kind: RefusalKind::AuthFailed, ..Refusal::by_auth(auth) }
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
            RefusalKind::NotAnUpgrade | RefusalKind::Version => StatusCode::UPGRADE_REQUIRED,
            RefusalKind::Method => StatusCode::METHOD_NOT_ALLOWED,
            RefusalKind::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            RefusalKind::NoConnectionUpgrade | RefusalKind::NoUpgradeWebSocket | RefusalKind::Key => {
                StatusCode::BAD_REQUEST
            }
            RefusalKind::NotUpgradable => StatusCode::INTERNAL_SERVER_ERROR,
            RefusalKind::Auth => StatusCode::FORBIDDEN,
            RefusalKind::AuthFailed | RefusalKind::Full | RefusalKind::ShuttingDown => {
                StatusCode::SERVICE_UNAVAILABLE
            }
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
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
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

impl RefusalKind {
    fn text(self) -> &'static str {
        match self {
            RefusalKind::NotAnUpgrade => "only WebSocket is spoken here: connect with a WebSocket client",
            RefusalKind::Method => "a WebSocket handshake must be a GET request",
            RefusalKind::HttpVersion => {
                "a WebSocket handshake needs HTTP/1.1; a proxy may have spoken HTTP/1.0"
            }
            RefusalKind::NoConnectionUpgrade => {
                "the request lacks `Connection: Upgrade`; a proxy may have dropped it"
            }
            RefusalKind::NoUpgradeWebSocket => {
                "the request lacks `Upgrade: websocket`; a proxy may have dropped it"
            }
            RefusalKind::Version => "only version 13 of the WebSocket protocol is spoken here",
            RefusalKind::Key => "the request needs one `Sec-WebSocket-Key` of 16 bytes in base64",
            RefusalKind::NotUpgradable => {
                "the server can't upgrade this connection: it must be served with upgrades (hyper: \
                 `with_upgrades`), and no layer may take the request's extensions away"
            }
            RefusalKind::Auth => "refused",
            RefusalKind::AuthFailed => "who you are could not be checked; try again later",
            RefusalKind::Full => "as many connections as allowed are open; try again later",
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

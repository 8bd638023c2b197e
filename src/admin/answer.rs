//! The answers: JSON, files, and refusals. All have the same headers.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::browser::asset::AssetBody;
use crate::error::Unavailable;

/// Allows the page only its own files and requests to its own origin, and prevents text from becoming markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// Other origins can neither read nor embed an answer. Browsers and proxies do not cache it.
const HEADERS: [(HeaderName, &str); 5] = [
    (CACHE_CONTROL, "no-store"),
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Why a request was refused.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    code: &'static str,
    text: Cow<'static, str>,
    /// The allowed methods, if the method is the reason.
    methods: Option<&'static str>,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, text: impl Into<Cow<'static, str>>) -> Refused {
        Refused { status, code, text: text.into(), methods: None }
    }

    pub(super) fn bad_request(text: impl Into<Cow<'static, str>>) -> Refused {
        Refused::new(StatusCode::BAD_REQUEST, "bad_request", text)
    }

    pub(super) fn not_found(text: impl Into<Cow<'static, str>>) -> Refused {
        Refused::new(StatusCode::NOT_FOUND, "not_found", text)
    }

    /// The host has not allowed the action.
    pub(super) fn not_allowed(text: impl Into<Cow<'static, str>>) -> Refused {
        Refused::new(StatusCode::FORBIDDEN, "not_allowed", text)
    }

    /// The request may come from a page of another site.
    pub(super) fn foreign(text: &'static str) -> Refused {
        Refused::new(StatusCode::FORBIDDEN, "foreign", text)
    }

    pub(super) fn method(methods: &'static str) -> Refused {
        let text = format!("use {methods}");
        let refused = Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method", text);
        Refused { methods: Some(methods), ..refused }
    }

    pub(super) fn into_response(self) -> Response<AssetBody> {
        let mut response = json(&json!({ "error": self.code, "message": self.text }));
        *response.status_mut() = self.status;
        if let Some(methods) = self.methods {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        }
        response
    }
}

impl From<Unavailable> for Refused {
    fn from(error: Unavailable) -> Refused {
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", error.to_string())
    }
}

pub(super) fn json(value: &Value) -> Response<AssetBody> {
    file("application/json", value.to_string())
}

/// A file with its type.
pub(super) fn file(kind: &'static str, text: impl Into<Bytes>) -> Response<AssetBody> {
    let text = text.into();
    let length = text.len();
    let mut response = Response::new(AssetBody::new(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, length.into());
    headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

//! Where in an upgrade request a token is found.

use http::header::{AUTHORIZATION, COOKIE, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;

/// The places that only some hosts want looked at.
#[derive(Clone, Default)]
pub(super) struct Places {
    pub(super) cookie: Option<String>,
    pub(super) query: Option<String>,
}

/// A token in an upgrade request.
pub(super) struct Found<'a> {
    pub(super) token: &'a str,
    /// The subprotocol that held it, which has to be chosen if no other is.
    pub(super) protocol: Option<HeaderValue>,
}

impl Places {
    pub(super) fn find<'a>(&self, request: &'a Parts) -> Option<Found<'a>> {
        if let Some(token) = request.headers.get(AUTHORIZATION).and_then(bearer) {
            return Some(Found { token, protocol: None });
        }
        for offers in request.headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
            for offer in offers.to_str().unwrap_or_default().split(',').map(str::trim) {
                if let Some(token) = offer.strip_prefix("bearer.") {
                    return Some(Found { token, protocol: secret(offer) });
                }
            }
        }
        let cookie = self.cookie.as_deref().and_then(|name| {
            let all = request.headers.get_all(COOKIE).into_iter().filter_map(|v| v.to_str().ok());
            pick(all.flat_map(|v| v.split(';')), name).map(|v| v.trim_matches('"'))
        });
        let query = || {
            let key = self.query.as_deref()?;
            pick(request.uri.query()?.split('&'), key)
        };
        // A cookie that was emptied is no token.
        let found = cookie.filter(|t| !t.is_empty()).or_else(|| query().filter(|t| !t.is_empty()));
        found.map(|token| Found { token, protocol: None })
    }
}

/// A header that nobody's log shows.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn pick<'a>(pairs: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    pairs.filter_map(|p| p.trim().split_once('=')).find(|(k, _)| *k == name).map(|(_, v)| v)
}

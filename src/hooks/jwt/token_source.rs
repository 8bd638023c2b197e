//! Where an upgrade request carries its token.

use std::fmt;

use http::header::{AUTHORIZATION, COOKIE, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;

/// The optional sources. The `Authorization` header and the subprotocols are always read.
#[derive(Clone, Default)]
pub(super) struct TokenSources {
    pub(super) cookie: Option<String>,
    pub(super) query: Option<String>,
}

/// A token in an upgrade request.
pub(super) struct FoundToken<'a> {
    pub(super) token: &'a str,
    /// The subprotocol that held it. It must be chosen if no other one is.
    pub(super) protocol: Option<HeaderValue>,
}

impl TokenSources {
    pub(super) fn find<'a>(&self, request: &'a Parts) -> Option<FoundToken<'a>> {
        if let Some(token) = request.headers.get(AUTHORIZATION).and_then(bearer) {
            return Some(FoundToken { token, protocol: None });
        }
        for offers in request.headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
            for offer in offers.to_str().unwrap_or_default().split(',').map(str::trim) {
                if let Some(token) = offer.strip_prefix("bearer.") {
                    return Some(FoundToken { token, protocol: sensitive(offer) });
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
        // An empty cookie or parameter does not count as a token.
        let found = cookie.filter(|t| !t.is_empty()).or_else(|| query().filter(|t| !t.is_empty()));
        found.map(|token| FoundToken { token, protocol: None })
    }
}

/// The places, for logs.
impl fmt::Display for TokenSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`Authorization: Bearer`, a subprotocol `bearer.TOKEN`")?;
        if let Some(name) = &self.cookie {
            write!(f, ", the cookie {name:?}")?;
        }
        if let Some(key) = &self.query {
            write!(f, ", the query parameter {key:?}")?;
        }
        Ok(())
    }
}

/// A header value that is not shown in logs.
fn sensitive(text: &str) -> Option<HeaderValue> {
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

//! The `Origin` check: which web pages may connect (RFC 6455 §10.2, RFC 6454).

use http::HeaderMap;
use http::header::ORIGIN;
use http::request::Parts;
use http::uri::Authority;

use crate::error::BuildError;
use crate::http::handshake;

/// Origins whose web pages may connect.
///
/// A browser lets any page open a WebSocket to any server and sends the user's cookies along, but it names the
/// page's origin in the `Origin` header. Checking that header protects your users from foreign pages. It does not
/// replace authentication: programs other than browsers send no `Origin`, or any value they like.
///
/// ```
/// use tower_chat_rooms::{ChatRooms, Origins};
///
/// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// // The page comes from another host than the chat:
/// let origins = Origins::list(["https://example.com", "https://*.example.com", "capacitor://localhost"])?;
/// let rooms = ChatRooms::builder().origins(origins.and_same_host()).build()?;
/// # drop(rooms);
///
/// let error = Origins::list(["https://example.com/chat"]).unwrap_err();
/// assert!(error.to_string().contains("path"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Origins {
    any: bool,
    same_host: bool,
    list: Vec<Pattern>,
    /// Whether requests without the header are refused.
    require_header: bool,
}

/// An origin, or all subdomains of one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    origin: Origin,
    subdomains: bool,
}

/// Scheme and host are in lower case. Without a port, it is the scheme's default port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origins {
    /// Pages of the host and port that the request is for. The default.
    ///
    /// Host and port come from the request's `Host` header (`:authority` in HTTP/2). Without a port there, the port is
    /// the default port of the origin's scheme. Pages without an origin of their own (`null`: files, sandboxed frames)
    /// are refused.
    ///
    /// A proxy must pass on `Host` unchanged, with its port. On `localhost` and in private networks, prefer
    /// [`Origins::list`]: there, a foreign page can make its own name resolve to the server's address (DNS
    /// rebinding), and then has the same host.
    pub fn same_host() -> Origins {
        Origins { any: false, same_host: true, list: Vec::new(), require_header: false }
    }

    /// Pages of these origins and no others.
    ///
    /// Write `https://example.com`, or `https://*.example.com` for all its subdomains, with `:PORT` unless it is
    /// the scheme's default port.
    ///
    /// # Errors
    ///
    /// If one of them is not an origin.
    pub fn list(origins: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Origins, BuildError> {
        let list = origins.into_iter().map(|o| Pattern::parse(o.as_ref())).collect::<Result<_, _>>()?;
        Ok(Origins { list, same_host: false, ..Origins::same_host() })
    }

    /// All pages, including those without an origin.
    ///
    /// If you authenticate with cookies, any page can then act as the user who visits it.
    pub fn any() -> Origins {
        Origins { any: true, ..Origins::same_host() }
    }

    /// Allows pages of the same host as well, as [`Origins::same_host`] does.
    #[must_use]
    pub fn and_same_host(self) -> Origins {
        Origins { same_host: true, ..self }
    }

    /// Refuses requests without an `Origin` header. Programs other than browsers do not send one by themselves.
    /// By default they may connect.
    #[must_use]
    pub fn require_header(self) -> Origins {
        Origins { require_header: true, ..self }
    }

    /// Whether the request may become a connection.
    pub(crate) fn allow(&self, parts: &Parts) -> bool {
        let mut all = parts.headers.get_all(ORIGIN).into_iter();
        let Some(value) = all.next() else { return !self.require_header };
        if self.any {
            return true;
        }
        let only = value.to_str().ok().filter(|_| all.next().is_none());
        let Some(origin) = only.and_then(Origin::parse) else { return false };
        self.list.iter().any(|pattern| pattern.matches(&origin))
            || (self.same_host && handshake::authority(parts).is_some_and(|host| origin.has_host(&host)))
    }
}

impl Origins {
    /// What is allowed, for the log.
    pub(crate) fn summary(&self) -> String {
        let list = self.list.iter().map(|Pattern { origin: Origin { scheme, host, port }, subdomains }| {
            let host = if *subdomains { format!("*.{host}") } else { host.clone() };
            match port.filter(|port| default_port(scheme) != Some(*port)) {
                Some(port) => format!("{scheme}://{host}:{port}"),
                None => format!("{scheme}://{host}"),
            }
        });
        let all = list.chain(self.same_host.then(|| "same host".to_owned())).collect::<Vec<_>>();
        let all = if self.any { "any".to_owned() } else { all.join(", ") };
        if self.require_header { format!("{all} (header required)") } else { all }
    }
}

impl Default for Origins {
    fn default() -> Origins {
        Origins::same_host()
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, BuildError> {
        let refuse = |why: &str| Err(BuildError::new(format!("the origin {text:?} {why}")));
        if matches!(text, "*" | "any") {
            return refuse("is not an origin; use Origins::any() to allow all");
        }
        if text == "null" {
            return refuse(
                "stands for all pages without an origin, whoever made them; only Origins::any() allows them",
            );
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return refuse("has no scheme; write it as https://example.com");
        };
        if rest.contains(['/', '?', '#']) {
            return refuse("has a path; leave out everything after the host, the slash too");
        }
        if !rest.is_ascii() {
            return refuse("is not ASCII; write the host as browsers send it (xn--...)");
        }
        let (host, subdomains) = match rest.strip_prefix("*.") {
            Some(host) => (host, true),
            None => (rest, false),
        };
        match Origin::parse(&format!("{scheme}://{host}")) {
            Some(origin) => Ok(Pattern { origin, subdomains }),
            None => refuse("is malformed; write it as https://example.com or https://example.com:8443"),
        }
    }

    fn matches(&self, origin: &Origin) -> bool {
        if !self.subdomains {
            return self.origin == *origin;
        }
        let below = origin.host.strip_suffix(&self.origin.host).and_then(|host| host.strip_suffix('.'));
        below.is_some_and(|name| !name.is_empty())
            && (&self.origin.scheme, self.origin.port) == (&origin.scheme, origin.port)
    }
}

impl Origin {
    /// Parses `scheme://host` or `scheme://host:port`.
    fn parse(text: &str) -> Option<Origin> {
        let (scheme, rest) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        let (host, port) = host_and_port(rest)?;
        let scheme = Some(scheme.to_ascii_lowercase()).filter(|_| is_scheme)?;
        Some(Origin { port: port.or_else(|| default_port(&scheme)), scheme, host })
    }

    /// Whether the origin is a web page's and has this host and port.
    ///
    /// A proxy may have terminated TLS, so it is unknown whether the request came over TLS. A host without a
    /// port therefore has the default port of the origin's scheme.
    fn has_host(&self, authority: &Authority) -> bool {
        let Some((host, port)) = host_and_port(authority.as_str()) else { return false };
        let own = default_port(&self.scheme);
        own.is_some() && host == self.host && port.or(own) == self.port
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Host in lower case, and port, of an authority without user info.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    if text.contains(['@', '*', ',']) {
        return None;
    }
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    let port = match text.strip_prefix(host)? {
        "" => None,
        rest => Some(rest.strip_prefix(':')?.parse().ok().filter(|_| !rest.contains('+'))?),
    };
    (!host.is_empty()).then(|| (host.to_ascii_lowercase(), port))
}

/// The header's value, if it is text.
pub(crate) fn for_log(headers: &HeaderMap) -> &str {
    headers.get(ORIGIN).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;

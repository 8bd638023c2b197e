//! Whose pages may connect (RFC 6455 §10.2, RFC 6454): a pure verdict on the request's head.

use http::HeaderMap;
use http::header::ORIGIN;
use http::request::Parts;
use http::uri::Authority;

use crate::error::BuildError;
use crate::service::handshake;

/// The origins whose pages may open connections.
///
/// A browser lets any page open a WebSocket to any server, and sends the user's cookies along; but it
/// says, in the `Origin` header, whose page it is. Programs other than browsers send none, and can
/// write any: this guards users from foreign pages, and is no replacement for authentication.
///
/// ```
/// use tower_chat_rooms::{ChatRooms, Origins};
///
/// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// // The page comes from another host than the chat:
/// let origins = Origins::these(["https://example.com", "https://*.example.com", "capacitor://localhost"])?;
/// let rooms = ChatRooms::builder().origins(origins.or_same_host()).build()?;
/// # drop(rooms);
///
/// let error = Origins::these(["https://example.com/chat"]).unwrap_err();
/// assert!(error.to_string().contains("path"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Origins {
    any: bool,
    same_host: bool,
    these: Vec<Pattern>,
    /// Whether requests without the header pass.
    absent: bool,
}

/// An origin, or all subdomains of one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    origin: Origin,
    subdomains: bool,
}

/// In lower case; the port is the scheme's own where none is given.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origins {
    /// Pages of the same host and port that the request is for, by its `Host` (`:authority` in
    /// HTTP/2). The port is the scheme's own where none is given. Pages without an origin of their own
    /// (`null`: of `file:`, sandboxed frames) are refused. The default.
    ///
    /// A proxy has to hand on `Host` as it came, with its port. On `localhost` and in private networks
    /// prefer [`Origins::these`]: there a foreign page can have any name resolve to the server's address
    /// (DNS rebinding), and be of the same host.
    pub fn same_host() -> Origins {
        Origins { any: false, same_host: true, these: Vec::new(), absent: true }
    }

    /// Pages of these origins, and no others: `https://example.com`, or `https://*.example.com` for all
    /// of its subdomains, with `:PORT` where it is not the scheme's own.
    ///
    /// # Errors
    /// If one of them is no origin.
    pub fn these(origins: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Origins, BuildError> {
        let these = origins.into_iter().map(|o| Pattern::parse(o.as_ref())).collect::<Result<_, _>>()?;
        Ok(Origins { these, same_host: false, ..Origins::same_host() })
    }

    /// Any page in the world, those without an origin included. With cookies, it can act as the user
    /// who looks at it.
    pub fn any() -> Origins {
        Origins { any: true, ..Origins::same_host() }
    }

    /// Pages of the same host, too, as by [`Origins::same_host`].
    #[must_use]
    pub fn or_same_host(self) -> Origins {
        Origins { same_host: true, ..self }
    }

    /// Refuses requests without an `Origin`, too: those of programs other than browsers, which can add
    /// one if they want. By default they pass.
    #[must_use]
    pub fn required(self) -> Origins {
        Origins { absent: false, ..self }
    }

    /// Whether the request may become a connection.
    pub(crate) fn allow(&self, parts: &Parts) -> bool {
        let mut all = parts.headers.get_all(ORIGIN).into_iter();
        let Some(value) = all.next() else { return self.absent };
        if self.any {
            return true;
        }
        let only = value.to_str().ok().filter(|_| all.next().is_none());
        let Some(origin) = only.and_then(Origin::parse) else { return false };
        self.these.iter().any(|pattern| pattern.matches(&origin))
            || (self.same_host && handshake::authority(parts).is_some_and(|host| origin.is_of(&host)))
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
            return refuse("is none: for all origins give Origins::any()");
        }
        if text == "null" {
            return refuse(
                "is that of pages without one, whosesoever they are: only Origins::any() lets them in",
            );
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return refuse("lacks its scheme: write it as https://example.com");
        };
        if rest.contains(['/', '?', '#']) {
            return refuse("has a path: leave out what follows the host, the slash too");
        }
        if !rest.is_ascii() {
            return refuse("is not in ASCII: write the host as browsers send it (xn--...)");
        }
        let (host, subdomains) = match rest.strip_prefix("*.") {
            Some(host) => (host, true),
            None => (rest, false),
        };
        match Origin::parse(&format!("{scheme}://{host}")) {
            Some(origin) => Ok(Pattern { origin, subdomains }),
            None => refuse("is malformed: write it as https://example.com or https://example.com:8443"),
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
    /// `scheme://host` or `scheme://host:port`, and nothing else.
    fn parse(text: &str) -> Option<Origin> {
        let (scheme, rest) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        let (host, port) = host_and_port(rest)?;
        let scheme = Some(scheme.to_ascii_lowercase()).filter(|_| is_scheme)?;
        Some(Origin { port: port.or_else(|| default_port(&scheme)), scheme, host })
    }

    /// Whether it is a web page's, of this very host. Whether the request came by TLS is not known here:
    /// a proxy may have taken it off. So a host without a port has that of the origin's scheme.
    fn is_of(&self, authority: &Authority) -> bool {
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

/// Of an authority without a user; the host in lower case.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    if text.contains(['@', '*', ',']) {
        return None;
    }
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    // What follows the host is a port, or nothing.
    let port = match text.strip_prefix(host)? {
        "" => None,
        rest => Some(rest.strip_prefix(':')?.parse().ok().filter(|_| !rest.contains('+'))?),
    };
    (!host.is_empty()).then(|| (host.to_ascii_lowercase(), port))
}

/// For the log: as it came, if it is text.
pub(crate) fn shown(headers: &HeaderMap) -> &str {
    headers.get(ORIGIN).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;

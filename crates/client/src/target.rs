//! Where a client connects to: the parsed URL.

use http::Uri;

use crate::error::ClientError;

/// A WebSocket URL, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// For the handshake: with a lower-case scheme and a path.
    uri: Uri,
    is_secure: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
}

impl Target {
    /// # Errors
    ///
    /// If the URL can't be one of a WebSocket. The text says what to change.
    pub(crate) fn parse(url: &str) -> Result<Target, ClientError> {
        let refuse =
            |why: &str| Err(ClientError::Config(format!("{url:?} is not a URL to connect to: {why}")));
        let Some((scheme, rest)) = url.trim().split_once("://") else {
            return refuse("write ws://HOST/PATH or wss://HOST/PATH");
        };
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" => false,
            "wss" => true,
            "http" => return refuse("write ws:// instead of http://"),
            "https" => return refuse("write wss:// instead of https://"),
            _ => return refuse("it must begin with ws:// or wss://"),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return refuse("leave out the user, and pass credentials with `token` or `add_header`");
        }
        let host_end = authority.rfind(']').map_or_else(|| authority.find(':'), |at| Some(at + 1));
        let (host, port) = authority.split_at(host_end.unwrap_or(authority.len()));
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return refuse("the host is missing");
        }
        if host.contains(['[', ']']) {
            return refuse("write an IPv6 address in brackets, as in ws://[::1]/");
        }
        if !host.is_ascii() {
            return refuse("write the host's name in its ASCII form, xn--...");
        }
        let port = match port {
            "" | ":" if is_secure => Some(443),
            "" | ":" => Some(80),
            port => port.strip_prefix(':').and_then(parse_port),
        };
        let Some(port) = port else { return refuse("the port must be a number from 1 to 65535") };
        let scheme = if is_secure { "wss" } else { "ws" };
        match format!("{scheme}://{}{}", authority.trim_end_matches(':'), origin_form(path)).parse() {
            Ok(uri) => Ok(Target { uri, is_secure, host: host.to_owned(), port }),
            Err(error) => refuse(&format!("{error}; percent-encode everything except letters and digits")),
        }
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.is_secure
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

fn parse_port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten().filter(|port| *port > 0)
}

/// A path and query as in a request: it begins with a slash, is ASCII, and has no fragment.
fn origin_form(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default();
    let mut path = String::from(if text.starts_with('/') { "" } else { "/" });
    for c in text.chars() {
        match c {
            c if c.is_ascii() => path.push(c),
            c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| path.push_str(&format!("%{b:02X}"))),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_websocket_urls() {
        for (url, uri, host, port) in [
            ("ws://h", "ws://h/", "h", 80),
            ("wss://h", "wss://h/", "h", 443),
            ("WS://h:81/a", "ws://h:81/a", "h", 81),
            (" Wss://H/a?b=c&d#top ", "wss://H/a?b=c&d", "H", 443),
            ("ws://h:8?x=1", "ws://h:8/?x=1", "h", 8),
            ("ws://h:/x", "ws://h/x", "h", 80),
            ("ws://[::1]", "ws://[::1]/", "::1", 80),
            ("ws://[::1]:9/x", "ws://[::1]:9/x", "::1", 9),
            ("ws://h/ü/%20?q=ö", "ws://h/%C3%BC/%20?q=%C3%B6", "h", 80),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!(target.uri().to_string(), uri);
            assert_eq!((target.host(), target.port()), (host, port), "{url}");
            assert_eq!(target.is_secure(), uri.starts_with("wss"));
        }
    }

    #[test]
    fn says_what_is_wrong_with_others() {
        for (url, why) in [
            ("", "write ws://HOST"),
            ("h", "write ws://HOST"),
            ("/chat", "write ws://HOST"),
            ("ws:h", "write ws://HOST"),
            ("http://h", "write ws:// instead"),
            ("HTTPS://h", "write wss:// instead"),
            ("ftp://h", "begin with ws:// or wss://"),
            ("ws://", "the host is missing"),
            ("ws:///chat", "the host is missing"),
            ("ws://:80", "the host is missing"),
            ("ws://?x", "the host is missing"),
            ("ws://h:99999/", "from 1 to 65535"),
            ("ws://h:0", "from 1 to 65535"),
            ("ws://h:+1", "from 1 to 65535"),
            ("ws://h:8x", "from 1 to 65535"),
            ("ws://[::1]9", "from 1 to 65535"),
            ("ws://ann:secret@h/", "leave out the user"),
            ("ws://münchen.de/", "xn--"),
            ("ws://h/a b", "percent-encode"),
            ("ws://a b/", "percent-encode"),
            ("ws://[::1", "in brackets"),
            ("ws://::1]", "in brackets"),
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(&format!("{url:?}")), "{error}");
        }
    }
}

//! The path that a layer is mounted at.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A path as browsers send it. Two paths are equal if their segments are; empty segments do not count.
#[derive(Clone)]
pub(crate) struct MountPath {
    text: Arc<str>,
    /// Whether a request has had this path.
    was_seen: Arc<AtomicBool>,
}

impl MountPath {
    /// Returns why no request can have this path, and what to write instead.
    pub(crate) fn parse(path: &str) -> Result<MountPath, String> {
        if !path.starts_with('/') {
            return Err(format!("it must start with `/`: write `/{path}`"));
        }
        if let Some(at) = path.find(['?', '#']) {
            return Err(format!(
                "only the path is compared, whatever the query: leave out `{}`",
                path.get(at..).unwrap_or_default()
            ));
        }
        if path.contains(['{', '}', '*']) || segments(path).any(|segment| segment.starts_with(':')) {
            return Err(
                "a layer has one fixed path, without captures and wildcards: to serve several, route \
                        them to `ChatRooms::service` with your router"
                    .into(),
            );
        }
        if segments(path).any(|segment| matches!(segment, "." | "..")) {
            return Err("browsers resolve `.` and `..` before they send a path: write it without".into());
        }
        if path.contains('\\') {
            return Err("browsers send `\\` as `/`: write `/`, or `%5C` for a backslash".into());
        }
        if let Some(control) = path.chars().find(|c| c.is_ascii_control()) {
            return Err(format!(
                "browsers leave out {control:?}, or send it percent-encoded: write it without, or as `{}`",
                percent_encoded(control)
            ));
        }
        let mut rest = path;
        while let Some((_, after)) = rest.split_once('%') {
            if !after.get(..2).is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())) {
                return Err(
                    "`%` must be followed by two hexadecimal digits: write a percent sign as `%25`".into()
                );
            }
            rest = after;
        }
        Ok(MountPath { text: normalize(path).into(), was_seen: Arc::default() })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a request's path is this one.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let is_equal = segments(&self.text).eq(segments(&normalize(path)));
        if is_equal && self.is_never_seen() {
            self.was_seen.store(true, Ordering::Relaxed);
        }
        is_equal
    }

    /// The rest of a request's path, without slashes at its ends, if the path starts with this one.
    pub(crate) fn strip_from<'a>(&self, path: &'a str) -> Option<&'a str> {
        let mut rest = path.trim_start_matches('/');
        for segment in segments(&self.text) {
            let (first, others) = rest.split_once('/').unwrap_or((rest, ""));
            if normalize(first) != segment {
                return None;
            }
            rest = others.trim_start_matches('/');
        }
        Some(rest.trim_end_matches('/'))
    }

    /// Whether no request has had this path yet.
    pub(crate) fn is_never_seen(&self) -> bool {
        !self.was_seen.load(Ordering::Relaxed)
    }

    /// Whether the last segments of this path are those of another one, which has at least one.
    pub(crate) fn ends_with(&self, path: &str) -> bool {
        let path = normalize(path);
        let (own, other): (Vec<_>, Vec<_>) = (segments(&self.text).collect(), segments(&path).collect());
        !other.is_empty() && own.ends_with(&other)
    }
}

/// Percent-encodes a path as browsers do, with upper-case digits.
fn normalize(path: &str) -> Cow<'_, str> {
    if path.chars().all(|c| is_path_char(c) && c != '%') {
        return path.into();
    }
    let mut text = String::with_capacity(path.len());
    // Digits after a percent sign that are still to come.
    let mut digits = 0_u8;
    for c in path.chars() {
        match c {
            '%' => text.push(c),
            _ if digits > 0 => text.push(c.to_ascii_uppercase()),
            _ if is_path_char(c) => text.push(c),
            _ => text.push_str(&percent_encoded(c)),
        }
        digits = if c == '%' { 2 } else { digits.saturating_sub(1) };
    }
    text.into()
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// Whether browsers send the character in a path as it is (the path percent-encode set of the URL standard).
fn is_path_char(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`')
}

fn percent_encoded(c: char) -> String {
    c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect()
}

impl fmt::Debug for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_compared_by_segments() {
        let chat = MountPath::parse("/chat").unwrap();
        for path in ["/chat", "/chat/", "//chat"] {
            assert!(chat.matches(path), "{path}");
        }
        for path in ["/", "/chats", "/chat/x", "/x/chat", "/Chat", ""] {
            assert!(!chat.matches(path), "{path}");
        }
        assert!(MountPath::parse("/").unwrap().matches("/"));
        assert!(MountPath::parse("/a/b/").unwrap().matches("/a/b"));
        assert!(MountPath::parse("/caf%C3%A9;v=1/~a@b").unwrap().matches("/caf%C3%A9;v=1/~a@b"));
    }

    #[test]
    fn paths_are_compared_percent_encoded() {
        for (path, encoded) in [
            ("/grün", "/gr%C3%BCn"),
            ("/gr%c3%bcn", "/gr%C3%BCn"),
            ("/a b/\"<>^`", "/a%20b/%22%3C%3E%5E%60"),
            ("/聊天", "/%E8%81%8A%E5%A4%A9"),
            ("/100%25abc", "/100%25abc"),
        ] {
            let mount = MountPath::parse(path).unwrap();
            assert_eq!(mount.as_str(), encoded);
            assert!(mount.matches(path) && mount.matches(encoded), "{path}");
        }
        // What browsers do not encode is not decoded either.
        assert!(!MountPath::parse("/chat").unwrap().matches("/%63hat"));
    }

    #[test]
    fn the_rest_of_a_path_is_found() {
        let path = MountPath::parse("/ops/grün/").unwrap();
        for (other, rest) in [
            ("/ops/gr%c3%bcn", Some("")),
            ("/ops//gr%C3%BCn/", Some("")),
            ("/ops/gr%C3%BCn/rooms/", Some("rooms")),
            ("/ops/gr%C3%BCn/a/b", Some("a/b")),
            ("/ops/gr%C3%BCns", None),
            ("/ops", None),
            ("/", None),
        ] {
            assert_eq!(path.strip_from(other), rest, "{other}");
        }
        assert_eq!(MountPath::parse("/").unwrap().strip_from("/rooms"), Some("rooms"));
    }

    #[test]
    fn the_end_of_a_path_is_found() {
        let mount = MountPath::parse("/api/chat").unwrap();
        for (path, is_end) in
            [("/chat", true), ("/chat/", true), ("/", false), ("/at", false), ("/x/chat", false)]
        {
            assert_eq!(mount.ends_with(path), is_end, "{path}");
        }
        assert!(mount.is_never_seen() && !mount.matches("/chat") && mount.is_never_seen());
        assert!(mount.matches("/api/chat") && !mount.is_never_seen());
    }

    #[test]
    fn paths_that_never_match_are_refused_with_a_hint() {
        for (path, hint) in [
            ("", "`/`"),
            ("chat", "`/chat`"),
            ("https://example.com/chat", "start with `/`"),
            ("/chat?x=1", "`?x=1`"),
            ("/chat#é", "`#é`"),
            ("/a/{id}", "captures"),
            ("/a/:id", "captures"),
            ("/a/*", "wildcards"),
            ("/a\tb", "%09"),
            ("/a\\b", "%5C"),
            ("/a/../b", ".."),
            ("/./a", "`.`"),
            ("/100%", "%25"),
            ("/%é", "%25"),
            ("/a%2", "two hexadecimal digits"),
        ] {
            let error = MountPath::parse(path).unwrap_err();
            assert!(error.contains(hint), "{path}: {error}");
        }
    }

    proptest! {
        /// A path that is taken is one that a request can have.
        #[test]
        fn what_is_taken_can_be_requested(path in "/[ -~é]{0,20}") {
            if let Ok(mount) = MountPath::parse(&path) {
                let uri: http::Uri = mount.as_str().parse().unwrap();
                prop_assert_eq!(uri.path(), mount.as_str());
                prop_assert!(mount.matches(uri.path()) && mount.matches(&path));
            }
        }
    }
}

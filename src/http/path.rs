//! The path that a layer is mounted at.

use std::fmt;
use std::sync::Arc;

/// A path as browsers send it. Two paths are equal if their segments are; empty segments do not count.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct MountPath(Arc<str>);

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
        if let Some(other) = path.chars().find(|c| !is_path_char(*c)) {
            return Err(format!(
                "clients send {other:?} percent-encoded: write `{}`",
                percent_encoded(other)
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
        Ok(MountPath(path.into()))
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        segments(&self.0).eq(segments(path))
    }
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
        self.0.fmt(f)
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
            ("/a b", "%20"),
            ("/a\tb", "%09"),
            ("/café", "%C3%A9"),
            ("/a\\b", "%5C"),
            ("/a/../b", ".."),
            ("/./a", "`.`"),
            ("/100%", "%25"),
            ("/%é", "%C3%A9"),
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
                let uri: http::Uri = path.parse().unwrap();
                prop_assert!(mount.matches(uri.path()));
            }
        }
    }
}

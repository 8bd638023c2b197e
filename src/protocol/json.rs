//! JSON strings.

use std::borrow::Cow;

/// A text as a JSON string.
pub(crate) fn quote(text: &str) -> String {
    // A string always serializes; the empty one is better than a panic.
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".into())
}

/// The text of a JSON string; `None` if it is another value.
#[inline]
pub(crate) fn unquote(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

//! The page of the admin view.

use std::sync::LazyLock;

use http::Response;

use crate::admin::answer;
use crate::browser::asset::AssetBody;
use crate::browser::modules::{Module, join, modules};

/// The modules of the page, each after those that it imports.
const MODULES: &[Module] =
    modules!["dom.js", "api.js", "format.js", "table.js", "actions.js", "views.js", "main.js"];

const HTML: &str = include_str!("page.html");

static SCRIPT: LazyLock<String> = LazyLock::new(|| join(MODULES));

/// Answers a request for the page or for one of its files. Their addresses differ only in the query, so that they are found
/// no matter whether the address of the page ends with a slash.
pub(super) fn answer(query: &str) -> Response<AssetBody> {
    match query {
        "page.js" => answer::file("text/javascript; charset=utf-8", SCRIPT.as_str()),
        "page.css" => answer::file("text/css; charset=utf-8", include_str!("page.css")),
        "icon.svg" => answer::file("image/svg+xml", include_str!("icon.svg")),
        _ => answer::file("text/html; charset=utf-8", HTML),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::browser::modules::tests::{assert_complete, assert_in_order, assert_unique_names, lines_with};

    #[test]
    fn the_modules_can_be_served_as_one() {
        assert_in_order(MODULES);
        assert_complete(MODULES, "admin/page");
        assert_unique_names(MODULES);
        assert!(lines_with(&SCRIPT, "import ").is_empty());
    }

    #[test]
    fn no_text_becomes_markup() {
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!SCRIPT.contains(word), "{word}");
        }
        assert!(!HTML.contains("<style") && !HTML.contains("style=") && !HTML.contains("<script>"));
    }
}

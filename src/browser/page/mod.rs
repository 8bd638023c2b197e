//! The chat page, served over HTTP.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use http::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY};
use http::{Request, Response};
use tower::Service;

use super::asset::{Asset, AssetBody};
use super::modules::{Module, join, modules};
use super::script::SCRIPT;

/// The modules of the page, each after those that it imports. They also import from the client.
const MODULES: &[Module] = modules![
    "texts.js",
    "dom.js",
    "links.js",
    "storage.js",
    "other-tabs.js",
    "log.js",
    "typing.js",
    "members.js",
    "room-view.js",
    "chat-session.js",
    "rooms-panel.js",
    "form.js",
    "main.js",
];

const HTML: &str = include_str!("page.html");

/// Allows the page only its own files and connections to its own origin, and prevents text from becoming markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// The page's own files. Their addresses differ from that of the page only in the query, so the page works wherever it
/// is mounted. The script contains the client. The page's modules are in a block, so that both may use the same names.
static FILES: LazyLock<[(&str, Asset); 3]> = LazyLock::new(|| {
    let script = format!("{}{{\n{}}}\n", *SCRIPT, join(MODULES));
    [
        ("page.js", Asset::new("text/javascript; charset=utf-8", script)),
        ("page.css", Asset::new("text/css; charset=utf-8", include_str!("page.css"))),
        ("icon.svg", Asset::new("image/svg+xml", include_str!("icon.svg"))),
    ]
});

/// Serves a chat page, at any path. Created by [`ChatRooms::page`](crate::ChatRooms::page).
#[derive(Debug, Clone)]
pub struct ChatPage {
    settings: Settings,
    html: Arc<Asset>,
}

#[derive(Debug, Clone)]
struct Settings {
    chat_path: String,
    title: String,
    room: String,
}

impl ChatPage {
    pub(crate) fn new() -> ChatPage {
        let settings = Settings { chat_path: "chat".into(), title: String::new(), room: String::new() };
        ChatPage { html: Arc::new(settings.html()), settings }
    }

    /// Sets the path of the chat's WebSocket, on the same origin as the page. Default: `chat`.
    ///
    /// A path that starts with `/` is absolute. Any other path is relative to the page's address, as if that ended with
    /// a slash: by default, a page at `/` connects to `/chat`, and a page at `/app` connects to `/app/chat`. The empty
    /// path is the page's own address. Use it with [`ChatRooms::layer`](crate::ChatRooms::layer).
    ///
    /// # Panics
    ///
    /// If `path` is not a path, because it contains whitespace, `?`, `#`, `\`, `:` or `//`.
    #[must_use]
    #[track_caller]
    pub fn with_chat_path(mut self, path: &str) -> ChatPage {
        let is_path = !path.contains(|c: char| c.is_whitespace() || c.is_control() || "?#\\:".contains(c));
        assert!(is_path && !path.contains("//"), "{path:?} is not a path; use a path such as \"/chat\"");
        self.settings.chat_path = path.into();
        self.updated()
    }

    /// Sets the title. Default: "Chat rooms", in the visitor's language.
    #[must_use]
    pub fn with_title(mut self, title: &str) -> ChatPage {
        self.settings.title = title.into();
        self.updated()
    }

    /// Sets the room that the page suggests if its address does not name one (`?room=tea`). Default: the room with the
    /// empty id, which the page calls the main room.
    #[must_use]
    pub fn with_room(mut self, room: &str) -> ChatPage {
        self.settings.room = room.into();
        self.updated()
    }

    fn updated(mut self) -> ChatPage {
        self.html = Arc::new(self.settings.html());
        self
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<AssetBody> {
        let query = request.uri().query().unwrap_or_default();
        if let Some((_, file)) = FILES.iter().find(|(name, _)| *name == query) {
            return file.answer(request);
        }
        let mut response = self.html.answer(request);
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}

impl Settings {
    fn html(&self) -> Asset {
        let mut html = HTML.to_owned();
        for (name, value) in
            [("chat-path", &self.chat_path), ("chat-title", &self.title), ("chat-room", &self.room)]
        {
            let empty = format!(r#"<meta name="{name}" content="">"#);
            html = html.replace(&empty, &format!(r#"<meta name="{name}" content="{}">"#, escape(value)));
        }
        Asset::new("text/html; charset=utf-8", html)
    }
}

/// Escapes a text for an attribute in double quotes.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

impl<B> Service<Request<B>> for ChatPage {
    type Response = Response<AssetBody>;
    type Error = Infallible;
    type Future = Ready<Result<Response<AssetBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(&request)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::modules::tests::{assert_complete, assert_in_order, assert_unique_names, lines_with};
    use super::{ChatPage, FILES, HTML, MODULES};

    #[test]
    fn every_module_follows_those_that_it_imports() {
        assert_in_order(MODULES);
        assert_complete(MODULES, "browser/page");
    }

    #[test]
    fn names_of_the_page_occur_once() {
        assert_unique_names(MODULES);
    }

    #[test]
    fn the_page_has_no_inline_script_or_style() {
        let (_, script) = &FILES[0];
        assert!(lines_with(script.text(), "import ").is_empty());
        assert!(!HTML.contains("<style") && !HTML.contains("style=") && !HTML.contains("<script>"));
    }

    #[test]
    fn settings_are_escaped() {
        let page = ChatPage::new().with_title("\"><script>&").with_room("tea").with_chat_path("/ws");
        let html = page.html.text().to_owned();
        for (name, value) in [("title", "&quot;&gt;&lt;script&gt;&amp;"), ("room", "tea"), ("path", "/ws")] {
            let meta = format!(r#"<meta name="chat-{name}" content="{value}">"#);
            assert!(html.contains(&meta), "{meta}");
        }
    }
}

//! The browser client, served over HTTP.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tower::Service;

macro_rules! modules {
    ($($file:literal),* $(,)?) => { &[$(($file, include_str!($file))),*] };
}

/// The modules of the client, each after those that it imports. The last one is the package's entry.
const MODULES: &[(&str, &str)] = modules![
    "errors.js",
    "events.js",
    "json.js",
    "cid.js",
    "timer.js",
    "retry.js",
    "token-bucket.js",
    "rate-budget.js",
    "transients.js",
    "unanswered.js",
    "request-queue.js",
    "own-state.js",
    "options.js",
    "outbox.js",
    "directs.js",
    "page.js",
    "progress.js",
    "roster.js",
    "presence.js",
    "subscription.js",
    "membership.js",
    "room.js",
    "session.js",
    "token-source.js",
    "socket.js",
    "authentication.js",
    "room-requests.js",
    "refusals.js",
    "connection.js",
    "chat.js",
    "chat-rooms.js",
];

/// The client as one module.
static SCRIPT: LazyLock<String> = LazyLock::new(|| join(MODULES));

const REFUSAL: &str = "GET only\n";

/// Changes exactly when the script changes.
static TAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let tag = format!("\"{:016x}\"", fnv1a(SCRIPT.as_bytes()));
    HeaderValue::from_str(&tag).expect("hex digits may stand in a header")
});

/// Serves the browser client, an ES module, at any path. Created by
/// [`ChatRooms::client_script`](crate::ChatRooms::client_script).
#[derive(Debug, Clone, Copy)]
pub struct ClientScript(());

impl ClientScript {
    pub(crate) fn new() -> ClientScript {
        ClientScript(())
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<ScriptBody> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", REFUSAL);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let mut response = if has_it(request.headers()) {
            let mut response = Response::new(ScriptBody(None));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            respond(StatusCode::OK, "text/javascript; charset=utf-8", &SCRIPT)
        };
        if request.method() == Method::HEAD {
            *response.body_mut() = ScriptBody(None);
        }
        let headers = response.headers_mut();
        headers.insert(ETAG, TAG.clone());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

/// Joins modules that import each other into one that imports nothing and exports what the last one does. This
/// requires that an `import` is a line of its own, that an `export` starts its line, and that no two modules declare
/// the same name.
fn join(modules: &[(&str, &str)]) -> String {
    let mut joined = String::new();
    for (n, (_, text)) in modules.iter().enumerate() {
        let is_entry = n + 1 == modules.len();
        for line in text.lines().filter(|line| !line.starts_with("import ")) {
            let line = if is_entry { line } else { line.strip_prefix("export ").unwrap_or(line) };
            joined.push_str(line);
            joined.push('\n');
        }
    }
    joined
}

fn respond(status: StatusCode, kind: &'static str, text: &'static str) -> Response<ScriptBody> {
    let mut response = Response::new(ScriptBody(Some(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, text.len().into());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Whether the client has this script already (RFC 9110 §13.1.2). Tags are compared weakly, because
/// a proxy that compresses the response makes them weak.
fn has_it(headers: &HeaderMap) -> bool {
    let values = headers.get_all(IF_NONE_MATCH);
    let tags = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let own = TAG.as_bytes();
    tags.map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == own)
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl<B> Service<Request<B>> for ClientScript {
    type Response = Response<ScriptBody>;
    type Error = Infallible;
    type Future = Ready<Result<Response<ScriptBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(&request)))
    }
}

/// Response body of [`ClientScript`].
#[derive(Debug)]
pub struct ScriptBody(Option<Bytes>);

impl Body for ScriptBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::{MODULES, SCRIPT};

    fn lines_with<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
        text.lines().filter(|line| line.trim_start().starts_with(start)).collect()
    }

    #[test]
    fn the_script_exports_what_the_entry_exports_and_imports_nothing() {
        let (_, entry) = MODULES[MODULES.len() - 1];
        assert_eq!(lines_with(&SCRIPT, "import"), [""; 0]);
        assert_eq!(lines_with(&SCRIPT, "export"), lines_with(entry, "export"));
        assert!(!SCRIPT.contains("from './"));
    }

    #[test]
    fn modules_follow_those_that_they_import() {
        for (n, (file, text)) in MODULES.iter().enumerate() {
            for import in lines_with(text, "import") {
                let from = import.split_once(" } from './").and_then(|(_, rest)| rest.strip_suffix("';"));
                let from = from.unwrap_or_else(|| panic!("{file}: {import}"));
                assert!(MODULES[..n].iter().any(|(earlier, _)| *earlier == from), "{file} imports {from}");
            }
        }
    }

    #[test]
    fn every_module_is_in_the_script() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/browser");
        let files = std::fs::read_dir(folder).expect("the folder is there").map(|entry| {
            entry.expect("its entries can be read").file_name().into_string().expect("names are UTF-8")
        });
        let mut files: Vec<String> = files.filter(|name| name.ends_with(".js")).collect();
        files.sort();
        let mut modules: Vec<&str> = MODULES.iter().map(|(file, _)| *file).collect();
        modules.sort_unstable();
        assert_eq!(files, modules);
    }
}

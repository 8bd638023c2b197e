//! The page, the script that it needs, and 404 for everything else.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use tower::Service;
use tower_chat_rooms::{ClientScript, ScriptBody};

const PAGE: &str = include_str!("../page.html");

/// The page uses its own script and style and the server's scripts, and connects to its own server.
/// Nothing else is allowed.
const POLICY: &str = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; \
                      connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Serves the chat page at one path, and its script below that.
#[derive(Clone)]
pub(crate) struct Site {
    path: Arc<str>,
    page: Bytes,
    script_path: Arc<str>,
    script: ClientScript,
}

impl Site {
    /// The page at this path, which is also that of the WebSocket.
    pub(crate) fn new(path: &str, script: ClientScript) -> Site {
        let script_path = format!("{}/chat-rooms.js", path.trim_end_matches('/'));
        let here = format!(r#"<meta name="chat-path" content="{path}""#);
        let import = format!("from '{script_path}';");
        let page = PAGE.replace(r#"<meta name="chat-path" content="/""#, &here);
        let page = page.replace("from '/chat-rooms.js';", &import);
        Site { path: path.into(), page: page.into(), script_path: script_path.into(), script }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if request.uri().path() != &*self.path {
            return plain(StatusCode::NOT_FOUND, format!("the chat is at {}\n", self.path));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".into());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let mut response = Response::new(Full::new(self.page.clone()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        response
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

impl<B> Service<Request<B>> for Site {
    type Response = Response<Either<Full<Bytes>, ScriptBody>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.uri().path() == &*self.script_path {
            return ready(self.script.call(request).into_inner().map(|response| response.map(Either::Right)));
        }
        ready(Ok(self.answer(&request).map(Either::Left)))
    }
}

//! The page, the browser client, and 404 for everything else.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use tower::Service;
use tower_chat_rooms::{AssetBody, ChatPage, ChatRooms, ClientScript};

/// Serves the chat page at one path, which is also that of the WebSocket, and the browser client below it.
#[derive(Clone)]
pub(crate) struct Site {
    path: Arc<str>,
    page: ChatPage,
    script_path: Arc<str>,
    script: ClientScript,
}

impl Site {
    pub(crate) fn new(path: &str, rooms: &ChatRooms) -> Site {
        Site {
            path: path.trim_end_matches('/').into(),
            page: rooms.page().with_chat_path(""),
            script_path: format!("{}/chat-rooms.js", path.trim_end_matches('/')).into(),
            script: rooms.client_script(),
        }
    }
}

fn not_found(text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

impl<B> Service<Request<B>> for Site {
    type Response = Response<Either<AssetBody, Full<Bytes>>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // Like the layer of the chat rooms, this ignores a slash at the end.
        let found = match request.uri().path().trim_end_matches('/') {
            path if path == &*self.path => self.page.call(request),
            path if path == &*self.script_path => self.script.call(request),
            _ => {
                let text = format!("the chat is at {}/\n", self.path);
                return ready(Ok(not_found(text).map(Either::Right)));
            }
        };
        ready(found.into_inner().map(|response| response.map(Either::Left)))
    }
}

//! The page, the browser client, the server's health, and 404 for everything else.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use tower::Service;
use tower_chat_rooms::{AssetBody, ChatPage, ChatRooms, ClientScript, Health};

/// Serves the chat page at one path, which is also that of the WebSocket, and the browser client and the health below it.
#[derive(Clone)]
pub(crate) struct Site {
    path: Arc<str>,
    page: ChatPage,
    script_path: Arc<str>,
    script: ClientScript,
    health_path: Arc<str>,
    rooms: ChatRooms,
}

impl Site {
    pub(crate) fn new(path: &str, rooms: &ChatRooms) -> Site {
        Site {
            path: path.trim_end_matches('/').into(),
            page: rooms.page().with_chat_path(""),
            script_path: format!("{}/chat-rooms.js", path.trim_end_matches('/')).into(),
            script: rooms.client_script(),
            health_path: format!("{}/health", path.trim_end_matches('/')).into(),
            rooms: rooms.clone(),
        }
    }

    /// For load balancers: whether new clients may be sent here.
    fn health(&self) -> Response<Full<Bytes>> {
        match self.rooms.health() {
            Health::Healthy => text(StatusCode::OK, "healthy\n"),
            // All other nodes are probably in the same state. The reason is not for clients: it may name servers.
            Health::Degraded { .. } => text(StatusCode::OK, "degraded\n"),
            Health::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            _ => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        }
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
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
            path if path == &*self.health_path => return ready(Ok(self.health().map(Either::Right))),
            _ => {
                let hint = format!("the chat is at {}/\n", self.path);
                return ready(Ok(text(StatusCode::NOT_FOUND, hint).map(Either::Right)));
            }
        };
        ready(found.into_inner().map(|response| response.map(Either::Left)))
    }
}

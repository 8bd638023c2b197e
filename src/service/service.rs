//! The service: takes upgrade requests, passes everything else on.

use std::convert::Infallible;
use std::future::Ready;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::Service;

use crate::service::body::{NoBody, ResponseBody};
use crate::service::edge::Edge;
use crate::service::future::{ResponseFuture, Upgrade};
use crate::service::handshake;
use crate::service::refusal::{Refusal, RefusalKind};

/// Serves chat connections, and passes every other request on to an inner service. Made by
/// [`ChatRooms::service`](crate::ChatRooms::service) and [`ChatRooms::layer`](crate::ChatRooms::layer).
///
/// What means WebSocket, by `Upgrade: websocket`, a `Sec-WebSocket-Key` or an extended CONNECT of
/// HTTP/2, is answered here, with 101 (200 in HTTP/2) or with a [`Refusal`]. All clones share one engine.
#[derive(Clone)]
pub struct ChatRoomsService<S> {
    edge: Arc<Edge>,
    route: Route,
    inner: S,
}

/// Which requests are looked at.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// All of them: the service is mounted under a path of its own.
    Every,
    /// Those to this path.
    Only(Arc<str>),
}

impl Route {
    fn matches(&self, path: &str) -> bool {
        match self {
            Route::Every => true,
            Route::Only(own) => {
                own.split('/').filter(|s| !s.is_empty()).eq(path.split('/').filter(|s| !s.is_empty()))
            }
        }
    }
}

impl<S> ChatRoomsService<S> {
    pub(crate) fn new(edge: Arc<Edge>, route: Route, inner: S) -> ChatRoomsService<S> {
        ChatRoomsService { edge, route, inner }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ChatRoomsService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> ResponseFuture<S::Future> {
        if !self.route.matches(request.uri().path()) {
            return ResponseFuture::inner(self.inner.call(request));
        }
        let version = request.version();
        let begun = if handshake::is_meant(&request) {
            // A handshake has no body worth reading.
            Upgrade::begin(&self.edge, request.into_parts().0)
        } else if let Route::Every = self.route {
            Err(Refusal::new(RefusalKind::NotAnUpgrade))
        } else {
            return ResponseFuture::inner(self.inner.call(request));
        };
        match begun {
            Ok(upgrade) => ResponseFuture::upgrade(upgrade),
            Err(refusal) => ResponseFuture::refuse(&self.edge.engine, refusal.over(version)),
        }
    }
}

impl<S: std::fmt::Debug> std::fmt::Debug for ChatRoomsService<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatRoomsService")
            .field("route", &self.route)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// The inner service of a [`ChatRoomsService`] that stands alone. It is never called.
#[derive(Debug, Clone, Copy)]
pub struct NoService(pub(crate) ());

impl<B> Service<Request<B>> for NoService {
    type Response = Response<NoBody>;
    type Error = Infallible;
    type Future = Ready<Result<Response<NoBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        unreachable!("a service that stands alone answers every request itself")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_by_whole_segments() {
        let route = Route::Only("/chat".into());
        for path in ["/chat", "/chat/", "//chat"] {
            assert!(route.matches(path), "{path}");
        }
        for path in ["/", "/chats", "/chat/x", "/x/chat", "/Chat", ""] {
            assert!(!route.matches(path), "{path}");
        }
        assert!(Route::Only("/".into()).matches("/"));
        assert!(Route::Only("a/b".into()).matches("/a/b"));
    }
}

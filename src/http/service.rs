//! The service: answers upgrade requests and passes on all others.

use std::convert::Infallible;
use std::future::Ready;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::Service;

use crate::http::body::{NoBody, ResponseBody};
use crate::http::edge::Edge;
use crate::http::handshake;
use crate::http::path::MountPath;
use crate::http::refusal::{Refusal, RefusalKind};
use crate::http::response_future::ResponseFuture;
use crate::http::upgrade::Upgrade;

/// Service that serves chat connections and passes all other requests to an inner service.
///
/// A request with `Upgrade: websocket` or `Sec-WebSocket-Key`, or an extended CONNECT for WebSocket in HTTP/2, is
/// answered with 101 (200 in HTTP/2) or with a [`Refusal`]. All clones share one engine.
///
/// Created by [`ChatRooms::service`](crate::ChatRooms::service) and [`ChatRooms::layer`](crate::ChatRooms::layer).
#[derive(Clone)]
pub struct ChatRoomsService<S> {
    edge: Arc<Edge>,
    route: Route,
    inner: S,
}

/// Which requests can become connections.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// All requests. Those that are not upgrade requests are refused.
    All,
    /// Requests to this path. Those that are not upgrade requests are passed on.
    Path(MountPath),
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
        let is_upgrade = handshake::is_meant(&request);
        match &self.route {
            Route::All if !is_upgrade => {
                let refusal = Refusal::new(RefusalKind::NotAnUpgrade).over(request.version());
                return ResponseFuture::refused(&self.edge.engine, refusal);
            }
            Route::Path(_) if !is_upgrade => return ResponseFuture::inner(self.inner.call(request)),
            Route::Path(path) if !path.matches(request.uri().path()) => {
                self.edge.report_passed(path, request.uri().path());
                return ResponseFuture::inner(self.inner.call(request));
            }
            _ => {}
        }
        let version = request.version();
        // The body of a handshake is empty, or the handshake is refused.
        match Upgrade::begin(self.edge.clone(), request.into_parts().0) {
            Ok(upgrade) => ResponseFuture::upgrade(upgrade),
            Err(refusal) => ResponseFuture::refused(&self.edge.engine, refusal.over(version)),
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

/// Inner service of the service that [`ChatRooms::service`](crate::ChatRooms::service) returns. It is never
/// called.
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
        unreachable!("with `Route::All` no request is passed on")
    }
}

//! The way from an upgrade request to a connection.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use pin_project::pin_project;
use tokio::net::TcpStream;

use crate::connection::{Opening, serve};
use crate::engine::engine::{Engine, Permit};
use crate::hooks::auth::{Admission, AuthRefusal};
use crate::hooks::guard::{self, NoAnswer};
use crate::service::body::ResponseBody;
use crate::service::edge::Edge;
use crate::service::handshake::Accept;
use crate::service::refusal::{Refusal, RefusalKind};

/// The response future of [`ChatRoomsService`](crate::ChatRoomsService).
#[pin_project]
pub struct ResponseFuture<F> {
    #[pin]
    kind: Kind<F>,
}

#[pin_project(project = KindProj)]
enum Kind<F> {
    Inner(#[pin] F),
    Refused(Option<Refusal>),
    /// The auth hook is being asked. Boxed, as it is a type of the host's.
    Asked(Asked),
    Accepted(Option<Box<Upgrade>>),
}

type Asked = Pin<Box<dyn Future<Output = Result<(Upgrade, Admission), Refusal>> + Send>>;

impl<F> ResponseFuture<F> {
    pub(crate) fn inner(future: F) -> ResponseFuture<F> {
        ResponseFuture { kind: Kind::Inner(future) }
    }

    pub(crate) fn refuse(engine: &Engine, refusal: Refusal) -> ResponseFuture<F> {
        refusal.count(engine);
        ResponseFuture { kind: Kind::Refused(Some(refusal)) }
    }

    pub(crate) fn upgrade(upgrade: Upgrade) -> ResponseFuture<F> {
        let kind = if upgrade.engine.hooks.auth.is_some() {
            Kind::Asked(Box::pin(upgrade.ask()))
        } else {
            Kind::Accepted(Some(Box::new(upgrade)))
        };
        ResponseFuture { kind }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match self.project().kind.project() {
            KindProj::Inner(future) => ready!(future.poll(cx))?.map(ResponseBody::inner),
            KindProj::Refused(refusal) => match refusal.take() {
                Some(refusal) => refusal.into_response(),
                None => gone(),
            },
            KindProj::Asked(asked) => match ready!(asked.as_mut().poll(cx)) {
                Ok((upgrade, admission)) => upgrade.accept(admission),
                Err(refusal) => refusal.into_response(),
            },
            KindProj::Accepted(accepted) => match accepted.take() {
                Some(upgrade) => upgrade.accept(Admission::anonymous()),
                None => gone(),
            },
        }))
    }
}

impl<F> std::fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// For who polls a future again that was ready.
fn gone<B>() -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::text(String::new()));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// A sound upgrade request that is yet to be accepted.
pub(crate) struct Upgrade {
    engine: Arc<Engine>,
    permit: Permit,
    peer: Option<SocketAddr>,
    parts: Parts,
    accept: Accept,
    on_upgrade: OnUpgrade,
}

impl Upgrade {
    pub(crate) fn begin(edge: &Edge, mut parts: Parts) -> Result<Upgrade, Refusal> {
        let accept = edge.verify(&parts)?;
        let peer = edge.find_client(&mut parts).map(|peer| peer.0);
        let permit = edge.engine.admit(peer.map(|peer| peer.ip()))?;
        let on_upgrade = parts.extensions.remove().ok_or_else(|| Refusal::new(RefusalKind::NotUpgradable))?;
        Ok(Upgrade { engine: edge.engine.clone(), permit, peer, parts, accept, on_upgrade })
    }

    async fn ask(self) -> Result<(Upgrade, Admission), Refusal> {
        let Some(auth) = &self.engine.hooks.auth else { return Ok((self, Admission::anonymous())) };
        let limit = self.engine.config.timeouts.hook_timeout;
        let asked = guard::answer("at_upgrade", limit, async { auth.at_upgrade(&self.parts).await });
        let refusal = match self.engine.unless_closing(asked).await {
            Some(Ok(Ok(admission))) => return Ok((self, admission)),
            Some(Ok(Err(refusal))) => Refusal::by_auth(refusal),
            Some(Err(NoAnswer::TooLate)) => Refusal::new(RefusalKind::AuthFailed),
            Some(Err(NoAnswer::Panicked)) => Refusal::failed(AuthRefusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "who you are could not be checked",
            )),
            None => Refusal::new(RefusalKind::ShuttingDown),
        };
        refusal.count(&self.engine);
        Err(refusal.over(self.parts.version))
    }

    /// Answers 101 or 200, and serves the connection once the answer is out.
    fn accept<B>(mut self, mut admission: Admission) -> Response<ResponseBody<B>> {
        if self.engine.is_closing() {
            let refusal = Refusal::new(RefusalKind::ShuttingDown).over(self.parts.version);
            refusal.count(&self.engine);
            return refusal.into_response();
        }
        self.accept.choose(admission.take_protocol());
        let wire = self.accept.wire();
        let Upgrade { engine, permit, peer, on_upgrade, accept, parts } = self;
        // Its headers hold on to hyper's read buffer.
        drop(parts);
        let spawner = engine.clone();
        spawner.spawn(async move {
            let upgraded = tokio::time::timeout(engine.config.timeouts.enter_timeout, on_upgrade);
            let Some(Ok(Ok(upgraded))) = engine.unless_closing(upgraded).await else {
                tracing::debug!("the connection ended before its upgrade was complete");
                return;
            };
            // A task of its own, which is as small as that of the connection alone.
            let opening = |first| Opening { permit, admission, peer, wire, first };
            match plain_tcp(upgraded) {
                Ok((io, first)) => engine.spawn(serve(engine.clone(), io, opening(first))),
                Err(upgraded) => {
                    engine.spawn(serve(engine.clone(), TokioIo::new(upgraded), opening(Bytes::new())));
                }
            }
        });
        accept.into_response()
    }
}

/// The TCP stream below, where hyper or hyper-util were given one: nothing stands between it
/// and us then, and Nagle's algorithm, which keeps small frames waiting, can be turned off.
fn plain_tcp(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    let (io, first) = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => (parts.io, parts.read_buf),
        Err(upgraded) => {
            let parts = auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded)?;
            (parts.io, parts.read_buf)
        }
    };
    let stream = io.into_inner();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    // Even if empty it holds on to hyper's whole buffer.
    let first = if first.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&first) };
    Ok((stream, first))
}

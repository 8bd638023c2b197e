//! The response future of the service.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Response, StatusCode};
use pin_project::pin_project;

use crate::engine::Engine;
use crate::hooks::auth::Admission;
use crate::http::body::ResponseBody;
use crate::http::refusal::Refusal;
use crate::http::upgrade::Upgrade;

/// Response future of [`ChatRoomsService`](crate::ChatRoomsService).
#[pin_project]
pub struct ResponseFuture<F> {
    #[pin]
    kind: Kind<F>,
}

#[pin_project(project = KindProj)]
enum Kind<F> {
    /// The inner service answers.
    Inner(#[pin] F),
    Refused(Option<Refusal>),
    /// The auth hook decides. Its future is boxed, because the host chooses its type.
    Authenticating(Authenticating),
    Accepted(Option<Box<Upgrade>>),
}

type Authenticating = Pin<Box<dyn Future<Output = Result<(Upgrade, Admission), Refusal>> + Send>>;

impl<F> ResponseFuture<F> {
    pub(crate) fn inner(future: F) -> ResponseFuture<F> {
        ResponseFuture { kind: Kind::Inner(future) }
    }

    pub(crate) fn refused(engine: &Engine, refusal: Refusal) -> ResponseFuture<F> {
        refusal.count(engine);
        ResponseFuture { kind: Kind::Refused(Some(refusal)) }
    }

    pub(crate) fn upgrade(upgrade: Upgrade) -> ResponseFuture<F> {
        let kind = if upgrade.needs_auth() {
            Kind::Authenticating(Box::pin(upgrade.authenticate()))
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
            KindProj::Refused(refusal) => refusal.take().map_or_else(completed, Refusal::into_response),
            KindProj::Authenticating(future) => match ready!(future.as_mut().poll(cx)) {
                Ok((upgrade, admission)) => upgrade.accept(admission),
                Err(refusal) => refusal.into_response(),
            },
            KindProj::Accepted(upgrade) => {
                upgrade.take().map_or_else(completed, |upgrade| upgrade.accept(Admission::anonymous()))
            }
        }))
    }
}

/// The response when the future is polled after it has completed.
fn completed<B>() -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::default());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

impl<F> std::fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

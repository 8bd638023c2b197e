//! What operators ask a server, on addresses that clients cannot reach: its metrics, and two probes.

use std::convert::Infallible;
use std::future::{Ready, ready};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::Service;
use tower_chat_rooms::{ChatRooms, Health, Stats};

const TEXT: &str = "text/plain; charset=utf-8";

/// Serves `/metrics`, `/healthz` and `/readyz`.
#[derive(Clone)]
pub(crate) struct Probes {
    rooms: ChatRooms,
}

impl Probes {
    pub(crate) fn new(rooms: &ChatRooms) -> Probes {
        Probes { rooms: rooms.clone() }
    }

    /// Whether the server can do its work and wants clients.
    fn readiness(&self) -> Response<Full<Bytes>> {
        match self.rooms.health() {
            Health::Healthy => answer(StatusCode::OK, TEXT, "ready\n"),
            Health::Degraded { reason, .. } => unavailable(format!("degraded: {reason}\n")),
            Health::Draining => unavailable("draining\n"),
            _ => unavailable("stopping\n"),
        }
    }
}

impl<B> Service<Request<B>> for Probes {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        ready(Ok(match request.uri().path() {
            "/metrics" => {
                let text = self.rooms.stats().to_open_metrics();
                answer(StatusCode::OK, Stats::OPEN_METRICS_CONTENT_TYPE, text)
            }
            "/healthz" => answer(StatusCode::OK, TEXT, "alive\n"),
            "/readyz" => self.readiness(),
            _ => answer(StatusCode::NOT_FOUND, TEXT, "there are /metrics, /healthz and /readyz\n"),
        }))
    }
}

fn unavailable(text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
}

fn answer(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

//! The layer around and inside tower-http's middleware, in axum and in plain hyper.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue, SERVER};
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::{BoxError, Layer, Service, service_fn};
use tower_chat_rooms::ChatRooms;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::normalize_path::NormalizePathLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveHeadersLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

use crate::support::{HANDSHAKE, assert_empty, default_rooms, send_request, text_frame};

/// Upgrades a connection, enters a room, leaves it, and requests the page on another connection.
async fn check<S, B>(at: &str, rooms: &ChatRooms, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let connect = || {
        let (client_io, server_io) = tokio::io::duplex(64 * 1024);
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let builder = Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(server_io), service).await;
        });
        client_io
    };
    let mut socket = connect();
    let answer = send_request(&mut socket, format!("{HANDSHAKE}\r\n").as_bytes()).await;
    assert_eq!(answer.status, 101, "{at}: {answer:?}");
    enter(&mut socket).await;
    assert_eq!(rooms.members("r").len(), 1, "{at}");
    drop(socket);
    while rooms.stats().connections > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_empty(rooms);

    let request = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = send_request(&mut connect(), request).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "page"), "{at}");
}

async fn enter(socket: &mut DuplexStream) {
    socket.write_all(&text_frame(r#"{"event":"enter","message":"ann","roomId":"r"}"#)).await.unwrap();
    let mut frames = Vec::new();
    while !String::from_utf8_lossy(&frames).contains(r#""name":"ann","num":1}"#) {
        assert_ne!(socket.read_buf(&mut frames).await.unwrap(), 0);
    }
}

async fn page<B>(_: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new("page".into()))
}

macro_rules! check_all {
    ($($name:ident: $middleware:expr;)+) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let (rooms, middleware) = (default_rooms(), $middleware);
            let layer = rooms.layer("/chat");
            let around = layer.layer(middleware.layer(service_fn(page)));
            check("hyper, the layer around", &rooms, around).await;
            let inside = middleware.layer(layer.layer(service_fn(page)));
            check("hyper, the layer inside", &rooms, inside).await;

            let app = || Router::new().route("/page", get(|| async { "page" }));
            let around = app().layer(middleware.clone()).layer(layer.clone());
            check("axum, the layer around", &rooms, around).await;
            let inside = app().layer(layer.clone()).layer(middleware.clone());
            check("axum, the layer inside", &rooms, inside).await;
            let route = app().route_service("/chat", rooms.service()).layer(middleware.clone());
            check("axum, a route", &rooms, route).await;
            let service = app().route_service("/chat", middleware.layer(rooms.service()));
            check("axum, the middleware around the service", &rooms, service).await;
        }
    )+};
}

check_all! {
    trace: TraceLayer::new_for_http();
    cors: CorsLayer::permissive();
    timeout: TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_secs(30));
    compression: CompressionLayer::new();
    limit: RequestBodyLimitLayer::new(1024);
    set_header: SetResponseHeaderLayer::if_not_present(SERVER, HeaderValue::from_static("x"));
    catch_panic: CatchPanicLayer::new();
    normalize_path: NormalizePathLayer::trim_trailing_slash();
    set_request_id: SetRequestIdLayer::x_request_id(MakeRequestUuid);
    propagate_request_id: PropagateRequestIdLayer::x_request_id();
    sensitive_headers: SetSensitiveHeadersLayer::new([AUTHORIZATION]);
}

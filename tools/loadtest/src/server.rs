//! The server under test unless a URL is given, on a thread and runtime of its own.

use std::convert::Infallible;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower::{ServiceBuilder, service_fn};
use tower_chat_rooms::{ChatRooms, Heartbeat, Limits, RateLimits, Timeouts};

/// A server that runs until this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The server stops when this is dropped.
    _stop: oneshot::Sender<Infallible>,
}

impl Server {
    pub(crate) async fn start(heartbeat: Duration) -> Result<Server, Box<dyn Error + Send + Sync>> {
        let rooms = ChatRooms::builder()
            .heartbeat(Heartbeat::every(heartbeat))
            .limits(
                Limits::default()
                    .max_connections(usize::MAX)
                    .max_pending(usize::MAX)
                    .max_rooms(usize::MAX)
                    .max_room_members(usize::MAX)
                    .max_message_bytes(16 << 20)
                    .max_queue_frames(usize::MAX)
                    .max_queue_bytes(64 << 20),
            )
            .rate_limits(
                RateLimits::default()
                    .max_messages_per_second(u32::MAX)
                    .max_bytes_per_second(usize::MAX)
                    .max_enters_per_minute(u32::MAX)
                    .max_new_rooms_per_minute(u32::MAX),
            )
            .timeouts(Timeouts::default().enter_timeout(Duration::MAX))
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let (ready, address) = oneshot::channel();
        // On a runtime of its own, so that server and load generator don't share a scheduler.
        std::thread::Builder::new().name("server".into()).spawn(move || {
            match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(async {
                    tokio::select! {
                        () = serve(rooms, ready) => {}
                        _ = stopped => {}
                    }
                }),
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
        Ok(Server { address: address.await??, _stop: stop })
    }
}

async fn serve(rooms: ChatRooms, ready: oneshot::Sender<std::io::Result<SocketAddr>>) {
    let bound = match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await {
        Ok(listener) => listener.local_addr().map(|address| (listener, address)),
        Err(error) => Err(error),
    };
    let (listener, address) = match bound {
        Ok(bound) => bound,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let _ = ready.send(Ok(address));
    let service = ServiceBuilder::new().layer(rooms.layer("/")).service(service_fn(not_found));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files. The clients share the limit and report it.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let server = Builder::new(TokioExecutor::new());
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

async fn not_found<B>(_: Request<B>) -> Result<Response<String>, Infallible> {
    let mut response = Response::new("WebSocket only\n".to_owned());
    *response.status_mut() = StatusCode::NOT_FOUND;
    Ok(response)
}

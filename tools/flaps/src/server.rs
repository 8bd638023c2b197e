//! The server under test, in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tower_chat_rooms::{ChatRooms, Heartbeat, History, Recovery, RoomEvent};

/// Short, so that many sessions end during a run.
const RESUME_WINDOW: Duration = Duration::from_secs(5);

/// More frames than a room has in the longest fault.
const HISTORY: usize = 100_000;

pub(crate) struct Server {
    pub(crate) rooms: ChatRooms,
    pub(crate) address: SocketAddr,
    /// `entered` callbacks without their `left`.
    inside: Arc<AtomicI64>,
}

impl Server {
    pub(crate) async fn start() -> Server {
        let inside = Arc::new(AtomicI64::new(0));
        let count = inside.clone();
        let history = History::last(HISTORY).max_bytes(usize::MAX).for_at_most(Duration::from_secs(120));
        let rooms = ChatRooms::builder()
            .v1_heartbeat(Heartbeat::every(Duration::from_secs(3)))
            .recovery(Recovery::default().resume_window(RESUME_WINDOW).history(history))
            .events(move |event: RoomEvent<'_>| {
                match event {
                    RoomEvent::Entered(_) => count.fetch_add(1, Ordering::Relaxed),
                    RoomEvent::Left(_) => count.fetch_sub(1, Ordering::Relaxed),
                    _ => 0,
                };
            })
            .build()
            .expect("sound settings");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new().route_service("/", rooms.service());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Server { rooms, address, inside }
    }

    /// Memberships whose `entered` was called, and `left` was not.
    pub(crate) fn inside(&self) -> i64 {
        self.inside.load(Ordering::Relaxed)
    }
}

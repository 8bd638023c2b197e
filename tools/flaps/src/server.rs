//! The server under test, in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use serde_json::json;
use tokio::net::TcpListener;
use tower_chat_rooms::{
    Access, ChatRooms, Denied, DirectRequest, EnterRequest, Heartbeat, History, Presence, Recovery,
    RoomEvent, RoomId, RoomPolicy, User, Verdict,
};

/// Short, so that many sessions end during a run.
const RESUME_WINDOW: Duration = Duration::from_secs(5);

/// More frames than a room has in the longest fault.
const HISTORY: usize = 100_000;

/// Two of the rooms are not in full mode: one changes its mode, one only counts.
struct Policy {
    enters: AtomicU64,
}

impl RoomPolicy for Policy {
    async fn may_enter(&self, _: &EnterRequest<'_>) -> Result<Access, Denied> {
        // Changes at every renewal.
        let n = self.enters.fetch_add(1, Ordering::Relaxed);
        Access::member().info(&json!({"n": n})).map_err(|error| Denied::new(error.to_string()))
    }

    fn may_send_direct(&self, _: &DirectRequest<'_>) -> Verdict {
        Verdict::allow()
    }

    fn presence(&self, room: &RoomId) -> Option<Presence> {
        match room.as_str() {
            "0" => Presence::auto(33, 30).ok(),
            "1" => Some(Presence::Count),
            _ => None,
        }
    }
}

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
            .auth(async |token: String| Ok(User::new(token)))
            .policy(Policy { enters: AtomicU64::new(0) })
            .events(move |event: RoomEvent<'_>| {
                match event {
                    RoomEvent::Entered(_) => count.fetch_add(1, Ordering::Relaxed),
                    RoomEvent::Left(_) => count.fetch_sub(1, Ordering::Relaxed),
                    _ => 0,
                };
            })
            .build()
            .expect("valid settings");
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

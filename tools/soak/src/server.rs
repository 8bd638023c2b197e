//! The server under test, and what is left in it once all clients have left.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tower_chat_rooms::{ChatRooms, History, Recovery, RoomEvent};

/// Longer than a heartbeat, the resume window and a closing handshake together.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    runtime: Runtime,
    rooms: ChatRooms,
    address: SocketAddr,
    /// `entered` callbacks without their `left`.
    open: Arc<AtomicI64>,
}

/// What exists while no client is connected.
pub(crate) struct Leftovers {
    pub(crate) rooms: usize,
    pub(crate) members: usize,
    pub(crate) connections: usize,
    pub(crate) sessions: usize,
    pub(crate) open: usize,
    pub(crate) tasks: usize,
    pub(crate) files: usize,
    /// Resident memory in bytes (Linux; 0 elsewhere).
    pub(crate) memory: usize,
    pub(crate) findings: Vec<String>,
}

impl Server {
    pub(crate) fn start() -> Server {
        let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let open = Arc::new(AtomicI64::new(0));
        let count = open.clone();
        let rooms = ChatRooms::builder()
            .recovery(Recovery::default().resume_window(Duration::from_secs(3)).history(History::last(50)))
            .events(move |event: RoomEvent<'_>| {
                match event {
                    RoomEvent::Entered(_) => count.fetch_add(1, Ordering::Relaxed),
                    RoomEvent::Left(_) => count.fetch_sub(1, Ordering::Relaxed),
                    _ => 0,
                };
            })
            .build()
            .expect("sound settings");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new().route_service("/", rooms.service());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Server { runtime, rooms, address, open }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until all clients have left, and returns what is left.
    pub(crate) fn leftovers(&self) -> Leftovers {
        let begun = Instant::now();
        let mut leftovers = self.look();
        while !leftovers.is_empty() && begun.elapsed() < TIMEOUT {
            std::thread::sleep(Duration::from_millis(100));
            leftovers = self.look();
        }
        leftovers
    }

    fn look(&self) -> Leftovers {
        let (report, stats) = (self.rooms.check_consistency(), self.rooms.stats());
        Leftovers {
            rooms: report.rooms,
            members: report.members,
            connections: stats.connections,
            sessions: report.sessions,
            open: self.open.load(Ordering::Relaxed).unsigned_abs() as usize,
            tasks: self.runtime.metrics().num_alive_tasks(),
            files: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            memory: resident(),
            findings: report.faults.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Leftovers {
    /// Whether all clients have left and only the listener's task runs.
    fn is_empty(&self) -> bool {
        self.rooms + self.members + self.connections + self.sessions + self.open == 0 && self.tasks <= 1
    }
}

/// Reads /proc/self/statm, which counts pages of 4 KiB.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rooms, {} members, {} connections, {} tasks, {} open files, {} KiB",
            self.rooms,
            self.members,
            self.connections,
            self.tasks,
            self.files,
            self.memory / 1024
        )
    }
}

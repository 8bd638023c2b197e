//! Real servers for a client to connect to.

use std::sync::{Arc, Mutex};

use http::HeaderValue;
use tokio_tungstenite::accept_hdr_async;
use tower_chat_rooms::{Admission, ChatRooms, ChatRoomsBuilder, RateLimits, RoomEvent};
use tower_chat_rooms_client::{Client, ClientBuilder};

use crate::scripted_server::choose_v1;

/// The host's callbacks as lines of text.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn hook(&self) -> impl Fn(RoomEvent<'_>) + Send + Sync + 'static {
        let log = self.clone();
        move |event| {
            let line = match event {
                RoomEvent::Entered(e) => format!("+ {} {} {}", e.name, e.room, e.online),
                RoomEvent::Left(e) => format!("- {} {} {} {}", e.name, e.room, e.online, e.reason),
                RoomEvent::Message(e) => format!("{} {}: {}", e.name, e.room, e.body),
                _ => return,
            };
            log.0.lock().unwrap().push(line);
        }
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Chat rooms that log their callbacks.
pub(crate) fn logged() -> (ChatRooms, Log) {
    let log = Log::default();
    (ChatRooms::builder().events(log.hook()).build().unwrap(), log)
}

/// Chat rooms without rate limits.
pub(crate) fn unlimited() -> ChatRoomsBuilder {
    let rate_limits = RateLimits::default()
        .max_messages_per_second(u32::MAX)
        .max_bytes_per_second(usize::MAX)
        .max_enters_per_minute(u32::MAX)
        .max_new_rooms_per_minute(u32::MAX);
    ChatRooms::builder().rate_limits(rate_limits)
}

/// A server that can be replaced by another one, to which a client then reconnects.
#[derive(Clone)]
pub(crate) struct Replaceable {
    rooms: Arc<Mutex<ChatRooms>>,
    admission: fn() -> Admission,
}

impl Replaceable {
    pub(crate) fn new(rooms: ChatRooms) -> Replaceable {
        Replaceable { rooms: Arc::new(Mutex::new(rooms)), admission: Admission::anonymous }
    }

    /// Clients have to authenticate in band.
    pub(crate) fn pending_auth(rooms: ChatRooms) -> Replaceable {
        Replaceable { admission: Admission::pending_auth, ..Replaceable::new(rooms) }
    }

    pub(crate) fn replace(&self, rooms: ChatRooms) {
        *self.rooms.lock().unwrap() = rooms;
    }

    /// Builds a client that connects over duplex I/O.
    pub(crate) fn client(&self) -> ClientBuilder {
        let server = self.clone();
        let dial = move || {
            let rooms = server.rooms.lock().unwrap().clone();
            let v1 = (server.admission)().with_protocol(HeaderValue::from_static("chat-rooms.v1"));
            let (theirs, ours) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                let Ok(ws) = accept_hdr_async(theirs, choose_v1).await else { return };
                rooms.serve(ws.into_inner(), v1).await;
            });
            async { Ok(ours) }
        };
        Client::over("ws://test/chat", dial).room("r")
    }
}

/// Asserts that the server has no connection and no room left.
pub(crate) fn assert_empty(rooms: &ChatRooms) {
    let stats = rooms.stats();
    assert_eq!((stats.connections, stats.rooms), (0, 0), "{stats:?}");
    assert_eq!(stats.entered, stats.left, "{stats:?}");
    assert!(rooms.rooms().is_empty());
    let report = rooms.check_consistency();
    assert_eq!((report.sessions, report.members, report.faults), (0, 0, Vec::new()));
}

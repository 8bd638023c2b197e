//! Chat rooms for a client to connect to.

use std::sync::{Arc, Mutex};

use tower_chat_rooms::{ChatRooms, ChatRoomsBuilder, RateLimits, RoomEvent};

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
    ChatRooms::builder().rate_limits(
        RateLimits::default()
            .max_messages_per_second(u32::MAX)
            .max_bytes_per_second(usize::MAX)
            .max_enters_per_minute(u32::MAX)
            .max_new_rooms_per_minute(u32::MAX),
    )
}

/// Asserts that the server has no connection and no room left.
pub(crate) fn assert_empty(rooms: &ChatRooms) {
    let stats = rooms.stats();
    assert_eq!((stats.connections, stats.rooms), (0, 0), "{stats:?}");
    assert_eq!(stats.entered, stats.left, "{stats:?}");
    assert!(rooms.rooms().is_empty());
    let audit = rooms.check_consistency();
    assert_eq!((audit.connections, audit.members, audit.faults), (0, 0, Vec::new()));
}

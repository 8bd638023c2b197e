//! Chat rooms with common settings, and the check that nothing of them is left.

use tower_chat_rooms::{ChatRooms, ChatRoomsBuilder, RateLimits};

use super::{EventLog, builder};

/// Chat rooms with default settings.
pub(crate) fn default_rooms() -> ChatRooms {
    builder().build().unwrap()
}

/// Chat rooms without rate limits.
pub(crate) fn unlimited() -> ChatRoomsBuilder {
    without_limits(builder())
}

/// Lifts all rate limits.
pub(crate) fn without_limits(builder: ChatRoomsBuilder) -> ChatRoomsBuilder {
    builder.rate_limits(
        RateLimits::default()
            .max_messages_per_second(u32::MAX)
            .max_bytes_per_second(usize::MAX)
            .max_enters_per_minute(u32::MAX)
            .max_new_rooms_per_minute(u32::MAX),
    )
}

/// Chat rooms that log their callbacks.
pub(crate) fn rooms_with_log() -> (ChatRooms, EventLog) {
    let log = EventLog::default();
    (builder().events(log.hook()).build().unwrap(), log)
}

/// Asserts that no session, member or room is left, that each `entered` had its `left`, and each connection its end.
pub(crate) fn assert_empty(rooms: &ChatRooms) {
    let stats = rooms.stats();
    assert_eq!((stats.connections, stats.rooms), (0, 0), "{stats:?}");
    assert_eq!(stats.entered, stats.left, "{stats:?}");
    assert_eq!(stats.accepted, stats.closed.total(), "{stats:?}");
    assert_eq!((stats.sessions, stats.pending), (0, 0), "{stats:?}");
    assert_eq!((stats.queued_bytes, stats.behind), (0, 0), "{stats:?}");
    assert!(rooms.rooms().is_empty());
    let report = rooms.check_consistency();
    assert_eq!((report.sessions, report.members, report.faults), (0, 0, Vec::new()));
}

//! The callbacks as lines of text.

use std::sync::{Arc, Mutex};

use tower_chat_rooms::RoomEvent;

/// `+ NAME ROOM ONLINE` for an enter, `- NAME ROOM ONLINE REASON` for a leave, and `NAME ROOM: BODY` for a
/// message.
#[derive(Clone, Default)]
pub(crate) struct EventLog(Arc<Mutex<Vec<String>>>);

impl EventLog {
    /// The callback that writes this log.
    pub(crate) fn hook(&self) -> impl Fn(RoomEvent<'_>) + Send + Sync + 'static {
        let log = self.clone();
        move |event| {
            let line = match event {
                RoomEvent::Entered(e) => format!("+ {} {} {}", e.name, e.room, e.online),
                RoomEvent::Left(e) => format!("- {} {} {} {}", e.name, e.room, e.online, e.reason),
                RoomEvent::Message(e) => {
                    let Some(sender) = &e.sender else { return };
                    format!("{} {}: {}", sender.name, e.room, e.body)
                }
                _ => return,
            };
            log.push(line);
        }
    }

    pub(crate) fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    /// Returns the lines since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Like [`take`](EventLog::take), without messages.
    pub(crate) fn take_moves(&self) -> Vec<String> {
        let mut lines = self.take();
        lines.retain(|line| line.starts_with(['+', '-']));
        lines
    }
}

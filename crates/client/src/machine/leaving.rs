//! Rooms that the application has left, and in which the session may still be.

use std::collections::BTreeMap;

use crate::machine::{Now, RoomKey};

/// By the id of the room.
#[derive(Debug, Default)]
pub(super) struct Leaving(BTreeMap<String, Leave>);

#[derive(Debug, Default)]
struct Leave {
    /// Whom to tell that the server knows.
    waiting: Vec<RoomKey>,
    /// When to tell the server again; `None` if it was not told on this connection.
    repeat_at: Option<Now>,
}

impl Leaving {
    /// A room is to be left.
    pub(super) fn add(&mut self, id: &str, waiting: Option<RoomKey>) {
        self.0.entry(id.to_owned()).or_default().waiting.extend(waiting);
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Whether the server was not told on this connection.
    pub(super) fn is_unsent(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|leave| leave.repeat_at.is_none())
    }

    /// The server is told, and told again at this time unless it has answered.
    pub(super) fn send(&mut self, id: &str, repeat_at: Now) {
        if let Some(leave) = self.0.get_mut(id) {
            leave.repeat_at = Some(repeat_at);
        }
    }

    /// The client is no longer in the room. Returns whom to tell.
    pub(super) fn finish(&mut self, id: &str) -> Vec<RoomKey> {
        self.0.remove(id).map(|leave| leave.waiting).unwrap_or_default()
    }

    /// The ids that have to be sent at this time.
    pub(super) fn due(&self, now: Now) -> Vec<String> {
        let is_due = |leave: &Leave| leave.repeat_at.is_some_and(|at| at <= now);
        self.0.iter().filter(|(_, leave)| is_due(leave)).map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn deadline(&self) -> Option<Now> {
        self.0.values().filter_map(|leave| leave.repeat_at).min()
    }

    /// The connection is lost. Returns whom to tell: the next connection does the rest.
    pub(super) fn on_lost(&mut self) -> Vec<RoomKey> {
        self.0.values_mut().for_each(|leave| leave.repeat_at = None);
        self.0.values_mut().flat_map(|leave| std::mem::take(&mut leave.waiting)).collect()
    }

    /// The session from before is in these rooms only. Forgets the others, unless they are of this connection.
    pub(super) fn retain(&mut self, rooms: &[String]) {
        self.0.retain(|id, leave| leave.repeat_at.is_some() || rooms.contains(id));
    }
}

//! The handle for hooks, which are created before the chat rooms are built.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use crate::engine::Engine;
use crate::http::edge::Gate;

/// A weak handle to [`ChatRooms`](crate::ChatRooms), for hooks, which are created before the chat rooms are built.
///
/// You get it from [`ChatRoomsBuilder::handle`](crate::ChatRoomsBuilder::handle), before
/// [`build`](crate::ChatRoomsBuilder::build). It does not keep the chat rooms alive.
///
/// ```
/// use serde_json::json;
/// use tower_chat_rooms::{ChatRooms, Entered, RoomEvents, WeakChatRooms};
///
/// struct Greet {
///     rooms: WeakChatRooms,
/// }
///
/// impl RoomEvents for Greet {
///     fn entered(&self, event: &Entered) {
///         if let Some(rooms) = self.rooms.upgrade() {
///             let hello = json!({"event": "notice", "message": format!("Welcome, {}!", event.name)});
///             let _ = rooms.send_to(event.connection, &hello);
///         }
///     }
/// }
///
/// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// let builder = ChatRooms::builder();
/// let handle = builder.handle();
/// assert!(handle.upgrade().is_none());
///
/// let rooms = builder.events(Greet { rooms: handle.clone() }).build()?;
/// assert!(handle.upgrade().is_some());
/// # drop(rooms);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct WeakChatRooms(Arc<OnceLock<(Weak<Engine>, Arc<Gate>)>>);

impl WeakChatRooms {
    pub(crate) fn set(&self, engine: &Arc<Engine>, gate: &Arc<Gate>) {
        // Never set already, because `build` consumes the builder.
        let _ = self.0.set((Arc::downgrade(engine), gate.clone()));
    }

    pub(crate) fn get(&self) -> Option<(Arc<Engine>, Arc<Gate>)> {
        let (engine, gate) = self.0.get()?;
        Some((engine.upgrade()?, gate.clone()))
    }
}

impl fmt::Debug for WeakChatRooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakChatRooms")
    }
}

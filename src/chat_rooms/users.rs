//! What the host does with users, over all of their connections.

use std::sync::Arc;

use serde::Serialize;

use super::ChatRooms;
use crate::broker::commands::Command;
use crate::error::SendError;
use crate::ids::{ConnectionId, RoomId};
use crate::protocol::direct::DirectFrame;

impl ChatRooms {
    /// Returns whether a user is online: whether it has a session, on this [node](crate::ChatRoomsBuilder::broker) if
    /// there are several. [`AllNodes::is_online`](crate::AllNodes::is_online) asks for all nodes.
    ///
    /// A session of a user begins when its connection opens, if it was authenticated at the upgrade, or when its client
    /// has authenticated over the connection. It need not enter a room. If the connection is lost, the session may be
    /// kept for the [`resume_window`](crate::Recovery::resume_window), and the user stays online.
    /// [`RoomEvents::online`](crate::RoomEvents::online) and [`offline`](crate::RoomEvents::offline) tell you of
    /// changes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// use tower_chat_rooms::{Admission, ChatRooms, User};
    ///
    /// let rooms = ChatRooms::builder().build()?;
    /// assert!(!rooms.is_online("u-17"));
    /// let (ours, theirs) = tokio::io::duplex(1024);
    /// let server = rooms.clone();
    /// let connection =
    ///     tokio::spawn(async move { server.serve(ours, Admission::user(User::new("u-17"))).await });
    /// # tokio::task::yield_now().await;
    /// assert!(rooms.is_online("u-17"));
    /// drop(theirs);
    /// # drop(connection.await);
    /// # assert!(!rooms.is_online("u-17"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_online(&self, user_id: impl AsRef<str>) -> bool {
        self.engine.sessions.users().has_sessions(user_id.as_ref())
    }

    /// Returns the sessions of a user in the order in which their first connections were opened, each by the id of that
    /// connection. None if the user is offline.
    ///
    /// This includes sessions that are kept without a connection. The ids are valid for
    /// [`send_to`](ChatRooms::send_to) and [`kick`](ChatRooms::kick) until the sessions end.
    pub fn sessions_of(&self, user_id: impl AsRef<str>) -> Vec<ConnectionId> {
        let sessions = self.engine.sessions.users().sessions_of(user_id.as_ref());
        sessions.iter().map(|session| session.id()).collect()
    }

    /// Returns the rooms that a user is in, with any of its sessions, each once and in no particular order. Rooms in which
    /// the user is [hidden](crate::Access::hidden) are included.
    ///
    /// ```
    /// use tower_chat_rooms::ChatRooms;
    ///
    /// fn share_a_room(rooms: &ChatRooms, user: &str, other: &str) -> bool {
    ///     let others = rooms.rooms_of(other);
    ///     rooms.rooms_of(user).iter().any(|room| others.contains(room))
    /// }
    /// # assert!(!share_a_room(&ChatRooms::builder().build().unwrap(), "u-1", "u-2"));
    /// ```
    pub fn rooms_of(&self, user_id: impl AsRef<str>) -> Vec<RoomId> {
        self.engine.rooms_of(user_id.as_ref()).into_iter().collect()
    }

    /// Sends a JSON object to all open connections of a user, in a room or not, and returns the number of connections.
    /// If there are several [nodes](crate::ChatRoomsBuilder::broker), the object goes to all of them, and the number is
    /// the number on this node. [`AllNodes::send_to_user`](crate::AllNodes::send_to_user) returns the number on all
    /// nodes.
    ///
    /// If the number is 0, the user is offline, or its connections are lost and only its sessions are kept. You can
    /// then send, for example, a push notification. The number may include connections that turn out to be lost, and
    /// may miss one that is just resuming a session.
    ///
    /// If there is a [`resume_window`](crate::Recovery::resume_window), each session of a `chat-rooms.v1` client keeps
    /// the latest of these objects. A client whose connection is lost gets them when it resumes its session, each once
    /// and in order, even if the number was 0. A session keeps at most 64 objects and 64 KiB, but always the latest
    /// object. It keeps no object for longer than a client may take to resume: the interval and the timeout of the
    /// [heartbeat](crate::ChatRoomsBuilder::v1_heartbeat), plus the resume window. A client that has missed objects
    /// which are no longer kept is told how many. A session whose user's authentication has expired
    /// ([`OnExpiry::WaitForAuth`](crate::OnExpiry::WaitForAuth)) gets nothing until the client has authenticated again.
    ///
    /// The object needs a string `event`. In the browser client, the handlers of this event get it. In the Rust
    /// client, it is a `Direct` event. It is sent unchanged, except that the server adds the key `direct`, a number,
    /// for `chat-rooms.v1` clients. Do not use the key `seq`: a `chat-rooms.v1` client would take such an object for a
    /// frame of its room.
    ///
    /// ```
    /// use serde_json::json;
    /// use tower_chat_rooms::{ChatRooms, SendError};
    ///
    /// fn notify(rooms: &ChatRooms, user_id: &str, text: &str) -> Result<(), SendError> {
    ///     if rooms.send_to_user(user_id, &json!({"event": "notice", "message": text}))? == 0 {
    ///         push(user_id, text);
    ///     }
    ///     Ok(())
    /// }
    ///
    /// fn push(user_id: &str, text: &str) {
    ///     println!("pushed to {user_id}: {text}");
    /// }
    /// # let rooms = ChatRooms::builder().build().unwrap();
    /// # notify(&rooms, "u-17", "hi").unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// If the value is not an object with an `event`, or is too big.
    pub fn send_to_user(&self, user_id: impl AsRef<str>, value: &impl Serialize) -> Result<usize, SendError> {
        let (user, object) = (user_id.as_ref(), &*self.serialize(value)?);
        if let Some(nodes) = self.engine.nodes() {
            nodes.tell_nodes_of(user, Command::SendToUser { user, object });
        }
        Ok(self.engine.sessions.send_direct(user, &Arc::new(DirectFrame::of_host(object))))
    }

    /// Closes all connections of a user with 4500, which tells its clients to stay away, and ends its sessions that are
    /// kept without a connection. Returns the number of sessions. Sessions with a connection end right after this
    /// returns, so the user may still be online for a moment.
    ///
    /// Connections that have not entered a room are closed too. A client that connects afterwards is not affected: to
    /// keep a user away, refuse it in your [`Authenticate`](crate::Authenticate) hook first.
    pub fn kick_user(&self, user_id: impl AsRef<str>) -> usize {
        self.engine.remove_elsewhere(Command::KickUser(user_id.as_ref()));
        self.engine.kick_user(user_id.as_ref())
    }
}

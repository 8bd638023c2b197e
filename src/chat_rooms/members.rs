//! The host's view of rooms and their members.

use std::sync::Arc;

use serde::Serialize;

use crate::broker::commands::Command;
use crate::chat_rooms::{ChatRooms, all_nodes};
use crate::delivery::LiveRoom;
use crate::engine::MemberChange;
use crate::error::SendError;
use crate::hooks::policy::Access;
use crate::hooks::user::User;
use crate::ids::{ConnectionId, Name, RoomId};
use crate::protocol::host_frame;

impl ChatRooms {
    /// Returns the rooms that have members, in no particular order.
    pub fn rooms(&self) -> Vec<RoomInfo> {
        let rooms = self.engine.rooms.all();
        rooms.iter().filter(|room| room.has_members()).map(|room| RoomInfo::of(room)).collect()
    }

    /// Returns the members of a room in the order in which they entered, including hidden members. The result is empty
    /// if the room does not exist.
    pub fn members(&self, room: impl AsRef<str>) -> Vec<MemberInfo> {
        let Some(room) = self.engine.rooms.get(room.as_ref()) else { return Vec::new() };
        let (members, profiles) = room.members_and_profiles();
        members
            .iter()
            .zip(profiles)
            .map(|(member, profile)| {
                let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
                MemberInfo {
                    connection: member.id,
                    name: member.name.clone(),
                    user: member.handle.user(),
                    is_connected: member.handle.is_connected(),
                    is_hidden: profile.as_ref().is_some_and(|profile| profile.is_hidden),
                    info: profile.as_ref().and_then(|profile| text(&profile.info)),
                    state: profile.as_ref().and_then(|profile| text(&profile.state)),
                }
            })
            .collect()
    }

    /// Gives a member of a room a new access, as if your policy had just returned it. The member stays in the room, and the
    /// others see no leave or enter.
    ///
    /// The member may send messages from now on, or no longer ([`Access::read_only`]), and a changed [`Access::info`] is
    /// applied. A client of `chat-rooms.v1` is told of both. Whether the member is hidden does not change.
    ///
    /// The policy is asked again when the member sends a new token, resumes its session or enters again, and its answer
    /// then replaces this access. So first change what the policy's decision depends on, for example the role in your
    /// database.
    ///
    /// ```
    /// use tower_chat_rooms::{Access, ChatRooms, SendError};
    ///
    /// /// Lets a guest write.
    /// fn promote(rooms: &ChatRooms, user_id: &str) -> Result<(), SendError> {
    ///     for session in rooms.sessions_of(user_id) {
    ///         rooms.set_access("lobby", session, &Access::member())?;
    ///     }
    ///     Ok(())
    /// }
    /// # promote(&ChatRooms::builder().build().unwrap(), "u-17").unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// If the connection is not a member of the room.
    pub fn set_access(
        &self,
        room: impl AsRef<str>,
        connection: ConnectionId,
        access: &Access,
    ) -> Result<(), SendError> {
        let room = room.as_ref();
        let change = self.engine.set_access(room, connection, access);
        self.tell_if_elsewhere(change, || all_nodes::set_access(room, connection, access))
    }

    /// Sets a member's info in a room: a JSON value of your choice that the members see. `null` removes it. What the
    /// member may do does not change: see [`set_access`](ChatRooms::set_access).
    ///
    /// In a room with [`Presence::Full`](crate::Presence::Full), the `chat-rooms.v1` clients are told of the change,
    /// including the member itself. The value stays until the member leaves the room, or until the policy returns an
    /// [`Access::info`](crate::Access::info) that differs from the one it returned before.
    ///
    /// ```
    /// use serde_json::json;
    /// use tower_chat_rooms::{ChatRooms, ConnectionId, SendError};
    ///
    /// fn set_avatar(rooms: &ChatRooms, member: ConnectionId, url: &str) -> Result<(), SendError> {
    ///     rooms.set_info("lobby", member, &json!({"avatar": url}))
    /// }
    /// # let rooms = ChatRooms::builder().build().unwrap();
    /// # assert!(matches!(set_avatar(&rooms, "17".parse().unwrap(), "/17.png"), Err(SendError::NoSuchConnection)));
    /// ```
    ///
    /// # Errors
    ///
    /// If the connection is not a member of the room, if the value cannot be serialized, if it has more than 1,024 bytes
    /// of JSON, or if it is nested more than 124 deep.
    pub fn set_info(
        &self,
        room: impl AsRef<str>,
        connection: ConnectionId,
        info: &impl Serialize,
    ) -> Result<(), SendError> {
        let (room, info) = (room.as_ref(), host_frame::info(info)?);
        let change = self.engine.set_info(room, connection, info.clone());
        self.tell_if_elsewhere(change, || Command::SetInfo { room, connection, info: info.as_deref() })
    }

    /// Tells the other nodes to change a member that is not on this one.
    fn tell_if_elsewhere<'a>(
        &self,
        change: MemberChange,
        command: impl FnOnce() -> Command<'a>,
    ) -> Result<(), SendError> {
        match (change, self.engine.nodes()) {
            (MemberChange::NoSuchConnection, Some(nodes)) => {
                nodes.tell_others(command());
                Ok(())
            }
            (change, _) => change.into(),
        }
    }
}

/// A room that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomInfo {
    /// The id.
    pub id: RoomId,
    /// The number of members that are not hidden.
    pub online: usize,
    /// The number of different users among these members. A user with several connections in the room counts once, and
    /// anonymous members do not count.
    pub users: usize,
    /// The number of hidden members ([`Access::hidden`](crate::Access::hidden)).
    pub hidden: usize,
}

/// A member of a room.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MemberInfo {
    /// The connection.
    pub connection: ConnectionId,
    /// The member's name in the room.
    pub name: Name,
    /// The user, if authenticated.
    pub user: Option<Arc<User>>,
    /// Whether the connection is open. If not, it was lost, and the session is kept for
    /// [`resume_window`](crate::Recovery::resume_window).
    pub is_connected: bool,
    /// Whether the other members do not see this one ([`Access::hidden`](crate::Access::hidden)).
    pub is_hidden: bool,
    /// The info that you have given the member, as JSON.
    pub info: Option<String>,
    /// The state that the member's client has set, as JSON.
    pub state: Option<String>,
}

impl RoomInfo {
    fn of(room: &LiveRoom) -> RoomInfo {
        let (online, users, hidden) = (room.online(), room.users(), room.hidden());
        RoomInfo { id: room.id().clone(), online, users, hidden }
    }
}

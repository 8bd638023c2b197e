//! The host's calls that concern all nodes, with their answers.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;

use crate::broker::commands::Command;
use crate::chat_rooms::ChatRooms;
use crate::engine::{MemberChange, Nodes};
use crate::error::{SendError, Unavailable};
use crate::hooks::policy::Access;
use crate::ids::{ConnectionId, Name, RoomId};
use crate::protocol::direct::DirectFrame;
use crate::protocol::host_frame::{self, HostFrame};

/// The rooms, members and users of all nodes that share a [broker](crate::ChatRoomsBuilder::broker), from
/// [`ChatRooms::all_nodes`].
///
/// The calls of [`ChatRooms`] do not wait: they return what this process knows. The same calls here ask the broker or
/// the other nodes, and wait for the answers. Without a broker, they return the same as the calls of [`ChatRooms`], and
/// never fail with [`Unavailable`].
///
/// A call waits up to one second for the broker, and up to five seconds for the other nodes. After it has failed with
/// [`Unavailable`], some nodes may still have carried it out.
///
/// ```
/// use serde_json::json;
/// use tower_chat_rooms::{ChatRooms, SendError};
///
/// async fn notify(rooms: &ChatRooms, user_id: &str, text: &str) -> Result<(), SendError> {
///     let all = rooms.all_nodes();
///     if all.send_to_user(user_id, &json!({"event": "notice", "message": text})).await? == 0 {
///         println!("{user_id} has no open connection on any node");
///     }
///     Ok(())
/// }
/// # let rooms = ChatRooms::builder().build().unwrap();
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(notify(&rooms, "u-17", "hi")).unwrap();
/// ```
#[derive(Debug, Clone, Copy)]
pub struct AllNodes<'a>(&'a ChatRooms);

/// A room that has members on any node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomCount {
    /// The id.
    pub id: RoomId,
    /// The number of members on all nodes, without hidden members.
    pub online: usize,
}

/// A member of a room on any node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomMember {
    /// The connection.
    pub connection: ConnectionId,
    /// The member's name in the room.
    pub name: Name,
    /// The id of the user, if authenticated.
    pub user_id: Option<String>,
    /// The info that you have given the member, as JSON.
    pub info: Option<String>,
    /// The state that the member's client has set, as JSON.
    pub state: Option<String>,
}

impl ChatRooms {
    /// Returns calls that ask all nodes that share a [broker](crate::ChatRoomsBuilder::broker).
    pub fn all_nodes(&self) -> AllNodes<'_> {
        AllNodes(self)
    }
}

impl AllNodes<'_> {
    /// Returns whether a user is online: whether it has a session on any node. See [`ChatRooms::is_online`].
    ///
    /// # Errors
    ///
    /// If the broker cannot be reached.
    pub async fn is_online(&self, user_id: impl AsRef<str>) -> Result<bool, Unavailable> {
        match self.nodes() {
            Some(nodes) => Ok(!nodes.sessions_of(user_id.as_ref()).await?.is_empty()),
            None => Ok(self.0.is_online(user_id)),
        }
    }

    /// Returns the sessions of a user on all nodes, each as the id of its first connection. The sessions of one node
    /// are in the order in which they began. See [`ChatRooms::sessions_of`].
    ///
    /// # Errors
    ///
    /// If the broker cannot be reached.
    pub async fn sessions_of(&self, user_id: impl AsRef<str>) -> Result<Vec<ConnectionId>, Unavailable> {
        let Some(nodes) = self.nodes() else { return Ok(self.0.sessions_of(user_id)) };
        let sessions = nodes.sessions_of(user_id.as_ref()).await?;
        let mut ids: Vec<ConnectionId> = sessions.iter().map(|session| session.session).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Returns the rooms that any session of a user on any node is in, each once and in no particular order. See
    /// [`ChatRooms::rooms_of`].
    ///
    /// # Errors
    ///
    /// If the broker cannot be reached, or if a node on which the user has a session does not answer.
    pub async fn rooms_of(&self, user_id: impl AsRef<str>) -> Result<Vec<RoomId>, Unavailable> {
        let user = user_id.as_ref();
        let mut rooms: HashSet<RoomId> = self.0.engine.rooms_of(user);
        if let Some(nodes) = self.nodes() {
            let others = nodes.other_nodes_of(user).await?;
            let answers = nodes.ask(others, Command::RoomsOf(user)).await.complete()?.answers;
            rooms.extend(answers.into_iter().flat_map(|answer| answer.texts).map(RoomId::from));
        }
        Ok(rooms.into_iter().collect())
    }

    /// Sends a JSON object to all open connections of a user on all nodes, and returns their number. See
    /// [`ChatRooms::send_to_user`].
    ///
    /// # Errors
    ///
    /// If the value is not an object with an `event` or is too big, if the broker cannot be reached, or if a node on
    /// which the user has a session does not answer.
    pub async fn send_to_user(
        &self,
        user_id: impl AsRef<str>,
        value: &impl Serialize,
    ) -> Result<usize, SendError> {
        let (user, object) = (user_id.as_ref(), &*self.0.serialize(value)?);
        let frame = Arc::new(DirectFrame::of_host(object));
        let Some(nodes) = self.nodes() else { return Ok(self.0.engine.sessions.send_direct(user, &frame)) };
        let others = nodes.other_nodes_of(user).await?;
        let here = self.0.engine.sessions.send_direct(user, &frame);
        let elsewhere = nodes.ask(others, Command::SendToUser { user, object }).await.complete()?;
        Ok(here + elsewhere.number() as usize)
    }

    /// Closes all connections of a user on all nodes, and returns the number of its sessions. See
    /// [`ChatRooms::kick_user`].
    ///
    /// # Errors
    ///
    /// If the broker cannot be reached, or if a node does not answer.
    pub async fn kick_user(&self, user_id: impl AsRef<str>) -> Result<usize, Unavailable> {
        self.0.engine.sessions.until_arrived().await;
        let here = self.0.engine.kick_user(user_id.as_ref());
        Ok(here + self.ask_others(Command::KickUser(user_id.as_ref())).await?)
    }

    /// Returns the rooms that have members on any node, in no particular order.
    ///
    /// # Errors
    ///
    /// If the broker cannot be reached.
    pub async fn rooms(&self) -> Result<Vec<RoomCount>, Unavailable> {
        let count = |(id, online)| RoomCount { id, online };
        match self.nodes() {
            Some(nodes) => {
                let rooms = nodes.rooms().await?.into_iter();
                Ok(rooms.map(|(id, num)| count((id, num as usize))).collect())
            }
            None => Ok(self.0.rooms().into_iter().map(|room| count((room.id, room.online))).collect()),
        }
    }

    /// Returns the members of a room on all nodes, without hidden members, in the order in which they entered. The
    /// result is empty if the room does not exist.
    ///
    /// # Errors
    ///
    /// If the broker cannot be reached.
    pub async fn members(&self, room: impl AsRef<str>) -> Result<Vec<RoomMember>, Unavailable> {
        let Some(nodes) = self.nodes() else {
            let members = self.0.members(room).into_iter().filter(|member| !member.is_hidden);
            return Ok(members
                .map(|member| RoomMember {
                    connection: member.connection,
                    name: member.name,
                    user_id: member.user.map(|user| user.id().to_owned()),
                    info: member.info,
                    state: member.state,
                })
                .collect());
        };
        let text = |text: Option<Arc<str>>| text.as_deref().map(str::to_owned);
        let members = nodes.members(&RoomId::from(room.as_ref())).await?;
        Ok(members
            .into_iter()
            .map(|member| RoomMember {
                connection: member.entry.member,
                name: member.name,
                user_id: text(member.profile.user),
                info: text(member.profile.info),
                state: text(member.profile.state),
            })
            .collect())
    }

    /// Closes a room on all nodes, and returns the number of members that were removed. See [`ChatRooms::close_room`].
    ///
    /// # Errors
    ///
    /// If the broker cannot be reached, or if a node does not answer.
    pub async fn close_room(&self, room: impl AsRef<str>) -> Result<usize, Unavailable> {
        self.0.engine.sessions.until_arrived().await;
        let here = self.0.engine.close_room(room.as_ref()).removed;
        Ok(here + self.ask_others(Command::CloseRoom(room.as_ref())).await?)
    }

    /// Closes a connection on any node, and returns whether there was one. See [`ChatRooms::kick`].
    ///
    /// # Errors
    ///
    /// If the broker cannot be reached, or if a node that may have the connection does not answer.
    pub async fn kick(&self, connection: ConnectionId) -> Result<bool, Unavailable> {
        self.0.engine.sessions.until_arrived().await;
        let is_here = self.0.engine.kick(connection);
        Ok(is_here || self.ask_about(connection, Command::Kick(connection)).await? > 0)
    }

    /// Sends a JSON object to a connection on any node. See [`ChatRooms::send_to`].
    ///
    /// # Errors
    ///
    /// As [`ChatRooms::send_to`]. Also if the broker cannot be reached, or if a node that may have the connection does
    /// not answer.
    pub async fn send_to(&self, connection: ConnectionId, value: &impl Serialize) -> Result<(), SendError> {
        let object = &*self.0.serialize(value)?;
        let is_sent = self.0.engine.send_to(connection, &HostFrame::new(object))
            || self.ask_about(connection, Command::SendTo { connection, object }).await? > 0;
        if is_sent { Ok(()) } else { Err(SendError::NoSuchConnection) }
    }

    /// Sends a JSON object to every open connection of all nodes, and returns their number. See [`ChatRooms::broadcast`].
    ///
    /// # Errors
    ///
    /// If the value is not an object with an `event` or is too big, if the broker cannot be reached, or if a node does
    /// not answer.
    pub async fn broadcast(&self, value: &impl Serialize) -> Result<usize, SendError> {
        let object = &*self.0.serialize(value)?;
        let here = self.0.engine.broadcast(&HostFrame::new(object)).await;
        Ok(here + self.ask_others(Command::Broadcast { object }).await?)
    }

    /// Gives a member of a room on any node a new access. See [`ChatRooms::set_access`].
    ///
    /// # Errors
    ///
    /// If the connection is not a member of the room, if the broker cannot be reached, or if a node that may have the
    /// connection does not answer.
    pub async fn set_access(
        &self,
        room: impl AsRef<str>,
        connection: ConnectionId,
        access: &Access,
    ) -> Result<(), SendError> {
        let room = room.as_ref();
        let here = self.0.engine.set_access(room, connection, access);
        self.change_of_member(here, connection, set_access(room, connection, access)).await
    }

    /// Sets the info of a member of a room on any node. See [`ChatRooms::set_info`].
    ///
    /// # Errors
    ///
    /// As [`ChatRooms::set_info`]. Also if the broker cannot be reached, or if a node that may have the connection does
    /// not answer.
    pub async fn set_info(
        &self,
        room: impl AsRef<str>,
        connection: ConnectionId,
        info: &impl Serialize,
    ) -> Result<(), SendError> {
        let (room, info) = (room.as_ref(), host_frame::info(info)?);
        let here = self.0.engine.set_info(room, connection, info.clone());
        let command = Command::SetInfo { room, connection, info: info.as_deref() };
        self.change_of_member(here, connection, command).await
    }

    /// Asks the other nodes if the connection is not on this one.
    async fn change_of_member(
        &self,
        here: MemberChange,
        connection: ConnectionId,
        command: Command<'_>,
    ) -> Result<(), SendError> {
        let change = match here {
            MemberChange::NoSuchConnection => {
                MemberChange::of_answer(self.ask_about(connection, command).await?)
            }
            here => here,
        };
        change.into()
    }

    /// Asks the node that has a connection, or all nodes if another node has resumed its session. Returns the number in
    /// the answer, or 0 if no node has the connection.
    async fn ask_about(&self, connection: ConnectionId, command: Command<'_>) -> Result<u64, Unavailable> {
        let Some(nodes) = self.nodes() else { return Ok(0) };
        if connection.node() != nodes.own() {
            let answers = nodes.ask(vec![connection.node()], command.clone()).await;
            if answers.number() > 0 {
                return Ok(answers.number());
            }
        }
        let answers = nodes.ask_others(command).await?;
        match answers.number() {
            0 => answers.complete().map(|_| 0),
            number => Ok(number),
        }
    }

    async fn ask_others(&self, command: Command<'_>) -> Result<usize, Unavailable> {
        match self.nodes() {
            Some(nodes) => Ok(nodes.ask_others(command).await?.complete()?.number() as usize),
            None => Ok(0),
        }
    }

    fn nodes(&self) -> Option<&Nodes> {
        // Otherwise no answer would arrive.
        self.0.engine.start_hearing();
        self.0.engine.nodes().map(|nodes| &**nodes)
    }
}

pub(super) fn set_access<'a>(room: &'a str, connection: ConnectionId, access: &'a Access) -> Command<'a> {
    let info = access.info_text().map(|info| &**info);
    let (is_read_only, is_hidden) = (access.is_read_only(), access.is_hidden());
    Command::SetAccess { room, connection, info, is_read_only, is_hidden }
}

impl From<MemberChange> for Result<(), SendError> {
    fn from(change: MemberChange) -> Result<(), SendError> {
        match change {
            MemberChange::Done => Ok(()),
            MemberChange::NoSuchConnection => Err(SendError::NoSuchConnection),
            MemberChange::NoSuchRoom => Err(SendError::NoSuchRoom),
        }
    }
}

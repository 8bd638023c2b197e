//! Sends to rooms from a process without clients.

use serde::Serialize;
use tower_chat_rooms_redis as redis;

use super::{RedisConnectError, RedisSettings};
use crate::broker::commands::{Command, Message};
use crate::broker::wire;
use crate::error::SendError;
use crate::ids::{ConnectionId, MessageId, RoomId};
use crate::protocol::host_frame;
use crate::protocol::inbound::{self, Body};

/// The maximum size of an object, in bytes. It fits into the send queues of nodes with usual limits.
const MAX_BYTES: usize = 64 * 1024;

/// Used instead of a node's number. No node has this number.
const NO_NODE: u32 = 0;

/// Sends to the rooms of several nodes from a process without clients, such as a worker or a cron job.
///
/// It needs the [settings](RedisSettings) of the nodes: at least the same prefix and the same limits of the log. It is
/// not a node: it has no members and no lease, and receives no events.
///
/// ```no_run
/// use serde_json::json;
/// use tower_chat_rooms::{RedisPublisher, RedisSettings};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let publisher = RedisPublisher::connect(RedisSettings::new("redis://127.0.0.1").prefix("shop-chat")).await?;
/// let notice = json!({"event": "notice", "message": "Your order has been shipped."});
/// publisher.send_once("order-17", "shipped-17", &notice).await?;
/// # Ok(())
/// # }
/// ```
///
/// Calls wait up to 5 s for Redis, and then fail with [`SendError::Unavailable`]. Objects may have at most 65,536
/// bytes.
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
#[derive(Debug)]
pub struct RedisPublisher {
    publisher: redis::Publisher,
}

/// The result of [`RedisPublisher::send`].
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RedisSent {
    /// The object was sent to the members of the room.
    Published {
        /// The id of the message. See [`Message::id`](crate::Message::id).
        id: MessageId,
        /// How many members the room had.
        members: u64,
    },
    /// An object was sent to the room under this key before, so this object was not sent.
    Repeated,
    /// The room has no members. Nobody gets the object, and it is not kept for clients that enter later.
    NoMembers,
}

impl RedisPublisher {
    /// Connects to Redis 7.0, Valkey 7.2 or later.
    ///
    /// # Errors
    ///
    /// As [`BrokerNode::redis`](crate::BrokerNode::redis).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn connect(settings: RedisSettings) -> Result<RedisPublisher, RedisConnectError> {
        Ok(RedisPublisher { publisher: redis::Publisher::connect(settings).await? })
    }

    /// Sends a JSON object to all members of a room, as [`ChatRooms::send`](crate::ChatRooms::send) does.
    ///
    /// It is sent as a frame of the room even if the nodes have declared its event as
    /// [transient](crate::ChatRoomsBuilder::transient_events).
    ///
    /// # Errors
    ///
    /// If the value is not an object with a string `event`, if its event belongs to the protocol
    /// ([`SendError::ReservedEvent`]), if it is too big, or if Redis cannot be reached. If Redis cannot be reached, the
    /// object may have been sent, and another call may send it twice. Use [`send_once`](Self::send_once) to prevent
    /// this.
    pub async fn send(&self, room: impl AsRef<str>, value: &impl Serialize) -> Result<RedisSent, SendError> {
        self.publish(room.as_ref(), None, value).await
    }

    /// Sends a JSON object to all members of a room, unless this process or another one has sent to this room under the
    /// same key before.
    ///
    /// If a call fails, repeat it with the same key. Keys are kept for at least [`RedisSettings::message_id_window`],
    /// unless the room gets more than 10,000 messages in this time. A call to a room without members does not use up
    /// its key.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_once(
        &self,
        room: impl AsRef<str>,
        key: impl AsRef<str>,
        value: &impl Serialize,
    ) -> Result<RedisSent, SendError> {
        self.publish(room.as_ref(), Some(key.as_ref()), value).await
    }

    /// Sends a JSON object to all members of a room without a place among the room's frames. The object may get lost.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_transient(
        &self,
        room: impl AsRef<str>,
        value: &impl Serialize,
    ) -> Result<(), SendError> {
        let (text, room) = (serialize(value)?, RoomId::from(room.as_ref()));
        let body = Body::of_host(&text).ok_or(SendError::NotAnObject)?;
        let event = inbound::event_of(&text).ok_or(SendError::NoEvent)?;
        let frame = wire::encode_transient(&event, &body.host_frame(&room));
        self.publisher.send_transient(room.as_str(), &frame).await.map_err(unavailable)
    }

    /// Sends a JSON object to every open connection of all nodes, as
    /// [`ChatRooms::broadcast`](crate::ChatRooms::broadcast) does. A node that cannot reach Redis at the moment misses
    /// it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn broadcast(&self, value: &impl Serialize) -> Result<(), SendError> {
        let object = &*serialize(value)?;
        self.command(Command::Broadcast { object }).await
    }

    /// Sends a JSON object to all sessions of a user, as [`ChatRooms::send_to_user`](crate::ChatRooms::send_to_user)
    /// does. A node that cannot reach Redis at the moment misses it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_to_user(&self, user: impl AsRef<str>, value: &impl Serialize) -> Result<(), SendError> {
        let object = &*serialize(value)?;
        self.command(Command::SendToUser { user: user.as_ref(), object }).await
    }

    /// Closes a connection on any node, as [`ChatRooms::kick`](crate::ChatRooms::kick) does. A node that cannot reach
    /// Redis at the moment misses the call.
    ///
    /// # Errors
    ///
    /// If Redis cannot be reached.
    pub async fn kick(&self, connection: ConnectionId) -> Result<(), SendError> {
        self.command(Command::Kick(connection)).await
    }

    /// Ends all sessions of a user, as [`ChatRooms::kick_user`](crate::ChatRooms::kick_user) does. A node that cannot
    /// reach Redis at the moment misses the call.
    ///
    /// # Errors
    ///
    /// If Redis cannot be reached.
    pub async fn kick_user(&self, user: impl AsRef<str>) -> Result<(), SendError> {
        self.command(Command::KickUser(user.as_ref())).await
    }

    /// Closes a room on all nodes, as [`ChatRooms::close_room`](crate::ChatRooms::close_room) does. A node that cannot
    /// reach Redis at the moment misses the call.
    ///
    /// # Errors
    ///
    /// If Redis cannot be reached.
    pub async fn close_room(&self, room: impl AsRef<str>) -> Result<(), SendError> {
        self.command(Command::CloseRoom(room.as_ref())).await
    }

    async fn publish(
        &self,
        room: &str,
        key: Option<&str>,
        value: &impl Serialize,
    ) -> Result<RedisSent, SendError> {
        let (text, room) = (serialize(value)?, RoomId::from(room));
        let body = Body::of_host(&text).ok_or(SendError::NotAnObject)?;
        let frame = wire::encode_frame(&body.host_frame(&room));
        let published = self.publisher.publish(room.as_str(), key, &frame).await.map_err(unavailable)?;
        Ok(match published {
            None => RedisSent::NoMembers,
            Some(published) if published.is_repeat => RedisSent::Repeated,
            Some(published) => {
                let id = MessageId::from_u64(published.id).ok_or(SendError::Unavailable)?;
                RedisSent::Published { id, members: published.stamp.num }
            }
        })
    }

    async fn command(&self, command: Command<'_>) -> Result<(), SendError> {
        let body = Message { node: NO_NODE, question: 0, command }.encode();
        self.publisher.send_to_all(&body).await.map_err(unavailable)
    }
}

fn serialize(value: &impl Serialize) -> Result<String, SendError> {
    let text = host_frame::serialize(value)?;
    inbound::check_published(&text)?;
    if text.len() > MAX_BYTES { Err(SendError::TooBig) } else { Ok(text) }
}

fn unavailable(_: redis::Unavailable) -> SendError {
    SendError::Unavailable
}

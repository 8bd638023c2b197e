//! Batches: messages of a room that a node has stored before it publishes them, all at once.
//!
//! A broker that several nodes share lets one batch of a room begin at a time, and gives the ids of its messages. So the
//! order in which the nodes store messages is the order in which members get them.

#![cfg_attr(
    not(any(feature = "redis", feature = "test-util")),
    allow(dead_code, reason = "no broker that is compiled has batches")
)]

use std::fmt;

use bytes::Bytes;

use crate::broker::EntryId;
use crate::ids::MessageId;
use crate::protocol::position::Position;

/// Identifies a batch. No other batch of any node has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BatchId {
    pub(crate) node: u32,
    pub(crate) number: u64,
}

/// What has become of a batch that is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchStart {
    /// Its messages have this id and those right after it. It ends by itself if the node does not repeat the call within
    /// three seconds.
    Begun(MessageId),
    /// Another batch is under way. Repeat the call soon.
    Busy,
    /// The broker does not know which ids the store has. Repeat the call with the latest of them.
    NeedsFloor,
}

/// A message of a batch.
#[derive(Debug, Clone)]
pub(crate) struct BatchMessage {
    /// Its sender; `None` for the host.
    pub(crate) entry: Option<EntryId>,
    /// It is published once under this key.
    pub(crate) key: String,
    /// The id under which the store has it.
    pub(crate) id: MessageId,
    /// The store has had it before the batch has begun. So it may have been published before.
    pub(crate) is_known: bool,
    pub(crate) body: Bytes,
}

/// What has become of a batch.
#[derive(Debug, Clone)]
pub(crate) struct BatchOutcome {
    /// The messages that are to be published, in their order.
    pub(crate) messages: Vec<BatchMessage>,
    /// The store may have messages of the batch that are not among these.
    pub(crate) has_failed: bool,
}

/// Where a room is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomPlace {
    /// The position of the latest frame; `None` if the room has no members.
    pub(crate) position: Option<Position>,
    /// Messages with higher ids are not published yet; `None` if the broker does not know.
    pub(crate) last_id: Option<MessageId>,
    /// The messages with ids up to the asked one that were published after others with higher ids, so that a client may have
    /// missed them. `None` if they are not known.
    pub(crate) late: Option<Vec<MessageId>>,
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.number)
    }
}

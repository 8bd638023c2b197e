//! Batches: messages that a node has stored before it publishes them.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::answers::{Published, RoomPlace};
use crate::error::{PublishError, Unavailable};
use crate::node::Node;

/// How long a call waits for Redis.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the end of a batch waits for Redis.
const FINISH_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a client that enters may wait for it.
const PLACE_TIMEOUT: Duration = Duration::from_secs(4);

/// What has become of a batch that is to begin. See [`Node::begin_batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchStart {
    /// Its messages have this id and those right after it.
    Begun(u64),
    /// Another batch of the room is under way. Repeat the call soon.
    Busy,
    /// It is not known which ids there are in the store. Repeat the call with the latest of them.
    NeedsFloor,
}

/// A message of a batch. See [`Node::finish_batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchMessage {
    member: Option<String>,
    key: String,
    id: u64,
    is_known: bool,
    body: Bytes,
}

/// What has become of a batch. See [`Node::finish_batch`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchOutcome {
    messages: Vec<BatchMessage>,
    has_failed: bool,
}

impl BatchMessage {
    /// A message of the host that is stored under this id.
    pub fn new(key: impl Into<String>, id: u64, body: impl Into<Bytes>) -> BatchMessage {
        BatchMessage { member: None, key: key.into(), id, is_known: false, body: body.into() }
    }

    /// Sets its sender, a member of this node.
    #[must_use]
    pub fn member(mut self, member: impl Into<String>) -> BatchMessage {
        self.member = Some(member.into());
        self
    }

    /// The store has had it before the batch has begun, so it may have been published before. If it was, it is not published
    /// again.
    #[must_use]
    pub fn known(mut self) -> BatchMessage {
        self.is_known = true;
        self
    }
}

impl BatchOutcome {
    /// All messages were stored. Those of the host and of members are published in this order.
    pub fn new(messages: impl IntoIterator<Item = BatchMessage>) -> BatchOutcome {
        BatchOutcome { messages: messages.into_iter().collect(), has_failed: false }
    }

    /// The store may have messages with other ids of the batch.
    #[must_use]
    pub fn failed(mut self) -> BatchOutcome {
        self.has_failed = true;
        self
    }
}

impl Node {
    /// Begins a batch of `len` messages of a room, or prolongs it. Until it has ended, no other batch of the room begins on
    /// any node. A batch ends by itself if this call is not repeated within three seconds.
    ///
    /// `batch` must differ from all other batches of all nodes. `floor` is the latest id in the store, after
    /// [`BatchStart::NeedsFloor`].
    ///
    /// # Errors
    ///
    /// Fails if the room has no members, if the batch has ended, or if Redis cannot be reached within 1 s.
    pub async fn begin_batch(
        &self,
        room: &str,
        batch: &str,
        len: usize,
        floor: Option<u64>,
    ) -> Result<BatchStart, Unavailable> {
        let begin = self.inner().scripts.begin_batch(batch, len, floor);
        let reply = self.inner().call(room, Instant::now() + SHORT_TIMEOUT, begin).await?;
        match reply.status() {
            b"OK" => Ok(BatchStart::Begun(u64::try_from(reply.number(0)).map_err(|_| Unavailable)?)),
            b"BUSY" => Ok(BatchStart::Busy),
            b"NEEDS_FLOOR" => Ok(BatchStart::NeedsFloor),
            _ => Err(Unavailable),
        }
    }

    /// Ends a batch, and publishes its messages as [`Node::publish`] does, each once for each key. The answers are in the
    /// order of the messages.
    ///
    /// # Errors
    ///
    /// Fails if the room has no members any more, if the batch has ended by itself, or if Redis cannot be reached within
    /// 4 s. What the store has of the batch then counts as not published.
    pub async fn finish_batch(
        &self,
        room: &str,
        batch: &str,
        outcome: &BatchOutcome,
    ) -> Result<Vec<Published>, PublishError> {
        let finish = self.inner().scripts.finish_batch(batch, outcome);
        let reply = self.inner().call(room, Instant::now() + FINISH_TIMEOUT, finish).await?;
        match reply.status() {
            b"OK" => {
                let published = reply.all_published();
                let is_complete = published.len() == outcome.messages.len();
                if is_complete { Ok(published) } else { Err(PublishError::Unavailable) }
            }
            b"NO_ROOM" => Err(PublishError::NoRoom),
            _ => Err(PublishError::Unavailable),
        }
    }

    /// Returns where a room is now, and which messages a client may have missed whose latest message has the id `after`.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached within 4 s.
    pub async fn place(&self, room: &str, after: Option<u64>) -> Result<RoomPlace, Unavailable> {
        let place = self.inner().scripts.place(after);
        let reply = self.inner().call(room, Instant::now() + PLACE_TIMEOUT, place).await?;
        reply.place().ok_or(Unavailable)
    }
}

impl BatchOutcome {
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    pub(crate) fn messages(&self) -> &[BatchMessage] {
        &self.messages
    }
}

impl BatchMessage {
    pub(crate) fn sender(&self) -> &str {
        self.member.as_deref().unwrap_or_default()
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn is_known(&self) -> bool {
        self.is_known
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }
}

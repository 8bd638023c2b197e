//! The trait that stores implement.

use std::error::Error;
use std::sync::Arc;

use crate::ids::{MessageId, RoomId};
use crate::store::StoredMessage;

/// The maximum number of messages in one [`append`](MessageStore::append).
pub const MAX_APPEND: usize = 1000;

/// The maximum number of messages in one [`page`](MessageStore::page).
pub const MAX_PAGE: usize = 1000;

/// Keeps the messages of rooms.
///
/// A store in memory that never deletes messages:
///
/// ```
/// use std::collections::{BTreeMap, HashMap};
/// use std::convert::Infallible;
/// use std::sync::Mutex;
///
/// use tower_chat_rooms::store::{MessageStore, PageRange, StoredMessage};
/// use tower_chat_rooms::{MessageId, RoomId};
///
/// #[derive(Default)]
/// struct Rooms(Mutex<HashMap<RoomId, BTreeMap<MessageId, StoredMessage>>>);
///
/// impl MessageStore for Rooms {
///     type Error = Infallible;
///
///     async fn append(&self, room: &RoomId, messages: &[StoredMessage]) -> Result<Vec<MessageId>, Infallible> {
///         let mut rooms = self.0.lock().unwrap();
///         let stored = rooms.entry(room.clone()).or_default();
///         let mut ids = Vec::new();
///         for message in messages {
///             let is_same = |earlier: &&StoredMessage| earlier.key() == message.key();
///             let earlier = message.key().and_then(|_| stored.values().find(is_same));
///             let id = earlier.unwrap_or(message).id();
///             stored.entry(id).or_insert_with(|| message.clone());
///             ids.push(id);
///         }
///         Ok(ids)
///     }
///
///     async fn page(&self, room: &RoomId, range: PageRange, limit: usize) -> Result<Vec<StoredMessage>, Infallible> {
///         let rooms = self.0.lock().unwrap();
///         let messages: Vec<_> = rooms.get(room).into_iter().flat_map(BTreeMap::values).cloned().collect();
///         Ok(range.select(&messages, limit).to_vec())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Infallible> {
/// # use std::time::SystemTime;
/// let store = Rooms::default();
/// let room = RoomId::from("lobby");
/// let id = MessageId::next(None, SystemTime::now());
/// let message = StoredMessage::new(id, r#"{"event":"message","message":"hi"}"#).with_key("c0ffee");
/// assert_eq!(store.append(&room, &[message.clone()]).await?, [id]);
/// assert_eq!(store.page(&room, PageRange::Latest, 10).await?, [message]);
/// # Ok(())
/// # }
/// ```
///
/// # What you can rely on
///
/// - For each room, there is at most one [`append`](MessageStore::append) at a time. Its ids rise, and are higher than
///   the ids of earlier calls. There are two exceptions. If a call has failed or was dropped, or if a node has crashed,
///   the same messages may be appended again, alone or together with new ones. Two processes that do not share a
///   [broker](crate::ChatRoomsBuilder::broker) append independently of each other, and so do processes that share one
///   for messages that are kept [`Behind`](crate::Keep::Behind).
/// - A call of `append` has at least one message and at most [`MAX_APPEND`]. A call of [`page`](MessageStore::page)
///   asks for at most [`MAX_PAGE`].
/// - Keys are at most 255 bytes long. No text contains the character U+0000, which some databases cannot store. A body
///   can contain it only as the escape `"\u0000"`.
/// - A body is a JSON object, but not in a normal form. Store it as text, because databases that parse it may refuse
///   `"\u0000"` or change numbers.
///
/// Calls may be dropped before they complete, for example after a timeout.
pub trait MessageStore: Send + Sync + 'static {
    /// The error of a failed call. It is logged. Clients learn only that their messages were not stored.
    type Error: Into<Box<dyn Error + Send + Sync>> + Send;

    /// Appends messages to a room: all of them or, if the call fails, none.
    ///
    /// Returns for each message the id under which it is stored. Usually this is its own id. If the room already has
    /// a message with the same [key](StoredMessage::key), the message is not stored, and the id of the existing message
    /// is returned. The existing message may also be an earlier one in the same call. A message that is already stored
    /// under its id is not stored again.
    ///
    /// When the call returns, the messages are as durable as the store can make them, and every later
    /// [`page`](MessageStore::page) contains them. If the call is dropped, either all messages are stored or none.
    ///
    /// # Errors
    ///
    /// If the messages could not be stored, or if another message has the id of one of them. The server may append the
    /// messages again.
    fn append(
        &self,
        room: &RoomId,
        messages: &[StoredMessage],
    ) -> impl Future<Output = Result<Vec<MessageId>, Self::Error>> + Send;

    /// Returns at most `limit` messages of a room, in the order of their ids, the lowest first. Returns none if the
    /// room has no messages in this range.
    ///
    /// # Errors
    ///
    /// If the messages could not be read.
    fn page(
        &self,
        room: &RoomId,
        range: PageRange,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredMessage>, Self::Error>> + Send;
}

impl<S: MessageStore> MessageStore for Arc<S> {
    type Error = S::Error;

    fn append(
        &self,
        room: &RoomId,
        messages: &[StoredMessage],
    ) -> impl Future<Output = Result<Vec<MessageId>, S::Error>> + Send {
        (**self).append(room, messages)
    }

    fn page(
        &self,
        room: &RoomId,
        range: PageRange,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredMessage>, S::Error>> + Send {
        (**self).page(room, range, limit)
    }
}

/// Which messages of a room a [page](MessageStore::page) contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageRange {
    /// The latest ones.
    Latest,
    /// The latest ones with a lower id.
    Before(MessageId),
    /// The earliest ones with a higher id.
    After(MessageId),
}

impl PageRange {
    /// Selects the page from all messages of a room, which must be in the order of their ids. Use it in stores that
    /// have them in memory, and in tests.
    pub fn select(self, messages: &[StoredMessage], limit: usize) -> &[StoredMessage] {
        let first_after = |id| messages.partition_point(|message| message.id() <= id);
        let first_not_before = |id| messages.partition_point(|message| message.id() < id);
        match self {
            PageRange::Latest => &messages[messages.len().saturating_sub(limit)..],
            PageRange::Before(id) => PageRange::Latest.select(&messages[..first_not_before(id)], limit),
            PageRange::After(id) => {
                let messages = &messages[first_after(id)..];
                &messages[..limit.min(messages.len())]
            }
        }
    }

    /// Returns whether a message with this id is in the range.
    pub(crate) fn contains(self, id: MessageId) -> bool {
        match self {
            PageRange::Latest => true,
            PageRange::Before(end) => id < end,
            PageRange::After(start) => id > start,
        }
    }
}

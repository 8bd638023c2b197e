//! A store in memory, for tests.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::ids::{MessageId, RoomId};
use crate::store::{MessageStore, PageRange, StoredMessage};
use crate::sync::{Mutex, MutexGuard, lock};

/// A [store](MessageStore) in memory, for tests. It can fail and hang on demand, and it counts its calls. Clones
/// share the messages.
///
/// ```
/// use tower_chat_rooms::store::{MemoryStore, MessageStore, PageRange, StoreFault, StoredMessage};
/// use tower_chat_rooms::{MessageId, RoomId};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_chat_rooms::store::MemoryStoreError> {
/// let store = MemoryStore::new();
/// let room = RoomId::from("lobby");
/// let id = MessageId::from_u64(7).unwrap();
/// let message = StoredMessage::new(id, "{}").with_key("c0ffee");
///
/// store.set_fault(Some(StoreFault::LoseAnswers));
/// assert!(store.append(&room, &[message.clone()]).await.is_err());
/// store.set_fault(None);
/// assert_eq!(store.append(&room, &[message.clone()]).await?, [id]);
/// assert_eq!(store.messages(&room), [message]);
/// assert_eq!(store.appends(), 2);
/// # Ok(())
/// # }
/// ```
///
/// Available with the feature `test-util`.
#[derive(Clone)]
pub struct MemoryStore {
    rooms: Arc<Mutex<HashMap<RoomId, Room>>>,
    fault: watch::Sender<Option<StoreFault>>,
    calls: watch::Sender<Calls>,
}

/// A fault of a [`MemoryStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreFault {
    /// Calls fail and have no effect.
    Fail,
    /// Calls have their effect but return an error, as if the connection to a database had been lost.
    LoseAnswers,
    /// Calls wait until the fault is over. A call that is dropped before that has no effect.
    Hang,
}

#[derive(Debug, Clone, Copy, Default)]
struct Calls {
    appends: u64,
    pages: u64,
}

#[derive(Default)]
struct Room {
    messages: BTreeMap<MessageId, StoredMessage>,
    keys: HashMap<Box<str>, MessageId>,
}

impl MemoryStore {
    /// Creates a store without messages.
    pub fn new() -> MemoryStore {
        MemoryStore {
            rooms: Arc::default(),
            fault: watch::Sender::new(None),
            calls: watch::Sender::new(Calls::default()),
        }
    }

    /// Sets the fault from now on, or ends it with `None`.
    pub fn set_fault(&self, fault: Option<StoreFault>) {
        self.fault.send_replace(fault);
    }

    /// Returns all messages of a room, in the order of their ids.
    pub fn messages(&self, room: &RoomId) -> Vec<StoredMessage> {
        self.rooms().get(room).map(Room::all).unwrap_or_default()
    }

    /// Returns how many times [`append`](MessageStore::append) was called.
    pub fn appends(&self) -> u64 {
        self.calls.borrow().appends
    }

    /// Returns how many times [`page`](MessageStore::page) was called.
    pub fn pages(&self) -> u64 {
        self.calls.borrow().pages
    }

    /// Waits until [`append`](MessageStore::append) was called this many times in total.
    pub async fn until_appends(&self, count: u64) {
        // The sender is alive, because it is `self`'s.
        let _ = self.calls.subscribe().wait_for(|calls| calls.appends >= count).await;
    }

    /// Waits until [`page`](MessageStore::page) was called this many times in total.
    pub async fn until_pages(&self, count: u64) {
        let _ = self.calls.subscribe().wait_for(|calls| calls.pages >= count).await;
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomId, Room>> {
        lock(&self.rooms)
    }

    /// Does the work of a call, subject to the current fault.
    async fn call<T>(
        &self,
        work: impl FnOnce(&mut HashMap<RoomId, Room>) -> Result<T, MemoryStoreError>,
    ) -> Result<T, MemoryStoreError> {
        let mut fault = self.fault.subscribe();
        let fault = match fault.wait_for(|fault| *fault != Some(StoreFault::Hang)).await {
            Ok(fault) => *fault,
            Err(_) => None,
        };
        if fault == Some(StoreFault::Fail) {
            return Err(MemoryStoreError::Fault);
        }
        let answer = work(&mut self.rooms());
        if fault == Some(StoreFault::LoseAnswers) { Err(MemoryStoreError::Fault) } else { answer }
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("fault", &*self.fault.borrow())
            .field("calls", &*self.calls.borrow())
            .finish_non_exhaustive()
    }
}

impl MessageStore for MemoryStore {
    type Error = MemoryStoreError;

    async fn append(
        &self,
        room: &RoomId,
        messages: &[StoredMessage],
    ) -> Result<Vec<MessageId>, MemoryStoreError> {
        self.calls.send_modify(|calls| calls.appends += 1);
        self.call(|rooms| rooms.entry(room.clone()).or_default().append(messages)).await
    }

    async fn page(
        &self,
        room: &RoomId,
        range: PageRange,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, MemoryStoreError> {
        self.calls.send_modify(|calls| calls.pages += 1);
        let all = self.call(|rooms| Ok(rooms.get(room).map(Room::all).unwrap_or_default())).await?;
        Ok(range.select(&all, limit).to_vec())
    }
}

impl Room {
    fn all(&self) -> Vec<StoredMessage> {
        self.messages.values().cloned().collect()
    }

    fn append(&mut self, messages: &[StoredMessage]) -> Result<Vec<MessageId>, MemoryStoreError> {
        let mut ids = Vec::with_capacity(messages.len());
        let mut added: Vec<&StoredMessage> = Vec::new();
        for message in messages {
            if let Some(id) = message.key().and_then(|key| self.keys.get(key)) {
                ids.push(*id);
                continue;
            }
            match self.messages.get(&message.id()) {
                Some(stored) if stored == message => {}
                Some(_) => {
                    added.iter().for_each(|message| self.remove(message));
                    return Err(MemoryStoreError::IdTaken(message.id()));
                }
                None => {
                    self.insert(message);
                    added.push(message);
                }
            }
            ids.push(message.id());
        }
        Ok(ids)
    }

    fn insert(&mut self, message: &StoredMessage) {
        self.messages.insert(message.id(), message.clone());
        if let Some(key) = message.key() {
            self.keys.insert(key.into(), message.id());
        }
    }

    fn remove(&mut self, message: &StoredMessage) {
        self.messages.remove(&message.id());
        if let Some(key) = message.key() {
            self.keys.remove(key);
        }
    }
}

/// Why a call of a [`MemoryStore`] has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryStoreError {
    /// The test has set a [fault](MemoryStore::set_fault).
    Fault,
    /// Another message has this id.
    IdTaken(MessageId),
}

impl fmt::Display for MemoryStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemoryStoreError::Fault => f.write_str("the store fails because the test wants it"),
            MemoryStoreError::IdTaken(id) => {
                write!(f, "another message has the id {id}; give each message of a room an id of its own")
            }
        }
    }
}

impl std::error::Error for MemoryStoreError {}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;
    use crate::store::conformance;

    fn message(id: u64) -> StoredMessage {
        StoredMessage::new(MessageId::from_u64(id).unwrap(), "{}")
    }

    #[tokio::test]
    async fn it_conforms() {
        conformance::check(MemoryStore::new()).await;
    }

    #[tokio::test]
    async fn it_fails_on_demand() {
        let (store, room) = (MemoryStore::new(), RoomId::from("r"));
        store.set_fault(Some(StoreFault::Fail));
        assert_eq!(store.append(&room, &[message(1)]).await, Err(MemoryStoreError::Fault));
        assert_eq!(store.page(&room, PageRange::Latest, 1).await, Err(MemoryStoreError::Fault));
        assert_eq!(store.messages(&room), []);
        store.set_fault(Some(StoreFault::LoseAnswers));
        assert_eq!(store.append(&room, &[message(1)]).await, Err(MemoryStoreError::Fault));
        assert_eq!(store.messages(&room), [message(1)]);
        assert_eq!((store.appends(), store.pages()), (2, 1));
    }

    #[tokio::test]
    async fn it_hangs_on_demand() {
        let (store, room) = (MemoryStore::new(), RoomId::from("r"));
        store.set_fault(Some(StoreFault::Hang));
        let messages = [message(1)];
        let mut append = pin!(store.append(&room, &messages));
        poll_fn(|cx| {
            assert!(append.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        store.until_appends(1).await;
        assert_eq!(store.messages(&room), []);
        store.set_fault(None);
        assert!(append.await.is_ok());
        assert_eq!(store.messages(&room), [message(1)]);
    }
}

//! Checks that a store keeps the rules of [`MessageStore`].
//!
//! Run them as a test of your store:
//!
//! ```
//! use tower_chat_rooms::store::{MemoryStore, conformance};
//!
//! # #[tokio::main]
//! # async fn main() {
//! conformance::check(MemoryStore::new()).await;
//! # }
//! ```
//!
//! Available with the feature `test-util`.

mod appends;
mod concurrency;
mod pages;
mod texts;

use std::sync::Arc;
use std::time::SystemTime;

use crate::ids::{MessageId, RoomId};
use crate::store::erased::{ErasedStore, StoreError};
use crate::store::{MAX_PAGE, MessageStore, PageRange, StoredMessage};

/// Checks that a store keeps the rules of [`MessageStore`].
///
/// The checks need a tokio runtime. They use rooms with random ids, so they can run with a database that others use at
/// the same time. They leave about 5 MB of messages there. The names of their rooms begin with `conformance-`, apart
/// from a few with odd names that end with it.
///
/// # Panics
///
/// If the store breaks a rule. The message says which one.
pub async fn check(store: impl MessageStore) {
    let suite = Suite { store: Arc::new(store) };
    suite.check_pages().await;
    suite.check_appends().await;
    suite.check_texts().await;
    suite.check_concurrency().await;
}

/// The checks, each of which uses rooms of its own.
struct Suite {
    store: Arc<dyn ErasedStore>,
}

/// A room that only one check uses.
struct TestRoom {
    store: Arc<dyn ErasedStore>,
    id: RoomId,
    last: Option<MessageId>,
}

impl Suite {
    fn room(&self) -> TestRoom {
        self.room_called(&format!("conformance-{}", random()))
    }

    fn room_called(&self, name: &str) -> TestRoom {
        TestRoom { store: self.store.clone(), id: RoomId::from(name), last: None }
    }
}

impl TestRoom {
    /// A message with the next id, with all that a message of a member has except for a key.
    fn message(&mut self, text: &str) -> StoredMessage {
        let id = MessageId::next(self.last, SystemTime::now());
        self.last = Some(id);
        let connection = (id.as_u64() % 1000).to_string().parse().expect("a number is a connection id");
        StoredMessage::new(id, format!("{{\"event\":\"message\",\"message\":\"{text}\"}}"))
            .with_connection(connection)
            .with_user("u-1")
            .with_name("Ann")
    }

    fn messages<const N: usize>(&mut self, texts: [&str; N]) -> [StoredMessage; N] {
        texts.map(|text| self.message(text))
    }

    /// The same with keys that only this room uses.
    fn keyed<const N: usize>(&mut self, texts: [&str; N]) -> [StoredMessage; N] {
        texts.map(|text| self.message(text).with_key(format!("{text}-{}", random())))
    }

    async fn try_append(&self, messages: &[StoredMessage]) -> Result<Vec<MessageId>, StoreError> {
        self.store.append(&self.id, messages).await
    }

    async fn append(&self, messages: &[StoredMessage]) -> Vec<MessageId> {
        self.try_append(messages)
            .await
            .unwrap_or_else(|error| panic!("append to {:?} fails: {error}", self.id))
    }

    async fn page(&self, range: PageRange, limit: usize) -> Vec<StoredMessage> {
        let page = self.store.page(&self.id, range, limit).await;
        page.unwrap_or_else(|error| panic!("page of {:?} fails: {error}", self.id))
    }

    /// Checks that the room has exactly these messages.
    async fn check(&self, rule: &str, messages: &[StoredMessage]) {
        assert!(messages.len() <= MAX_PAGE);
        let stored = self.page(PageRange::Latest, MAX_PAGE).await;
        assert!(
            stored == messages,
            "{rule}: the room {:?} should have these messages:\n{messages:?}\nbut has these (bodies may differ, \
             too):\n{stored:?}",
            self.id,
        );
    }
}

fn ids(messages: &[StoredMessage]) -> Vec<MessageId> {
    messages.iter().map(StoredMessage::id).collect()
}

/// 64 random bits as text.
fn random() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system provides randomness");
    format!("{:016x}", u64::from_ne_bytes(bytes))
}

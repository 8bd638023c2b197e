//! Durable message history: messages in a database of yours.
//!
//! A [`MessageStore`] keeps the messages of rooms and returns them in pages. The crate `tower-chat-rooms-store` has
//! stores for SQLite and Postgres. To keep messages elsewhere, implement the trait, and run the checks of
//! `store::conformance` (feature `test-util`) against your implementation.

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
pub(crate) mod erased;
#[cfg(any(test, feature = "test-util"))]
mod memory;
mod message;
mod message_store;

#[cfg(any(test, feature = "test-util"))]
pub use memory::{MemoryStore, MemoryStoreError, StoreFault};
pub use message::StoredMessage;
pub use message_store::{MAX_APPEND, MAX_PAGE, MessageStore, PageRange};

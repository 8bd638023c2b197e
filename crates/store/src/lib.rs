//! Message stores for [tower-chat-rooms](tower_chat_rooms): durable chat history in SQLite or Postgres.
//!
//! | feature | adds |
//! |---|---|
//! | `sqlite` | `SqliteStore`. Compiles SQLite from its source, unless you set the environment variable `LIBSQLITE3_SYS_USE_PKG_CONFIG=1`, which links the system's library |
//! | `postgres` | `PostgresStore` |
//! | `rustls` | TLS to Postgres (`?sslmode=verify-full`), with the certificates that the system trusts |
//!
#![cfg_attr(feature = "sqlite", doc = "```no_run")]
#![cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
//! use std::time::SystemTime;
//! use tower_chat_rooms::store::{MessageStore, PageRange, StoredMessage};
//! use tower_chat_rooms::{MessageId, RoomId};
//! use tower_chat_rooms_store::SqliteStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_chat_rooms_store::Error> {
//! let store = SqliteStore::connect("sqlite:chat.db").await?;
//! store.migrate().await?;
//!
//! // For example, messages from before you used the chat rooms.
//! let room = RoomId::from("lobby");
//! let id = MessageId::next(None, SystemTime::now());
//! let message = StoredMessage::new(id, r#"{"event":"message","message":"Welcome"}"#);
//! store.append(&room, &[message.clone()]).await?;
//! assert_eq!(store.page(&room, PageRange::Latest, 50).await?, [message]);
//! # Ok(())
//! # }
//! ```
//!
//! # Table
//!
//! Both stores keep messages in the table `chat_rooms_messages`, which `migrate` creates. You can read and delete
//! messages with your own SQL:
//!
//! | column | |
//! |---|---|
//! | `room` | the room's id |
//! | `id` | the message's id, which gives the order of a room's messages. `(id >> 12)` is the time in milliseconds since 2020-01-01T00:00:00Z |
//! | `key` | prevents a message that is sent again from being stored twice; unique in the room |
//! | `connection` | the sender's connection, as a decimal number; null if the host has sent the message |
//! | `user_id` | the id of the sender, if it is a user |
//! | `name` | the sender's name in the room |
//! | `body` | the frame that the sender has sent, a JSON object as text. In Postgres, if the message is text, `body::json->>'message'` returns it |
//!
//! With Postgres, the table is in the first schema of the connection's `search_path`, which you can set in the URL:
//! `postgres://localhost/app?options[search_path]=chat`. The table `chat_rooms_migrations` contains the versions of the
//! tables. The crate does not use sqlx's own table of migrations, because your application may use that one.
//!
//! # Durability
//!
//! When [`append`](tower_chat_rooms::store::MessageStore::append) returns, the messages are on the disk, unless you
//! have configured the database differently (`synchronous`, `synchronous_commit`). If a call fails or is dropped, repeat
//! it. Messages that are already stored are not stored again.
//!
//! # Retention
//!
//! Nothing is deleted unless you call `delete_older`, `delete_before` or `delete_room`, for example once per hour. If a
//! message is sent again under its key after it was deleted, it is stored again.

/// Compiles and runs the recipe for the message store.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../../../docs/cookbook/message-store.md")]
pub struct Recipe;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod error;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod reads;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod row;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use error::{Error, ErrorKind};
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;

/// The version of sqlx whose pools the stores use.
pub use sqlx;

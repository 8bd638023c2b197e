//! Messages in SQLite.

mod writer;

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use tower_chat_rooms::store::{MessageStore, PageRange, StoredMessage};
use tower_chat_rooms::{MessageId, RoomId};

use crate::error::Error;
use crate::reads::Reads;
use crate::row::{self, Row, limit, number};
use writer::Writer;

/// Each version of the tables, beginning with 1.
const MIGRATIONS: [&str; 1] = [include_str!("1_messages.sql")];

/// How long a call waits while another process writes. Two such waits are shorter than the default
/// `Timeouts::store_timeout`, so the log says why an append has failed, and not only that it has taken too long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// A [store](MessageStore) in a SQLite database. Several processes on one machine may use the same database if they share
/// their rooms through a [broker](tower_chat_rooms::ChatRoomsBuilder::broker).
///
/// SQLite has one writer at a time, and waits for the disk at the end of each transaction. So the store collects the
/// appends of all rooms that arrive during a write, and writes them in one transaction. Readers do not wait for writers.
/// Clones share the connections.
///
/// ```no_run
/// use std::time::Duration;
/// use tower_chat_rooms_store::SqliteStore;
///
/// # async fn run() -> Result<(), tower_chat_rooms_store::Error> {
/// let store = SqliteStore::connect("sqlite:chat.db").await?;
/// store.migrate().await?;
/// let deleted = store.delete_older(Duration::from_secs(90 * 24 * 60 * 60)).await?;
/// println!("{deleted} messages were older than 90 days");
/// # Ok(())
/// # }
/// ```
///
/// Available with the feature `sqlite`.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
    writer: Arc<Writer>,
    reads: Reads,
}

impl SqliteStore {
    /// Opens a database, with a URL such as `sqlite:chat.db` or `sqlite:///var/lib/chat/chat.db`. Creates the file if
    /// it does not exist.
    ///
    /// The store uses a write-ahead log, and each append is on the disk before it returns (`synchronous = FULL`). For
    /// other settings, use [`SqliteStore::from_pool`]. A database in memory is not supported, because it would be lost
    /// when an idle connection is closed.
    ///
    /// # Errors
    ///
    /// If the URL is not valid, or the file cannot be opened or created.
    pub async fn connect(url: &str) -> Result<SqliteStore, Error> {
        if !url.starts_with("sqlite:") {
            return Err(Error::scheme("`sqlite:`"));
        }
        let options = SqliteConnectOptions::from_str(url)?
            .create_if_missing(true)
            .busy_timeout(BUSY_TIMEOUT)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new().max_connections(5).connect_with(options).await?;
        Ok(SqliteStore::from_pool(pool))
    }

    /// Uses the connections of your own pool. Configure a write-ahead log. Otherwise, readers and writers wait for each
    /// other.
    pub fn from_pool(pool: SqlitePool) -> SqliteStore {
        let options = pool.options();
        let reads = Reads::new(options.get_max_connections(), options.get_acquire_timeout());
        SqliteStore { writer: Arc::new(Writer::new(pool.clone())), reads, pool }
    }

    /// Creates the tables, or changes them to what this version of the crate needs. Does nothing if they are up to date.
    ///
    /// # Errors
    ///
    /// If the tables could not be created.
    pub async fn migrate(&self) -> Result<(), Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::raw_sql(
            "CREATE TABLE IF NOT EXISTS chat_rooms_migrations (version INTEGER PRIMARY KEY) STRICT",
        )
        .execute(&mut *transaction)
        .await?;
        let version: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM chat_rooms_migrations")
            .fetch_one(&mut *transaction)
            .await?;
        for (new, script) in (1i64..).zip(MIGRATIONS).filter(|(new, _)| *new > version) {
            sqlx::raw_sql(script).execute(&mut *transaction).await?;
            sqlx::query("INSERT INTO chat_rooms_migrations (version) VALUES (?)")
                .bind(new)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Deletes the messages of a room with lower ids than this one, and returns their number. [`MessageId::first_at`]
    /// returns the id for a time.
    ///
    /// # Errors
    ///
    /// If not all of the messages could be deleted.
    pub async fn delete_before(&self, room: &RoomId, id: MessageId) -> Result<u64, Error> {
        self.writer.delete(Some(room), number(id)).await
    }

    /// Deletes the messages of all rooms that are older than this, and returns their number.
    ///
    /// # Errors
    ///
    /// If not all of the messages could be deleted.
    pub async fn delete_older(&self, age: Duration) -> Result<u64, Error> {
        self.writer.delete(None, number(row::first_younger(age, SystemTime::now()))).await
    }

    /// Deletes all messages of a room, and returns their number.
    ///
    /// # Errors
    ///
    /// If not all of the messages could be deleted.
    pub async fn delete_room(&self, room: &RoomId) -> Result<u64, Error> {
        self.writer.delete(Some(room), i64::MAX).await
    }

    /// Closes all connections. Later calls fail.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl MessageStore for SqliteStore {
    type Error = Error;

    async fn append(&self, room: &RoomId, messages: &[StoredMessage]) -> Result<Vec<MessageId>, Error> {
        self.writer.append(room, messages).await
    }

    async fn page(
        &self,
        room: &RoomId,
        range: PageRange,
        messages: usize,
    ) -> Result<Vec<StoredMessage>, Error> {
        let (sql, end) = match range {
            PageRange::Latest => (PAGE_BEFORE, i64::MAX),
            PageRange::Before(id) => (PAGE_BEFORE, number(id)),
            PageRange::After(id) => (PAGE_AFTER, number(id)),
        };
        let query = sqlx::query_as(sql).bind(room.as_str()).bind(end).bind(limit(messages));
        let read = async { Ok(query.fetch_all(&self.pool).await?) };
        let rows: Vec<Row> = self.reads.run(read).await?;
        let mut page: Vec<_> = rows.into_iter().map(row::message).collect::<Result<_, _>>()?;
        if !matches!(range, PageRange::After(_)) {
            page.reverse();
        }
        Ok(page)
    }
}

const PAGE_BEFORE: &str = "SELECT id, key, connection, user_id, name, body FROM chat_rooms_messages \
     WHERE room = ? AND id < ? ORDER BY id DESC LIMIT ?";

const PAGE_AFTER: &str = "SELECT id, key, connection, user_id, name, body FROM chat_rooms_messages \
     WHERE room = ? AND id > ? ORDER BY id LIMIT ?";

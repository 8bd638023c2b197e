//! Messages in Postgres.

mod append;
mod call;

use std::time::{Duration, Instant, SystemTime};

use sqlx::postgres::{PgPool, PgPoolOptions};
use tower_chat_rooms::store::{MessageStore, PageRange, StoredMessage};
use tower_chat_rooms::{MessageId, RoomId};

use crate::error::Error;
use crate::reads::Reads;
use crate::row::{self, Row, limit, number};
use call::Call;

/// Each version of the tables, beginning with 1.
const MIGRATIONS: [&str; 1] = [include_str!("1_messages.sql")];

/// How long a call waits for a connection. Two such waits are shorter than the default `Timeouts::store_timeout`, so the
/// log says why an append has failed, and not only that it has taken too long.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the first connection may take. The database may be starting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The advisory lock of migrations. With it, processes that start at the same time migrate one after the other.
const MIGRATION_LOCK: i64 = 0x6368_6174_726f_6f6d;

/// A [store](MessageStore) in a Postgres database. Several processes may use the same database if they share their rooms
/// through a [broker](tower_chat_rooms::ChatRoomsBuilder::broker).
///
/// An append needs one statement, unless messages are appended again. If a call is dropped before it completes, its
/// connection is closed, because the server may be gone and other calls need the place in the pool. Clones share the
/// connections.
///
/// ```no_run
/// use std::time::Duration;
/// use tower_chat_rooms_store::PostgresStore;
///
/// # async fn run() -> Result<(), tower_chat_rooms_store::Error> {
/// let store = PostgresStore::connect("postgres://chat:secret@localhost/app").await?;
/// store.migrate().await?;
/// let deleted = store.delete_older(Duration::from_secs(90 * 24 * 60 * 60)).await?;
/// println!("{deleted} messages were older than 90 days");
/// # Ok(())
/// # }
/// ```
///
/// Behind PgBouncer in transaction mode, use [`PostgresStore::from_pool`] with `statement_cache_capacity(0)`, or let
/// PgBouncer 1.21 or later track prepared statements.
///
/// Available with the feature `postgres`.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    pool: PgPool,
    reads: Reads,
}

impl PostgresStore {
    /// Connects to a database with a URL such as `postgres://user:password@host/database`, with at most 10 connections.
    /// A call waits at most 2 s for one of them, and then fails. Clients that read leave a quarter of the connections to
    /// messages that are to be stored. For other settings, use [`PostgresStore::from_pool`].
    ///
    /// # Errors
    ///
    /// If the URL is not valid, or the database cannot be reached within 5 s or refuses the user.
    pub async fn connect(url: &str) -> Result<PostgresStore, Error> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(Error::scheme("`postgres://`"));
        }
        let pool = options().connect_lazy(url)?;
        let begin = Instant::now();
        while let Err(error) = pool.acquire().await {
            if !matches!(error, sqlx::Error::PoolTimedOut) || begin.elapsed() >= CONNECT_TIMEOUT {
                return Err(error.into());
            }
        }
        Ok(PostgresStore::from_pool(pool))
    }

    /// Uses the connections of your own pool.
    ///
    /// Set its `acquire_timeout` to less than half of [`store_timeout`](tower_chat_rooms::Timeouts::store_timeout).
    /// Otherwise, the log says only that the store does not answer in time, and not that the database cannot be reached.
    pub fn from_pool(pool: PgPool) -> PostgresStore {
        let options = pool.options();
        let reads = Reads::new(options.get_max_connections(), options.get_acquire_timeout());
        PostgresStore { pool, reads }
    }

    /// Creates the tables, or changes them to what this version of the crate needs. Does nothing if they are up to date.
    /// Several processes may call it at the same time.
    ///
    /// # Errors
    ///
    /// If the tables could not be created, for example because the user may not create tables. Then call it once as
    /// another user, or create the table yourself.
    pub async fn migrate(&self) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(MIGRATION_LOCK)
            .execute(&mut *transaction)
            .await?;
        // Even `CREATE TABLE IF NOT EXISTS` needs the privilege to create tables.
        let is_new: bool = sqlx::query_scalar("SELECT to_regclass('chat_rooms_migrations') IS NULL")
            .fetch_one(&mut *transaction)
            .await?;
        if is_new {
            sqlx::raw_sql("CREATE TABLE chat_rooms_migrations (version BIGINT PRIMARY KEY)")
                .execute(&mut *transaction)
                .await?;
        }
        let version: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM chat_rooms_migrations")
            .fetch_one(&mut *transaction)
            .await?;
        for (new, script) in (1i64..).zip(MIGRATIONS).filter(|(new, _)| *new > version) {
            sqlx::raw_sql(script).execute(&mut *transaction).await?;
            sqlx::query("INSERT INTO chat_rooms_migrations (version) VALUES ($1)")
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
    /// If the messages could not be deleted.
    pub async fn delete_before(&self, room: &RoomId, id: MessageId) -> Result<u64, Error> {
        let statement = sqlx::query("DELETE FROM chat_rooms_messages WHERE room = $1 AND id < $2");
        let deleted = statement.bind(room.as_str()).bind(number(id)).execute(&self.pool).await?;
        Ok(deleted.rows_affected())
    }

    /// Deletes the messages of all rooms that are older than this, and returns their number.
    ///
    /// # Errors
    ///
    /// If the messages could not be deleted.
    pub async fn delete_older(&self, age: Duration) -> Result<u64, Error> {
        let end = row::first_younger(age, SystemTime::now());
        let statement = sqlx::query("DELETE FROM chat_rooms_messages WHERE id < $1");
        Ok(statement.bind(number(end)).execute(&self.pool).await?.rows_affected())
    }

    /// Deletes all messages of a room, and returns their number.
    ///
    /// # Errors
    ///
    /// If the messages could not be deleted.
    pub async fn delete_room(&self, room: &RoomId) -> Result<u64, Error> {
        let statement = sqlx::query("DELETE FROM chat_rooms_messages WHERE room = $1");
        Ok(statement.bind(room.as_str()).execute(&self.pool).await?.rows_affected())
    }

    /// Closes all connections. Later calls fail.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn options() -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(10)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // Test a connection only after a pause. A test before each call would double the time of an append.
        .test_before_acquire(false)
        .before_acquire(|connection, metadata| {
            Box::pin(async move {
                if metadata.idle_for >= Duration::from_secs(1) {
                    sqlx::Connection::ping(connection).await?;
                }
                Ok(true)
            })
        })
}

impl MessageStore for PostgresStore {
    type Error = Error;

    async fn append(&self, room: &RoomId, messages: &[StoredMessage]) -> Result<Vec<MessageId>, Error> {
        let mut call = Call::begin(&self.pool).await?;
        let ids = append::append(call.connection(), room, messages).await;
        call.end(ids)
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
        let read = async {
            let mut call = Call::begin(&self.pool).await?;
            let rows = query.fetch_all(call.connection()).await.map_err(Error::from);
            call.end(rows)
        };
        let rows: Vec<Row> = self.reads.run(read).await?;
        let mut page: Vec<_> = rows.into_iter().map(row::message).collect::<Result<_, _>>()?;
        if !matches!(range, PageRange::After(_)) {
            page.reverse();
        }
        Ok(page)
    }
}

const PAGE_BEFORE: &str = "SELECT id, key, connection, user_id, name, body FROM chat_rooms_messages \
     WHERE room = $1 AND id < $2 ORDER BY id DESC LIMIT $3";

const PAGE_AFTER: &str = "SELECT id, key, connection, user_id, name, body FROM chat_rooms_messages \
     WHERE room = $1 AND id > $2 ORDER BY id LIMIT $3";

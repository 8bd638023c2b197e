//! The flags of the store that keeps messages.

use std::error::Error;

use clap::{Args, ValueEnum};
use tower_chat_rooms::store::{MessageStore, PageRange};
use tower_chat_rooms::{ChatRoomsBuilder, Keep, RoomId};
use tower_chat_rooms_store::{PostgresStore, SqliteStore};

#[derive(Debug, Args)]
pub(crate) struct Store {
    /// Database that keeps all messages: `sqlite:chat.db` or `postgres://user:password@host/database`
    #[arg(long = "store", env = "CHAT_STORE", value_name = "URL")]
    url: Option<String>,

    /// Whether messages are stored before the members of a room get them, or afterwards
    #[arg(long = "store-messages", env = "CHAT_STORE_MESSAGES", default_value = "first", requires = "url")]
    when: When,
}

/// [`Keep`] as a flag.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum When {
    /// Before
    First,
    /// Afterwards; a crash may lose the latest messages
    Behind,
}

/// A database.
enum Database {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl Store {
    /// Connects to the database, if there is one, and creates its tables.
    pub(crate) async fn apply(
        &self,
        builder: ChatRoomsBuilder,
    ) -> Result<ChatRoomsBuilder, Box<dyn Error + Send + Sync>> {
        let builder = match self.connect().await? {
            None => return Ok(builder),
            Some(Database::Sqlite(store)) => {
                store.migrate().await?;
                builder.store(store)
            }
            Some(Database::Postgres(store)) => {
                store.migrate().await?;
                builder.store(store)
            }
        };
        Ok(builder.keep(match self.when {
            When::First => Keep::First,
            When::Behind => Keep::Behind,
        }))
    }

    /// Returns an error unless the database can be read, if there is one.
    pub(crate) async fn check(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let (room, range) = (RoomId::from(""), PageRange::Latest);
        match self.connect().await? {
            None => {}
            Some(Database::Sqlite(store)) => drop(store.page(&room, range, 1).await?),
            Some(Database::Postgres(store)) => drop(store.page(&room, range, 1).await?),
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Option<Database>, Box<dyn Error + Send + Sync>> {
        let Some(url) = &self.url else { return Ok(None) };
        Ok(Some(match url.split_once(':') {
            Some(("sqlite", _)) => Database::Sqlite(SqliteStore::connect(url).await?),
            Some(("postgres" | "postgresql", _)) => Database::Postgres(PostgresStore::connect(url).await?),
            _ => return Err("--store: the URL must begin with `sqlite:` or `postgres:`".into()),
        }))
    }
}

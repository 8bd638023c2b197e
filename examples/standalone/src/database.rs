//! The database that the flags about the store describe.

use std::error::Error;

use tower_chat_rooms::store::{MessageStore, PageRange};
use tower_chat_rooms::{ChatRoomsBuilder, Keep, RoomId};
use tower_chat_rooms_store::{ErrorKind, PostgresStore, SqliteStore};

use crate::store::When;

enum Database {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

/// Connects to the database, and creates its tables.
pub(crate) async fn apply(
    url: &str,
    when: When,
    builder: ChatRoomsBuilder,
) -> Result<ChatRoomsBuilder, Box<dyn Error + Send + Sync>> {
    let builder = match connect(url).await? {
        Database::Sqlite(store) => {
            store.migrate().await?;
            builder.store(store)
        }
        Database::Postgres(store) => {
            store.migrate().await?;
            builder.store(store)
        }
    };
    Ok(builder.keep(match when {
        When::First => Keep::First,
        When::Behind => Keep::Behind,
    }))
}

/// Returns an error unless the database can be read.
pub(crate) async fn check(url: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (room, range) = (RoomId::from(""), PageRange::Latest);
    match connect(url).await? {
        Database::Sqlite(store) => drop(store.page(&room, range, 1).await?),
        Database::Postgres(store) => drop(store.page(&room, range, 1).await?),
    }
    Ok(())
}

async fn connect(url: &str) -> Result<Database, Box<dyn Error + Send + Sync>> {
    match url.split_once(':') {
        Some(("sqlite", _)) => Ok(Database::Sqlite(SqliteStore::connect(url).await?)),
        Some(("postgres" | "postgresql", rest)) => match PostgresStore::connect(url).await {
            Ok(store) => Ok(Database::Postgres(store)),
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                Err(format!("--store: Postgres{} cannot be reached: {error}", at_host(rest)).into())
            }
            Err(error) => Err(error.into()),
        },
        _ => Err("--store: the URL must begin with `sqlite:` or `postgres:`".into()),
    }
}

/// Where the database is, without the user and the password. Takes the URL after its scheme.
fn at_host(rest: &str) -> String {
    // The parameters may contain a password, too.
    let authority = rest.trim_start_matches("//").split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if host.is_empty() { String::new() } else { format!(" at {host}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_named_without_the_password() {
        for (rest, expected) in [
            ("//ann:secret@db.example:5433/chat?sslmode=require", " at db.example:5433"),
            ("//ann:s@cret@[::1]/chat", " at [::1]"),
            ("//db.example?password=s@cret", " at db.example"),
            ("//db.example", " at db.example"),
            ("///chat?host=/run/postgresql", ""),
        ] {
            assert_eq!(at_host(rest), expected, "{rest}");
        }
    }
}

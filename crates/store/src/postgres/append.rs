//! Appends to a room.

use std::collections::HashMap;

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tower_chat_rooms::store::StoredMessage;
use tower_chat_rooms::{MessageId, RoomId};

use crate::error::Error;
use crate::row::{self, Row, number};

/// Appends messages and returns the ids under which they are stored.
pub(super) async fn append(
    connection: &mut PgConnection,
    room: &RoomId,
    messages: &[StoredMessage],
) -> Result<Vec<MessageId>, Error> {
    let columns = Columns::of(messages);
    match columns.insert(connection, INSERT_NEW, room).await {
        Ok(inserted) if inserted == messages.len() as u64 => {
            Ok(messages.iter().map(StoredMessage::id).collect())
        }
        Ok(_) => ids_of(messages, &columns.stored(connection, room).await?),
        // One of the ids exists, probably because the append is repeated. Nothing was stored.
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            let mut transaction = connection.begin().await?;
            columns.insert(&mut transaction, INSERT_MISSING, room).await?;
            let ids = ids_of(messages, &columns.stored(&mut transaction, room).await?)?;
            transaction.commit().await?;
            Ok(ids)
        }
        Err(error) => Err(error.into()),
    }
}

/// Inserts the messages whose keys do not exist. Fails if one of their ids exists.
const INSERT_NEW: &str = "INSERT INTO chat_rooms_messages (room, id, key, connection, user_id, name, body) \
     SELECT $1, id, key, connection, user_id, name, body \
     FROM UNNEST($2::BIGINT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[]) WITH ORDINALITY \
     AS new (id, key, connection, user_id, name, body, position) ORDER BY position \
     ON CONFLICT (room, key) WHERE key IS NOT NULL DO NOTHING";

/// Inserts the messages whose keys and ids do not exist.
const INSERT_MISSING: &str = "INSERT INTO chat_rooms_messages (room, id, key, connection, user_id, name, body) \
     SELECT $1, id, key, connection, user_id, name, body \
     FROM UNNEST($2::BIGINT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[]) WITH ORDINALITY \
     AS new (id, key, connection, user_id, name, body, position) ORDER BY position \
     ON CONFLICT DO NOTHING";

const STORED: &str = "SELECT id, key, connection, user_id, name, body FROM chat_rooms_messages \
     WHERE room = $1 AND (id = ANY($2) OR key = ANY($3))";

/// The columns of messages, as the parameters of a statement.
struct Columns<'a> {
    ids: Vec<i64>,
    keys: Vec<Option<&'a str>>,
    connections: Vec<Option<String>>,
    users: Vec<Option<&'a str>>,
    names: Vec<Option<&'a str>>,
    bodies: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    fn of(messages: &'a [StoredMessage]) -> Columns<'a> {
        let connection = |message: &StoredMessage| message.connection().map(|id| id.to_string());
        Columns {
            ids: messages.iter().map(|message| number(message.id())).collect(),
            keys: messages.iter().map(StoredMessage::key).collect(),
            connections: messages.iter().map(connection).collect(),
            users: messages.iter().map(StoredMessage::user).collect(),
            names: messages.iter().map(StoredMessage::name).collect(),
            bodies: messages.iter().map(StoredMessage::body).collect(),
        }
    }

    /// Returns how many messages were inserted.
    async fn insert(
        &self,
        connection: &mut PgConnection,
        statement: &'static str,
        room: &RoomId,
    ) -> sqlx::Result<u64> {
        let inserted = sqlx::query(statement)
            .bind(room.as_str())
            .bind(&self.ids)
            .bind(&self.keys)
            .bind(&self.connections)
            .bind(&self.users)
            .bind(&self.names)
            .bind(&self.bodies)
            .execute(connection)
            .await?;
        Ok(inserted.rows_affected())
    }

    /// Returns the messages of the room that have one of the ids or keys.
    async fn stored(
        &self,
        connection: &mut PgConnection,
        room: &RoomId,
    ) -> Result<Vec<StoredMessage>, Error> {
        let rows: Vec<Row> = sqlx::query_as(STORED)
            .bind(room.as_str())
            .bind(&self.ids)
            .bind(&self.keys)
            .fetch_all(connection)
            .await?;
        rows.into_iter().map(row::message).collect()
    }
}

/// Returns the ids under which messages are stored.
fn ids_of(messages: &[StoredMessage], stored: &[StoredMessage]) -> Result<Vec<MessageId>, Error> {
    let by_id: HashMap<_, _> = stored.iter().map(|message| (message.id(), message)).collect();
    let by_key: HashMap<_, _> =
        stored.iter().filter_map(|message| Some((message.key()?, message.id()))).collect();
    let id_of = |message: &StoredMessage| {
        if let Some(id) = message.key().and_then(|key| by_key.get(key)) {
            return Ok(*id);
        }
        match by_id.get(&message.id()) {
            Some(stored) if *stored == message => Ok(message.id()),
            Some(_) => Err(Error::id_taken(message.id())),
            None => Err(Error::deleted_meanwhile()),
        }
    };
    messages.iter().map(id_of).collect()
}

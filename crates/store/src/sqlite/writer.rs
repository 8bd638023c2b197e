//! The writer of a database, which writes one transaction at a time.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::sqlite::{SqliteConnection, SqlitePool};
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tower_chat_rooms::store::StoredMessage;
use tower_chat_rooms::{MessageId, RoomId};

use crate::error::{Error, ErrorKind};
use crate::row::{self, Row, number};

/// How many messages are deleted at a time. Appends wait meanwhile.
const DELETED_AT_ONCE: u64 = 1000;

/// Writes the waiting appends in one transaction. The first append that gets its turn also writes the others.
pub(super) struct Writer {
    pool: SqlitePool,
    waiting: Mutex<Vec<Append>>,
    turn: AsyncMutex<()>,
}

struct Append {
    room: RoomId,
    messages: Vec<StoredMessage>,
    answer: oneshot::Sender<Result<Vec<MessageId>, Error>>,
}

impl Writer {
    pub(super) fn new(pool: SqlitePool) -> Writer {
        Writer { pool, waiting: Mutex::default(), turn: AsyncMutex::default() }
    }

    pub(super) async fn append(
        self: &Arc<Writer>,
        room: &RoomId,
        messages: &[StoredMessage],
    ) -> Result<Vec<MessageId>, Error> {
        let (answer, answered) = oneshot::channel();
        self.waiting().push(Append { room: room.clone(), messages: messages.to_vec(), answer });
        // In a task, because sqlx leaves a transaction open if its future is dropped while the transaction begins.
        let writer = self.clone();
        tokio::spawn(async move {
            let _turn = writer.turn.lock().await;
            writer.write_waiting().await;
        });
        answered.await.unwrap_or_else(|_| Err(sqlx::Error::WorkerCrashed.into()))
    }

    /// Deletes the messages with lower ids, of one room or of all, some at a time.
    pub(super) async fn delete(&self, room: Option<&RoomId>, end: i64) -> Result<u64, Error> {
        let mut total = 0;
        loop {
            let _turn = self.turn.lock().await;
            let statement = match room {
                Some(room) => sqlx::query(DELETE_IN_ROOM).bind(room.as_str()),
                None => sqlx::query(DELETE),
            };
            let statement = statement.bind(end).bind(DELETED_AT_ONCE.cast_signed());
            let deleted = statement.execute(&self.pool).await?.rows_affected();
            total += deleted;
            if deleted < DELETED_AT_ONCE {
                return Ok(total);
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Append>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write_waiting(&self) {
        let mut appends = std::mem::take(&mut *self.waiting());
        // Their calls were dropped, so nobody expects the messages to be stored.
        appends.retain(|append| !append.answer.is_closed());
        if appends.is_empty() {
            return;
        }
        match self.write(&appends).await {
            Ok(answers) => {
                for (append, ids) in appends.into_iter().zip(answers) {
                    let _ = append.answer.send(Ok(ids));
                }
            }
            // No append is stored. Perhaps only one of them is the reason, so each is written by itself.
            Err(error) if error.kind() != ErrorKind::Unavailable && appends.len() > 1 => {
                for append in appends {
                    let answer = self.write(std::slice::from_ref(&append)).await;
                    let _ = append.answer.send(answer.map(|ids| ids.into_iter().flatten().collect()));
                }
            }
            Err(error) => {
                for append in appends {
                    let _ = append.answer.send(Err(error.clone()));
                }
            }
        }
    }

    async fn write(&self, appends: &[Append]) -> Result<Vec<Vec<MessageId>>, Error> {
        // With a plain BEGIN, the transaction would fail if another process writes after it has begun.
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut answers = Vec::with_capacity(appends.len());
        for append in appends {
            let mut ids = Vec::with_capacity(append.messages.len());
            for message in &append.messages {
                ids.push(insert(&mut transaction, &append.room, message).await?);
            }
            answers.push(ids);
        }
        transaction.commit().await?;
        Ok(answers)
    }
}

/// Returns the id under which the message is stored.
async fn insert(
    connection: &mut SqliteConnection,
    room: &RoomId,
    message: &StoredMessage,
) -> Result<MessageId, Error> {
    let inserted = sqlx::query(INSERT)
        .bind(room.as_str())
        .bind(number(message.id()))
        .bind(message.key())
        .bind(message.connection().map(|connection| connection.to_string()))
        .bind(message.user())
        .bind(message.name())
        .bind(message.body())
        .execute(&mut *connection)
        .await?;
    if inserted.rows_affected() == 1 {
        return Ok(message.id());
    }
    if let Some(key) = message.key() {
        let with_key: Option<i64> = sqlx::query_scalar(ID_OF_KEY)
            .bind(room.as_str())
            .bind(key)
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(id) = with_key {
            return row::id(id);
        }
    }
    let with_id: Row =
        sqlx::query_as(MESSAGE).bind(room.as_str()).bind(number(message.id())).fetch_one(connection).await?;
    if row::message(with_id)? == *message { Ok(message.id()) } else { Err(Error::id_taken(message.id())) }
}

const INSERT: &str = "INSERT INTO chat_rooms_messages (room, id, key, connection, user_id, name, body) \
     VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";

const ID_OF_KEY: &str = "SELECT id FROM chat_rooms_messages WHERE room = ? AND key = ?";

const MESSAGE: &str = "SELECT id, key, connection, user_id, name, body FROM chat_rooms_messages \
     WHERE room = ? AND id = ?";

const DELETE_IN_ROOM: &str = "DELETE FROM chat_rooms_messages WHERE (room, id) IN \
     (SELECT room, id FROM chat_rooms_messages WHERE room = ? AND id < ? LIMIT ?)";

const DELETE: &str = "DELETE FROM chat_rooms_messages WHERE (room, id) IN \
     (SELECT room, id FROM chat_rooms_messages WHERE id < ? LIMIT ?)";

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("waiting", &self.waiting().len()).finish_non_exhaustive()
    }
}

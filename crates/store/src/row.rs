//! Rows of the table of messages.

use std::time::{Duration, SystemTime};

use tower_chat_rooms::MessageId;
use tower_chat_rooms::store::StoredMessage;

use crate::error::Error;

/// The columns `id`, `key`, `connection`, `user_id`, `name` and `body`.
pub(crate) type Row = (i64, Option<String>, Option<String>, Option<String>, Option<String>, String);

/// Ids are below 2^53.
pub(crate) fn number(id: MessageId) -> i64 {
    id.as_u64().cast_signed()
}

pub(crate) fn id(number: i64) -> Result<MessageId, Error> {
    u64::try_from(number).ok().and_then(MessageId::from_u64).ok_or_else(|| Error::unreadable(number))
}

/// The highest number of rows, as databases take it.
pub(crate) fn limit(messages: usize) -> i64 {
    i64::try_from(messages).unwrap_or(i64::MAX)
}

pub(crate) fn message((number, key, connection, user, name, body): Row) -> Result<StoredMessage, Error> {
    let mut message = StoredMessage::new(id(number)?, body);
    if let Some(key) = key {
        message = message.with_key(key);
    }
    if let Some(connection) = connection {
        message = message.with_connection(connection.parse().map_err(|_| Error::unreadable(number))?);
    }
    if let Some(user) = user {
        message = message.with_user(user);
    }
    if let Some(name) = name {
        message = message.with_name(name);
    }
    Ok(message)
}

/// The lowest id of a message that is not older than this.
pub(crate) fn first_younger(age: Duration, now: SystemTime) -> MessageId {
    MessageId::first_at(now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH))
}

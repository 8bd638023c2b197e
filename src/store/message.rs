//! A message as a store keeps it.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::ids::{ConnectionId, MessageId};

/// A message as a [store](crate::store::MessageStore) keeps it.
///
/// The server creates it from what a client sends. A store of your own creates it from what it reads in a database. You
/// can also create it in tests:
///
/// ```
/// use tower_chat_rooms::MessageId;
/// use tower_chat_rooms::store::StoredMessage;
///
/// let id: MessageId = "890123456789504".parse()?;
/// let message = StoredMessage::new(id, r#"{"event":"message","message":"hi"}"#)
///     .with_connection("17".parse()?)
///     .with_name("Ann");
/// assert_eq!(message.name(), Some("Ann"));
/// assert_eq!(message.user(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
// The texts are shared, because rooms clone messages under their locks.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredMessage {
    id: MessageId,
    key: Option<Arc<str>>,
    connection: Option<ConnectionId>,
    user: Option<Arc<str>>,
    name: Option<Arc<str>>,
    body: Arc<str>,
}

impl StoredMessage {
    /// Creates a message of the host, without a key, a user or a name. The body is a JSON object.
    pub fn new(id: MessageId, body: impl Into<String>) -> StoredMessage {
        let body = body.into().into();
        StoredMessage { id, key: None, connection: None, user: None, name: None, body }
    }

    /// Sets the [key](StoredMessage::key). U+0000 is replaced with U+FFFD.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> StoredMessage {
        self.key = Some(storable(key.into()));
        self
    }

    /// Sets the sender's connection.
    #[must_use]
    pub fn with_connection(mut self, connection: ConnectionId) -> StoredMessage {
        self.connection = Some(connection);
        self
    }

    /// Sets the id of the sender, an authenticated user. U+0000 is replaced with U+FFFD.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<String>) -> StoredMessage {
        self.user = Some(storable(user.into()));
        self
    }

    /// Sets the sender's name in the room. U+0000 is replaced with U+FFFD.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> StoredMessage {
        self.name = Some(storable(name.into()));
        self
    }

    /// The same message with another id.
    pub(crate) fn with_id(self, id: MessageId) -> StoredMessage {
        StoredMessage { id, ..self }
    }

    /// Returns the id, which is unique in the room.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Returns the key that the message has in addition to its id, if any. It is unique in the room. The sender sets
    /// it, so that a message that is sent again is not stored twice.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Returns the sender's connection, or `None` if the host has sent the message. A server with a store does not
    /// reuse connection ids, not even after a restart.
    pub fn connection(&self) -> Option<ConnectionId> {
        self.connection
    }

    /// Returns the id of the sender, if it is an authenticated user.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Returns the name that the sender had in the room, if any.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the frame, a JSON object, as the sender sent it or as the policy replaced it.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// Returns the time of the message. See [`MessageId::time`].
    pub fn time(&self) -> SystemTime {
        self.id.time()
    }
}

/// Replaces the character that Postgres cannot store.
fn storable(text: String) -> Arc<str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// Messages may be confidential, so the body is not shown.
impl fmt::Debug for StoredMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredMessage")
            .field("id", &self.id)
            .field("key", &self.key)
            .field("connection", &self.connection)
            .field("user", &self.user)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_no_nul_and_the_body_is_not_shown() {
        let message = StoredMessage::new(MessageId::MAX, "{\"message\":\"secret\"}")
            .with_key("a\0b")
            .with_user("\0")
            .with_name("Ann");
        assert_eq!((message.key(), message.user()), (Some("a\u{fffd}b"), Some("\u{fffd}")));
        let shown = format!("{message:?}");
        assert!(shown.contains("Ann") && !shown.contains("secret"), "{shown}");
    }
}

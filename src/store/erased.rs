//! Stores as trait objects, whose answers are checked.

use std::error::Error;
use std::fmt;
use std::pin::Pin;

use crate::ids::{MessageId, RoomId};
use crate::store::{MessageStore, PageRange, StoredMessage};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a call of a store has failed.
#[derive(Debug)]
pub(crate) struct StoreError(Box<dyn Error + Send + Sync>);

impl StoreError {
    pub(crate) fn panicked() -> StoreError {
        StoreError("the message store panicked".into())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// `MessageStore` as a trait object. If a store's answer breaks the rules of the trait, it returns an error instead,
/// because the engine relies on the rules.
pub(crate) trait ErasedStore: Send + Sync {
    fn append<'a>(
        &'a self,
        room: &'a RoomId,
        messages: &'a [StoredMessage],
    ) -> BoxFuture<'a, Result<Vec<MessageId>, StoreError>>;

    fn page<'a>(
        &'a self,
        room: &'a RoomId,
        range: PageRange,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredMessage>, StoreError>>;
}

impl<S: MessageStore> ErasedStore for S {
    fn append<'a>(
        &'a self,
        room: &'a RoomId,
        messages: &'a [StoredMessage],
    ) -> BoxFuture<'a, Result<Vec<MessageId>, StoreError>> {
        Box::pin(async move {
            let answer = MessageStore::append(self, room, messages).await;
            let ids = answer.map_err(|error| StoreError(error.into()))?;
            // Only a message with a key can be stored under another id.
            let is_valid = ids.len() == messages.len()
                && messages
                    .iter()
                    .zip(&ids)
                    .all(|(message, id)| message.key().is_some() || message.id() == *id);
            if is_valid { Ok(ids) } else { Err(broken("append", "the wrong ids")) }
        })
    }

    fn page<'a>(
        &'a self,
        room: &'a RoomId,
        range: PageRange,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredMessage>, StoreError>> {
        Box::pin(async move {
            let answer = MessageStore::page(self, room, range, limit).await;
            let messages = answer.map_err(|error| StoreError(error.into()))?;
            let is_valid = messages.len() <= limit
                && messages.is_sorted_by(|a, b| a.id() < b.id())
                && messages.iter().all(|message| range.contains(message.id()));
            if is_valid { Ok(messages) } else { Err(broken("page", "the wrong messages, or not in order")) }
        })
    }
}

fn broken(method: &str, what: &str) -> StoreError {
    StoreError(
        format!("`{method}` of the message store has returned {what}; check it with `store::conformance`")
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u64) -> StoredMessage {
        StoredMessage::new(MessageId::from_u64(id).unwrap(), "{}")
    }

    /// Answers whatever it is told to.
    struct Answers(Vec<StoredMessage>);

    impl MessageStore for Answers {
        type Error = String;

        async fn append(&self, _: &RoomId, _: &[StoredMessage]) -> Result<Vec<MessageId>, String> {
            Ok(self.0.iter().map(StoredMessage::id).collect())
        }

        async fn page(&self, _: &RoomId, _: PageRange, limit: usize) -> Result<Vec<StoredMessage>, String> {
            if limit == 0 { Err("out of order".into()) } else { Ok(self.0.clone()) }
        }
    }

    fn store(ids: &[u64]) -> Box<dyn ErasedStore> {
        Box::new(Answers(ids.iter().copied().map(message).collect()))
    }

    #[tokio::test]
    async fn answers_that_break_the_rules_are_errors() {
        let room = RoomId::from("r");
        let messages = [message(1), message(2).with_key("k")];
        for (ids, is_valid) in
            [(&[1, 2][..], true), (&[1, 7], true), (&[7, 2], false), (&[1], false), (&[1, 2, 3], false)]
        {
            assert_eq!(store(ids).append(&room, &messages).await.is_ok(), is_valid, "{ids:?}");
        }
        let after = PageRange::After(MessageId::from_u64(1).unwrap());
        for (ids, is_valid) in [
            (&[2, 3][..], true),
            (&[], true),
            (&[3, 2], false),
            (&[2, 2], false),
            (&[1, 2], false),
            (&[2, 3, 4, 5], false),
        ] {
            assert_eq!(store(ids).page(&room, after, 3).await.is_ok(), is_valid, "{ids:?}");
        }
        let error = store(&[]).page(&room, after, 0).await.unwrap_err();
        assert_eq!(error.to_string(), "out of order");
    }
}

//! Messages in a SQLite database.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use tower_chat_rooms::store::{MessageStore, PageRange, StoredMessage, conformance};
use tower_chat_rooms::{MessageId, RoomId};
use tower_chat_rooms_store::{ErrorKind, SqliteStore};

/// A directory for a database. It is deleted with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("chat-sqlite-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    async fn open(&self) -> SqliteStore {
        let store = SqliteStore::connect(&format!("sqlite:{}/chat.db", self.0.display())).await.unwrap();
        store.migrate().await.unwrap();
        store
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn messages(time: SystemTime, count: usize) -> Vec<StoredMessage> {
    let mut last = None;
    let next = |n| {
        let id = MessageId::next(last, time);
        last = Some(id);
        StoredMessage::new(id, format!("{{\"message\":{n}}}"))
    };
    (0..count).map(next).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms() {
    let directory = Directory::new();
    conformance::check(directory.open().await).await;
}

#[tokio::test]
async fn messages_are_there_after_a_restart() {
    let (directory, room) = (Directory::new(), RoomId::from("r"));
    let messages = messages(SystemTime::now(), 3);
    let store = directory.open().await;
    store.append(&room, &messages).await.unwrap();
    store.close().await;
    assert_eq!(store.page(&room, PageRange::Latest, 9).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let store = directory.open().await;
    assert_eq!(store.page(&room, PageRange::Latest, 9).await.unwrap(), messages);
}

#[tokio::test]
async fn two_stores_can_use_one_database() {
    let directory = Directory::new();
    let (one, other) = (directory.open().await, directory.open().await);
    let (one_too, other_too) = (one.clone(), other.clone());
    tokio::join!(conformance::check(one), conformance::check(other));
    let room = RoomId::from("r");
    let messages = messages(SystemTime::now(), 2);
    one_too.append(&room, &messages).await.unwrap();
    assert_eq!(other_too.page(&room, PageRange::Latest, 9).await.unwrap(), messages);
}

#[tokio::test]
async fn messages_of_an_append_that_is_invalid_do_not_concern_others() {
    let (directory, room) = (Directory::new(), RoomId::from("r"));
    let store = directory.open().await;
    let messages = messages(SystemTime::now(), 4);
    store.append(&room, &messages[..1]).await.unwrap();
    let taken = [StoredMessage::new(messages[0].id(), r#"{"message":"other"}"#)];
    // All of them wait at the same time, and are written together.
    let (first, invalid, last) = tokio::join!(
        store.append(&room, &messages[1..2]),
        store.append(&room, &taken),
        store.append(&room, &messages[2..]),
    );
    assert_eq!(first.unwrap(), [messages[1].id()]);
    assert_eq!(invalid.unwrap_err().kind(), ErrorKind::IdTaken);
    assert_eq!(last.unwrap(), [messages[2].id(), messages[3].id()]);
    assert_eq!(store.page(&room, PageRange::Latest, 9).await.unwrap(), messages);
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let directory = Directory::new();
    let url = format!("sqlite:{}/chat.db", directory.0.display());
    let store = SqliteStore::connect(&url).await.unwrap();
    let error = store.page(&RoomId::from("r"), PageRange::Latest, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotMigrated);
    assert!(error.to_string().contains("call `migrate` first"), "{error}");
    let error = SqliteStore::connect("sqlite:/no/such/directory/chat.db").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("that the directory exists"), "{error}");
    let error = SqliteStore::connect("postgres://localhost").await.unwrap_err();
    assert_eq!(error.to_string(), "the URL must begin with `sqlite:`");
}

#[tokio::test]
async fn old_messages_are_deleted() {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    let directory = Directory::new();
    let store = directory.open().await;
    let (room, other) = (RoomId::from("r"), RoomId::from("other"));
    let (old, new) = (messages(SystemTime::now() - 2 * HOUR, 1500), messages(SystemTime::now(), 3));
    for room in [&room, &other] {
        for messages in [&old[..1000], &old[1000..], &new] {
            store.append(room, messages).await.unwrap();
        }
    }
    assert_eq!(store.delete_before(&room, old[2].id()).await.unwrap(), 2);
    assert_eq!(store.delete_older(HOUR).await.unwrap(), 2998);
    assert_eq!(store.delete_older(HOUR).await.unwrap(), 0);
    assert_eq!(store.page(&room, PageRange::Latest, 9).await.unwrap(), new);
    assert_eq!(store.delete_room(&other).await.unwrap(), 3);
    assert_eq!(store.page(&other, PageRange::Latest, 9).await.unwrap(), []);
    assert_eq!(store.page(&room, PageRange::Latest, 9).await.unwrap(), new);
}

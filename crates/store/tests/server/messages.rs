//! What the store keeps, migrations, errors and retention.

use std::time::{Duration, SystemTime};

use tower_chat_rooms::store::{MessageStore, PageRange, StoredMessage, conformance};
use tower_chat_rooms::{MessageId, RoomId};
use tower_chat_rooms_store::{ErrorKind, PostgresStore};

use crate::server::Server;

pub(crate) fn message(last: Option<MessageId>, time: SystemTime) -> StoredMessage {
    StoredMessage::new(MessageId::next(last, time), r#"{"event":"message","message":"hi"}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms() {
    let server = Server::start().await;
    let (one, other) = (server.store().await, server.store().await);
    // Two processes at the same time.
    tokio::join!(conformance::check(one), conformance::check(other));
}

#[tokio::test]
async fn processes_can_create_the_tables_at_the_same_time() {
    let server = Server::start().await;
    let stores = (server.store(), server.store(), server.store());
    let (one, other, _) = tokio::join!(stores.0, stores.1, stores.2);
    let (room, messages) = (RoomId::from("r"), [message(None, SystemTime::now())]);
    one.append(&room, &messages).await.unwrap();
    assert_eq!(other.page(&room, PageRange::Latest, 9).await.unwrap(), messages);
}

#[tokio::test]
async fn a_user_without_privileges_for_tables_is_enough() {
    let server = Server::start().await;
    server.store().await;
    server
        .execute("CREATE USER chat; GRANT SELECT, INSERT, DELETE ON chat_rooms_messages, chat_rooms_migrations TO chat")
        .await;
    let store = PostgresStore::connect(&server.url("chat")).await.unwrap();
    store.migrate().await.unwrap();
    let (room, messages) = (RoomId::from("r"), [message(None, SystemTime::now())]);
    store.append(&room, &messages).await.unwrap();
    assert_eq!(store.delete_room(&room).await.unwrap(), 1);
}

#[tokio::test]
async fn the_tables_can_be_in_a_schema_of_their_own() {
    let server = Server::start().await;
    server.execute("CREATE SCHEMA chat").await;
    let url = format!("{}&options[search_path]=chat", server.url("postgres"));
    let store = PostgresStore::connect(&url).await.unwrap();
    store.migrate().await.unwrap();
    store.append(&RoomId::from("r"), &[message(None, SystemTime::now())]).await.unwrap();
    server.execute("SELECT body::json->>'message' FROM chat.chat_rooms_messages").await;
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let server = Server::start().await;
    let store = PostgresStore::connect(&server.url("postgres")).await.unwrap();
    let room = RoomId::from("r");
    let error = store.append(&room, &[message(None, SystemTime::now())]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotMigrated, "{error}");
    assert!(error.to_string().contains("call `migrate` first"), "{error}");
    store.migrate().await.unwrap();
    for room in ["a\0b".into(), random_text(20_000)] {
        let error = store.append(&room.into(), &[message(None, SystemTime::now())]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let error = PostgresStore::connect(&server.url("nobody")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let error = PostgresStore::connect("sqlite:chat.db").await.unwrap_err();
    assert_eq!(error.to_string(), "the URL must begin with `postgres://`");
}

/// Text that cannot be compressed well.
fn random_text(bytes: usize) -> String {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'!' + (state >> 24) as u8 % 90)
    };
    (0..bytes).map(|_| next()).collect()
}

#[tokio::test]
async fn old_messages_are_deleted() {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    let server = Server::start().await;
    let store = server.store().await;
    let (room, other) = (RoomId::from("r"), RoomId::from("other"));
    let mut old = vec![message(None, SystemTime::now() - 2 * HOUR)];
    for _ in 0..9 {
        old.push(message(old.last().map(StoredMessage::id), SystemTime::now() - 2 * HOUR));
    }
    let new = [message(None, SystemTime::now())];
    for room in [&room, &other] {
        store.append(room, &old).await.unwrap();
        store.append(room, &new).await.unwrap();
    }
    assert_eq!(store.delete_before(&room, old[2].id()).await.unwrap(), 2);
    assert_eq!(store.delete_older(HOUR).await.unwrap(), 18);
    assert_eq!(store.page(&room, PageRange::Latest, 9).await.unwrap(), new);
    assert_eq!(store.delete_room(&other).await.unwrap(), 1);
    assert_eq!(store.page(&other, PageRange::Latest, 9).await.unwrap(), []);
    assert_eq!(store.page(&room, PageRange::Latest, 9).await.unwrap(), new);
}

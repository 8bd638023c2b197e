//! A server that crashes or stops answering while messages are appended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower_chat_rooms::store::{MAX_PAGE, MessageStore, PageRange, StoredMessage};
use tower_chat_rooms::{MessageId, RoomId};
use tower_chat_rooms_store::{ErrorKind, PostgresStore};

use crate::PATIENCE;
use crate::server::Server;

/// What a writer has appended to its room.
struct Written {
    room: RoomId,
    batches: Vec<Batch>,
}

struct Batch {
    messages: Vec<StoredMessage>,
    is_answered: bool,
}

/// Appends to a room until it is told to stop.
struct Writer {
    store: PostgresStore,
    answers: watch::Sender<u64>,
    is_over: Arc<AtomicBool>,
    /// After this, a call is dropped.
    patience: Duration,
    /// Whether an append that has failed is repeated until it succeeds.
    repeats: bool,
}

impl Writer {
    async fn run(self, room: RoomId) -> Written {
        let (mut batches, mut last) = (Vec::new(), None);
        while !self.is_over.load(Ordering::Relaxed) {
            let messages: Vec<_> = (0..3).map(|n| next_message(&mut last, n)).collect();
            let is_answered = self.append(&room, &messages).await;
            batches.push(Batch { messages, is_answered });
        }
        Written { room, batches }
    }

    async fn append(&self, room: &RoomId, messages: &[StoredMessage]) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            match timeout(self.patience, self.store.append(room, messages)).await {
                Ok(Ok(ids)) => {
                    assert!(ids.iter().eq(messages.iter().map(StoredMessage::id).collect::<Vec<_>>().iter()));
                    self.answers.send_modify(|answers| *answers += 1);
                    return true;
                }
                _ if !self.repeats => return false,
                // As the engine does.
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("the store takes no messages");
    }
}

/// Every other message has a key.
fn next_message(last: &mut Option<MessageId>, n: u64) -> StoredMessage {
    static NEXT_KEY: AtomicU64 = AtomicU64::new(0);
    let id = MessageId::next(*last, SystemTime::now());
    *last = Some(id);
    let message = StoredMessage::new(id, format!("{{\"event\":\"message\",\"message\":{n}}}"));
    let key = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
    if key.is_multiple_of(2) { message.with_key(key.to_string()) } else { message }
}

struct Writers {
    tasks: JoinSet<Written>,
    answers: watch::Sender<u64>,
    is_over: Arc<AtomicBool>,
}

impl Writers {
    /// More writers than the store has connections.
    fn start(store: &PostgresStore, patience: Duration) -> Writers {
        let (answers, is_over) = (watch::Sender::new(0), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        for n in 0..20 {
            let (store, answers, is_over) = (store.clone(), answers.clone(), is_over.clone());
            let writer = Writer { store, answers, is_over, patience, repeats: n % 2 == 0 };
            tasks.spawn(writer.run(RoomId::from(format!("room {n}"))));
        }
        Writers { tasks, answers, is_over }
    }

    /// Waits for so many more answers.
    async fn until_answers(&self, more: u64) {
        let goal = *self.answers.borrow() + more;
        let mut answers = self.answers.subscribe();
        timeout(PATIENCE, answers.wait_for(|answers| *answers >= goal)).await.expect("it goes on").unwrap();
    }

    /// Ends the writers, and checks that what was answered is there once, and that nothing is there in part.
    async fn check(self, store: &PostgresStore) {
        self.is_over.store(true, Ordering::Relaxed);
        for written in self.tasks.join_all().await {
            let stored = all(store, &written.room).await;
            let mut rest = &stored[..];
            for batch in &written.batches {
                match rest.strip_prefix(&batch.messages[..]) {
                    Some(after) => rest = after,
                    None => assert!(
                        !batch.is_answered,
                        "{:?}: {batch_ids:?} is not there",
                        written.room,
                        batch_ids = batch.messages
                    ),
                }
            }
            assert_eq!(rest, [], "{:?}: messages are there that nobody has appended", written.room);
        }
    }
}

pub(crate) async fn all(store: &PostgresStore, room: &RoomId) -> Vec<StoredMessage> {
    let mut all: Vec<StoredMessage> = Vec::new();
    loop {
        let range = PageRange::After(
            all.last().map_or(MessageId::first_at(SystemTime::UNIX_EPOCH), StoredMessage::id),
        );
        let page = store.page(room, range, MAX_PAGE).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loses_no_message_that_was_answered() {
    let mut server = Server::start().await;
    let store = server.store().await;
    let writers = Writers::start(&store, PATIENCE);
    for _ in 0..3 {
        writers.until_answers(100).await;
        server.kill();
        server.spawn().await;
    }
    writers.until_answers(100).await;
    writers.check(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_loses_no_message_and_no_connection() {
    let server = Server::start().await;
    let store = server.store().await;
    let writers = Writers::start(&store, Duration::from_millis(100));
    for _ in 0..3 {
        writers.until_answers(100).await;
        let frozen = server.freeze();
        // Meanwhile, each writer drops several calls.
        sleep(Duration::from_millis(500)).await;
        drop(frozen);
    }
    writers.until_answers(100).await;
    writers.check(&store).await;
}

#[tokio::test]
async fn the_error_says_that_the_database_cannot_be_reached() {
    let mut server = Server::start().await;
    let store = server.store().await;
    let room = RoomId::from("r");
    server.kill();
    // The first calls may use lost connections.
    let away = async {
        loop {
            let error = store.append(&room, &[next_message(&mut None, 0)]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            if error.to_string().starts_with("the database cannot be reached") {
                return;
            }
        }
    };
    timeout(PATIENCE, away).await.unwrap();
    server.spawn().await;
    store.append(&room, &[next_message(&mut None, 0)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_connections_do_not_use_up_the_pool() {
    let server = Server::start().await;
    let store = server.store().await;
    append_to_rooms(&store, PATIENCE).await.unwrap();
    let frozen = server.freeze_connections();
    append_to_rooms(&store, Duration::from_secs(1)).await.unwrap_err();
    // These get new connections.
    append_to_rooms(&store, PATIENCE).await.unwrap();
    drop(frozen);
}

/// Appends to more rooms at a time than the store has connections. Fails if one of the calls does.
async fn append_to_rooms(store: &PostgresStore, patience: Duration) -> Result<(), String> {
    let mut calls = JoinSet::new();
    for n in 0..20 {
        let store = store.clone();
        calls.spawn(async move {
            let messages = [next_message(&mut None, 0)];
            timeout(patience, store.append(&RoomId::from(format!("room {n}")), &messages)).await
        });
    }
    for result in calls.join_all().await {
        result.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    }
    Ok(())
}

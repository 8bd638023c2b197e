//! Messages in a database.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tower_chat_rooms::store::{MessageStore, PageRange, StoredMessage};
use tower_chat_rooms::{MessageId, RoomId};
use tower_chat_rooms_client::{Client, ClientEvent};
use tower_chat_rooms_store::SqliteStore;

use crate::standalone::Standalone;
use crate::{PATIENCE, fails};

pub(super) const ROOM: &str = "r";

/// Clients that send.
const WRITERS: u64 = 3;

/// A database file in a folder of its own, which is removed with it.
pub(super) struct Database(pub(super) PathBuf);

impl Database {
    pub(super) fn new(name: &str) -> Database {
        let folder = std::env::temp_dir().join(format!("chat-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("there is a temporary folder");
        Database(folder)
    }

    pub(super) fn url(&self) -> String {
        format!("sqlite:{}", self.0.join("chat.db").display())
    }

    /// All messages of the room, as the database has them.
    pub(super) async fn messages(&self) -> Vec<StoredMessage> {
        let store = SqliteStore::connect(&self.url()).await.expect("the database can be opened");
        let (mut messages, mut last) = (Vec::new(), MessageId::from_u64(0).expect("it is an id"));
        loop {
            let page =
                store.page(&RoomId::from(ROOM), PageRange::After(last), 1000).await.expect("it can be read");
            let Some(end) = page.last() else { return messages };
            last = end.id();
            messages.extend(page);
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const UNLIMITED: [&str; 6] = [
    "--max-messages-per-second=0",
    "--max-enters-per-minute=0",
    "--max-new-rooms-per-minute=0",
    "--max-connects-per-minute-per-ip=0",
    "--max-enters-per-minute-per-ip=0",
    "--max-new-rooms-per-minute-per-ip=0",
];

/// Starts a server on the database, with further flags.
pub(super) async fn start(listen: &str, database: &Database, flags: &[&str]) -> Standalone {
    Standalone::start_at(listen, &[&["--store", &database.url()], &UNLIMITED[..], flags].concat()).await
}

pub(super) async fn client(server: &Standalone, name: &str) -> Client {
    let url = server.url().replacen("http", "ws", 1);
    let backoff = (Duration::from_millis(5), Duration::from_millis(50));
    let client = Client::connect(url).name(name).room(ROOM).backoff(backoff.0, backoff.1).max_events(100_000);
    timeout(PATIENCE, client.open()).await.expect("it enters in time").expect("it enters")
}

#[tokio::test]
async fn messages_outlive_the_server() {
    let database = Database::new("store");
    let mut server = start("127.0.0.1:0", &database, &[]).await;
    let ann = client(&server, "ann").await;
    for n in 0..5 {
        ann.sender().send(&n).await.expect("it is sent");
    }
    server.signal("KILL");
    server.wait().await;
    let address = server.address().to_string();
    let server = start(&address, &database, &[]).await;
    let bob = client(&server, "bob").await;
    let page = bob.sender().history().limit(3).await.expect("it can be read");
    let messages: Vec<u64> = page.messages.iter().filter_map(|frame| frame.message().as_u64()).collect();
    assert_eq!((messages, page.has_more), (vec![2, 3, 4], true));
    let check = Standalone::command(&["--check", &address, "--store", &database.url()]).output().await;
    assert!(check.expect("it starts").status.success());
    let wrong = Standalone::command(&["--check", &address, "--store", "mysql://localhost"]).output().await;
    assert_eq!(wrong.expect("it starts").status.code(), Some(1));
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_named_without_its_password() {
    // Nothing listens there after the end of this statement.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port is free");
    let url = format!("postgres://ann:secret@{free}/chat");
    let error = fails(&["--listen", "127.0.0.1:0", "--store", &url]).await;
    assert!(error.contains(&format!("--store: Postgres at {free} cannot be reached: ")), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

/// What a client has received: the number and the id of each message, and how many gaps it was told of.
#[derive(Default)]
pub(super) struct Heard {
    messages: Vec<(String, u64)>,
    gaps: u64,
}

/// Whether clients may miss messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gaps {
    Never,
    /// If they are told of a gap.
    #[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "there is no broker"))]
    IfTold,
}

/// Sends numbered messages until it is told to stop. Returns those that were acknowledged.
pub(super) async fn write(
    client: Client,
    writer: u64,
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> (u64, Heard) {
    let sender = client.sender();
    let reading = tokio::spawn(read(client, is_over.clone()));
    let mut sent = 0;
    while !is_over.load(Ordering::Relaxed) {
        // Several at a time, so that some wait while the server stores others.
        let sendings: Vec<_> = (0..4).map(|n| sender.send(&format!("{writer}-{}", sent + n))).collect();
        for sending in sendings {
            timeout(PATIENCE, sending).await.expect("it is acknowledged in time").expect("it is sent");
            sent += 1;
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
    (sent, reading.await.expect("it reads"))
}

/// Reads until nothing has come for a while after the end.
pub(super) async fn read(mut client: Client, is_over: Arc<AtomicBool>) -> Heard {
    let mut heard = Heard::default();
    loop {
        match timeout(Duration::from_secs(1), client.recv()).await {
            Ok(Some(ClientEvent::Message(frame))) => {
                let text = frame.message().as_str().expect("a text").to_owned();
                heard.messages.push((text, frame.id().expect("it has an id")));
            }
            Ok(Some(ClientEvent::Gap { .. } | ClientEvent::Overflow { .. })) => heard.gaps += 1,
            Ok(Some(_)) => {}
            Ok(None) => panic!("the client is closed"),
            Err(_) if is_over.load(Ordering::Relaxed) => return heard,
            Err(_) => {}
        }
    }
}

/// The server is killed at random moments while clients send. Each acknowledged message is stored once, in the order of its
/// sender, and no client receives a message that is not stored, or one twice, or misses one.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; CHAT_CRASHES is the number of crashes"]
async fn no_acknowledged_message_is_lost_in_a_crash() {
    let crashes: u64 =
        std::env::var("CHAT_CRASHES").map_or(200, |crashes| crashes.parse().expect("a number"));
    let database = Database::new("crashes");
    let mut server = start("127.0.0.1:0", &database, &[]).await;
    let address = server.address().to_string();
    let (is_over, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let reader = tokio::spawn(read(client(&server, "reader").await, is_over.clone()));
    let mut writers: Vec<JoinHandle<(u64, Heard)>> = Vec::new();
    // All of them are there before the first message.
    let mut clients = Vec::new();
    for writer in 0..WRITERS {
        clients.push((writer, client(&server, &format!("writer {writer}")).await));
    }
    for (writer, client) in clients {
        writers.push(tokio::spawn(write(client, writer, is_over.clone(), acknowledged.clone())));
    }
    let mut random = 1_u64;
    for crash in 1..=crashes {
        // At a random moment after all clients may be back: some messages were acknowledged since the last crash.
        let before = acknowledged.load(Ordering::Relaxed);
        let start_of_wait = Instant::now();
        while acknowledged.load(Ordering::Relaxed) < before + 3 {
            assert!(start_of_wait.elapsed() < PATIENCE, "nothing is acknowledged after crash {}", crash - 1);
            sleep(Duration::from_millis(1)).await;
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sleep(Duration::from_micros(random >> 33 & 0xffff)).await;
        server.signal("KILL");
        server.wait().await;
        server = start(&address, &database, &[]).await;
    }
    let counts = check(&database, is_over, [("reader".to_owned(), reader)], writers, Gaps::Never).await;
    println!("{crashes} crashes, {counts}");
}

/// Lets the clients catch up, and checks what they have received, and what the database has. Returns how many messages there
/// were.
pub(super) async fn check(
    database: &Database,
    is_over: Arc<AtomicBool>,
    readers: impl IntoIterator<Item = (String, JoinHandle<Heard>)>,
    writers: Vec<JoinHandle<(u64, Heard)>>,
    allowed: Gaps,
) -> String {
    sleep(Duration::from_secs(1)).await;
    is_over.store(true, Ordering::Relaxed);
    let (mut sent, mut all_heard) = (Vec::new(), Vec::new());
    for (name, reader) in readers {
        all_heard.push((name, reader.await.expect("it reads")));
    }
    for (n, writer) in writers.into_iter().enumerate() {
        let (count, heard) = writer.await.expect("it writes");
        sent.push(count);
        all_heard.push((format!("writer {n}"), heard));
    }
    let stored = database.messages().await;
    let counts = format!("{} messages stored, {sent:?} acknowledged", stored.len());
    let text = |message: &StoredMessage| {
        let body: serde_json::Value = serde_json::from_str(message.body()).expect("an object");
        body["message"].as_str().expect("a text").to_owned()
    };
    let ids: BTreeMap<u64, String> =
        stored.iter().map(|message| (message.id().as_u64(), text(message))).collect();
    let mut next: HashMap<&str, u64> = HashMap::new();
    for text in ids.values() {
        let (writer, number) = text.split_once('-').expect("two numbers");
        let expected = next.entry(writer).or_default();
        assert_eq!(number.parse(), Ok(*expected), "writer {writer}: each once, in order");
        *expected += 1;
    }
    for (writer, count) in sent.iter().enumerate() {
        assert!(next[&*writer.to_string()] >= *count, "writer {writer}: acknowledged, but not stored");
    }
    for (name, Heard { messages, gaps }) in all_heard {
        let mut seen = HashSet::new();
        for (text, id) in &messages {
            assert_eq!(ids.get(id), Some(text), "{name} has received what is not stored");
            assert!(seen.insert(*id), "{name} has received {text} twice");
        }
        assert!(gaps == 0 || allowed == Gaps::IfTold, "{name} was told of gaps");
        let missed: Vec<&String> =
            ids.iter().filter(|(id, _)| !seen.contains(id)).map(|(_, text)| text).collect();
        println!("{name}: {} received, told of {gaps} gaps, missed: {missed:?}", messages.len());
        assert!(gaps > 0 || missed.is_empty(), "{name} has missed {missed:?}");
    }
    counts
}

//! Messages in a database.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tower_chat_rooms::store::{MessageStore, PageRange, StoredMessage};
use tower_chat_rooms::{MessageId, RoomId};
use tower_chat_rooms_client::{Client, ClientEvent, ClientSender};
use tower_chat_rooms_store::SqliteStore;

use crate::PATIENCE;
use crate::standalone::Standalone;

const ROOM: &str = "r";

/// Clients that send.
const WRITERS: u64 = 3;

/// What the last message says.
const END: &str = "end";

/// A database file in a folder of its own, which is removed with it.
struct Database(PathBuf);

impl Database {
    fn new(name: &str) -> Database {
        let folder = std::env::temp_dir().join(format!("chat-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("there is a temporary folder");
        Database(folder)
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.0.join("chat.db").display())
    }

    /// All messages of the room, as the database has them.
    async fn messages(&self) -> Vec<StoredMessage> {
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

async fn start(listen: &str, database: &Database) -> Standalone {
    let url = database.url();
    let unlimited = [
        "--max-messages-per-second=0",
        "--max-enters-per-minute=0",
        "--max-new-rooms-per-minute=0",
        "--max-connects-per-minute-per-ip=0",
        "--max-enters-per-minute-per-ip=0",
        "--max-new-rooms-per-minute-per-ip=0",
    ];
    Standalone::start_at(listen, &[&["--store", &url], &unlimited[..]].concat()).await
}

async fn client(server: &Standalone, name: &str) -> Client {
    let url = server.url().replacen("http", "ws", 1);
    let backoff = (Duration::from_millis(5), Duration::from_millis(50));
    let client = Client::connect(url).name(name).room(ROOM).backoff(backoff.0, backoff.1).max_events(100_000);
    timeout(PATIENCE, client.open()).await.expect("it enters in time").expect("it enters")
}

#[tokio::test]
async fn messages_outlive_the_server() {
    let database = Database::new("store");
    let mut server = start("127.0.0.1:0", &database).await;
    let ann = client(&server, "ann").await;
    for n in 0..5 {
        ann.sender().send(&n).await.expect("it is sent");
    }
    server.signal("KILL");
    server.wait().await;
    let address = server.address().to_string();
    let server = start(&address, &database).await;
    let bob = client(&server, "bob").await;
    let page = bob.sender().history().limit(3).await.expect("it can be read");
    let messages: Vec<u64> = page.messages.iter().filter_map(|frame| frame.message().as_u64()).collect();
    assert_eq!((messages, page.has_more), (vec![2, 3, 4], true));
    let check = Standalone::command(&["--check", &address, "--store", &database.url()]).output().await;
    assert!(check.expect("it starts").status.success());
    let wrong = Standalone::command(&["--check", &address, "--store", "mysql://localhost"]).output().await;
    assert_eq!(wrong.expect("it starts").status.code(), Some(1));
}

/// What a client has received: the number and the id of each message, and how many gaps it was told of.
#[derive(Default)]
struct Heard {
    messages: Vec<(String, u64)>,
    gaps: u64,
}

/// Sends numbered messages until it is told to stop. Returns how many it has sent; all of them were acknowledged.
async fn write(
    sender: ClientSender,
    writer: u64,
    is_over: watch::Receiver<bool>,
    acknowledged: watch::Sender<u64>,
) -> u64 {
    let mut sent = 0;
    while !*is_over.borrow() {
        // Several at a time, so that some wait while the server stores others.
        let sendings: Vec<_> = (0..4).map(|n| sender.send(&format!("{writer}-{}", sent + n))).collect();
        for sending in sendings {
            timeout(PATIENCE, sending).await.expect("it is acknowledged in time").expect("it is sent");
            sent += 1;
            acknowledged.send_modify(|acknowledged| *acknowledged += 1);
        }
    }
    sent
}

/// Reads until the last message.
async fn read(mut client: Client) -> Heard {
    let mut heard = Heard::default();
    loop {
        match client.recv().await.expect("the client stays") {
            ClientEvent::Message(frame) => {
                let text = frame.message().as_str().expect("a text").to_owned();
                let is_end = text == END;
                heard.messages.push((text, frame.id().expect("it has an id")));
                if is_end {
                    return heard;
                }
            }
            ClientEvent::Gap { .. } | ClientEvent::Overflow { .. } => heard.gaps += 1,
            _ => {}
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
    let mut server = start("127.0.0.1:0", &database).await;
    let address = server.address().to_string();
    let (is_over, acknowledged) = (watch::Sender::new(false), watch::Sender::new(0));
    let last = client(&server, "reader").await;
    let last_sender = last.sender();
    let mut readers = vec![("reader".to_owned(), tokio::spawn(read(last)))];
    let mut senders = Vec::new();
    for writer in 0..WRITERS {
        let name = format!("writer {writer}");
        let client = client(&server, &name).await;
        senders.push((writer, client.sender()));
        readers.push((name, tokio::spawn(read(client))));
    }
    // All clients are there before the first message.
    let writers: Vec<JoinHandle<u64>> = senders
        .into_iter()
        .map(|(writer, sender)| {
            tokio::spawn(write(sender, writer, is_over.subscribe(), acknowledged.clone()))
        })
        .collect();
    let mut random = 1_u64;
    for crash in 1..=crashes {
        // At a random moment after all clients may be back: some messages were acknowledged since the last crash.
        let goal = *acknowledged.borrow() + 3;
        let mut acknowledged = acknowledged.subscribe();
        let goes_on = timeout(PATIENCE, acknowledged.wait_for(|acknowledged| *acknowledged >= goal)).await;
        goes_on
            .unwrap_or_else(|_| panic!("nothing is acknowledged after crash {}", crash - 1))
            .expect("it counts");
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sleep(Duration::from_micros(random >> 33 & 0xffff)).await;
        server.signal("KILL");
        server.wait().await;
        server = start(&address, &database).await;
    }
    is_over.send_replace(true);
    let mut sent = Vec::new();
    for writer in writers {
        sent.push(writer.await.expect("it writes"));
    }
    let end = timeout(PATIENCE, last_sender.send(END)).await;
    end.expect("it is acknowledged in time").expect("it is sent");
    let mut all_heard = Vec::new();
    for (name, reader) in readers {
        let heard = timeout(PATIENCE, reader).await.expect("it receives the last message in time");
        all_heard.push((name, heard.expect("it reads")));
    }
    let stored = database.messages().await;
    println!("{crashes} crashes, {} messages stored, {sent:?} acknowledged", stored.len());
    let text = |message: &StoredMessage| {
        let body: serde_json::Value = serde_json::from_str(message.body()).expect("an object");
        body["message"].as_str().expect("a text").to_owned()
    };
    let ids: BTreeMap<u64, String> =
        stored.iter().map(|message| (message.id().as_u64(), text(message))).collect();
    let mut next: HashMap<&str, u64> = HashMap::new();
    for text in ids.values().filter(|text| *text != END) {
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
        assert_eq!(gaps, 0, "{name} was told of gaps");
        let missed: Vec<&String> =
            ids.iter().filter(|(id, _)| !seen.contains(id)).map(|(_, text)| text).collect();
        println!("{name}: {} received, missed: {missed:?}", messages.len());
        assert!(missed.is_empty(), "{name} has missed {missed:?}");
    }
}

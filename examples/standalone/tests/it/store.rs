//! Messages in a database.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::sleep;
use tower_chat_rooms_store::SqliteStore;

use crate::fails;
use crate::load::{Allowed, Load, UNLIMITED, client};
use crate::standalone::Standalone;

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

    pub(super) async fn store(&self) -> SqliteStore {
        SqliteStore::connect(&self.url()).await.expect("the database can be opened")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts a server on the database, with further flags.
pub(super) async fn start(listen: &str, database: &Database, flags: &[&str]) -> Standalone {
    Standalone::start_at(listen, &[&["--store", &database.url()], &UNLIMITED[..], flags].concat()).await
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

/// Random times.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Random {
        Random(1)
    }

    pub(super) async fn moment(&mut self, max_micros: u64) {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sleep(Duration::from_micros((self.0 >> 33) % max_micros)).await;
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
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        writers.push(client(&server, &format!("writer {writer}")).await);
    }
    let load = Load::start(vec![client(&server, "reader").await], writers);
    let mut random = Random::new();
    for crash in 1..=crashes {
        // At a random moment after all clients may be back: some messages were acknowledged since the last crash.
        load.until_acknowledged(3, &format!("after crash {}", crash - 1)).await;
        random.moment(65_536).await;
        server.signal("KILL");
        server.wait().await;
        server = start(&address, &database, &[]).await;
    }
    let counts = load.check(&database.store().await, Allowed::default()).await;
    println!("{crashes} crashes, {counts}");
}

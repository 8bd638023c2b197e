//! The standalone with Postgres: `cargo test -p standalone --features store --test server`.
//!
//! The tests need Postgres. `CHAT_POSTGRES_BIN` can name the directory of its binaries. With the feature `redis`, some
//! tests also need `redis-server`, or another server that `CHAT_REDIS_SERVER` names.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[cfg(feature = "redis")]
#[path = "../support/load.rs"]
mod load;
#[cfg(feature = "redis")]
mod nodes;
#[cfg(feature = "redis")]
#[path = "../support/redis.rs"]
mod redis;
#[allow(dead_code, reason = "only the store's own tests end and freeze it")]
#[path = "../../../../crates/store/tests/server/server.rs"]
mod server;
#[path = "../support/standalone.rs"]
mod standalone;

use std::process::Stdio;
use std::time::Duration;

use tokio::time::timeout;
use tower_chat_rooms::store::{MessageStore, PageRange};
use tower_chat_rooms_client::Client;

use crate::server::Server;
use crate::standalone::Standalone;

/// For what takes a moment, on a machine with much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

async fn client(server: &Standalone, name: &str) -> Client {
    let client = Client::connect(server.url().replacen("http", "ws", 1)).name(name).room("r");
    timeout(PATIENCE, client.open()).await.expect("it enters in time").expect("it enters")
}

#[tokio::test]
async fn messages_are_in_postgres_and_outlive_the_server() {
    let postgres = Server::start().await;
    let url = postgres.url("postgres");
    let mut server = Standalone::start(&["--store", &url]).await;
    let ann = client(&server, "ann").await;
    for n in 0..5 {
        ann.sender().send(&n).await.expect("it is sent");
    }
    server.signal("KILL");
    server.wait().await;
    let address = server.address().to_string();
    let server = Standalone::start_at(&address, &["--store", &url]).await;
    let bob = client(&server, "bob").await;
    let page = bob.sender().history().limit(3).await.expect("it can be read");
    let messages: Vec<u64> = page.messages.iter().filter_map(|frame| frame.message().as_u64()).collect();
    assert_eq!((messages, page.has_more), (vec![2, 3, 4], true));
    let store = postgres.store().await;
    assert_eq!(store.page(&"r".into(), PageRange::Latest, 9).await.unwrap().len(), 5);
    let check = Standalone::command(&["--check", &address, "--store", &url]).output().await;
    assert!(check.expect("it starts").status.success());
}

#[tokio::test]
async fn the_log_says_that_postgres_cannot_be_reached() {
    let mut postgres = Server::start().await;
    let url = postgres.url("postgres");
    let mut command = Standalone::command(&["--listen", "127.0.0.1:0", "--log", "warn", "--store", &url]);
    let mut server = Standalone::launch(command.stderr(Stdio::piped())).await;
    let ann = client(&server, "ann").await;
    ann.sender().send(&0).await.expect("it is sent");
    postgres.kill();
    let sending = ann.sender().send(&1);
    loop {
        let line = server.next_log().await.expect("it runs");
        if line.contains("the database cannot be reached") {
            break;
        }
    }
    postgres.spawn().await;
    timeout(PATIENCE, sending).await.expect("it is acknowledged in time").expect("it is sent");
}

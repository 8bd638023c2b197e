//! What a node logs about Redis and about other nodes.

use std::time::Duration;

use tokio::time::sleep;
use tower_chat_rooms::{Admission, BrokerNode, Health};

use super::Server;
use crate::nodes::enter;
use crate::support::{Client, LogCapture, enter_frame, unlimited};

const ROOMS: usize = 20;

async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn the_log_has_two_lines_about_an_outage_of_redis() {
    let log = LogCapture::default();
    let _guard = log.listen("tower_chat_rooms=debug,tower_chat_rooms_redis=debug");
    let mut server = Server::start().await;
    let rooms = server.node(unlimited()).await;
    let mut clients = Vec::new();
    for n in 0..ROOMS {
        let (mut client, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        client.send(enter_frame("ann", &format!("r{n}"))).await;
        client.next_of("entered").await;
        clients.push(client);
    }
    let start = log.text().len();
    server.kill();
    until(|| matches!(rooms.health(), Health::Degraded { .. })).await;
    // Both connections are lost, and cannot be opened again.
    until(|| log.count("Redis still cannot be used") >= 3).await;
    server.spawn().await;
    for client in &mut clients {
        assert_eq!(client.close_code().await, 1012);
    }
    until(|| log.count("Redis can be used again") == 1).await;
    let text = log.text();
    let lines: Vec<&str> =
        text[start..].lines().filter(|line| line.contains(" WARN ") || line.contains(" INFO ")).collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("Redis cannot be used"), "{lines:#?}");
    // A member may leave before it has been entered again.
    let repaired = format!("rooms_reset={ROOMS} members_entered_again=");
    assert!(lines[1].contains("INFO") && lines[1].contains(&repaired), "{lines:#?}");
    assert!(lines[1].contains("members_lost=0") && lines[1].contains("away="), "{lines:#?}");
    // The rest is at the level `debug`.
    until(|| rooms.stats().connections == 0).await;
    assert_eq!(log.count("reason=events lost code=1012"), ROOMS, "{}", log.text());
    assert_eq!(log.count("events of a room are lost"), ROOMS, "{}", log.text());
    rooms.shutdown().await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn the_log_has_two_lines_about_the_wait_for_redis_at_the_start() {
    let log = LogCapture::default();
    let _guard = log.listen("tower_chat_rooms_redis=debug");
    let mut server = Server::start().await;
    server.kill();
    let settings = server.settings();
    let starting = tokio::spawn(BrokerNode::redis(settings));
    until(|| log.count("waiting for Redis") >= 4).await;
    server.spawn().await;
    drop(starting.await.unwrap().unwrap());
    assert_eq!([log.count("WARN"), log.count("INFO")], [1, 1], "{}", log.text());
    assert_eq!(log.count("connected to Redis"), 1, "{}", log.text());
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn the_log_names_a_node_that_is_gone() {
    let log = LogCapture::default();
    let _guard = log.listen("tower_chat_rooms_redis=info");
    let server = Server::start().await;
    let (one, other) = (server.node(unlimited()).await, server.node(unlimited()).await);
    let (bob, _) = enter(&other, "bob").await;
    assert_eq!(log.count("a node is gone"), 0, "{}", log.text());
    // The node ends without removing its members.
    bob.task.abort();
    drop(other);
    until(|| log.count("no members of the node are left") == 1).await;
    assert_eq!(log.count("a node is gone; removing its members"), 1, "{}", log.text());
    assert_eq!(log.count("node1@"), 2, "{}", log.text());
    one.shutdown().await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn the_log_warns_once_about_a_server_that_evicts_keys() {
    for (policy, warnings) in [("allkeys-lru", 1), ("noeviction", 0)] {
        let log = LogCapture::default();
        let _guard = log.listen("tower_chat_rooms_redis=warn");
        let mut server = Server::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", policy]).await;
        let rooms = server.node(unlimited()).await;
        assert_eq!(log.count("maxmemory-policy noeviction"), warnings, "{}", log.text());
        server.kill();
        until(|| matches!(rooms.health(), Health::Degraded { .. })).await;
        server.spawn_with(&["--maxmemory", "100mb", "--maxmemory-policy", policy]).await;
        until(|| rooms.health() == Health::Healthy).await;
        assert_eq!(log.count("maxmemory-policy noeviction"), warnings, "{}", log.text());
        rooms.shutdown().await;
    }
}

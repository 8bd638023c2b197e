//! Nodes whose settings differ, as during an upgrade.

use std::time::Duration;

use tower_chat_rooms_redis::{Event, PublishError, ResetReason, Settings};

use crate::support::{Server, TestNode, member};

/// Each node's own lease counts: one that looks for lost nodes more often removes nobody earlier.
#[tokio::test]
async fn nodes_with_different_leases_keep_each_other() {
    let server = Server::start().await;
    let node = async |name: &str, lease| {
        let settings = Settings::new(server.url()).node_name(name).lease(Duration::from_secs(lease));
        TestNode::connect(settings).await
    };
    let (short, long) = (node("short", 1).await, node("long", 60).await);
    short.enter("r", member("ann"), None).await.unwrap();
    long.enter("r", member("bob"), None).await.unwrap();
    let incarnations = [server.incarnation("short").await, server.incarnation("long").await];
    // The short lease has been renewed several times.
    for _ in 0..5 {
        let before = server.lease(&incarnations[0]).await;
        server.until_lease(&incarnations[0], |lease| lease != before).await;
    }
    assert_eq!([server.incarnation("short").await, server.incarnation("long").await], incarnations);
    assert_eq!(short.bodies("r"), ["+ann", "+bob"]);
    drop(short);
    long.until_body("r", "-ann").await;
    let last = long.publish("r", Some("bob"), None, b"end").await.unwrap();
    assert_eq!(last.stamp.num, 1);
}

/// The shortest log counts. Nodes that hear everything do not need it.
#[tokio::test]
async fn the_shortest_log_of_all_nodes_counts() {
    let server = Server::start().await;
    let node = async |length| TestNode::connect(Settings::new(server.url()).log_length(length)).await;
    let (long, short) = (node(1000).await, node(10).await);
    let first = long.enter("r", member("ann"), None).await.unwrap();
    short.enter("r", member("bob"), None).await.unwrap();
    for n in 0..100 {
        long.publish("r", None, None, format!("{n}").as_bytes()).await.unwrap();
    }
    assert_eq!(long.log_after("r", first.epoch, 1, 1000).await.unwrap().unwrap().len(), 101);
    let last = short.publish("r", None, None, b"last").await.unwrap().stamp;
    assert_eq!(long.log_after("r", first.epoch, 1, 1000).await.unwrap(), None, "it is trimmed");
    assert_eq!(long.log_after("r", first.epoch, last.seq - 5, 1000).await.unwrap().unwrap().len(), 5);
    for node in [&long, &short] {
        node.until_heard("r", last).await;
        assert!(!node.heard().iter().any(|event| matches!(event, Event::Reset { .. })));
    }
}

/// Nodes with different prefixes know nothing of each other, even if one prefix begins with the other.
#[tokio::test]
async fn prefixes_separate_nodes() {
    let server = Server::start().await;
    let node = async |prefix: &str| {
        let settings = Settings::new(server.url()).node_name("same").prefix(prefix);
        TestNode::connect(settings).await
    };
    let (one, other) = (node("chat").await, node("chat:ch").await);
    let first = one.enter("r", member("ann").unique_as("ann"), Some(1)).await.unwrap();
    let second = other.enter("r", member("ann").unique_as("ann"), Some(1)).await.unwrap();
    assert_eq!((first.num, second.num), (1, 1));
    assert_eq!(one.publish("ch:r", None, None, b"x").await, Err(PublishError::NoRoom));
    one.send_to_all(b"for all").await.unwrap();
    one.send_to_node("same", b"for me").await.unwrap();
    one.close_room("r").await.unwrap();
    let last = one.publish("r", None, None, b"last").await.unwrap().stamp;
    one.until_heard("r", last).await;
    let last = other.publish("r", None, None, b"other").await.unwrap().stamp;
    other.until_heard("r", last).await;
    assert_eq!(other.bodies("r"), ["+ann", "other"]);
    assert_eq!(other.heard().len(), 2, "{:?}", other.heard());
    assert_eq!(one.rooms().await.unwrap().len(), 1);
}

/// Rule: a room is reset if a node of a later version has written an event that this one cannot read.
#[tokio::test]
async fn an_event_of_a_later_version_resets_the_room() {
    let server = Server::start().await;
    let a = TestNode::connect(Settings::new(server.url())).await;
    a.enter("r", member("ann"), None).await.unwrap();
    server
        .eval(
            "local event = redis.call('HINCRBY', '{chat}:meta:r', 'event', 1) \
             redis.call('HINCRBY', '{chat}:meta:r', 'seq', 1) \
             redis.call('XADD', '{chat}:log:r', event .. '-1', 'd', '\\2from the future', 't', now) \
             redis.call('PUBLISH', '{chat}:ch:r', '\\2from the future')",
        )
        .await;
    let last = a.publish("r", None, None, b"after it").await.unwrap().stamp;
    let reset = Event::Reset { room: "r".into(), stamp: last, reason: ResetReason::LogTrimmed };
    a.until("a reset", |heard| heard.contains(&reset)).await;
    assert!(a.dropped_messages() >= 1);
    let end = a.publish("r", Some("ann"), None, b"end").await.unwrap();
    a.until_heard("r", end.stamp).await;
    assert_eq!(a.bodies("r"), ["+ann", "end"]);
    assert_eq!((end.stamp.event, end.stamp.num), (4, 1));
}

//! What is bounded: members of rooms, and what is kept for nodes and clients that need it later.

use futures_util::FutureExt;
use tower_chat_rooms_redis::{EnterError, Event, NewMember, PublishError, Settings};

use crate::rooms::nodes;
use crate::support::{Server, TestNode, member};

#[tokio::test]
async fn the_limit_of_a_room_counts_all_nodes() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    a.enter("r", member("m1"), Some(2)).await.unwrap();
    b.enter("r", member("m2"), Some(2)).await.unwrap();
    assert_eq!(a.enter("r", member("m3"), Some(2)).await, Err(EnterError::RoomFull));
    assert_eq!(b.enter("", NewMember::new(""), None).await, Err(EnterError::InvalidMember));
}

/// Rule: one script counts and enters, so the limit holds whichever nodes are faster.
#[tokio::test]
async fn the_limit_of_a_room_holds_for_enters_at_the_same_time() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    for round in 0..5 {
        let ids: Vec<_> = (0..100).map(|n| format!("m{round}-{n}")).collect();
        let enters = ids.iter().enumerate().map(async |(n, id)| {
            let node = if n % 2 == 0 { &a } else { &b };
            (node, id, node.enter("r", member(id), Some(10)).await)
        });
        let entered = futures_util::future::join_all(enters).await;
        let (inside, outside): (Vec<_>, Vec<_>) =
            entered.into_iter().partition(|(.., result)| result.is_ok());
        assert_eq!(inside.len(), 10);
        assert!(outside.iter().all(|(.., result)| *result == Err(EnterError::RoomFull)));
        assert_eq!(a.roster("r", 0, 100).await.unwrap().members.len(), 10);
        // A place that is free again can be taken from either node.
        let (node, id, _) = inside[0];
        node.leave("r", id, None).await.unwrap();
        let last = b.enter("r", member(&format!("last {round}")), Some(10)).await.unwrap();
        assert_eq!(last.num, 10);
        for (node, id, _) in &inside[1..] {
            node.leave("r", id, None).await.unwrap();
        }
        assert_eq!(b.leave("r", &format!("last {round}"), None).await.unwrap().num, 0);
    }
    let nums = [&a, &b].map(|node| node.events("r").into_iter().map(|event| event.stamp.num).max());
    assert_eq!(nums, [Some(10), Some(10)]);
}

/// Rule: an id is known for the window at least, whenever the older half of all ids is forgotten.
#[tokio::test]
async fn a_message_is_known_for_the_whole_window() {
    let server = Server::start().await;
    let a = TestNode::connect(Settings::new(server.url())).await;
    a.enter("r", member("ann"), None).await.unwrap();
    let publish = async |id| a.publish("r", Some("ann"), Some(id), id.as_bytes()).await.unwrap().is_repeat;
    let window_passes = async || {
        // As if the window of 120 s had begun longer ago.
        let _: u32 = server.command(&["PEXPIRE", "{chat}:ids:r", "119000"]).await;
    };
    for id in ["one", "two", "three"] {
        assert!(!publish(id).await, "{id}");
        window_passes().await;
    }
    assert!(publish("three").await && publish("two").await, "they are not older than a window");
    assert!(!publish("one").await, "it is older than two windows, and need not be kept");
    for key in ["{chat}:ids:r", "{chat}:ids-old:r"] {
        let left: i64 = server.command(&["PTTL", key]).await;
        assert!((1..=240_000).contains(&left), "{key} stays for {left} ms");
    }
}

/// Rule: however many messages there are in a window, only so many ids are kept.
#[tokio::test]
async fn the_ids_of_messages_are_bounded() {
    let server = Server::start().await;
    let a = TestNode::connect(Settings::new(server.url())).await;
    a.enter("r", member("ann"), None).await.unwrap();
    a.publish("r", None, Some("first"), b"first").await.unwrap();
    server.eval("for n = 1, 10000 do redis.call('HSET', '{chat}:ids:r', n, '') end").await;
    a.publish("r", None, Some("second"), b"second").await.unwrap();
    assert_eq!(server.command::<u64>(&["HLEN", "{chat}:ids:r"]).await, 1);
    assert!(a.publish("r", None, Some("first"), b"first").await.unwrap().is_repeat);
}

#[tokio::test]
async fn the_log_is_limited_in_bytes() {
    let server = Server::start().await;
    let a = TestNode::connect(Settings::new(server.url()).log_bytes(100_000)).await;
    let first = a.enter("r", member("ann"), None).await.unwrap();
    let mut last = first;
    for _ in 0..150 {
        last = a.publish("r", None, None, &[0; 1000]).await.unwrap().stamp;
        let kept: usize = server.command(&["XLEN", "{chat}:log:r"]).await;
        assert!(kept < 100, "{kept} events of 1,000 bytes are kept");
    }
    assert_eq!(a.log_after("r", first.epoch, last.seq - 80, 1000).await.unwrap().unwrap().len(), 80);
    assert_eq!(a.log_after("r", first.epoch, last.seq - 100, 1000).await.unwrap(), None);
    // The log has expired.
    let _: u32 = server.command(&["DEL", "{chat}:log:r"]).await;
    a.publish("r", None, None, &[0; 200_000]).await.unwrap();
    let last = a.publish("r", None, None, b"end").await.unwrap().stamp;
    assert_eq!(a.log_after("r", first.epoch, last.seq - 1, 1000).await.unwrap().unwrap().len(), 1);
    let bytes: usize = server.command(&["HGET", "{chat}:meta:r", "bytes"]).await;
    assert!(bytes < 100, "{bytes}");
    let left: i64 = server.command(&["PTTL", "{chat}:log:r"]).await;
    assert!((1..=3_600_000).contains(&left), "the log stays for {left} ms after its latest event");
}

/// A node's events are bounded while the host does not take them; the rest comes from the log.
#[tokio::test]
async fn a_host_that_is_slow_gets_the_rest_from_the_log() {
    let server = Server::start().await;
    let settings = || Settings::new(server.url()).max_queued_bytes(20_000).log_length(2000);
    let (slow, mut events) = tower_chat_rooms_redis::Node::connect(settings()).await.unwrap();
    let fast = TestNode::connect(settings()).await;
    slow.enter("r", member("ann"), None).await.unwrap();
    fast.enter("r", member("bob"), None).await.unwrap();
    for n in 0..1000 {
        fast.publish("r", None, None, format!("{n}").as_bytes()).await.unwrap();
    }
    fast.until_body("r", "999").await;
    let mut next = 1;
    while next < 1003 {
        match events.recv().await.unwrap() {
            Event::Room(event) => {
                assert_eq!(event.stamp.event, next);
                next += 1;
            }
            event => panic!("{event:?}"),
        }
    }
}

/// Rule: while the host takes no events, the node keeps no more of them than the settings say.
#[tokio::test]
async fn what_waits_for_a_host_that_stands_still_is_bounded() {
    let server = Server::start().await;
    let settings = |bytes| Settings::new(server.url()).max_queued_bytes(bytes).log_length(10);
    let (still, mut events) = tower_chat_rooms_redis::Node::connect(settings(20_000)).await.unwrap();
    let fast = TestNode::connect(settings(1 << 24)).await;
    still.enter("r", member("ann"), None).await.unwrap();
    fast.enter("r", member("bob"), None).await.unwrap();
    for n in 0..500 {
        fast.publish("r", None, None, format!("{n}").as_bytes()).await.unwrap();
        fast.send_transient("r", &[0; 100]).await.unwrap();
    }
    let last = fast.publish("r", None, None, b"last").await.unwrap().stamp;
    fast.until_heard("r", last).await;
    // The host takes events again.
    let (mut before, mut transient) = (0, 0);
    let reset = loop {
        match events.recv().await.unwrap() {
            Event::Room(event) => {
                assert!(event.body != "last", "everything was kept");
                before += 1;
            }
            Event::Transient { .. } => transient += 1,
            Event::Reset { stamp, .. } => break stamp,
            event => panic!("{event:?}"),
        }
    };
    assert!(before < 250 && transient < 250, "{before} events and {transient} transient bodies were kept");
    assert_eq!(reset, last, "the log does not have the rest any more");
}

/// Rule: so many publishes wait for Redis, and no more.
#[tokio::test]
async fn the_publishes_that_wait_for_redis_are_bounded() {
    let mut server = Server::start().await;
    let [a] = nodes(&server).await;
    a.enter("r", member("ann"), None).await.unwrap();
    server.kill();
    a.until("that Redis is away", |_| a.degraded_since().is_some()).await;
    while a.publish("r", None, None, b"notices that the connection is lost").now_or_never().is_some() {}
    let mut waiting: Vec<_> = (0..1000).map(|_| Box::pin(a.publish("r", None, None, b"waits"))).collect();
    for publish in &mut waiting {
        assert_eq!(publish.now_or_never(), None);
    }
    assert_eq!(a.stats().waiting_calls, 1000);
    let one_more = a.publish("r", None, None, b"one more").now_or_never();
    assert_eq!(one_more, Some(Err(PublishError::Unavailable)));
    drop(waiting.pop());
    assert_eq!(a.publish("r", None, None, b"in its place").now_or_never(), None);
}

//! Nodes, connections and servers that fail. Each test names the rule without which it fails.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::{sleep, timeout};
use tower_chat_rooms_redis::{Event, EventKind, Profile, PublishError, ResetReason, Settings, State};

use crate::support::{Data, Server, TestNode, member};

async fn node(server: &Server, name: &str) -> TestNode {
    let settings = Settings::new(server.url()).node_name(name).lease(Duration::from_secs(1));
    TestNode::connect(settings).await
}

/// The key of the node's lease.
fn lost_members(node: &TestNode) -> Vec<String> {
    let lost = |event| match event {
        Event::MemberLost { member, .. } => Some(member.into()),
        _ => None,
    };
    node.heard().into_iter().filter_map(lost).collect()
}

fn resets(node: &TestNode) -> Vec<ResetReason> {
    let reset = |event| match event {
        Event::Reset { reason, .. } => Some(reason),
        _ => None,
    };
    node.heard().into_iter().filter_map(reset).collect()
}

/// Rule: a lease for each node; removing and publishing in one script.
#[tokio::test]
async fn members_of_a_lost_node_leave_once() {
    let server = Server::start().await;
    let (a, b, c) = (node(&server, "a").await, node(&server, "b").await, node(&server, "c").await);
    a.enter("r", member("ann"), None).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    for n in 0..5 {
        c.enter("r", member(&format!("m{n}")).unique_as(format!("name {n}")), None).await.unwrap();
    }
    c.enter("r", member("spy").silent(), None).await.unwrap();
    drop(c);
    let is_over = |_: &[Event]| a.events("r").last().is_some_and(|event| event.stamp.num == 2);
    a.until("the leaves of all members of c", is_over).await;
    let leaves: Vec<_> = a.events("r").into_iter().skip(8).collect();
    let bodies: BTreeSet<_> = leaves.iter().map(|event| event.body.clone()).collect();
    assert_eq!((leaves.len(), bodies.len()), (6, 6));
    assert_eq!(leaves.iter().filter(|event| event.kind == EventKind::SilentLeave).count(), 1);
    let all = || [lost_members(&a), lost_members(&b)].concat();
    a.until("of the lost members", |_| all().len() >= 6).await;
    assert_eq!(all().len(), 6, "each is reported by one node");
    a.enter("r", member("m9").unique_as("name 3"), None).await.unwrap();
}

/// Rule: fencing. Without it, the message goes out between the member's leave and its next enter.
#[tokio::test]
async fn a_fenced_node_enters_its_members_again_before_it_publishes() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    b.enter("r", member("bob"), None).await.unwrap();
    a.enter("r", member("ann"), None).await.unwrap();
    let old = server.incarnation("a").await;
    let _: () = server.command(&["ZADD", "{chat}:nodes", "-1", &old]).await;
    let published = a.publish("r", Some("ann"), None, b"hello").await.unwrap();
    assert_eq!(published.stamp.num, 2);
    b.until_body("r", "hello").await;
    assert_eq!(b.bodies("r"), ["+bob", "+ann", "-ann", "+ann", "hello"]);
    assert_ne!(server.incarnation("a").await, old);
    let states = [State::Degraded, State::Connected].map(Event::State);
    a.until("that it is connected again", |heard| heard.iter().any(|event| *event == states[1])).await;
    assert_eq!(resets(&a), []);
}

/// A member that leaves while its node enters its members again stays out: its leave may arrive before its enter.
#[tokio::test]
async fn members_that_leave_during_a_fence_stay_out() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    b.enter("r", member("bob"), None).await.unwrap();
    for round in 0..4 {
        let ids: Vec<_> = (0..600).map(|n| format!("m{round}-{n}")).collect();
        let enters = ids.iter().map(|id| a.enter("r", member(id), None));
        assert!(futures_util::future::join_all(enters).await.iter().all(Result::is_ok));
        let old = server.incarnation("a").await;
        let _: () = server.command(&["ZADD", "{chat}:nodes", "-1", &old]).await;
        let leave = async |(n, id): (usize, &String)| {
            sleep(Duration::from_micros(150 * n as u64)).await;
            a.leave("r", id, Some("left".into())).await
        };
        futures_util::future::join_all(ids.iter().enumerate().map(leave)).await;
        while server.incarnation("a").await == old {
            sleep(Duration::from_millis(10)).await;
        }
        a.until("that it is connected", |_| a.degraded_since().is_none()).await;
        let members: Vec<String> = server
            .command(&["HKEYS", &format!("{{chat}}:members:{}:r", server.incarnation("a").await)])
            .await;
        assert_eq!(members, [] as [&str; 0]);
    }
    let end = b.publish("r", None, None, b"end").await.unwrap();
    assert_eq!(end.stamp.num, 1);
}

/// A leave was over while the node was about to enter the member again. A client that entered under another id was in the
/// room twice then.
#[tokio::test]
async fn an_enter_after_a_leave_is_behind_it() {
    let mut server = Server::start_with(Data::Everything).await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    b.enter("r", member("bob"), None).await.unwrap();
    let ids: Vec<_> = (0..600).map(|n| format!("m{n}")).collect();
    let enters = ids.iter().map(|id| a.enter("r", member(id), None));
    assert!(futures_util::future::join_all(enters).await.iter().all(Result::is_ok));
    server.kill();
    server.spawn().await;
    let change = async |(n, id): (usize, &String)| {
        sleep(Duration::from_micros(500 * n as u64)).await;
        a.leave("r", id, Some("left".into())).await;
        a.enter("r", member(&format!("{id}'")), None).await
    };
    futures_util::future::join_all(ids.iter().enumerate().map(change)).await;
    let end = b.publish("r", None, None, b"end").await.unwrap();
    b.until_heard("r", end.stamp).await;
    let events = b.events("r");
    for id in ids {
        let (old, new) = (Some(&*id), format!("{id}'"));
        let last = events.iter().rposition(|event| event.member.as_deref() == old);
        let first = events.iter().position(|event| event.member.as_deref() == Some(&*new));
        assert!(first.is_none() || first > last, "{id}: {first:?} and {last:?}");
    }
}

/// A change of a profile was given up after a second without Redis, and the other nodes never learned of it.
#[tokio::test]
async fn profiles_are_changed_as_soon_as_redis_can_be_reached() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    b.enter("r", member("bob"), None).await.unwrap();
    a.enter("r", member("ann"), None).await.unwrap();
    server.freeze();
    let profile = |state| Profile { state: Some(Bytes::from_static(state)), ..Profile::default() };
    a.set_profile("r", "ann", profile(b"1"));
    a.until("that Redis is away", |heard| heard.contains(&Event::State(State::Degraded))).await;
    a.set_profile("r", "ann", profile(b"2"));
    a.set_profile("r", "ann", profile(b"3"));
    server.thaw();
    b.until_profile("r", "ann", &profile(b"3")).await;
    let members = b.roster("r", 0, 10).await.unwrap().members;
    assert!(members.iter().any(|entry| entry.profile == profile(b"3")), "{members:?}");
}

/// Rule: forgiveness. A lease that has run out while nobody could renew is extended.
#[tokio::test]
async fn leases_are_extended_if_nobody_could_renew() {
    let server = Server::start().await;
    let _a = node(&server, "a").await;
    // As if there had been neither renewals nor beats for a while. The other node does not renew.
    let script = "redis.call('ZADD', KEYS[1], 1, 'other@1'); redis.call('SET', KEYS[2], 1)";
    let _: () = server.command(&["EVAL", script, "2", "{chat}:nodes", "{chat}:beat"]).await;
    while server.command::<String>(&["GET", "{chat}:beat"]).await == "1" {
        sleep(Duration::from_millis(10)).await;
    }
    let lease: f64 = server.command(&["ZSCORE", "{chat}:nodes", "other@1"]).await;
    assert!(lease > 1.0, "the node was fenced");
    // It does not renew now either, so it is gone.
    while server.command::<Option<f64>>(&["ZSCORE", "{chat}:nodes", "other@1"]).await.is_some() {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Rule: forgiveness, with real connections.
#[tokio::test]
async fn a_pause_of_the_server_removes_nobody() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    a.enter("r", member("ann"), None).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    server.freeze();
    sleep(Duration::from_secs(4)).await;
    server.thaw();
    // Both have renewed and looked for lost nodes several times.
    sleep(Duration::from_secs(2)).await;
    for (node, other) in [(&a, "ann"), (&b, "bob")] {
        node.until("that it is connected", |_| node.degraded_since().is_none()).await;
        let body = format!("{other} is still here");
        node.publish("r", Some(other), None, body.as_bytes()).await.unwrap();
    }
    a.until_body("r", "bob is still here").await;
    assert_eq!(a.bodies("r"), ["+ann", "+bob", "ann is still here", "bob is still here"]);
    assert_eq!((resets(&a), resets(&b)), (Vec::new(), Vec::new()));
}

/// Rule: messages have ids, so a call that timed out is repeated.
#[tokio::test]
async fn a_message_that_timed_out_is_repeated_once() {
    let server = Server::start().await;
    let a = node(&server, "a").await;
    a.enter("r", member("bob"), None).await.unwrap();
    a.enter("r", member("ann"), None).await.unwrap();
    // From now on, the server knows the script: the next call works as soon as it arrives.
    a.publish("r", None, None, b"first").await.unwrap();
    server.freeze();
    let publish = a.publish("r", Some("ann"), Some("id"), b"hello");
    let result = timeout(Duration::from_secs(20), publish).await.expect("it waits for too long");
    assert_eq!(result, Err(PublishError::Unavailable));
    // It leaves later, even if nobody waits.
    assert_eq!(a.leave("r", "ann", Some("bye".into())).now_or_never(), None);
    a.enter("other", member("cid"), None).await.unwrap_err();
    server.thaw();
    // When this has been answered, the enter that has failed can have no effect any more.
    assert_eq!(a.leave("other", "cid", None).await, None);
    assert_eq!(a.roster("other", 0, 10).await.unwrap().members, []);
    a.until_body("r", "bye").await;
    assert_eq!(a.bodies("r"), ["+bob", "+ann", "first", "hello", "bye"]);
    a.until("that it is connected", |_| a.degraded_since().is_none()).await;
    assert!(a.publish("r", Some("ann"), Some("id"), b"hello").await.unwrap().is_repeat);
    a.enter("other", member("cid again"), None).await.unwrap();
    a.until_body("other", "+cid again").await;
    assert_eq!(a.bodies("other"), ["+cid again"]);
    let roster = a.roster("other", 0, 10).await.unwrap();
    assert_eq!(roster.members.len(), 1, "the enter that has failed is undone");
}

/// Rule: a gap is read from the log.
#[tokio::test]
async fn a_subscription_that_breaks_loses_nothing() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    a.enter("r", member("ann"), None).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    for n in 0..300 {
        if n % 60 == 20 {
            let _: u32 = server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        }
        b.publish("r", None, None, format!("{n}").as_bytes()).await.unwrap();
    }
    for node in [&a, &b] {
        node.until_body("r", "299").await;
        assert_eq!(resets(node), []);
    }
    let numbers: Vec<_> = (0..300).map(|n| n.to_string()).collect();
    assert_eq!(a.bodies("r")[2..], numbers);
}

/// Rule: the epoch of a room belongs to one run of the server. The nodes are still in the room.
#[tokio::test]
async fn a_server_that_comes_back_with_its_data_resets_the_rooms_only() {
    let mut server = Server::start_with(Data::Everything).await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    a.enter("r", member("ann"), None).await.unwrap();
    let before = b.enter("r", member("bob"), None).await.unwrap();
    server.kill();
    server.spawn().await;
    for node in [&a, &b] {
        node.until("a reset", |_| resets(node) == [ResetReason::EpochChanged]).await;
        node.until("that it is connected", |_| node.degraded_since().is_none()).await;
    }
    let end = a.publish("r", Some("ann"), None, b"end").await.unwrap();
    assert_ne!(end.stamp.epoch, before.epoch);
    assert_eq!((end.stamp.event, end.stamp.seq, end.stamp.num), (3, 1, 2));
    // A member that enters now is behind those that are there.
    b.enter("r", member("cid"), None).await.unwrap();
    let members = a.roster("r", 0, 10).await.unwrap().members;
    assert_eq!(members.iter().map(|entry| &*entry.member).collect::<Vec<_>>(), ["ann", "bob", "cid"]);
    for node in [&a, &b] {
        node.until_heard("r", end.stamp).await;
        assert!(!node.events("r").iter().any(|event| event.kind == EventKind::Leave));
    }
}

/// Rule: a node whose lease is gone enters its members again.
#[tokio::test]
async fn a_server_that_has_lost_its_data_gets_all_members_back() {
    let mut server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    for n in 0..20 {
        let node = if n % 2 == 0 { &a } else { &b };
        node.enter("r", member(&format!("m{n}")), None).await.unwrap();
    }
    server.kill();
    let left_meanwhile = a.leave("r", "m0", Some("-m0".into())).now_or_never();
    assert_eq!(left_meanwhile, None);
    sleep(Duration::from_secs(1)).await;
    server.spawn().await;
    let is_back = |_: &[Event]| a.events("r").last().is_some_and(|event| event.stamp.num == 19);
    for node in [&a, &b] {
        node.until("that it is connected", |_| node.degraded_since().is_none()).await;
        node.until("a reset", |_| !resets(node).is_empty()).await;
    }
    let mut num = 0;
    while num < 19 {
        num = a.publish("r", None, None, b"").await.map_or(0, |published| published.stamp.num);
        sleep(Duration::from_millis(20)).await;
    }
    a.until("all members", is_back).await;
    let roster = a.roster("r", 0, 100).await.unwrap();
    assert_eq!(roster.members.len(), 19);
}

/// A server that writes to its disk once a second loses enters and leaves that it has confirmed.
#[tokio::test]
async fn members_agree_after_the_server_has_lost_its_latest_data() {
    let mut server = Server::start_with(Data::AlmostEverything).await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    for n in 0..40 {
        let node = if n % 2 == 0 { &a } else { &b };
        node.enter("r", member(&format!("m{n}")), None).await.unwrap();
    }
    for n in 0..20 {
        let node = if n % 2 == 0 { &a } else { &b };
        node.leave("r", &format!("m{n}"), None).await.unwrap();
    }
    server.kill();
    server.spawn().await;
    loop {
        let roster = a.roster("r", 0, 100).await;
        let ids = roster
            .map(|roster| roster.members.into_iter().map(|entry| entry.member).collect::<BTreeSet<_>>());
        if ids == Ok((20..40).map(|n| format!("m{n}").into()).collect()) {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Rule: the node connects again without end.
#[tokio::test]
async fn idle_nodes_hear_again_after_an_outage() {
    const OUTAGE: Duration = Duration::from_secs(8);
    let mut server = Server::start_with(Data::Everything).await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    a.enter("r", member("ann"), None).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    server.kill();
    sleep(OUTAGE).await;
    server.spawn().await;
    for node in [&a, &b] {
        node.until("a reset", |_| !resets(node).is_empty()).await;
        node.until("that it is connected", |_| node.degraded_since().is_none()).await;
    }
    let end = b.publish("r", None, None, b"end").await.unwrap();
    assert_eq!((end.stamp.seq, end.stamp.num), (1, 2));
    a.until_heard("r", end.stamp).await;
}

/// Rule: data that is deleted while the server runs is lost as with a restart: nobody is told of anything but a reset.
#[tokio::test]
async fn deleted_data_is_written_again() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let session = tower_chat_rooms_redis::Session::new("t1", "id of t1", Duration::from_secs(60));
    a.open_session(session.clone()).await.unwrap();
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    let _: () = server.command(&["FLUSHALL"]).await;
    a.publish("r", Some("ann"), None, b"a").await.unwrap();
    let end = b.publish("r", Some("bob"), None, b"b").await.unwrap();
    assert_eq!(end.stamp.num, 2);
    a.until_heard("r", end.stamp).await;
    let is_wrong = |event: &Event| {
        matches!(event, Event::SessionTaken { .. } | Event::EnteredAgain { .. } | Event::MemberLost { .. })
    };
    assert!(![a.heard(), b.heard()].concat().iter().any(is_wrong));
    assert_eq!(b.resume("t1", "t2", "").await.unwrap().memberships.len(), 1);
}

/// A server whose memory is used up answers, but refuses all that matters.
#[tokio::test]
async fn a_node_is_degraded_while_the_memory_of_the_server_is_used_up() {
    let server = Server::start().await;
    let a = TestNode::connect(Settings::new(server.url()).lease(Duration::from_secs(4))).await;
    a.enter("r", member("ann"), None).await.unwrap();
    let _: () = server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    a.until("that it is degraded", |heard| heard.contains(&Event::State(State::Degraded))).await;
    let reason = a.outage().unwrap().reason;
    assert!(reason.contains("maxmemory"), "{reason}");
    assert_eq!(a.publish("r", Some("ann"), None, b"no").await, Err(PublishError::Unavailable));
    let _: () = server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    a.until("that it works", |heard| heard.contains(&Event::State(State::Connected))).await;
    a.publish("r", Some("ann"), None, b"yes").await.unwrap();
    a.until_body("r", "yes").await;
    assert_eq!(a.bodies("r"), ["+ann", "yes"]);
}

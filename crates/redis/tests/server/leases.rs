//! Leases of nodes, and what becomes of the members of a node whose lease has run out. Each test names the rule without
//! which it fails.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;
use tower_chat_rooms_redis::{Session, Settings};

use crate::support::{Server, TestNode, member};

const MINUTE: Duration = Duration::from_secs(60);

async fn node(server: &Server, name: &str, lease: Duration) -> TestNode {
    TestNode::connect(Settings::new(server.url()).node_name(name).lease(lease)).await
}

/// Rule: a node renews its lease three times before it runs out, at random moments.
#[tokio::test]
async fn a_lease_is_renewed_early_and_at_random() {
    const LEASE_MS: f64 = 1000.0;
    let server = Server::start().await;
    let a = node(&server, "a", Duration::from_millis(LEASE_MS as u64)).await;
    let incarnation = server.incarnation("a").await;
    // The first look for lost nodes, which finds that there was none before, extends it.
    server.until_beat().await;
    let mut deadlines = vec![server.lease(&incarnation).await.unwrap()];
    while deadlines.len() < 14 {
        let last = deadlines[deadlines.len() - 1];
        server.until_lease(&incarnation, |lease| lease != Some(last)).await;
        deadlines.push(server.lease(&incarnation).await.unwrap());
    }
    let mut waits: Vec<f64> = deadlines.windows(2).skip(1).map(|two| two[1] - two[0]).collect();
    waits.sort_by(f64::total_cmp);
    // On a machine with much else to do, some waits take longer.
    let (early, middle, late) = (waits[3], waits[6], waits[9]);
    assert!(early <= LEASE_MS / 3.0 && middle <= LEASE_MS / 2.0, "{waits:?}");
    assert!(late - early >= LEASE_MS / 100.0, "all waits are equal: {waits:?}");
    assert_eq!(a.degraded_since(), None);
    assert_eq!(server.incarnation("a").await, incarnation);
}

/// Rule: the incarnation of a node is new at each start. Otherwise, the members from before the crash would stay for ever.
#[tokio::test]
async fn a_node_that_starts_again_does_not_keep_its_old_members() {
    let server = Server::start().await;
    let a = node(&server, "a", Duration::from_secs(1)).await;
    let b = node(&server, "b", Duration::from_secs(1)).await;
    b.enter("r", member("bob"), None).await.unwrap();
    a.enter("r", member("before"), None).await.unwrap();
    drop(a);
    let a = node(&server, "a", Duration::from_secs(1)).await;
    a.enter("r", member("after"), None).await.unwrap();
    b.until_body("r", "-before").await;
    let last = a.publish("r", Some("after"), None, b"here").await.unwrap();
    assert_eq!(last.stamp.num, 2);
    b.until_heard("r", last.stamp).await;
    assert!(!b.bodies("r").contains(&"-after".to_owned()));
}

/// Rule: leases are extended if the last beat is older than half a lease, and only then.
#[tokio::test]
async fn half_a_lease_without_a_beat_is_forgiven() {
    let server = Server::start().await;
    // This one looks for lost nodes, and forgives, as long as nothing else is said.
    let _a = node(&server, "a", MINUTE).await;
    for (last_beat, is_forgiven) in [(20_000, false), (40_000, true)] {
        let other = format!("other@{last_beat}");
        server
            .eval(&format!(
                "redis.call('ZADD', '{{chat}}:nodes', now - 1, '{other}') \
                 redis.call('SADD', '{{chat}}:rooms:{other}', 'r') \
                 redis.call('SET', '{{chat}}:beat', now - {last_beat})"
            ))
            .await;
        server.until_beat().await;
        let lease = server.lease(&other).await;
        assert_eq!(lease.is_some_and(|lease| lease > 0.0), is_forgiven, "{last_beat}: {lease:?}");
    }
}

/// Rule: leases are extended once. A node that does not renew then, either, is lost.
#[tokio::test]
async fn nodes_that_stay_away_after_an_outage_are_lost() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a", Duration::from_secs(1)).await, node(&server, "b", MINUTE).await);
    b.enter("r", member("bob"), None).await.unwrap();
    a.enter("r", member("ann"), None).await.unwrap();
    let incarnation = server.incarnation("a").await;
    drop(a);
    server
        .eval(&format!(
            "redis.call('ZADD', '{{chat}}:nodes', now - 1, '{incarnation}') redis.call('SET', '{{chat}}:beat', 1)"
        ))
        .await;
    server.until_beat().await;
    assert!(server.lease(&incarnation).await.is_some_and(|lease| lease > 0.0), "it is forgiven at first");
    // As if its lease, a minute from now, had run out.
    server.set_lease(&incarnation, "now - 1").await;
    b.until_body("r", "-ann").await;
}

/// Rule: members of lost nodes are removed in batches, however many nodes do it, so that the others are not flooded.
#[tokio::test]
async fn members_of_a_lost_node_leave_in_batches() {
    const MEMBERS: usize = 250;
    let server = Server::start().await;
    let (a, lost) = (node(&server, "a", MINUTE).await, node(&server, "lost", MINUTE).await);
    let mut others = Vec::new();
    for n in 0..5 {
        others.push(node(&server, &format!("other-{n}"), MINUTE).await);
    }
    a.enter("r", member("ann"), None).await.unwrap();
    for n in 0..MEMBERS {
        lost.enter("r", member(&format!("m{n}")), None).await.unwrap();
    }
    let incarnation = server.incarnation("lost").await;
    drop(lost);
    server.set_lease(&incarnation, "-now").await;
    a.until("all leaves", |_| a.events("r").len() == 1 + 2 * MEMBERS).await;
    let log: Vec<(String, BTreeMap<String, redis::Value>)> =
        server.command(&["XREVRANGE", "{chat}:log:r", "+", "-", "COUNT", &MEMBERS.to_string()]).await;
    let time = |at: usize| redis::from_redis_value::<u64>(log[at].1["t"].clone()).unwrap();
    // Three batches, and half a second between two of them.
    let took = time(0) - time(MEMBERS - 1);
    assert!(took >= 1000, "all leaves within {took} ms");
}

/// Rule: the members of sessions stay for the resume window, which begins with the fence, and no longer.
#[tokio::test]
async fn a_resume_window_begins_with_the_fence() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a", MINUTE).await, node(&server, "b", MINUTE).await);
    let session = Session::new("t1", "id", MINUTE);
    a.open_session(session.clone()).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    a.enter("r", member("plain"), None).await.unwrap();
    let incarnation = server.incarnation("a").await;
    drop(a);
    server.set_lease(&incarnation, "-(now - 50000)").await;
    b.until_body("r", "-plain").await;
    server.until_beat().await;
    assert_eq!(b.roster("r", 0, 10).await.unwrap().members.len(), 2, "its window is not over");
    // No beat looks at it again before that, so another node does.
    let c = node(&server, "c", MINUTE).await;
    server.set_lease(&incarnation, "-(now - 61000)").await;
    b.until_body("r", "-ann").await;
    while server.lease(&incarnation).await.is_some() {
        sleep(Duration::from_millis(10)).await;
    }
    c.close().await;
    assert_eq!(server.command::<Vec<String>>(&["KEYS", "*session*"]).await, [] as [&str; 0]);
}

/// Rule: the sessions of a lost node end after its members have left. If they ended before and the node came back, it
/// would take them for sessions of other nodes, and nobody would report its members as gone.
#[tokio::test]
async fn sessions_of_a_lost_node_are_kept_until_their_members_have_left() {
    let server = Server::start().await;
    let lost = TestNode::connect(Settings::new(server.url()).node_name("lost").lease(MINUTE)).await;
    for n in 0..250 {
        let session = Session::new(format!("t{n}"), format!("s{n}"), MINUTE);
        lost.open_session(session.clone()).await.unwrap();
        lost.enter("r", member(&format!("m{n}")).session(&session), None).await.unwrap();
    }
    let incarnation = server.incarnation("lost").await;
    drop(lost);
    server.set_lease(&incarnation, "-(now - 61000)").await;
    let other = TestNode::connect(Settings::new(server.url()).node_name("other").lease(MINUTE)).await;
    let script = format!(
        "local members = redis.call('HKEYS', '{{chat}}:members:{incarnation}:r') \
         for _, member in ipairs(members) do \
           if redis.call('EXISTS', '{{chat}}:session:s' .. member:sub(2)) == 0 then return -1 end \
         end \
         return #members"
    );
    loop {
        match server.command::<i64>(&["EVAL", &script, "0"]).await {
            -1 => panic!("a session has ended before its member has left"),
            0 => break,
            _ => sleep(Duration::from_millis(5)).await,
        }
    }
    server.until_lease(&incarnation, |lease| lease.is_none()).await;
    assert_eq!(server.command::<Vec<String>>(&["KEYS", "{chat}:session:*"]).await, [] as [&str; 0]);
    other.close().await;
}

/// Rule: the same holds if the other node does not check the members because, as far as it knows, they have time left.
#[tokio::test]
async fn a_session_does_not_end_before_its_member_because_of_the_clock() {
    let server = Server::start().await;
    let lost = TestNode::connect(Settings::new(server.url()).node_name("lost").lease(10 * MINUTE)).await;
    let other = TestNode::connect(Settings::new(server.url()).node_name("other").lease(MINUTE)).await;
    let session = Session::new("t", "s", MINUTE);
    lost.open_session(session.clone()).await.unwrap();
    lost.enter("r", member("ann").session(&session), None).await.unwrap();
    other.enter("r", member("bob"), None).await.unwrap();
    let incarnation = server.incarnation("lost").await;
    server.set_lease(&incarnation, "-now").await;
    for _ in 0..2 {
        server.until_beat().await;
    }
    // The other node looks at the member again in a minute.
    server.set_lease(&incarnation, "-(now - 61000)").await;
    for _ in 0..3 {
        server.until_beat().await;
    }
    // The node comes back, and has its session.
    lost.publish("r", Some("ann"), None, b"back").await.unwrap();
    other.until_body("r", "back").await;
    assert_eq!(other.bodies("r"), ["+bob", "back"]);
    assert!(lost.close_session("s", 1).await.unwrap());
}

/// Rule: a clock that has gone back delays nothing.
#[tokio::test]
async fn members_are_removed_after_the_clock_of_the_server_has_gone_back() {
    let server = Server::start().await;
    let node = TestNode::connect(Settings::new(server.url()).node_name("a").lease(MINUTE)).await;
    let other = TestNode::connect(Settings::new(server.url()).node_name("b").lease(MINUTE)).await;
    other.enter("r", member("bob"), None).await.unwrap();
    node.enter("r", member("ann"), None).await.unwrap();
    server.eval("redis.call('HSET', '{chat}:meta:r', 'reaped', now + 3600000)").await;
    node.close().await;
    assert_eq!(other.publish("r", Some("bob"), None, b"end").await.unwrap().stamp.num, 1);
}

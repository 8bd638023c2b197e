//! Calls of nodes about sessions that have changed without their knowledge. Each test names the rule that it tests,
//! without which it fails.

use std::time::Duration;

use tokio::time::sleep;
use tower_chat_rooms_redis::{Event, ResumeError, Session, Settings, Unavailable};

use crate::support::{Data, Proxy, Server, TestNode, Way, member};

const MINUTE: Duration = Duration::from_secs(60);
/// The second connection that a node opens.
const SUBSCRIBER: usize = 1;
const KEY: &str = "{chat}:session:id";

async fn node(url: String, name: &str) -> TestNode {
    TestNode::connect(Settings::new(url).node_name(name).lease(MINUTE)).await
}

fn session() -> Session {
    Session::new("t1", "id", MINUTE)
}

async fn exists(server: &Server, key: &str) -> bool {
    server.command::<u64>(&["EXISTS", key]).await == 1
}

fn gone(generation: u64) -> Event {
    Event::SessionGone { session: "id".into(), generation }
}

/// Rule: a node's call about a session has no effect if the node has taken the session over since, but does not know it.
#[tokio::test]
async fn only_the_latest_generation_of_a_node_ends_its_session() {
    let server = Server::start().await;
    let (a, b) = (node(server.url(), "a").await, node(server.url(), "b").await);
    a.open_session(session()).await.unwrap();
    a.enter("r", member("ann").session(&session()), None).await.unwrap();
    // As if the node had taken the session over and had not got the answer yet.
    let _: u32 = server.command(&["HINCRBY", KEY, "generation", "1"]).await;
    assert_eq!(a.leave_in_session("r", "ann", 1, Some("bye".into())).await, None);
    assert!(!a.close_session("id", 1).await.unwrap());
    assert_eq!(b.resume("t1", "t2", "").await.unwrap().memberships.len(), 1);
    assert_eq!(b.roster("r", 0, 10).await.unwrap().members.len(), 1);
}

/// Rule: a session ends only on the node that has it. After a loss of data, two nodes may have the same generation.
#[tokio::test]
async fn a_session_belongs_to_one_node_if_two_have_the_same_generation() {
    for is_closed in [false, true] {
        let server = Server::start().await;
        let (a, b) = (node(server.url(), "a").await, node(server.url(), "b").await);
        a.open_session(session()).await.unwrap();
        b.resume("t1", "t2", "").await.unwrap();
        // As if Redis had lost this, and the first node had taken the session over from itself.
        let incarnation = server.incarnation("a").await;
        let _: u32 = server.command(&["HSET", KEY, "node", &incarnation]).await;
        if is_closed {
            assert!(!b.close_session("id", 2).await.unwrap());
        } else {
            assert_eq!(b.set_user("id", 2, "u").await, Err(Unavailable));
            b.until("that the session is gone", |heard| heard.contains(&gone(3))).await;
        }
        assert_eq!(server.command::<Option<String>>(&["HGET", KEY, "node"]).await, Some(incarnation));
    }
}

/// Rule: a session has ended if the server does not know it and has lost no data. It does not remember ended sessions
/// forever.
#[tokio::test]
async fn a_session_that_has_ended_long_ago_stays_gone() {
    for is_closed in [false, true] {
        let server = Server::start().await;
        let proxy = Proxy::start(server.directory(), server.socket());
        let (a, b) = (node(proxy.url(), "a").await, node(server.url(), "b").await);
        a.open_session(session()).await.unwrap();
        proxy.set(SUBSCRIBER, Way::Dead);
        b.resume("t1", "t2", "").await.unwrap();
        assert!(b.close_session("id", 2).await.unwrap());
        assert_eq!(server.command::<u64>(&["DEL", "{chat}:closed:id"]).await, 1);
        if is_closed {
            assert!(!a.close_session("id", 1).await.unwrap());
        } else {
            assert_eq!(a.set_user("id", 1, "u").await, Err(Unavailable));
            a.until("that the session is gone", |heard| heard.contains(&gone(2))).await;
        }
        assert!(!exists(&server, KEY).await);
        assert_eq!(b.resume("t1", "t3", "").await, Err(ResumeError::Unknown));
    }
}

/// Rule: a session that another node has ended does not come back after a restart of the server, which may have lost data.
#[tokio::test]
async fn a_session_that_has_ended_elsewhere_stays_gone_after_a_restart() {
    let mut server = Server::start_with(Data::Everything).await;
    let proxy = Proxy::start(server.directory(), server.socket());
    let (a, b) = (node(proxy.url(), "a").await, node(server.url(), "b").await);
    a.open_session(session()).await.unwrap();
    proxy.set(SUBSCRIBER, Way::Dead);
    b.resume("t1", "t2", "").await.unwrap();
    assert!(b.close_session("id", 2).await.unwrap());
    server.kill();
    server.spawn().await;
    a.until("that the session is gone", |heard| heard.contains(&gone(2))).await;
    assert!(!exists(&server, KEY).await);
}

/// Rule: a node learns that another node has taken its session over, even if Redis has lost this. Redis then learns it from
/// the other node.
#[tokio::test]
async fn a_node_learns_that_a_session_is_gone_if_redis_has_lost_it() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.directory(), server.socket());
    let (a, b) = (node(proxy.url(), "a").await, node(server.url(), "b").await);
    a.open_session(session()).await.unwrap();
    let incarnation = server.incarnation("a").await;
    proxy.set(SUBSCRIBER, Way::Dead);
    b.resume("t1", "t2", "").await.unwrap();
    let _: u32 = server.command(&["HSET", KEY, "node", &incarnation, "generation", "1"]).await;
    // Wait until it gets messages again.
    let is_heard = |event: &Event| matches!(event, Event::Command { .. });
    while !a.heard().iter().any(is_heard) {
        b.send_to_number(a.number(), b"hello").await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    b.set_user("id", 2, "u").await.unwrap();
    a.until("that the session was taken over", |heard| {
        heard.contains(&Event::SessionTaken { session: "id".into(), generation: 2 })
    })
    .await;
    assert_eq!(b.resume("t2", "t3", "u").await.unwrap().generation, 3);
}

/// Rule: no node removes members, users or sessions of a node with a valid lease. Redis may have lost the fence after
/// another node has learned of it.
#[tokio::test]
async fn a_node_keeps_all_if_redis_loses_its_fence() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.directory(), server.socket());
    let a = node(proxy.url(), "a").await;
    // With this lease, the node does not renew it during the test.
    let b = TestNode::connect(Settings::new(server.url()).node_name("b").lease(10 * MINUTE)).await;
    let incarnation = server.incarnation("b").await;
    b.open_session(session()).await.unwrap();
    b.begin_user("u", "1", Duration::ZERO).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    // The calls with which another node removes the members, the users and the sessions, in this order.
    let members = format!("{{chat}}:members:{incarnation}:r\r\n");
    let users = format!("$1\r\n2\r\n$12\r\n{{chat}}:nodes\r\n${}\r\n{{chat}}:users:", 13 + incarnation.len());
    let forget = "$6\r\nforget\r\n".to_owned();
    for call in [members, users, forget] {
        let is_sent = proxy.set_when_sent(call.clone(), Way::Held);
        server.set_lease(&incarnation, "-now").await;
        let connection = is_sent.await.unwrap();
        server.set_lease(&incarnation, "now + 60000").await;
        proxy.set(connection, Way::Open);
        server.until_beat().await;
        assert!(server.lease(&incarnation).await.is_some_and(|lease| lease > 0.0), "{call}");
        assert!(exists(&server, KEY).await, "{call}");
        if call.starts_with("{chat}:members") {
            assert_eq!(b.roster("r", 0, 10).await.unwrap().members.len(), 1);
            b.leave("r", "bob", None).await.unwrap();
        } else if call.starts_with("$1") {
            assert_eq!(a.user_sessions("u").await.unwrap().len(), 1);
            b.end_user("u", "1").await.unwrap();
        }
    }
}

/// Rule: a lost node is forgotten even if Redis does not have one of its sessions any more.
#[tokio::test]
async fn a_lost_node_is_forgotten_without_its_sessions() {
    let server = Server::start().await;
    let (a, b) = (node(server.url(), "a").await, node(server.url(), "b").await);
    b.open_session(session()).await.unwrap();
    let incarnation = server.incarnation("b").await;
    drop(b);
    // As if Redis had evicted it.
    let _: u64 = server.command(&["DEL", KEY]).await;
    server.set_lease(&incarnation, "-now").await;
    server.until_lease(&incarnation, |lease| lease.is_none()).await;
    assert!(!exists(&server, &format!("{{chat}}:sessions:{incarnation}")).await);
    a.close().await;
}

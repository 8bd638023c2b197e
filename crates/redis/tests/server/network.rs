//! Connections that look healthy and are not.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use tower_chat_rooms_redis::{Event, ResetReason, Session, Settings};

use crate::support::{Data, Proxy, Server, TestNode, Way, member};

/// The connections of a node, by the order in which it opens them.
const COMMANDS: usize = 0;
const SUBSCRIBER: usize = 1;

async fn node(url: String, name: &str) -> TestNode {
    let settings = Settings::new(url).node_name(name).lease(Duration::from_secs(2));
    TestNode::connect(settings).await
}

/// Rule: a node publishes probes to itself. Without them, it stays subscribed to the old server for ever: that one
/// answers, but nothing is published there.
#[tokio::test]
async fn a_node_follows_a_failover_with_both_connections() {
    let (old, new) = (Server::start().await, Server::start_with(Data::Nothing).await);
    let proxy = Proxy::start(old.directory(), old.socket());
    let a = node(proxy.url(), "a").await;
    a.enter("r", member("ann"), None).await.unwrap();
    let b = node(new.url(), "b").await;
    b.enter("r", member("bob"), None).await.unwrap();
    proxy.lead_to(new.socket());
    proxy.set(COMMANDS, Way::Closed);
    // The node has entered its member on the new server.
    b.until_body("r", "+ann").await;
    b.publish("r", None, None, b"hello").await.unwrap();
    let has_end = |heard: &[Event]| {
        heard.iter().any(|event| matches!(event, Event::Reset { stamp, .. } if stamp.num == 2))
    };
    a.until("where the room is on the new server", has_end).await;
    b.publish("r", None, None, b"end").await.unwrap();
    a.until_body("r", "end").await;
}

/// Rule: a connection that does not answer is replaced.
#[tokio::test]
async fn half_open_connections_are_replaced() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.directory(), server.socket());
    let (a, b) = (node(proxy.url(), "a").await, node(server.url(), "b").await);
    a.enter("r", member("ann"), None).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    a.until_body("r", "+bob").await;
    for (connection, body) in [(SUBSCRIBER, "subscriber"), (COMMANDS, "commands")] {
        proxy.set(connection, Way::Dead);
        b.publish("r", None, None, body.as_bytes()).await.unwrap();
        a.until_body("r", body).await;
    }
    // The connection for commands is noticed, too, even if nobody uses it.
    a.until("that it works", |_| a.degraded_since().is_none()).await;
    while a.publish("r", Some("ann"), Some("last"), b"last").await.is_err() {}
    b.until_body("r", "last").await;
}

/// Rule: a gap that the log does not cover is a reset.
#[tokio::test]
async fn a_gap_that_is_too_long_resets_the_room() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.directory(), server.socket());
    let settings = |url| Settings::new(url).log_length(10);
    let (a, b) =
        (TestNode::connect(settings(proxy.url())).await, TestNode::connect(settings(server.url())).await);
    a.enter("r", member("ann"), None).await.unwrap();
    proxy.lead_to(server.directory().join("nowhere"));
    proxy.set(SUBSCRIBER, Way::Closed);
    a.until("that it cannot work", |_| a.degraded_since().is_some()).await;
    let mut last = None;
    for n in 0..300 {
        last = Some(b.publish("r", None, None, format!("{n}").as_bytes()).await.unwrap().stamp);
    }
    proxy.lead_to(server.socket());
    let reset = Event::Reset { room: "r".into(), stamp: last.unwrap(), reason: ResetReason::LogTrimmed };
    a.until("a reset", |heard| heard.contains(&reset)).await;
    b.publish("r", None, None, b"end").await.unwrap();
    a.until_body("r", "end").await;
}

/// Rule: a session arrives after the events that its client may have got elsewhere.
#[tokio::test]
async fn a_session_arrives_behind_the_events_before() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.directory(), server.socket());
    let settings = |url, name| Settings::new(url).node_name(name).lease(Duration::from_secs(60));
    let a = TestNode::connect(settings(proxy.url(), "a")).await;
    let b = TestNode::connect(settings(server.url(), "b")).await;
    a.enter("r", member("ann"), None).await.unwrap();
    let session = Session::new("t1", "id", Duration::from_secs(60));
    b.open_session(session.clone()).await.unwrap();
    b.enter("r", member("bob").session(&session), None).await.unwrap();
    a.until_body("r", "+bob").await;
    // Nothing arrives there any more.
    proxy.set(SUBSCRIBER, Way::Dead);
    b.publish("r", Some("bob"), None, b"before").await.unwrap();
    a.resume("t1", "t2", "").await.unwrap();
    b.publish("r", None, None, b"after").await.unwrap();
    a.until_body("r", "after").await;
    let heard: Vec<String> = a
        .heard()
        .into_iter()
        .filter_map(|event| match event {
            Event::Room(event) => Some(String::from_utf8_lossy(&event.body).into_owned()),
            Event::SessionResumed(_) => Some("the session".into()),
            _ => None,
        })
        .collect();
    assert_eq!(heard, ["+ann", "+bob", "before", "the session", "after"]);
}

/// Rule: what was sent on a connection that was given up has no effect later.
#[tokio::test]
async fn calls_that_arrive_late_have_no_effect() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.directory(), server.socket());
    let settings = Settings::new(proxy.url()).node_name("a").lease(Duration::from_secs(60));
    let a = TestNode::connect(settings).await;
    a.enter("r", member("ann"), None).await.unwrap();
    proxy.set(COMMANDS, Way::Held);
    a.enter("r", member("bob"), None).await.unwrap();
    a.leave("r", "bob", None).await.unwrap();
    // As soon as the server may read it.
    proxy.set(COMMANDS, Way::Open);
    while server.command::<String>(&["CLIENT", "LIST"]).await.matches(":commands").count() > 1 {
        sleep(Duration::from_millis(20)).await;
    }
    let roster = a.roster("r", 0, 10).await.unwrap();
    assert_eq!(roster.members.len(), 1, "{roster:?}");
}

/// Rule: a connection counts as broken if the server does not answer any call, but not if calls are slow because there are
/// many.
#[tokio::test]
async fn a_connection_with_many_calls_is_not_broken() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.directory(), server.socket());
    let a = TestNode::connect(Settings::new(proxy.url()).lease(Duration::from_secs(600))).await;
    a.enter("r", member("ann"), None).await.unwrap();
    let connection = commands_of(&server).await;
    proxy.set(COMMANDS, Way::Slow);
    let begin = Instant::now();
    let ids: Vec<_> = (0..6000).map(|n| format!("unknown {n}")).collect();
    join_all(ids.iter().map(|id| a.leave("r", id, None))).await;
    assert!(begin.elapsed() > Duration::from_secs(3), "they have not waited");
    assert_eq!(commands_of(&server).await, connection);
}

/// The server's ids of the connections for commands.
async fn commands_of(server: &Server) -> Vec<String> {
    let clients: String = server.command(&["CLIENT", "LIST"]).await;
    let commands = clients.lines().filter(|client| client.contains(":commands "));
    commands.map(|client| client.split(' ').next().unwrap().to_owned()).collect()
}

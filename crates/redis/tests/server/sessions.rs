//! Sessions that are resumed on other nodes.

use std::time::Duration;

use tokio::time::sleep;
use tower_chat_rooms_redis::{EnterError, Event, PublishError, ResumeError, Session, Settings, Unavailable};

use crate::support::{Data, Server, TestNode, member};

const WINDOW: Duration = Duration::from_secs(60);

async fn node(server: &Server, name: &str) -> TestNode {
    let settings = Settings::new(server.url()).node_name(name).lease(Duration::from_secs(1));
    TestNode::connect(settings).await
}

async fn open(node: &TestNode, token: &str, window: Duration) -> Session {
    let session = Session::new(token, format!("id of {token}"), window).user("ann");
    node.open_session(session.clone()).await.unwrap();
    session
}

/// What a node hears whose session was taken over for the first time.
fn taken(token: &str) -> Event {
    Event::SessionTaken { session: format!("id of {token}").into(), generation: 2 }
}

/// Waits until a node knows that its session "t1" was taken over for the first time: it was told, or has found out.
async fn until_gone(node: &TestNode) {
    let is_gone = |event: &Event| match event {
        Event::SessionTaken { session, generation } | Event::SessionGone { session, generation } => {
            (&**session, *generation) == ("id of t1", 2)
        }
        _ => false,
    };
    node.until("that the session is gone", |heard| heard.iter().any(is_gone)).await;
}

/// Rule: a session is in Redis from the first enter on, and moves in one script.
#[tokio::test]
async fn a_session_moves_to_another_node_without_leaving() {
    let server = Server::start().await;
    let (a, b, c) = (node(&server, "a").await, node(&server, "b").await, node(&server, "c").await);
    c.enter("r", member("cid"), None).await.unwrap();
    let session = open(&a, "t1", WINDOW).await;
    a.enter("r", member("ann").session(&session).unique_as("ann"), None).await.unwrap();
    a.enter("s", member("ann in s").session(&session), None).await.unwrap();
    a.publish("r", Some("ann"), Some("m1"), b"one").await.unwrap();

    let resumed = b.resume("t1", "t2", "ann").await.unwrap();
    assert_eq!((resumed.generation, resumed.memberships.len()), (2, 2));
    let again = b.publish("r", Some("ann"), Some("m1"), b"one").await.unwrap();
    assert!(again.is_repeat, "the message has arrived before the connection was lost");
    b.publish("r", Some("ann"), Some("m2"), b"two").await.unwrap();

    // What the old node says has no effect.
    assert_eq!(a.publish("r", Some("ann"), None, b"old").await, Err(PublishError::NotMember));
    a.until("that the session is gone", |heard| heard.contains(&taken("t1"))).await;
    assert_eq!(a.leave("r", "ann", Some("-ann".into())).await, None);
    let late = a.enter("late", member("late").session(&session), None).await;
    assert_eq!(late, Err(EnterError::NoSession));

    b.until_body("r", "two").await;
    let end = b.leave("r", "ann", Some("bye".into())).await.unwrap();
    c.until_heard("r", end).await;
    assert_eq!(c.bodies("r"), ["+cid", "+ann", "one", "two", "bye"]);
    let roster = c.roster("s", 0, 10).await.unwrap();
    assert_eq!(roster.members[0].member.as_ref(), "ann in s");
    b.leave("s", "ann in s", None).await.unwrap();
    c.leave("r", "cid", None).await.unwrap();
    assert!(!a.close_session("id of t1", 1).await.unwrap());
    assert!(b.close_session("id of t1", 2).await.unwrap());
    for node in [a, b, c] {
        node.close().await;
    }
    assert_eq!(server.lasting_keys().await, [] as [&str; 0]);
}

#[tokio::test]
async fn a_token_works_once_and_for_its_user() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let session = open(&a, "t1", WINDOW).await;
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    assert_eq!(b.resume("other", "t2", "ann").await, Err(ResumeError::Unknown));
    assert_eq!(b.resume("t1", "t2", "bob").await, Err(ResumeError::OtherUser));
    let first = b.resume("t1", "t2", "ann").await.unwrap();
    assert_eq!(b.resume("t1", "t2", "ann").await.unwrap(), first, "a repeated call");
    assert_eq!(a.resume("t1", "t3", "ann").await, Err(ResumeError::Unknown));
    // On the same node, too.
    let second = b.resume("t2", "t3", "ann").await.unwrap();
    assert_eq!(second.generation, 3);
    b.publish("r", Some("ann"), None, b"still here").await.unwrap();
    b.until_body("r", "still here").await;
}

/// Rule: the members of sessions stay for the resume window after their node is gone, the others leave at once.
#[tokio::test]
async fn a_session_outlives_its_node() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    b.enter("r", member("bob"), None).await.unwrap();
    let session = open(&a, "t1", WINDOW).await;
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    a.enter("r", member("plain"), None).await.unwrap();
    drop(a);
    b.until_body("r", "-plain").await;
    // The lost node has been looked at several times.
    sleep(Duration::from_secs(1)).await;
    let resumed = b.resume("t1", "t2", "ann").await.unwrap();
    assert_eq!(resumed.memberships.len(), 1);
    b.publish("r", Some("ann"), None, b"back").await.unwrap();
    b.until_body("r", "back").await;
    assert_eq!(b.bodies("r"), ["+bob", "+ann", "+plain", "-plain", "back"]);
    let nodes = loop {
        let nodes: Vec<String> = server.command(&["ZRANGE", "{chat}:nodes", "0", "-1"]).await;
        if nodes.len() == 1 {
            break nodes;
        }
        sleep(Duration::from_millis(20)).await;
    };
    assert!(nodes[0].starts_with("b@"), "the lost node is forgotten");
}

/// Each node looked at all of them at each beat, which kept Redis busy if there were thousands.
#[tokio::test]
async fn the_sessions_of_a_lost_node_are_looked_at_only_once() {
    let server = Server::start().await;
    let (a, b, c) = (node(&server, "a").await, node(&server, "b").await, node(&server, "c").await);
    for n in 0..20 {
        let session = open(&a, &format!("t{n}"), WINDOW).await;
        a.enter("r", member(&format!("m{n}")).session(&session), None).await.unwrap();
    }
    drop(a);
    while server.command::<Vec<String>>(&["KEYS", "*kept*"]).await.is_empty() {
        sleep(Duration::from_millis(20)).await;
    }
    let looks = async || {
        let stats: String = server.command(&["INFO", "commandstats"]).await;
        let calls =
            |line: &str| Some(line.strip_prefix("cmdstat_hgetall:calls=")?.split(',').next()?.to_owned());
        stats.lines().find_map(calls)
    };
    let before = looks().await;
    for _ in 0..10 {
        let beat = async || server.command::<String>(&["GET", "{chat}:beat"]).await;
        let last = beat().await;
        while beat().await == last {
            sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(looks().await, before);
    // They can be resumed all the same, and the lost node is forgotten when none is left.
    for n in 0..20 {
        b.resume(&format!("t{n}"), &format!("u{n}"), "ann").await.unwrap();
    }
    while server.command::<Vec<String>>(&["ZRANGE", "{chat}:nodes", "0", "-1"]).await.len() > 2 {
        sleep(Duration::from_millis(20)).await;
    }
    assert!(server.command::<Vec<String>>(&["KEYS", "*kept*"]).await.is_empty());
    drop(c);
}

#[tokio::test]
async fn a_session_that_nobody_resumes_ends_with_its_window() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    b.enter("r", member("bob"), None).await.unwrap();
    let session = open(&a, "t1", Duration::from_secs(2)).await;
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    a.enter("r", member("plain"), None).await.unwrap();
    // As at a deployment: its clients can come back elsewhere.
    a.close().await;
    b.until_body("r", "-ann").await;
    assert_eq!(b.bodies("r"), ["+bob", "+ann", "+plain", "-plain", "-ann"]);
    while !server.command::<Vec<String>>(&["KEYS", "*session*"]).await.is_empty() {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(b.resume("t1", "t2", "ann").await, Err(ResumeError::Unknown));
}

/// Rule: if no node is left, members stay until the next node starts, which reports them to its host.
#[tokio::test]
async fn the_next_node_removes_what_the_last_one_has_left_behind() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let session = open(&a, "t1", WINDOW).await;
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    let incarnation = server.incarnation("a").await;
    for node in [a, b] {
        node.close().await;
    }
    assert_eq!(server.lease(&incarnation).await.map(|lease| lease < 0.0), Some(true));
    // The window is over, but there is nobody to see it.
    server.set_lease(&incarnation, "-(now - 61000)").await;
    assert_ne!(server.lasting_keys().await, [] as [&str; 0]);
    let next = node(&server, "c").await;
    next.until("that the member is lost", |heard| {
        heard.iter().any(|event| matches!(event, Event::MemberLost { member, .. } if **member == *"ann"))
    })
    .await;
    server.until_lease(&incarnation, |lease| lease.is_none()).await;
    next.close().await;
    assert_eq!(server.lasting_keys().await, [] as [&str; 0]);
}

/// Rule: if all nodes were lost at the same time, the next one cannot know whether any of them is lost, so it extends
/// their leases.
#[tokio::test]
async fn the_next_node_waits_for_those_that_may_still_be_there() {
    let server = Server::start().await;
    let a = node(&server, "a").await;
    let b = node(&server, "b").await;
    a.enter("r", member("ann"), None).await.unwrap();
    b.enter("s", member("bob"), None).await.unwrap();
    let lost = [server.incarnation("a").await, server.incarnation("b").await];
    drop((a, b));
    for incarnation in &lost {
        server.set_lease(incarnation, "now - 1000").await;
    }
    let ended = [server.lease(&lost[0]).await, server.lease(&lost[1]).await];
    // Nobody has looked for lost nodes for a while.
    server.eval("redis.call('SET', '{chat}:beat', now - 3600000)").await;
    let next = TestNode::connect(Settings::new(server.url()).node_name("c").lease(WINDOW)).await;
    for (incarnation, ended) in lost.iter().zip(ended) {
        server.until_lease(incarnation, |lease| lease > ended).await;
    }
    // They do not renew it.
    for incarnation in &lost {
        server.set_lease(incarnation, "now - 1000").await;
        server.until_lease(incarnation, |lease| lease.is_none()).await;
    }
    let lost =
        |heard: &[Event]| heard.iter().filter(|event| matches!(event, Event::MemberLost { .. })).count();
    next.until("that both members are lost", |heard| lost(heard) == 2).await;
    next.close().await;
    assert_eq!(server.lasting_keys().await, [] as [&str; 0]);
}

/// Rule 11: only the members whose clients can come back stay.
#[tokio::test]
async fn a_member_of_a_closed_session_does_not_outlive_its_node() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    b.enter("r", member("bob"), None).await.unwrap();
    let session = open(&a, "t1", WINDOW).await;
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    assert!(a.close_session(session.id(), 1).await.unwrap());
    // The node has had no time to remove the member.
    a.close().await;
    b.until_body("r", "-ann").await;
    b.leave("r", "bob", None).await;
    b.close().await;
    assert_eq!(server.lasting_keys().await, [""; 0]);
}

#[tokio::test]
async fn sessions_survive_a_fence() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let session = open(&a, "t1", WINDOW).await;
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    server.fence("a").await;
    a.publish("r", Some("ann"), None, b"again").await.unwrap();
    let resumed = b.resume("t1", "t2", "ann").await.unwrap();
    assert_eq!(resumed.memberships.len(), 1);
}

/// Rule: a node that was not told of a take-over does not enter the members again.
#[tokio::test]
async fn a_fenced_node_does_not_take_a_session_back() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let session = open(&a, "t1", WINDOW).await;
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    let old: Vec<String> = server.command(&["ZRANGE", "{chat}:nodes", "0", "-1"]).await;
    let old = old.into_iter().find(|node| node.starts_with("a@")).unwrap();
    // The node hears nothing while the session is taken over.
    let _: u32 = server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    b.resume("t1", "t2", "ann").await.unwrap();
    let _: () = server.command(&["ZADD", "{chat}:nodes", "-1", &old]).await;
    until_gone(&a).await;
    a.until("that it is connected", |_| a.degraded_since().is_none()).await;
    let last = b.publish("r", Some("ann"), None, b"mine").await.unwrap();
    assert_eq!((last.stamp.event, last.stamp.num), (2, 1), "nobody has left or entered");
}

/// Rule: as above, if Redis is started again with its data, which it has not lost.
#[tokio::test]
async fn a_node_does_not_take_a_session_back_after_a_restart_of_the_server() {
    for is_fenced in [false, true] {
        let mut server = Server::start_with(Data::Everything).await;
        let (a, b) = (node(&server, "a").await, node(&server, "b").await);
        let session = open(&a, "t1", WINDOW).await;
        a.enter("r", member("ann").session(&session), None).await.unwrap();
        let old: Vec<String> = server.command(&["ZRANGE", "{chat}:nodes", "0", "-1"]).await;
        let old = old.into_iter().find(|node| node.starts_with("a@")).unwrap();
        // The node hears nothing while the session is taken over.
        let _: u32 = server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        b.resume("t1", "t2", "ann").await.unwrap();
        if is_fenced {
            let _: () = server.command(&["ZREM", "{chat}:nodes", &old]).await;
        }
        server.kill();
        server.spawn().await;
        until_gone(&a).await;
        a.until("that it is connected", |_| a.degraded_since().is_none()).await;
        let last = b.publish("r", Some("ann"), None, b"mine").await.unwrap();
        assert_eq!(last.stamp.num, 1, "the member is on one node");
        assert_eq!(b.roster("r", 0, 10).await.unwrap().members.len(), 1);
    }
}

/// Rule: an enter that has taken too long is undone, unless the member belongs to a session that was taken over meanwhile.
#[tokio::test]
async fn a_member_that_has_entered_late_stays_if_its_session_was_taken_over() {
    let server = Server::start().await;
    let a = TestNode::connect(Settings::new(server.url()).node_name("a").lease(WINDOW)).await;
    a.enter("r", member("cid"), None).await.unwrap();
    let session = open(&a, "t1", WINDOW).await;
    server.freeze();
    let (entered, resumed, ()) = tokio::join!(
        a.enter("r", member("ann").session(&session), None),
        async {
            sleep(Duration::from_secs(1)).await;
            a.resume("t1", "t2", "ann").await
        },
        async {
            sleep(Duration::from_millis(5500)).await;
            server.thaw();
        }
    );
    assert_eq!(entered, Err(EnterError::Unavailable));
    let memberships = resumed.unwrap().memberships;
    // After all calls that have waited.
    a.publish("r", Some("cid"), None, b"later").await.unwrap();
    let roster = a.roster("r", 0, 10).await.unwrap();
    assert_eq!(roster.members.len(), 1 + memberships.len());
}

/// Rule: as above, if the data is lost: a session is that node's which has taken it over.
#[tokio::test]
async fn a_node_does_not_take_a_session_back_after_a_loss_of_data() {
    let mut server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let session = open(&a, "t1", WINDOW).await;
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    // The node hears nothing while the session is taken over.
    let _: u32 = server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    b.resume("t1", "t2", "ann").await.unwrap();
    server.kill();
    server.spawn().await;
    until_gone(&a).await;
    let last = b.publish("r", Some("ann"), None, b"mine").await.unwrap();
    assert_eq!(last.stamp.num, 1, "the member is on one node");
    assert_eq!(b.roster("r", 0, 10).await.unwrap().members.len(), 1);
}

/// A client that goes on with one of two sessions gives it the token that it had given to the other one.
#[tokio::test]
async fn the_token_of_a_closed_session_can_be_used_again() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let first = open(&a, "t1", WINDOW).await;
    let second = Session::new("t2", "id of t2", WINDOW).user("ann").taken_over(2);
    a.open_session(second.clone()).await.unwrap();
    for (id, session) in [("one", &first), ("two", &second)] {
        a.enter("r", member(id).session(session), None).await.unwrap();
    }
    assert!(a.close_session("id of t1", 1).await.unwrap());
    a.rename_session("id of t2", 2, "t1").await.unwrap();
    assert!(a.leave_in_session("r", "one", 1, Some("bye".into())).await.is_some());
    let resumed = b.resume("t1", "t3", "ann").await.unwrap();
    assert_eq!(resumed.memberships.len(), 1);
    assert_eq!(b.roster("r", 0, 10).await.unwrap().members.len(), 1);
}

#[tokio::test]
async fn a_session_gets_another_token_and_another_user() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let session = open(&a, "t1", WINDOW).await;
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    a.rename_session(session.id(), 1, "t2").await.unwrap();
    a.set_user(session.id(), 1, "bob").await.unwrap();
    assert_eq!(b.resume("t1", "t3", "bob").await, Err(ResumeError::Unknown));
    assert_eq!(b.resume("t2", "t3", "ann").await, Err(ResumeError::OtherUser));
    let resumed = b.resume("t2", "t3", "bob").await.unwrap();
    assert_eq!((resumed.generation, resumed.memberships.len()), (2, 1));
    assert_eq!(resumed.memberships[0].entered.event, 1);
    // Too late: it is the session of another node.
    assert_eq!(a.rename_session(session.id(), 1, "t4").await, Err(Unavailable));
    assert_eq!(a.set_user(session.id(), 1, "ann").await, Err(Unavailable));
    assert_eq!(a.resume("t4", "t5", "bob").await, Err(ResumeError::Unknown));
    a.until("that the session is gone", |heard| heard.contains(&taken("t1"))).await;
    // It comes back, and what is still heard of its first move does not count.
    let resumed = a.resume("t3", "t5", "bob").await.unwrap();
    assert_eq!(resumed.generation, 3);
    a.publish("r", Some("ann"), None, b"back").await.unwrap();
    a.until_body("r", "back").await;
    // So does what the node itself has said before.
    assert_eq!(a.leave_in_session("r", "ann", 1, None).await, None);
    assert!(!a.close_session(session.id(), 1).await.unwrap());
    assert_eq!(a.leave_in_session("r", "ann", 3, None).await.unwrap().num, 0);
    assert!(a.close_session(session.id(), 3).await.unwrap());
    for node in [a, b] {
        node.close().await;
    }
    assert_eq!(server.lasting_keys().await, [] as [&str; 0]);
}

/// Rule: a session has one entry, so a node that takes it over from itself still has it, whatever the node tells Redis
/// about its sessions meanwhile.
#[tokio::test]
async fn a_session_that_its_own_node_takes_over_is_still_its_own() {
    let server = Server::start().await;
    let a = node(&server, "a").await;
    let mut session = open(&a, "t1", WINDOW).await;
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    for n in 1..30 {
        let (old, new) = (format!("t{n}"), format!("t{}", n + 1));
        // The node connects again, and tells Redis about its sessions.
        let lose_connection = server.command::<u32>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        let (resumed, _) = tokio::join!(a.resume(&old, &new, "ann"), lose_connection);
        session = resumed.unwrap().session;
    }
    a.until("that it is connected", |_| a.degraded_since().is_none()).await;
    a.publish("r", Some("ann"), None, b"still here").await.unwrap();
    a.until_body("r", "still here").await;
    // As if it had taken the session over once more, and the answer were on its way.
    let key = format!("{{chat}}:session:{}", session.id());
    let _: u32 = server.command(&["HINCRBY", &key, "generation", "1"]).await;
    a.set_user(session.id(), 30, "bob").await.unwrap();
    let _: i32 = server.command(&["HINCRBY", &key, "generation", "-1"]).await;
    let is_gone = |event: &Event| matches!(event, Event::SessionTaken { .. } | Event::SessionGone { .. });
    assert!(!a.heard().iter().any(is_gone));
    assert!(a.leave_in_session("r", "ann", 30, None).await.is_some());
    assert!(a.close_session(session.id(), 30).await.unwrap());
    a.close().await;
    assert_eq!(server.lasting_keys().await, [] as [&str; 0]);
}

/// Rule: what a node has yet to tell Redis about a session does not bring it back after its end.
#[tokio::test]
async fn a_session_that_ends_while_redis_is_away_stays_gone() {
    let server = Server::start().await;
    let a = node(&server, "a").await;
    let session = open(&a, "t1", WINDOW).await;
    server.freeze();
    let (renamed, changed, closed, ()) = tokio::join!(
        a.rename_session(session.id(), 1, "t2"),
        a.set_user(session.id(), 1, "bob"),
        a.close_session(session.id(), 1),
        async {
            // Longer than a connection waits for an answer, so that calls are repeated on another one.
            sleep(Duration::from_secs(6)).await;
            server.thaw();
        }
    );
    assert_eq!((renamed, changed, closed), (Err(Unavailable), Err(Unavailable), Ok(true)));
    a.close().await;
    assert_eq!(server.lasting_keys().await, [] as [&str; 0]);
}

/// Rule: a session that Redis has lost is its node's, unless another node says otherwise.
#[tokio::test]
async fn a_session_that_redis_has_lost_can_end() {
    let mut server = Server::start().await;
    let a = node(&server, "a").await;
    let session = open(&a, "t1", WINDOW).await;
    server.kill();
    let (closed, ()) = tokio::join!(a.close_session(session.id(), 1), server.spawn());
    assert_eq!(closed, Ok(true));
}

/// Rule: the members of sessions stay where they are while their node comes back.
#[tokio::test]
async fn members_of_sessions_do_not_leave_because_of_a_fence() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    b.enter("r", member("bob"), None).await.unwrap();
    let session = open(&a, "t1", WINDOW).await;
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    server.fence("a").await;
    a.publish("r", Some("ann"), None, b"still here").await.unwrap();
    b.until_body("r", "still here").await;
    assert_eq!(b.bodies("r"), ["+bob", "+ann", "still here"]);
    assert!(!a.heard().iter().any(|event| matches!(event, Event::EnteredAgain { .. })));
}

/// Rule: a member that leaves while its node is fenced does not come back with its session.
#[tokio::test]
async fn a_member_that_leaves_during_a_fence_is_gone() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    b.enter("r", member("bob"), None).await.unwrap();
    let session = open(&a, "t1", WINDOW).await;
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    a.enter("s", member("ann in s").session(&session), None).await.unwrap();
    server.fence("a").await;
    a.leave("r", "ann", Some("bye".into())).await;
    a.publish("s", Some("ann in s"), None, b"still here").await.unwrap();
    b.until_body("r", "-ann").await;
    assert_eq!(b.bodies("r"), ["+bob", "+ann", "-ann"]);
    assert_eq!(b.resume("t1", "t2", "ann").await.unwrap().memberships.len(), 1);
}

/// Rule: after a restart, Redis may have sessions again that have ended.
#[tokio::test]
async fn a_session_that_a_restart_has_brought_back_ends_again() {
    let mut server = Server::start_with(Data::Everything).await;
    let a = node(&server, "a").await;
    let session = open(&a, "t1", WINDOW).await;
    let aof = std::fs::read_dir(server.directory().join("appendonlydir")).unwrap();
    let aof =
        aof.map(|entry| entry.unwrap().path()).find(|path| path.to_string_lossy().ends_with("incr.aof"));
    let aof = aof.unwrap();
    let before = std::fs::read(&aof).unwrap();
    assert!(a.close_session(session.id(), 1).await.unwrap());
    server.kill();
    std::fs::write(&aof, before).unwrap();
    server.spawn().await;
    while server.try_command::<Vec<String>>(&["KEYS", "*session*"]).await != Ok(Vec::new()) {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Rule: a node that comes back after a fence leaves the members of a session alone that it has taken over without knowing
/// it yet.
#[tokio::test]
async fn members_stay_whose_node_is_about_to_learn_that_it_has_them() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let session = open(&a, "t1", WINDOW).await;
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    // As if the node had taken the session over from itself, and the answer were on its way.
    let _: u32 = server.command(&["HINCRBY", "{chat}:session:id of t1", "generation", "1"]).await;
    server.fence("a").await;
    a.enter("r", member("cid"), None).await.unwrap();
    assert_eq!(b.resume("t1", "t2", "ann").await.unwrap().memberships.len(), 1);
    b.publish("r", Some("ann"), None, b"still here").await.unwrap();
    b.until_body("r", "still here").await;
    assert_eq!(b.bodies("r"), ["+bob", "+cid", "still here"]);
}

/// Rule: a node that comes back after a fence does not remove the members of sessions that it has taken over meanwhile.
#[tokio::test]
async fn members_stay_whose_sessions_move_during_a_fence() {
    let server = Server::start().await;
    let settings = |name| Settings::new(server.url()).node_name(name).lease(WINDOW);
    let (a, b) = (TestNode::connect(settings("a")).await, TestNode::connect(settings("b")).await);
    b.enter("r", member("bob"), None).await.unwrap();
    for n in 0..40 {
        let session = open(&b, &format!("t{n}"), WINDOW).await;
        b.enter("r", member(&format!("m{n}")).session(&session), None).await.unwrap();
    }
    for n in 0..40 {
        let (token, new_token) = (format!("t{n}"), format!("new {n}"));
        let resume = async {
            sleep(Duration::from_micros(100 * n)).await;
            a.resume(&token, &new_token, "ann").await
        };
        // The node notices it with its next call.
        let fence = async {
            server.fence("a").await;
            a.publish("r", Some("m0"), None, b"").await
        };
        let (resumed, _) = tokio::join!(resume, fence);
        assert_eq!(resumed.unwrap().memberships.len(), 1);
    }
    a.until("that it is connected", |_| a.degraded_since().is_none()).await;
    let end = b.publish("r", Some("bob"), None, b"end").await.unwrap();
    b.until_heard("r", end.stamp).await;
    let left: Vec<String> = b.bodies("r").into_iter().filter(|body| body.starts_with('-')).collect();
    assert_eq!((left, end.stamp.num), (vec![], 41));
}

/// Rule: the node that has a member tells its host of it, if the one where it entered could not.
#[tokio::test]
async fn a_member_that_has_moved_before_its_host_knew_of_it_is_announced() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let session = open(&a, "t1", WINDOW).await;
    let again = |member: &str| Event::EnteredAgain { room: "r".into(), member: member.into() };
    a.enter("r", member("leaves").session(&session), None).await.unwrap();
    assert!(a.undo_enter("r", "leaves", session.id(), 1, None).await.is_some());
    a.enter("r", member("moves").session(&session), None).await.unwrap();
    b.resume("t1", "t2", "ann").await.unwrap();
    assert_eq!(a.undo_enter("r", "moves", session.id(), 1, None).await, None);
    b.until("that the host knows nothing", |heard| heard.contains(&again("moves"))).await;
    a.resume("t2", "t3", "ann").await.unwrap();
    // On the same node, too.
    a.undo_enter("r", "moves", session.id(), 1, None).await;
    a.until("that the host knows nothing", |heard| heard.contains(&again("moves"))).await;
    assert_eq!(a.roster("r", 0, 10).await.unwrap().members.len(), 1);
}

//! Users: which sessions they have on all nodes, and who is told. Each test names the rule without which it fails.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tower_chat_rooms_redis::{Event, Session, Settings};

use crate::support::{Data, Server, TestNode, member};

const MINUTE: Duration = Duration::from_secs(60);

/// For what takes a moment, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

async fn node(server: &Server, name: &str) -> TestNode {
    let settings = Settings::new(server.url()).node_name(name).lease(Duration::from_secs(1));
    TestNode::connect(settings).await
}

async fn begin(node: &TestNode, user: &str, session: &str) -> bool {
    node.begin_user(user, session, Duration::ZERO).await.unwrap()
}

async fn end(node: &TestNode, user: &str, session: &str) -> bool {
    node.end_user(user, session).await.unwrap()
}

/// The sessions of a user, each with the number of its node.
async fn sessions(node: &TestNode, user: &str) -> Vec<(String, u32)> {
    let sessions = node.user_sessions(user).await.unwrap();
    let mut sessions: Vec<_> = sessions.into_iter().map(|s| (s.session.into(), s.node)).collect();
    sessions.sort();
    sessions
}

/// What the nodes were told of users.
fn told(nodes: &[&TestNode]) -> Vec<String> {
    let told = |event: Event| match event {
        Event::UserOnline { user } => Some(format!("{user} is online")),
        Event::UserOffline { user } => Some(format!("{user} is offline")),
        _ => None,
    };
    nodes.iter().flat_map(|node| node.heard()).filter_map(told).collect()
}

async fn until_told(nodes: &[&TestNode], what: &str) {
    let is_told = async {
        while !told(nodes).iter().any(|told| told == what) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, is_told).await.unwrap_or_else(|_| panic!("nobody was told that {what}"));
}

/// The key of the node's lease.
/// Rule: one script counts and answers, so of several nodes one is told of the first session and one of the last.
#[tokio::test]
async fn the_first_and_the_last_session_on_all_nodes_are_told_once() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    assert!(begin(&a, "ann", "1").await);
    assert!(!begin(&b, "ann", "2").await);
    assert!(begin(&b, "a user: 100 %", "3").await);
    assert_eq!(sessions(&a, "ann").await, [("1".into(), a.number()), ("2".into(), b.number())]);
    assert_eq!(sessions(&a, "nobody").await, []);
    let mut nodes = a.nodes().await.unwrap();
    nodes.sort_unstable();
    let mut expected = [a.number(), b.number()];
    expected.sort_unstable();
    assert_eq!(nodes, expected);
    // Repeated calls get the same answers.
    assert!(begin(&a, "ann", "1").await && !begin(&b, "ann", "2").await);
    assert!(!end(&a, "ann", "1").await && !end(&a, "ann", "1").await);
    assert!(end(&b, "ann", "2").await && end(&b, "ann", "2").await);
    assert!(begin(&b, "ann", "2").await, "a session may begin again");
    assert!(end(&b, "ann", "2").await && end(&b, "a user: 100 %", "3").await);
    for node in [a, b] {
        node.close().await;
    }
    assert_eq!(server.lasting_keys().await, [] as [&str; 0]);
}

#[tokio::test]
async fn a_body_for_one_node_reaches_no_other() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    a.send_to_number(b.number(), b"for b").await.unwrap();
    a.send_to_all(b"for all").await.unwrap();
    let command = |body: &'static str| Event::Command { body: body.into() };
    b.until("both", |heard| heard.contains(&command("for b")) && heard.contains(&command("for all"))).await;
    a.until("the second", |heard| heard.contains(&command("for all"))).await;
    assert!(!a.heard().contains(&command("for b")));
}

/// Rule: a user whose node is gone is offline once, after its members have left, unless it has a session elsewhere.
#[tokio::test]
async fn the_users_of_a_lost_node_are_offline_once() {
    let server = Server::start().await;
    let (a, b, c) = (node(&server, "a").await, node(&server, "b").await, node(&server, "c").await);
    for n in 0..250 {
        assert!(begin(&c, &format!("u{n}"), &format!("s{n}")).await);
    }
    begin(&c, "ann", "1").await;
    begin(&a, "ann", "2").await;
    c.enter("r", member("m").profile(profile("u0")), None).await.unwrap();
    drop(c);
    while told(&[&a, &b]).len() < 250 {
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_millis(500)).await;
    let mut all = told(&[&a, &b]);
    all.sort();
    all.dedup();
    assert_eq!((all.len(), told(&[&a, &b]).len()), (250, 250), "each is reported by one node");
    assert!(!all.contains(&"ann is offline".to_owned()));
    let lost = [a.heard(), b.heard()].concat().into_iter().find_map(|event| match event {
        Event::MemberLost { member, profile, is_hidden, .. } => Some((member, profile, is_hidden)),
        _ => None,
    });
    assert_eq!(lost, Some(("m".into(), profile("u0"), false)));
    assert!(end(&a, "ann", "2").await);
}

fn profile(user: &str) -> tower_chat_rooms_redis::Profile {
    tower_chat_rooms_redis::Profile { name: "Ann".into(), user: Some(user.into()), ..Default::default() }
}

/// Rule: the sessions of a lost node stay for their window, so that they can be resumed elsewhere.
#[tokio::test]
async fn a_user_stays_online_for_the_resume_window() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    a.begin_user("long", "1", MINUTE).await.unwrap();
    a.begin_user("short", "2", Duration::from_secs(1)).await.unwrap();
    drop(a);
    until_told(&[&b], "short is offline").await;
    assert_eq!(told(&[&b]), ["short is offline"]);
    let [session] = &b.user_sessions("long").await.unwrap()[..] else { panic!() };
    assert!(!session.is_live);
}

/// Rule: taking a session over moves it in the same script, so its user is neither offline nor online.
#[tokio::test]
async fn a_session_that_moves_keeps_its_user_online() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let session = Session::new("t1", "id", MINUTE).user("ann");
    a.open_session(session.clone()).await.unwrap();
    assert!(a.begin_user("ann", "id", MINUTE).await.unwrap());
    a.enter("r", member("m").session(&session), None).await.unwrap();
    b.resume("t1", "t2", "ann").await.unwrap();
    assert_eq!(sessions(&a, "ann").await, [("id".into(), b.number())]);
    assert!(!b.begin_user("ann", "id", MINUTE).await.unwrap());
    assert!(!a.end_user("ann", "id").await.unwrap(), "it is not its session any more");
    let taken = Event::SessionTaken { session: "id".into(), generation: 2 };
    a.until("that the session is gone", |heard| heard.contains(&taken)).await;
    // Nor does the old node take it back.
    server.fence("a").await;
    assert!(begin(&a, "other", "3").await);
    assert_eq!(sessions(&a, "ann").await, [("id".into(), b.number())]);
    assert!(b.end_user("ann", "id").await.unwrap());
    assert!(b.end_user("ann", "id").await.unwrap(), "a repeated call");
    assert!(!a.end_user("ann", "id").await.unwrap(), "another node has told that");
    assert_eq!(told(&[&a, &b]), [] as [&str; 0]);
}

/// Rule: after a fence, a node begins its sessions again. Users that others have taken for gone are online once more.
#[tokio::test]
async fn users_survive_a_fence() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    a.begin_user("kept", "1", MINUTE).await.unwrap();
    begin(&a, "lost", "2").await;
    // As if another node had removed it.
    let old = server.incarnation("a").await;
    let _: u32 = server.command(&["DEL", "{chat}:user:lost"]).await;
    let _: u32 = server.command(&["HDEL", &format!("{{chat}}:users:{old}"), "2"]).await;
    server.fence("a").await;
    assert!(begin(&a, "new", "3").await);
    until_told(&[&a], "lost is online").await;
    assert_eq!(sessions(&b, "kept").await, [("1".into(), a.number())]);
    assert!(b.user_sessions("kept").await.unwrap()[0].is_live);
    for (user, session) in [("kept", "1"), ("lost", "2"), ("new", "3")] {
        assert!(end(&a, user, session).await, "{user}");
    }
    assert_eq!(told(&[&a, &b]), ["lost is online"]);
}

/// Rule: a node that others have taken for gone tells its host who has entered again because of that, and nobody else.
#[tokio::test]
async fn members_that_others_have_removed_enter_again() {
    let server = Server::start().await;
    let settings = Settings::new(server.url()).node_name("a").lease(MINUTE);
    let (a, b) = (TestNode::connect(settings).await, node(&server, "b").await);
    let session = Session::new("t1", "id", MINUTE);
    a.open_session(session.clone()).await.unwrap();
    a.enter("r", member("lost"), None).await.unwrap();
    a.enter("r", member("kept").session(&session), None).await.unwrap();
    server.fence("a").await;
    let is_lost = |event: &Event| matches!(event, Event::MemberLost { member, .. } if &**member == "lost");
    b.until("of the lost member", |heard| heard.iter().any(is_lost)).await;
    a.publish("r", Some("lost"), None, b"still here").await.unwrap();
    let again = |event: Event| match event {
        Event::EnteredAgain { room, member } => Some(format!("{member} in {room}")),
        _ => None,
    };
    a.until_body("r", "still here").await;
    assert_eq!(a.heard().into_iter().filter_map(again).collect::<Vec<_>>(), ["lost in r"]);
    assert_eq!(b.heard().into_iter().filter(is_lost).count(), 1);
}

/// Rule: if Redis has lost its data, the nodes enter their users again, and nobody is told anything.
#[tokio::test]
async fn users_are_online_after_redis_has_lost_its_data() {
    for data in [Data::Nothing, Data::Everything] {
        let mut server = Server::start_with(data).await;
        let (a, b) = (node(&server, "a").await, node(&server, "b").await);
        assert!(begin(&a, "ann", "1").await && !begin(&b, "ann", "2").await && begin(&b, "bob", "3").await);
        server.kill();
        let ends = async { assert!(end(&b, "bob", "3").await) };
        let starts = async { server.spawn().await };
        tokio::join!(ends, starts);
        while sessions(&a, "ann").await.len() < 2 || !sessions(&a, "bob").await.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        for node in [&a, &b] {
            node.until("that it is connected", |_| node.degraded_since().is_none()).await;
        }
        assert_eq!(told(&[&a, &b]), [] as [&str; 0]);
        assert!(!end(&a, "ann", "1").await && end(&b, "ann", "2").await);
    }
}

/// Rule: whoever ends a session tells so, and nobody else. A node that finds it in Redis after a restart, while its end is
/// on its way, leaves it to that.
#[tokio::test]
async fn users_that_end_while_redis_is_away_are_offline_once() {
    let mut server = Server::start_with(Data::Everything).await;
    let a = node(&server, "a").await;
    let ids: Vec<_> = (0..300).map(|n| format!("u{n}")).collect();
    for id in &ids {
        assert!(begin(&a, id, id).await);
    }
    // The server takes a while to read its data. Until then, it refuses calls, which are repeated at random.
    for part in 0..100 {
        let set = format!("redis.call('SET', 'filler {part} ' .. n, n, 'PX', 3600000)");
        server.eval(&format!("for n = 1, 2000 do {set} end")).await;
    }
    server.kill();
    let ends = futures_util::future::join_all(ids.iter().map(|id| end(&a, id, id)));
    let (ended, ()) = tokio::join!(ends, server.spawn());
    assert!(ended.into_iter().all(|is_last| is_last));
    a.until("that it is connected", |_| a.degraded_since().is_none()).await;
    // It has found out that the server was started again, and has compared what it knows.
    a.enter("r", member("ann"), None).await.unwrap();
    while !server.command::<Vec<String>>(&["KEYS", "{chat}:user*"]).await.is_empty() {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(told(&[&a]), [] as [&str; 0]);
}

/// Rule: a user of a lost node is offline after its last member has left, although these leave in batches.
#[tokio::test]
async fn a_user_is_offline_after_all_its_members_have_left() {
    let server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    begin(&b, "ann", "1").await;
    for n in 0..150 {
        b.enter("r", member(&format!("m{n}")).profile(profile("ann")), None).await.unwrap();
    }
    drop(b);
    until_told(&[&a], "ann is offline").await;
    let heard = a.heard();
    let lost = |event: &&Event| matches!(event, Event::MemberLost { .. });
    assert_eq!(
        heard.iter().take_while(|event| !matches!(event, Event::UserOffline { .. })).filter(lost).count(),
        150
    );
}

/// Rule: a repeated call gets the first one's answer, also if a session is ended that has come back after its end.
#[tokio::test]
async fn a_session_that_has_come_back_is_ended_again_with_one_answer() {
    let server = Server::start().await;
    let (user, ended, process) = ("{chat}:user:u", "{chat}:ended:s", "a@00000001");
    let end = async |mode| -> (String, u64) {
        let script = include_str!("../../src/lua/end_user.lua");
        server.command(&["EVAL", script, "2", user, ended, process, "{chat}:", "s", mode]).await
    };
    let of_node = format!("1{process}00000002");
    let ok = |is_last| ("OK".to_owned(), is_last);
    let _: u64 = server.command(&["HSET", user, "s", &of_node]).await;
    assert_eq!([end("").await, end("").await], [ok(1), ok(1)]);
    // What it repeats is the end, so the host has been told.
    assert_eq!(end("undo").await, ok(0));
    let _: u64 = server.command(&["HSET", user, "s", &of_node]).await;
    assert_eq!([end("undo").await, end("undo").await], [ok(1), ok(1)]);
    assert_eq!(end("").await, ok(0));
}

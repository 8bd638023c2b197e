//! Which node has a session that was taken over while its old node could not hear of it.

use std::time::Duration;

use tokio::time::sleep;
use tower_chat_rooms_redis::{Event, ResumeError, Session, Settings};

use crate::support::{Data, Proxy, Server, TestNode, Way, member};

const MINUTE: Duration = Duration::from_secs(60);
/// The second connection that a node opens.
const SUBSCRIBER: usize = 1;

/// Two nodes with these names: one that hears nothing any more, and one that has taken over its session.
async fn taken_over(server: &Server, names: [&str; 2]) -> (TestNode, TestNode) {
    let proxy = Proxy::start(server.directory(), server.socket());
    let a = TestNode::connect(Settings::new(proxy.url()).node_name(names[0]).lease(MINUTE)).await;
    let b = TestNode::connect(Settings::new(server.url()).node_name(names[1]).lease(MINUTE)).await;
    let session = Session::new("t1", "id", MINUTE).user("u");
    a.open_session(session.clone()).await.unwrap();
    assert!(a.begin_user("u", "id", MINUTE).await.unwrap());
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    a.enter("r", member("plain"), None).await.unwrap();
    proxy.set(SUBSCRIBER, Way::Dead);
    b.resume("t1", "t2", "u").await.unwrap();
    assert!(!b.begin_user("u", "id", MINUTE).await.unwrap());
    (a, b)
}

/// The node has come back after a loss of its lease.
async fn comes_back(node: &TestNode) {
    // It waits until the members are there again.
    node.begin_user("other", &format!("of {}", node.name()), MINUTE).await.unwrap();
}

async fn check(server: &Server, a: &TestNode, b: &TestNode) {
    a.until("that the session was taken over", |heard| {
        heard.contains(&Event::SessionTaken { session: "id".into(), generation: 2 })
    })
    .await;
    let members = b.roster("r", 0, 10).await.unwrap().members;
    let mut ids: Vec<_> = members.iter().map(|entry| &*entry.member).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["ann", "plain"]);
    let users = a.user_sessions("u").await.unwrap();
    assert_eq!(users.iter().map(|session| session.node).collect::<Vec<_>>(), [b.number()]);
    assert!(b.publish("r", Some("ann"), None, b"mine").await.is_ok());
    assert!(a.publish("r", Some("ann"), None, b"not mine").await.is_err());
    let resumed = a.resume("t2", "t3", "u").await.unwrap();
    assert_eq!((resumed.generation, resumed.memberships.len()), (3, 1));
    assert_eq!(server.command::<Vec<String>>(&["KEYS", "{chat}:session:*"]).await, ["{chat}:session:id"]);
}

/// Rule: the generation decides after a loss of data, whichever node writes the session again first.
#[tokio::test]
async fn a_session_is_the_latest_nodes_after_a_loss_of_data() {
    for is_old_node_first in [true, false] {
        let server = Server::start().await;
        let (a, b) = taken_over(&server, ["a", "b"]).await;
        let _: () = server.command(&["FLUSHALL"]).await;
        let (first, second) = if is_old_node_first { (&a, &b) } else { (&b, &a) };
        comes_back(first).await;
        comes_back(second).await;
        check(&server, &a, &b).await;
    }
}

/// Rule: a node whose session was taken over does not take it back, nor the one of the user, when it comes back.
#[tokio::test]
async fn a_session_is_the_latest_nodes_after_a_fence() {
    for names in [["a", "b"], ["same", "same"]] {
        let server = Server::start().await;
        let (a, b) = taken_over(&server, names).await;
        server.fence_number(a.number()).await;
        comes_back(&a).await;
        check(&server, &a, &b).await;
    }
}

/// Rule: a node that can have missed something asks for its sessions after a restart of the server, which has its data.
#[tokio::test]
async fn a_session_is_the_latest_nodes_after_a_restart_of_the_server() {
    let mut server = Server::start_with(Data::Everything).await;
    let (a, b) = taken_over(&server, ["a", "b"]).await;
    server.kill();
    server.spawn().await;
    for node in [&a, &b] {
        node.until("a reset", |heard| heard.iter().any(|event| matches!(event, Event::Reset { .. }))).await;
        node.until("that it is connected", |_| node.degraded_since().is_none()).await;
    }
    check(&server, &a, &b).await;
}

/// Rule: what has moved to a node ends with that node, as if it had always been there.
#[tokio::test]
async fn a_session_that_has_moved_ends_with_its_new_node() {
    let server = Server::start().await;
    let (a, b) = taken_over(&server, ["a", "b"]).await;
    a.enter("r", member("witness"), None).await.unwrap();
    let incarnation = server.incarnation("b").await;
    drop(b);
    server.set_lease(&incarnation, "-(now - 61000)").await;
    while server.lease(&incarnation).await.is_some() {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(a.publish("r", Some("witness"), None, b"end").await.unwrap().stamp.num, 2);
    assert_eq!(a.user_sessions("u").await.unwrap(), []);
    assert_eq!(server.command::<Vec<String>>(&["KEYS", "{chat}:session:*"]).await, [] as [&str; 0]);
}

/// Rule: what the old node still says of a session has no effect, even if nobody has told it that the session is gone.
#[tokio::test]
async fn a_session_ends_only_where_it_is() {
    let server = Server::start().await;
    let (a, b) = taken_over(&server, ["a", "b"]).await;
    assert!(!a.close_session("id", 1).await.unwrap());
    assert_eq!(a.leave_in_session("r", "ann", 1, Some("-ann".into())).await, None);
    assert!(!a.end_user("u", "id").await.unwrap());
    assert_eq!(
        b.resume("unknown", "t2", "u").await,
        Err(ResumeError::Unknown),
        "only its own old token leads to it"
    );
    let resumed = b.resume("t2", "t3", "u").await.unwrap();
    assert_eq!((resumed.generation, resumed.memberships.len()), (3, 1));
    assert_eq!(b.user_sessions("u").await.unwrap().len(), 1);

    let server = Server::start().await;
    let (a, b) = taken_over(&server, ["a", "b"]).await;
    assert!(b.close_session("id", 2).await.unwrap());
    assert!(!a.close_session("id", 1).await.unwrap(), "the other one has told its host");
}

/// Rule: a node that was away for longer than a resume window does not have the session any more.
#[tokio::test]
async fn a_session_whose_window_is_over_does_not_come_back() {
    let server = Server::start().await;
    let a = TestNode::connect(Settings::new(server.url()).node_name("a").lease(10 * MINUTE)).await;
    let b = TestNode::connect(Settings::new(server.url()).node_name("b").lease(MINUTE)).await;
    let session = Session::new("t1", "id", MINUTE);
    a.open_session(session.clone()).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    let incarnation = server.incarnation("a").await;
    server.set_lease(&incarnation, "-(now - 61000)").await;
    b.until_body("r", "-ann").await;
    server.until_lease(&incarnation, |lease| lease.is_none()).await;
    comes_back(&a).await;
    a.until("that the session is gone", |heard| {
        heard.contains(&Event::SessionGone { session: "id".into(), generation: 2 })
    })
    .await;
    assert_eq!(b.publish("r", None, None, b"end").await.unwrap().stamp.num, 1);
    assert_eq!(b.resume("t1", "t2", "").await, Err(ResumeError::Unknown));
}

/// Rule: a session is closed by its id. Another one may have its token.
#[tokio::test]
async fn closing_a_session_leaves_another_one_with_its_token() {
    let server = Server::start().await;
    let a = TestNode::connect(Settings::new(server.url()).node_name("a")).await;
    let b = TestNode::connect(Settings::new(server.url()).node_name("b")).await;
    a.open_session(Session::new("token", "one", MINUTE)).await.unwrap();
    b.open_session(Session::new("token", "other", MINUTE)).await.unwrap();
    assert!(a.close_session("one", 1).await.unwrap());
    assert_eq!(b.resume("token", "next", "").await.unwrap().session.id(), "other");
}

/// Rule: nothing is kept of what a session has left, on its old node or in Redis.
#[tokio::test]
async fn a_session_that_moves_leaves_nothing_behind() {
    let server = Server::start().await;
    let a = TestNode::connect(Settings::new(server.url()).node_name("a")).await;
    let b = TestNode::connect(Settings::new(server.url()).node_name("b")).await;
    let session = Session::new("t1", "id", MINUTE);
    a.open_session(session.clone()).await.unwrap();
    for room in ["r", "s"] {
        a.enter(room, member(&format!("ann in {room}")).session(&session), None).await.unwrap();
    }
    a.rename_session("id", 1, "t2").await.unwrap();
    a.leave("s", "ann in s", None).await.unwrap();
    let fields: Vec<String> = server.command(&["HKEYS", "{chat}:session:id"]).await;
    let rooms: Vec<_> = fields.iter().filter(|field| field.starts_with("room:")).collect();
    assert_eq!(rooms, ["room:r"]);
    b.resume("t2", "t3", "").await.unwrap();
    let of_a = server.incarnation("a").await;
    let keys: Vec<String> = server.command(&["KEYS", &format!("*{of_a}*")]).await;
    assert_eq!(keys, [] as [&str; 0]);
}

/// Rule: what a node hears late of a session, of which it has heard a later generation, does not count.
#[tokio::test]
async fn a_session_that_has_come_back_is_not_gone() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.directory(), server.socket());
    let a = TestNode::connect(Settings::new(proxy.url()).node_name("a").lease(MINUTE)).await;
    let b = TestNode::connect(Settings::new(server.url()).node_name("b").lease(MINUTE)).await;
    let session = Session::new("t1", "id", MINUTE);
    a.open_session(session.clone()).await.unwrap();
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    proxy.set(SUBSCRIBER, Way::Late);
    b.resume("t1", "t2", "").await.unwrap();
    a.resume("t2", "t3", "").await.unwrap();
    b.send_to_all(b"end").await.unwrap();
    proxy.set(SUBSCRIBER, Way::Open);
    a.until("the command", |heard| heard.contains(&Event::Command { body: "end".into() })).await;
    let is_gone = |event: &Event| matches!(event, Event::SessionTaken { .. } | Event::SessionGone { .. });
    assert!(!a.heard().iter().any(is_gone));
    assert_eq!(a.leave_in_session("r", "ann", 3, None).await.unwrap().num, 0);
    assert!(a.close_session("id", 3).await.unwrap());
}

/// Rule: a node may hear that its session is gone before it has the answer that it is there.
#[tokio::test]
async fn a_session_that_moves_on_at_once_is_not_taken_over() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.directory(), server.socket());
    let a = TestNode::connect(Settings::new(proxy.url()).node_name("a").lease(MINUTE)).await;
    let b = TestNode::connect(Settings::new(server.url()).node_name("b").lease(MINUTE)).await;
    // Then the server knows the script.
    assert_eq!(a.resume("t0", "t1", "").await, Err(ResumeError::Unknown));
    let session = Session::new("t1", "id", MINUTE);
    b.open_session(session.clone()).await.unwrap();
    b.enter("r", member("ann").session(&session), None).await.unwrap();
    proxy.set(0, Way::Late);
    let moves_on = async {
        while server.command::<u64>(&["EXISTS", "{chat}:token:t2"]).await == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(b.resume("t2", "t3", "").await.unwrap().generation, 3);
        b.send_to_all(b"end").await.unwrap();
        a.until("the command", |heard| heard.contains(&Event::Command { body: "end".into() })).await;
        proxy.set(0, Way::Open);
    };
    let (resumed, ()) = tokio::join!(a.resume("t1", "t2", ""), moves_on);
    assert_eq!(resumed, Err(ResumeError::Unknown));
    assert!(!a.heard().iter().any(|event| matches!(event, Event::SessionResumed(_))));
    assert_eq!(b.leave_in_session("r", "ann", 3, None).await.unwrap().num, 0);
}

//! Nodes whose leases have run out. Each call of such a node first has it come back in a new incarnation.

use std::time::Duration;

use tower_chat_rooms_redis::{NewMember, Profile, Session, Settings};

use crate::support::{Server, TestNode, member};

const MINUTE: Duration = Duration::from_secs(60);

/// A node that does not find out by itself during a test that its lease is gone, and a witness of what it does.
async fn nodes(server: &Server) -> (TestNode, TestNode) {
    let node = async |name: &str, lease| {
        TestNode::connect(Settings::new(server.url()).node_name(name).lease(lease)).await
    };
    (node("a", 10 * MINUTE).await, node("b", 10 * MINUTE).await)
}

/// A member whose session is open.
async fn resumable(node: &TestNode, id: &str) -> NewMember {
    let session = Session::new(format!("token of {id}"), format!("session of {id}"), MINUTE);
    node.open_session(session.clone()).await.unwrap();
    member(id).session(&session)
}

/// Rule: a fenced node can do nothing before it has come back: each call is refused and repeated.
#[tokio::test]
async fn every_call_of_a_fenced_node_waits_for_its_next_incarnation() {
    let server = Server::start().await;
    let (a, b) = nodes(&server).await;
    b.enter("r", member("bob"), None).await.unwrap();
    a.enter("r", resumable(&a, "ann").await, None).await.unwrap();
    let calls: [(&str, &dyn AsyncCall); 10] = [
        ("publish", &async || assert!(a.publish("r", Some("ann"), None, b"x").await.is_ok())),
        ("transient", &async || a.send_transient("r", b"transient").await.unwrap()),
        ("enter", &async || assert!(a.enter("r", member("new"), None).await.is_ok())),
        ("owner", &async || a.set_owner("r", "ann", "u").await),
        ("profile", &async || {
            a.set_profile("r", "ann", Profile::default(), "profile");
            b.until_body("r", "profile").await;
        }),
        ("session", &async || drop(resumable(&a, "eve").await)),
        ("rename", &async || a.rename_session("session of ann", 1, "token 2").await.unwrap()),
        ("resume", &async || drop(a.resume("token 2", "token 3", "").await.unwrap())),
        ("set_user", &async || a.set_user("session of ann", 2, "u").await.unwrap()),
        ("begin_user", &async || assert!(a.begin_user("u", "1", MINUTE).await.unwrap())),
    ];
    for (name, call) in calls {
        let old = server.incarnation("a").await;
        server.fence("a").await;
        call.run().await;
        assert_ne!(server.incarnation("a").await, old, "{name}: as the fenced incarnation");
        a.until("that it is connected", |_| a.degraded_since().is_none()).await;
    }
    // All of them had their effects, and only those.
    let end = a.publish("r", Some("ann"), None, b"end").await.unwrap();
    assert_eq!(end.stamp.num, 3);
    assert!(!a.begin_user("u", "2", MINUTE).await.unwrap());
    let resumed = b.resume("token 3", "token 4", "u").await.unwrap();
    assert_eq!(resumed.memberships.len(), 1);
}

/// An async closure without arguments.
trait AsyncCall {
    fn run(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>>;
}

impl<F: AsyncFn()> AsyncCall for F {
    fn run(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(self())
    }
}

/// Rule: what is left of the old incarnation is removed before the members enter in the new one. A member whose leave
/// comes too late leaves with all others.
#[tokio::test]
async fn a_leave_of_a_fenced_node_is_that_of_its_old_incarnation() {
    let server = Server::start().await;
    let (a, b) = nodes(&server).await;
    b.enter("r", member("bob"), None).await.unwrap();
    for id in ["ann", "eve"] {
        a.enter("r", member(id), None).await.unwrap();
    }
    server.fence("a").await;
    assert_eq!(a.leave("r", "ann", Some("bye".into())).await, None);
    a.until("that it is connected", |_| a.degraded_since().is_none()).await;
    let end = a.publish("r", Some("eve"), None, b"end").await.unwrap();
    b.until_heard("r", end.stamp).await;
    let (mut bodies, back) = (b.bodies("r"), ["+eve", "end"]);
    assert_eq!(bodies.split_off(5), back);
    bodies[3..].sort();
    assert_eq!(bodies, ["+bob", "+ann", "+eve", "-ann", "-eve"]);
    assert_eq!(end.stamp.num, 2);
}

/// Rule: no renewal makes a fenced incarnation valid again, because others may have removed its members.
#[tokio::test]
async fn a_fenced_node_finds_out_when_it_renews_its_lease() {
    let server = Server::start().await;
    let settings = Settings::new(server.url()).node_name("a").lease(Duration::from_secs(1));
    let a = TestNode::connect(settings).await;
    a.enter("r", member("ann"), None).await.unwrap();
    let old = server.incarnation("a").await;
    for deadline in ["-now", "forgotten"] {
        let old = server.incarnation("a").await;
        match deadline {
            "forgotten" => drop(server.command::<u32>(&["ZREM", "{chat}:nodes", &old]).await),
            deadline => server.set_lease(&old, deadline).await,
        }
        let mut now = server.incarnations("a").await;
        while now.is_empty() {
            now = server.incarnations("a").await;
        }
        assert_ne!(now, [old]);
        a.until("that it is connected", |_| a.degraded_since().is_none()).await;
    }
    let last = a.publish("r", Some("ann"), None, b"here").await.unwrap();
    assert_eq!((last.stamp.num, server.lease(&old).await), (1, None));
}

/// Rule: the sessions of a fenced incarnation are those of the next one, and do not end with the old one's windows.
#[tokio::test]
async fn sessions_outlive_the_incarnation_that_has_opened_them() {
    let server = Server::start().await;
    let (a, b) = nodes(&server).await;
    let session = Session::new("t1", "id", MINUTE);
    a.open_session(session.clone()).await.unwrap();
    a.enter("r", member("ann").session(&session), None).await.unwrap();
    let old = server.incarnation("a").await;
    server.fence("a").await;
    a.publish("r", Some("ann"), None, b"here").await.unwrap();
    // The windows of the old incarnation end.
    server.set_lease(&old, "-(now - 61000)").await;
    server.until_lease(&old, |lease| lease.is_none()).await;
    assert_eq!(b.resume("t1", "t2", "").await.unwrap().memberships.len(), 1);
}

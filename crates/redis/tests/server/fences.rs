//! Nodes whose leases have run out. Each call of such a node first has it come back in a new incarnation.

use std::time::Duration;

use tower_chat_rooms_redis::{Event, NewMember, Profile, RoomEvent, Session, Settings};

use crate::support::{Data, Server, TestNode, member};

const MINUTE: Duration = Duration::from_secs(60);

/// A node that does not find out by itself during a test that its lease is gone, and a witness of what it does.
async fn nodes(server: &Server) -> (TestNode, TestNode) {
    let node = async |name: &str, lease| {
        TestNode::connect(Settings::new(server.url()).node_name(name).lease(lease)).await
    };
    (node("a", 10 * MINUTE).await, node("b", 10 * MINUTE).await)
}

fn profile(state: &str) -> Profile {
    Profile { state: Some(state.to_owned().into()), ..Profile::default() }
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
            a.set_profile("r", "ann", profile("away"));
            b.until_profile("r", "ann", &profile("away")).await;
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

/// The others have heard the body of the first enter again, and nothing but a call of the host told them of the present
/// profile: they never learned of it if the node crashed, or if the session moved, before that call.
#[tokio::test]
async fn a_member_that_is_entered_again_has_its_profile_at_once() {
    let server = Server::start().await;
    let (a, b) = nodes(&server).await;
    b.enter("r", member("bob"), None).await.unwrap();
    a.enter("r", resumable(&a, "ann").await, None).await.unwrap();
    a.set_profile("r", "ann", profile("away"));
    b.until_profile("r", "ann", &profile("away")).await;
    // It survives a move.
    b.resume("token of ann", "token 2", "").await.unwrap();
    let _: () = server.command(&["FLUSHALL"]).await;
    // Both nodes notice this when they can do nothing any more.
    b.publish("r", None, None, b"end").await.unwrap();
    let script = "local events = {} \
        for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do \
        local _, kind, _, _, _, _, _, member, at = struct.unpack('>BBBc8I8I8I8I2c0', entry[2][2]) \
        events[#events + 1] = kind .. ' ' .. member .. ' ' .. (entry[2][2]:sub(at):match('away') or '') end \
        return events";
    let events: Vec<String> = server.command(&["EVAL", script, "1", "{chat}:log:r"]).await;
    let at = events.iter().position(|event| event == "1 ann ").expect("it is entered again");
    assert_eq!(events[at + 1], "11 ann away", "{events:?}");
    assert_eq!(events.iter().filter(|event| event.starts_with("11 ")).count(), 1, "{events:?}");
}

/// A server that is started again may lack what it was told last.
#[tokio::test]
async fn a_profile_that_redis_has_lost_is_told_again() {
    let mut server = Server::start_with(Data::Everything).await;
    let (a, b) = nodes(&server).await;
    b.enter("r", member("bob"), None).await.unwrap();
    a.enter("r", member("ann"), None).await.unwrap();
    let key = format!("{{chat}}:members:{}:r", server.incarnation("a").await);
    let before = server.try_bytes(&[b"HGET", key.as_bytes(), b"ann"]).await.unwrap();
    let redis::Value::BulkString(before) = before else { panic!("{before:?}") };
    a.set_profile("r", "ann", profile("away"));
    b.until_profile("r", "ann", &profile("away")).await;
    server.try_bytes(&[b"HSET", key.as_bytes(), b"ann", &before]).await.unwrap();
    server.kill();
    server.spawn().await;
    let is_it = |event: &RoomEvent| event.profile() == Some(profile("away"));
    let is_told = |heard: &[Event]| {
        let times = heard.iter().filter(|event| matches!(event, Event::Room(event) if is_it(event))).count();
        // If the node has missed the fourth event, which can be no other one, it reads the members instead.
        let has_missed_it = |event: &Event| matches!(event, Event::Reset { stamp, .. } if stamp.event >= 4);
        times == 2 || heard.iter().any(has_missed_it)
    };
    b.until("that it is told again", is_told).await;
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

//! Calls whose answers are lost: the node makes each of them once more, with the same result.

use std::cell::Cell;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::sleep;
use tower_chat_rooms_redis::{EnterError, Event, EventKind, Session, Settings, State};

use crate::support::{Proxy, Server, TestNode, Way, member};

const MINUTE: Duration = Duration::from_secs(60);

/// A node's connection for commands, on which answers get lost.
struct Unlucky<'a> {
    server: &'a Server,
    proxy: &'a Proxy,
    /// By the order in which the node opens connections.
    commands: Cell<usize>,
}

impl Unlucky<'_> {
    /// Makes a call, and cuts the connection when the server has done it: when a command has this answer.
    async fn lose_answer<T>(&self, call: impl Future<Output = T>, command: &[&str], answer: u64) -> T {
        self.proxy.set(self.commands.get(), Way::Mute);
        let cut = async {
            while self.server.command::<u64>(command).await != answer {
                sleep(Duration::from_millis(1)).await;
            }
            let next = self.proxy.connections();
            self.proxy.set(self.commands.replace(next), Way::Closed);
        };
        tokio::join!(call, cut).0
    }
}

/// Makes the calls of the test once, so that the server knows the scripts. Otherwise, that it does not is what gets lost.
async fn load_scripts(node: &TestNode) {
    let session = Session::new("1", "load", MINUTE);
    node.open_session(session.clone()).await.unwrap();
    node.enter("load", member("m").session(&session), None).await.unwrap();
    node.publish("load", None, None, b"").await.unwrap();
    node.rename_session("load", 1, "2").await.unwrap();
    node.resume("2", "3", "").await.unwrap();
    node.begin_user("load", "load", MINUTE).await.unwrap();
    node.end_user("load", "load").await.unwrap();
    node.leave("load", "m", None).await.unwrap();
    node.close_session("load", 2).await.unwrap();
}

/// Rule: every change is idempotent, by the id of a member, a message or a session.
#[tokio::test]
async fn calls_without_an_answer_are_repeated_without_another_effect() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.directory(), server.socket());
    let node =
        async |url, name: &str| TestNode::connect(Settings::new(url).node_name(name).lease(MINUTE)).await;
    let (a, b) = (node(proxy.url(), "a").await, node(server.url(), "b").await);
    let unlucky = Unlucky { server: &server, proxy: &proxy, commands: Cell::new(0) };
    load_scripts(&b).await;
    b.enter("r", member("bob"), None).await.unwrap();
    let session = Session::new("t1", "id", MINUTE).user("u");

    let open = a.open_session(session.clone());
    unlucky.lose_answer(open, &["EXISTS", "{chat}:session:id"], 1).await.unwrap();
    let members = format!("{{chat}}:members:{}:r", server.incarnation("a").await);
    let enter = a.enter("r", member("ann").session(&session).unique_as("ann"), Some(2));
    let entered = unlucky.lose_answer(enter, &["HLEN", &members], 1).await.unwrap();
    assert_eq!((entered.event, entered.num), (2, 2));
    let publish = a.publish("r", Some("ann"), None, b"hello");
    let published = unlucky.lose_answer(publish, &["XLEN", "{chat}:log:r"], 3).await.unwrap();
    assert_eq!(published.stamp.event, 3);
    let rename = a.rename_session("id", 1, "t2");
    unlucky.lose_answer(rename, &["EXISTS", "{chat}:token:t2"], 1).await.unwrap();
    let is_gone = |event: &Event| matches!(event, Event::SessionTaken { .. } | Event::SessionGone { .. });
    assert!(!a.heard().iter().any(is_gone));
    let resume = a.resume("t2", "t3", "u");
    let resumed = unlucky.lose_answer(resume, &["EXISTS", "{chat}:token:t3"], 1).await.unwrap();
    assert_eq!((resumed.generation, resumed.memberships.len()), (2, 1));
    let begin = a.begin_user("u", "id", MINUTE);
    assert!(unlucky.lose_answer(begin, &["EXISTS", "{chat}:user:u"], 1).await.unwrap());
    let end = a.end_user("u", "id");
    assert!(unlucky.lose_answer(end, &["EXISTS", "{chat}:user:u"], 0).await.unwrap());
    let leave = a.leave_in_session("r", "ann", 2, Some("-ann".into()));
    unlucky.lose_answer(leave, &["EXISTS", &members], 0).await;
    let close = a.close_session("id", 2);
    assert!(unlucky.lose_answer(close, &["EXISTS", "{chat}:session:id"], 0).await.unwrap());

    let last = b.publish("r", None, None, b"last").await.unwrap().stamp;
    b.until_heard("r", last).await;
    assert_eq!(b.bodies("r"), ["+bob", "+ann", "hello", "-ann", "last"]);
    assert_eq!(b.events("r")[3].kind, EventKind::Leave);
    b.enter("r", member("new").unique_as("ann"), Some(2)).await.unwrap();
    for node in [a, b] {
        node.close().await;
    }
    assert_eq!(server.lasting_keys().await, [] as [&str; 0]);
}

/// Rule: an enter that has failed is undone, also if the server gets it later.
#[tokio::test]
async fn a_member_that_could_not_enter_in_time_is_not_in_the_room() {
    let server = Server::start().await;
    let a = TestNode::connect(Settings::new(server.url()).node_name("a").lease(MINUTE)).await;
    a.enter("r", member("bob"), None).await.unwrap();
    server.freeze();
    assert_eq!(a.enter("r", member("ann"), None).await, Err(EnterError::Unavailable));
    server.thaw();
    a.until_body("r", "-ann").await;
    let last = a.publish("r", None, None, b"last").await.unwrap();
    assert_eq!(last.stamp.num, 1);
}

/// Rule: a publish waits while there is no connection, but not for long.
#[tokio::test]
async fn a_publish_waits_for_a_connection() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.directory(), server.socket());
    let settings = Settings::new(proxy.url()).node_name("a").lease(Duration::from_secs(1));
    let a = TestNode::connect(settings).await;
    a.enter("r", member("ann"), None).await.unwrap();
    proxy.lead_to(server.directory().join("nowhere"));
    proxy.set(0, Way::Closed);
    a.until("that Redis is away", |heard| heard.contains(&Event::State(State::Degraded))).await;
    let mut publish = Box::pin(a.publish("r", Some("ann"), None, b"it waits"));
    // The node notices that the connection is lost, and finds no other one.
    while (&mut publish).now_or_never().is_none() && a.stats().reconnects == 0 {
        proxy.lead_to(server.socket());
        sleep(Duration::from_millis(1)).await;
    }
    publish.await.unwrap();
}

//! Answers that are late or lost. Each test names the rule that it tests, without which it fails.

use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tower_chat_rooms_redis::{Event, Settings};

use crate::support::{Proxy, Server, TestNode, Way, member};

const MINUTE: Duration = Duration::from_secs(60);
/// The first connection that a node opens.
const COMMANDS: usize = 0;

async fn node(url: String, name: &str) -> TestNode {
    TestNode::connect(Settings::new(url).node_name(name).lease(MINUTE)).await
}

/// Waits until a command returns this number.
async fn until(server: &Server, command: &[&str], answer: u64) {
    while server.command::<u64>(command).await != answer {
        sleep(Duration::from_millis(1)).await;
    }
}

/// A node that has gone, with a member and with a session of a user that cannot be resumed.
async fn lost_node(server: &Server, name: &str) -> String {
    let lost = node(server.url(), name).await;
    lost.enter("r", member(name), None).await.unwrap();
    lost.begin_user(&format!("user of {name}"), name, Duration::ZERO).await.unwrap();
    let incarnation = server.incarnation(name).await;
    drop(lost);
    incarnation
}

/// How often a node has reported the members and the users of a lost node to its host.
fn told_of(node: &TestNode, name: &str) -> (usize, usize) {
    let user = format!("user of {name}");
    let heard = node.heard();
    let members = heard.iter().filter(|e| matches!(e, Event::MemberLost { member, .. } if **member == *name));
    let users = heard.iter().filter(|e| matches!(e, Event::UserOffline { user: u } if **u == *user));
    (members.count(), users.count())
}

/// Rule: if a call that removes members or users of a lost node is repeated, it has the same answer. Otherwise, these
/// would be reported to no host.
#[tokio::test]
async fn a_node_learns_whom_it_has_removed_if_the_answer_is_lost() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.directory(), server.socket());
    let a = node(proxy.url(), "a").await;
    a.enter("r", member("ann"), None).await.unwrap();
    // From now on, the server has the scripts.
    let first = lost_node(&server, "first").await;
    server.set_lease(&first, "-now").await;
    a.until("of the first node's", |_| told_of(&a, "first") == (1, 1)).await;

    let second = lost_node(&server, "second").await;
    // The call for the members comes first.
    let is_sent = proxy.set_when_sent("$4\r\nlost\r\n", Way::Mute);
    server.set_lease(&second, "-now").await;
    let connection = is_sent.await.unwrap();
    until(&server, &["EXISTS", &format!("{{chat}}:members:{second}:r")], 0).await;
    let is_sent = proxy.set_when_sent(format!("{{chat}}:users:{second}\r\n$"), Way::Mute);
    proxy.set(connection, Way::Closed);
    let connection = is_sent.await.unwrap();
    until(&server, &["EXISTS", "{chat}:user:user of second"], 0).await;
    proxy.set(connection, Way::Closed);
    a.until("of the second node's", |_| told_of(&a, "second") == (1, 1)).await;
    server.until_lease(&second, |lease| lease.is_none()).await;
    assert_eq!((told_of(&a, "first"), told_of(&a, "second")), ((1, 1), (1, 1)));
}

/// Rule: the same holds if a node removes its own old incarnation. Otherwise, it would assume that another node has
/// reported its members as gone, and would report their enters to its host once more.
#[tokio::test]
async fn a_node_learns_what_it_has_removed_of_itself_if_the_answer_is_lost() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.directory(), server.socket());
    let a = node(proxy.url(), "a").await;
    a.enter("r", member("ann"), None).await.unwrap();
    for is_answer_lost in [false, true] {
        let old = server.incarnation("a").await;
        server.fence("a").await;
        let cut = async {
            if is_answer_lost {
                let connection = proxy.set_when_sent("$3\r\nown\r\n", Way::Mute).await.unwrap();
                until(&server, &["EXISTS", &format!("{{chat}}:members:{old}:r")], 0).await;
                proxy.set(connection, Way::Closed);
            }
        };
        tokio::join!(a.set_owner("r", "ann", "u"), cut);
        a.until("that it is connected", |_| a.degraded_since().is_none()).await;
    }
    let last = a.publish("r", Some("ann"), None, b"here").await.unwrap();
    assert_eq!(last.stamp.num, 1);
    assert!(!a.heard().iter().any(|event| matches!(event, Event::EnteredAgain { .. })));
}

/// Rule: if an enter is answered after its node has come back from a fence, the member is entered again. The node did not
/// know about this member when it entered its other members.
#[tokio::test]
async fn a_member_is_in_the_room_if_its_node_was_fenced_before_the_answer() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.directory(), server.socket());
    let a = std::sync::Arc::new(node(proxy.url(), "a").await);
    a.enter("r", member("bob"), None).await.unwrap();
    let old = server.incarnation("a").await;
    proxy.set(COMMANDS, Way::Late);

    // The tasks of the call run only while this thread drives them.
    let (pause, paused) = oneshot::channel::<()>();
    let (is_paused, until_paused) = oneshot::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let entering = a.clone();
    let thread = std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let enter = runtime.spawn(async move { entering.enter("r", member("ann"), None).await });
        runtime.block_on(paused).unwrap();
        is_paused.send(()).unwrap();
        may_go_on.recv().unwrap();
        runtime.block_on(enter).unwrap()
    });
    until(&server, &["HLEN", &format!("{{chat}}:members:{old}:r")], 2).await;
    pause.send(()).unwrap();
    until_paused.await.unwrap();
    server.fence("a").await;
    proxy.set(COMMANDS, Way::Open);
    a.publish("r", Some("bob"), None, b"back").await.unwrap();
    assert_ne!(server.incarnation("a").await, old);
    go_on.send(()).unwrap();
    let entered = tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
    assert!(entered.is_ok(), "{entered:?}");
    let members = a.roster("r", 0, 10).await.unwrap().members;
    assert_eq!(members.iter().map(|entry| &*entry.member).collect::<Vec<_>>(), ["bob", "ann"]);
    assert!(a.publish("r", Some("ann"), None, b"here").await.is_ok());
}

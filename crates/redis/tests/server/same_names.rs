//! Nodes that have the same name by mistake, or because one of them is about to end.

use std::time::Duration;

use tokio::time::sleep;
use tower_chat_rooms_redis::{Event, Session, Settings};

use crate::support::{Server, TestNode, member};

const MINUTE: Duration = Duration::from_secs(60);

async fn twins(server: &Server) -> [TestNode; 2] {
    let settings = || Settings::new(server.url()).node_name("same").lease(Duration::from_secs(1));
    [TestNode::connect(settings()).await, TestNode::connect(settings()).await]
}

/// Rule: each process has incarnations of its own, whatever its name is.
#[tokio::test]
async fn nodes_with_the_same_name_are_two_nodes() {
    let server = Server::start().await;
    let [a, b] = twins(&server).await;
    assert_ne!(a.number(), b.number());
    assert_eq!(server.incarnations("same").await.len(), 2);
    a.enter("r", member("ann"), None).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    a.publish("r", Some("ann"), None, b"a").await.unwrap();
    let last = b.publish("r", Some("bob"), None, b"b").await.unwrap().stamp;
    for node in [&a, &b] {
        node.until_heard("r", last).await;
    }
    assert_eq!((a.bodies("r").len(), b.bodies("r").len(), last.num), (4, 3, 2));
    a.send_to_number(b.number(), b"for b").await.unwrap();
    let command = Event::Command { body: "for b".into() };
    b.until("the command", |heard| heard.contains(&command)).await;
    assert!(!a.heard().contains(&command));
    // One of them crashes: its members are gone, and nobody else's.
    drop(b);
    a.until_body("r", "-bob").await;
    let end = a.publish("r", Some("ann"), None, b"end").await.unwrap();
    assert_eq!(end.stamp.num, 1);
    while server.command::<u64>(&["ZCARD", "{chat}:nodes"]).await > 1 {
        sleep(Duration::from_millis(10)).await;
    }
    a.close().await;
    assert_eq!(server.lasting_keys().await, [] as [&str; 0]);
}

/// Rule: the old node of a session is told that another one has it, and what it says afterwards has no effect.
#[tokio::test]
async fn a_session_moves_between_nodes_with_the_same_name() {
    let server = Server::start().await;
    let [a, b] = twins(&server).await;
    let session = Session::new("t1", "id", MINUTE).user("ann");
    a.open_session(session.clone()).await.unwrap();
    assert!(a.begin_user("ann", "id", MINUTE).await.unwrap());
    a.enter("r", member("m").session(&session), None).await.unwrap();
    b.resume("t1", "t2", "ann").await.unwrap();
    assert!(!a.end_user("ann", "id").await.unwrap(), "it is not its session any more");
    assert!(!b.begin_user("ann", "id", MINUTE).await.unwrap(), "the user has not been offline");
    let taken = Event::SessionTaken { session: "id".into(), generation: 2 };
    a.until("that the session is gone", |heard| heard.contains(&taken)).await;
    assert_eq!(a.leave_in_session("r", "m", 1, Some("-m".into())).await, None);
    let last = b.publish("r", Some("m"), None, b"mine").await.unwrap();
    assert_eq!(last.stamp.num, 1);
    assert!(b.end_user("ann", "id").await.unwrap());
}

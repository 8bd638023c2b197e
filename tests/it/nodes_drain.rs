//! Nodes that are drained or shut down: their sessions go on elsewhere, and the other members do not notice.

use std::time::Duration;

use serde_json::json;
use tower_chat_rooms::{
    Admission, ChatRooms, ChatRoomsBuilder, Drain, History, Recovery, SharedBroker, User,
};

use crate::nodes::names;
use crate::support::{
    Client, EventLog, RESUME_WINDOW, V1Client, assert_empty, enter_frame, message_with_cid,
    resumed_and_recovered, run_other_tasks, unlimited,
};
use crate::users::{self, Recorder};

fn at_once() -> Drain {
    Drain::over(Duration::ZERO)
}

fn recovering() -> ChatRoomsBuilder {
    unlimited().recovery(Recovery::default().resume_window(RESUME_WINDOW).history(History::last(100)))
}

/// Nodes with hosts of their own.
struct Nodes {
    broker: SharedBroker,
    one: (ChatRooms, EventLog),
    other: (ChatRooms, EventLog),
}

impl Nodes {
    fn new() -> Nodes {
        let broker = SharedBroker::new();
        let node = || {
            let log = EventLog::default();
            (recovering().events(log.hook()).broker(broker.node()).build().unwrap(), log)
        };
        Nodes { one: node(), other: node(), broker }
    }
}

#[tokio::test(start_paused = true)]
async fn a_drained_client_goes_on_elsewhere() {
    let Nodes { broker, one: (one, told), other: (other, told_elsewhere) } = Nodes::new();
    let mut ann = V1Client::enter(&one, "ann").await;
    let mut bob = V1Client::enter(&other, "bob").await;
    assert_eq!(ann.next().await["name"], "bob");
    let draining = one.drain(at_once());
    assert_eq!(ann.connection.close_code().await, 1012);
    let drained = draining.await;
    assert_eq!((drained.closed, drained.kept), (1, 1));
    assert_eq!((one.stats().connections, one.stats().absent), (0, 1));
    bob.send_message("missed").await;
    bob.expect_message("missed").await;
    let entered = ann.reconnect(&other).await;
    assert_eq!(resumed_and_recovered(&entered), (true, true), "{entered}");
    assert_eq!((&entered["num"], names(&entered)), (&json!(2), vec!["ann", "bob"]));
    ann.expect_message("missed").await;
    run_other_tasks().await;
    assert_empty(&one);
    one.shutdown().await;
    ann.send_message("seen").await;
    ann.expect_message("seen").await;
    bob.expect_message("seen").await;
    assert_eq!(told.take_moves(), ["+ ann r 1"]);
    assert_eq!(told_elsewhere.take_moves(), ["+ bob r 2"]);
    for client in [ann, bob] {
        client.connection.close().await;
    }
    run_other_tasks().await;
    let left = ["- ann r 1 closed by the client", "- bob r 0 closed by the client"];
    assert_eq!(told_elsewhere.take_moves(), left);
    assert_eq!((broker.members(), broker.sessions()), (0, 0));
    assert_empty(&other);
    other.shutdown().await;
}

/// A message is published once, although its sender does not know whether it was.
#[tokio::test(start_paused = true)]
async fn a_message_that_was_not_acknowledged_is_published_once() {
    let Nodes { broker: _broker, one: (one, _), other: (other, _) } = Nodes::new();
    let mut ann = V1Client::enter(&one, "ann").await;
    let mut bob = V1Client::enter(&other, "bob").await;
    assert_eq!(ann.next().await["name"], "bob");
    let message = || message_with_cid("r", "hello", "c1");
    ann.connection.send(message()).await;
    let draining = one.drain(at_once());
    let (_, code) = ann.connection.frames_until_close().await;
    assert_eq!(code, 1012);
    draining.await;
    ann.reconnect(&other).await;
    ann.connection.send(message()).await;
    ann.connection.next_of("ack").await;
    bob.expect_message("hello").await;
    bob.send_message("next").await;
    bob.expect_message("next").await;
    for rooms in [one, other] {
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn members_that_cannot_resume_leave() {
    let Nodes { broker, one: (one, told), other: (other, _) } = Nodes::new();
    let mut bob = V1Client::enter(&other, "bob").await;
    let plain = Client::enter(&one, "plain", "r").await;
    assert_eq!(bob.next().await["name"], "plain");
    let drained = one.drain(at_once());
    tokio::spawn(async move {
        let mut plain = plain;
        plain.close_code().await
    });
    let drained = drained.await;
    assert_eq!((drained.closed, drained.kept), (1, 0));
    let out = bob.next().await;
    assert_eq!((&out["event"], &out["name"]), (&json!("out"), &json!("plain")));
    assert_eq!(told.take_moves(), ["+ plain r 2", "- plain r 1 server shutdown"]);
    bob.connection.close().await;
    run_other_tasks().await;
    assert_eq!(broker.members(), 0);
    for rooms in [one, other] {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

/// As long as the drained node is there, it ends the sessions itself.
#[tokio::test(start_paused = true)]
async fn a_drained_client_that_does_not_come_back_leaves() {
    let Nodes { broker, one: (one, told), other: (other, _) } = Nodes::new();
    let mut ann = V1Client::enter(&one, "ann").await;
    let mut bob = V1Client::enter(&other, "bob").await;
    let draining = one.drain(at_once());
    assert_eq!(ann.connection.close_code().await, 1012);
    draining.await;
    bob.answer_heartbeats_for(RESUME_WINDOW - Duration::from_secs(1)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bob.next().await["event"], "out");
    assert_eq!(told.take_moves(), ["+ ann r 1", "- ann r 1 server shutdown"]);
    bob.connection.close().await;
    run_other_tasks().await;
    assert_eq!((broker.members(), broker.sessions()), (0, 0));
    for rooms in [one, other] {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_another_node_ends_the_sessions() {
    for is_drained_before in [false, true] {
        let Nodes { broker, one: (one, told), other: (other, told_elsewhere) } = Nodes::new();
        let mut ann = V1Client::enter(&one, "ann").await;
        let mut cid = V1Client::enter(&one, "cid").await;
        let mut bob = V1Client::enter(&other, "bob").await;
        for name in ["cid", "bob"] {
            assert_eq!(ann.next().await["name"], name);
        }
        // One of them has lost its connection before.
        cid.disconnect().await;
        let closed = tokio::spawn(async move {
            assert_eq!(ann.connection.close_code().await, 1012);
            ann
        });
        if is_drained_before {
            one.drain(at_once()).await;
        }
        one.shutdown().await;
        let mut ann = closed.await.unwrap();
        assert_empty(&one);
        assert_eq!(
            tokio::time::timeout(Duration::from_millis(1), bob.connection.next_of("out")).await.ok(),
            None
        );
        assert_eq!((broker.members(), broker.sessions()), (3, 3));
        let entered = ann.reconnect(&other).await;
        assert_eq!(resumed_and_recovered(&entered), (true, true), "{entered}");
        broker.end_resume_windows();
        let out = bob.connection.next_of("out").await;
        assert_eq!((&out["name"], &out["num"]), (&json!("cid"), &json!(2)));
        run_other_tasks().await;
        assert_eq!(told.take_moves(), ["+ ann r 1", "+ cid r 2"]);
        assert_eq!(told_elsewhere.take_moves(), ["+ bob r 3", "- cid r 2 node lost"]);
        for client in [ann, bob] {
            client.connection.close().await;
        }
        run_other_tasks().await;
        assert_eq!((broker.members(), broker.sessions()), (0, 0));
        other.shutdown().await;
    }
}

/// A session in no room, and one whose client was kicked, are not kept.
#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_sessions_that_no_node_can_resume() {
    let (broker, log) = (SharedBroker::new(), EventLog::default());
    let rooms = users::builder(&log).broker(broker.node()).build().unwrap();
    let other = users::builder(&log).broker(broker.node()).build().unwrap();
    let (_outside, _) = users::connect(&rooms, "outside").await;
    let (kicked, _) = users::enter(&rooms, "kicked", "r").await;
    let (_kept, _) = users::enter(&rooms, "kept", "r").await;
    run_other_tasks().await;
    log.take();
    assert_eq!(rooms.kick_user("kicked"), 1);
    rooms.shutdown().await;
    run_other_tasks().await;
    let mut told = log.take();
    told.sort();
    assert_eq!(told, ["- kicked r: kicked", "ended", "offline kicked", "offline outside"]);
    assert_eq!((broker.members(), broker.sessions()), (1, 1));
    assert_empty(&rooms);
    assert_eq!(rooms.stats().users, 0, "its sessions are on no node");
    // The user of the session that was kept stays online as long as it.
    assert!(other.all_nodes().is_online("kept").await.unwrap());
    broker.end_resume_windows();
    run_other_tasks().await;
    assert_eq!(log.take(), ["- kept r: node lost", "offline kept"]);
    other.shutdown().await;
    drop(kicked);
}

#[tokio::test(start_paused = true)]
async fn a_user_stays_online_while_its_node_is_replaced() {
    let (broker, log) = (SharedBroker::new(), EventLog::default());
    let node = || recovering().events(Recorder(log.clone())).broker(broker.node()).build().unwrap();
    let (one, other) = (node(), node());
    let user = || Admission::user(User::new("u"));
    let (mut client, welcome) = Client::enter_v1(&one, user()).await;
    run_other_tasks().await;
    assert_eq!(log.take(), ["online u", "+ ann r"]);
    let draining = one.drain(at_once());
    assert_eq!(client.close_code().await, 1012);
    draining.await;
    let (mut client, _) = Client::connect_v1(&other, user()).await;
    client.resume(&[welcome["resume"].clone()]).await;
    client.send(enter_frame("ann", "r")).await;
    assert_eq!(client.next_of("entered").await["resumed"], true);
    one.shutdown().await;
    assert!(other.is_online("u"));
    assert_eq!(log.take(), ["ended"]);
    client.close().await;
    run_other_tasks().await;
    assert_eq!(log.take(), ["- ann r: closed by the client", "offline u"]);
    assert_eq!((broker.members(), broker.sessions()), (0, 0));
    other.shutdown().await;
}

/// Clients come back while their sessions are kept.
#[tokio::test(start_paused = true)]
async fn clients_are_told_to_come_back_within_the_resume_window() {
    for (window, latest) in [(10, 5), (4, 4), (1, 3)] {
        let recovery = Recovery::default().resume_window(Duration::from_secs(window));
        let rooms = unlimited().recovery(recovery).broker(SharedBroker::new().node()).build().unwrap();
        let mut clients = Vec::new();
        for n in 0..1500 {
            clients.push(Client::enter(&rooms, "ann", &format!("r{}", n % 100)).await);
        }
        let shutdown = tokio::spawn({
            let rooms = rooms.clone();
            async move { rooms.shutdown().await }
        });
        let reason = close_reason(&mut clients[0]).await;
        assert_eq!(reason, format!("the server restarts; retry in 2-{latest} s"), "{window}");
        drop(clients);
        shutdown.await.unwrap();
    }
    let rooms = unlimited().build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let draining = rooms.drain(at_once());
    assert_eq!(close_reason(&mut ann).await, "the server restarts; retry in 0-1 s");
    drop((ann, draining));
}

async fn close_reason(client: &mut Client) -> String {
    use futures_util::StreamExt;
    use tokio_tungstenite::tungstenite::Message;
    loop {
        if let Message::Close(Some(frame)) = client.ws.next().await.unwrap().unwrap() {
            return frame.reason.to_string();
        }
    }
}

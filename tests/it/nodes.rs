//! Several nodes that share their rooms through a broker.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower_chat_rooms::{
    Access, Admission, ChatRooms, ChatRoomsBuilder, History, Limits, Recovery, SharedBroker, User,
};

use crate::support::{
    Client, EventLog, RESUME_WINDOW, SteppedConnection, V1Client, assert_empty, enter_frame, leave_frame,
    resumed_and_recovered, run_other_tasks, unlimited,
};

/// Nodes that share a broker.
pub(crate) fn nodes<const N: usize>(
    broker: &SharedBroker,
    build: impl Fn(ChatRoomsBuilder) -> ChatRoomsBuilder,
) -> [ChatRooms; N] {
    std::array::from_fn(|_| build(unlimited()).broker(broker.node()).build().unwrap())
}

/// Shuts nodes down whose members have left.
pub(crate) async fn stop<const N: usize>(nodes: [ChatRooms; N]) {
    for rooms in nodes {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

/// A `chat-rooms.v1` client in the room "r", with the answer to its enter.
pub(crate) async fn enter(rooms: &ChatRooms, name: &str) -> (Client, Value) {
    let (mut client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
    client.send(enter_frame(name, "r")).await;
    let entered = client.next().await;
    assert_eq!(entered["event"], "entered", "{entered}");
    let own = client.next().await;
    assert_eq!((&own["event"], &own["name"]), (&json!("enter"), &json!(name)));
    (client, entered)
}

pub(crate) fn names(entered: &Value) -> Vec<&str> {
    entered["members"].as_array().unwrap().iter().map(|member| member["name"].as_str().unwrap()).collect()
}

pub(crate) async fn expect(client: &mut Client, event: &str, name: &str, seq: u64, num: u64) {
    let frame = client.next().await;
    let got = (&frame["event"], &frame["name"], &frame["seq"], &frame["num"]);
    assert_eq!(got, (&json!(event), &json!(name), &json!(seq), &json!(num)), "{frame}");
}

#[tokio::test(start_paused = true)]
async fn members_of_all_nodes_are_in_one_room() {
    let broker = SharedBroker::new();
    let log = EventLog::default();
    let [one, other] = nodes(&broker, |builder| builder.events(log.hook()));
    let (mut ann, entered) = enter(&one, "ann").await;
    assert_eq!((names(&entered), &entered["num"]), (vec![], &json!(1)));
    let (mut bob, entered) = enter(&other, "bob").await;
    assert_eq!((names(&entered), &entered["num"], &entered["seq"]), (vec!["ann"], &json!(2), &json!(1)));
    expect(&mut ann, "enter", "bob", 2, 2).await;
    for (n, text) in (3..).zip(["a", "b", "c"]) {
        let (sender, name) = if n % 2 == 0 { (&mut ann, "ann") } else { (&mut bob, "bob") };
        sender.send(json!({"event": "message", "message": text, "cid": text})).await;
        let ack = sender.next().await;
        assert_eq!((&ack["event"], &ack["seq"]), (&json!("ack"), &json!(n)), "{ack}");
        expect(&mut ann, "message", name, n, 2).await;
        expect(&mut bob, "message", name, n, 2).await;
    }
    bob.send(leave_frame("r")).await;
    assert_eq!(bob.next().await["event"], "left");
    expect(&mut ann, "out", "bob", 6, 1).await;
    ann.disconnect().await;
    bob.disconnect().await;
    for rooms in [one, other] {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_tells_the_other_nodes() {
    let broker = SharedBroker::new();
    let [one, other] = nodes(&broker, |builder| builder);
    let (mut ann, _) = enter(&one, "ann").await;
    let (bob, _) = enter(&other, "bob").await;
    expect(&mut ann, "enter", "bob", 2, 2).await;
    let closing = tokio::spawn(async move { other.shutdown().await });
    expect(&mut ann, "out", "bob", 3, 1).await;
    drop(bob);
    closing.await.unwrap();
    ann.disconnect().await;
    one.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_long_for_the_broker() {
    let broker = SharedBroker::new();
    let [rooms] = nodes(&broker, |builder| builder);
    let (mut ann, _) = enter(&rooms, "ann").await;
    broker.set_available(false);
    let since = Instant::now();
    let closing = tokio::spawn(async move { rooms.shutdown().await });
    assert_eq!(ann.close_code().await, 1012);
    closing.await.unwrap();
    assert!(since.elapsed() <= Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn while_the_broker_is_away_messages_are_refused_and_published_once() {
    let broker = SharedBroker::new();
    let [one, other] = nodes(&broker, |builder| builder);
    let (mut ann, _) = enter(&one, "ann").await;
    let (mut bob, _) = enter(&other, "bob").await;
    expect(&mut ann, "enter", "bob", 2, 2).await;
    broker.set_available(false);
    let message = json!({"event": "message", "message": "hi", "cid": "c1"});
    ann.send(message.clone()).await;
    let refused = ann.next().await;
    assert_eq!((&refused["code"], &refused["cid"]), (&json!("unavailable"), &json!("c1")));
    assert_eq!(refused["retryAfter"], 1000);
    broker.set_available(true);
    ann.send(message).await;
    let (first, second) = (ann.next().await, ann.next().await);
    let frames = if first["event"] == "ack" { [first, second] } else { [second, first] };
    assert_eq!((&frames[0]["seq"], &frames[1]["message"]), (&json!(3), &json!("hi")));
    expect(&mut bob, "message", "ann", 3, 2).await;
    ann.send(json!({"event": "message", "message": "next"})).await;
    expect(&mut bob, "message", "ann", 4, 2).await;
    for client in [ann, bob] {
        client.disconnect().await;
    }
    for rooms in [one, other] {
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_enter_waits_for_the_broker_but_not_for_long() {
    let broker = SharedBroker::new();
    let [one, other] = nodes(&broker, |builder| builder);
    broker.set_available(false);
    let (mut ann, _) = Client::connect_v1(&one, Admission::anonymous()).await;
    ann.send(enter_frame("ann", "r")).await;
    assert_eq!(ann.close_code().await, 1013);
    let (mut bob, _) = Client::connect_v1(&other, Admission::anonymous()).await;
    bob.send(enter_frame("bob", "r")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    broker.set_available(true);
    // Ann's enter and leave have reached the broker before.
    let entered = bob.next().await;
    assert_eq!((&entered["event"], &entered["num"]), (&json!("entered"), &json!(1)), "{entered}");
    expect(&mut bob, "enter", "bob", 1, 1).await;
    bob.disconnect().await;
    run_other_tasks().await;
    for rooms in [one, other] {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_has_no_members() {
    let broker = SharedBroker::new();
    let one = unlimited().broker(broker.node()).build().unwrap();
    let node = broker.node();
    let number = node.number();
    let other = unlimited().broker(node).build().unwrap();
    let (mut ann, _) = enter(&one, "ann").await;
    let (bob, _) = enter(&other, "bob").await;
    expect(&mut ann, "enter", "bob", 2, 2).await;
    bob.task.abort();
    broker.remove_node(number);
    drop(other);
    expect(&mut ann, "out", "bob", 3, 1).await;
    ann.disconnect().await;
    one.shutdown().await;
}

/// Nobody is told when a member leaves that the broker has lost before.
#[tokio::test(start_paused = true)]
async fn a_member_that_the_broker_has_lost_is_not_in_the_roster() {
    let broker = SharedBroker::new();
    let [one, other] = nodes(&broker, |builder| builder);
    let (mut ann, _) = enter(&one, "ann").await;
    let (bob, _) = enter(&other, "bob").await;
    expect(&mut ann, "enter", "bob", 2, 2).await;
    broker.lose_members(2);
    expect(&mut ann, "out", "bob", 3, 1).await;
    run_other_tasks().await;
    let (mut eve, entered) = enter(&other, "eve").await;
    assert_eq!((names(&entered), &entered["num"]), (vec!["ann"], &json!(2)));
    bob.close().await;
    expect(&mut ann, "enter", "eve", 4, 2).await;
    eve.send(json!({"event": "members", "roomId": "r"})).await;
    assert_eq!(names(&eve.next_of("members").await), ["ann", "eve"]);
    for client in [ann, eve] {
        client.close().await;
    }
    stop([one, other]).await;
}

/// Members that have missed events are told to come back, and get no later events before that.
#[tokio::test(start_paused = true)]
async fn members_that_have_missed_events_get_no_later_ones() {
    let broker = SharedBroker::new();
    let recovery = Recovery::default().resume_window(RESUME_WINDOW).history(History::last(100));
    let (one, other) = (broker.node(), broker.node());
    let number = one.number();
    let [one, other] =
        [one, other].map(|node| unlimited().recovery(recovery.clone()).broker(node).build().unwrap());
    let mut ann = V1Client::enter(&other, "ann").await;
    let mut bob = SteppedConnection::connect(&one).await;
    bob.send(enter_frame("bob", "r")).await;
    bob.run().await;
    assert_eq!(ann.next().await["name"], "bob");
    for event in ["entered", "enter"] {
        assert_eq!(bob.next().await["event"], event);
    }
    broker.lose_next_event(number);
    for message in 1..=3 {
        ann.send_message(message).await;
        ann.expect_message(message).await;
    }
    // The task of the connection has yet to run.
    bob.step().await;
    assert_eq!(bob.next_or_end().await, None);
    drop(bob);
    ann.connection.close().await;
    // The session ends with its window.
    sleep(2 * RESUME_WINDOW).await;
    stop([one, other]).await;
}

/// The clients of a room whose events are lost come back, and see that they have missed some.
#[tokio::test(start_paused = true)]
async fn after_a_restart_of_the_broker_clients_come_back() {
    let broker = SharedBroker::new();
    let recovery = Recovery::default().resume_window(RESUME_WINDOW).history(History::last(100));
    let [one, other] = nodes(&broker, |builder| builder.recovery(recovery.clone()));
    let mut ann = V1Client::enter(&one, "ann").await;
    let mut bob = V1Client::enter(&other, "bob").await;
    assert_eq!(ann.next().await["name"], "bob");
    broker.restart();
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.connection.close_code().await, 1012);
    }
    let entered = [ann.reconnect(&one).await, bob.reconnect(&other).await];
    for entered in &entered {
        assert_eq!(resumed_and_recovered(entered), (true, false));
        assert_eq!((&entered["seq"], &entered["num"]), (&json!(0), &json!(2)));
        assert_eq!(names(entered).len(), 2);
    }
    assert_eq!(entered[0]["epoch"], entered[1]["epoch"]);
    bob.send_message("back").await;
    ann.expect_message("back").await;
    for client in [ann.connection, bob.connection] {
        client.close().await;
    }
    for rooms in [one, other] {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_recovers_what_all_nodes_have_published() {
    let broker = SharedBroker::new();
    let recovery = Recovery::default().resume_window(RESUME_WINDOW).history(History::last(100));
    let [one, other] = nodes(&broker, |builder| builder.recovery(recovery.clone()));
    let mut ann = V1Client::enter(&one, "ann").await;
    let mut bob = V1Client::enter(&other, "bob").await;
    assert_eq!(ann.next().await["name"], "bob");
    ann.disconnect().await;
    bob.send_message("missed").await;
    bob.expect_message("missed").await;
    // The other members do not notice.
    assert_eq!(resumed_and_recovered(&ann.reconnect(&one).await), (true, true));
    ann.expect_message("missed").await;
    ann.send_message("seen").await;
    bob.expect_message("seen").await;
    for client in [ann.connection, bob.connection] {
        client.close().await;
    }
    for rooms in [one, other] {
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn plain_clients_move_between_rooms_of_all_nodes() {
    let broker = SharedBroker::new();
    let log = EventLog::default();
    let [one, other] = nodes(&broker, |builder| builder.events(log.hook()));
    let mut ann = Client::enter(&one, "ann", "r").await;
    let mut bob = Client::enter(&other, "bob", "r").await;
    assert_eq!(ann.next_of("enter").await["num"], 2);
    bob.send(enter_frame("bob", "s")).await;
    let own = bob.next_of("enter").await;
    assert_eq!((&own["name"], &own["num"]), (&json!("bob"), &json!(1)));
    let out = ann.next_of("out").await;
    assert_eq!((&out["name"], &out["num"]), (&json!("bob"), &json!(1)));
    bob.send(json!({"event": "message", "message": "in s"})).await;
    assert_eq!(bob.next_of("message").await["message"], "in s");
    // A new name in the same room.
    ann.send(enter_frame("anna", "r")).await;
    assert_eq!(ann.next_of("enter").await["name"], "anna");
    for client in [ann, bob] {
        client.close().await;
    }
    assert_eq!(log.take_moves().len(), 8);
    for rooms in [one, other] {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn transient_frames_and_frames_of_the_host_reach_all_nodes() {
    let broker = SharedBroker::new();
    let [one, other] = nodes(&broker, |builder| builder.transient_events(["typing"]));
    let (mut ann, _) = enter(&one, "ann").await;
    let (mut bob, _) = enter(&other, "bob").await;
    expect(&mut ann, "enter", "bob", 2, 2).await;
    ann.send(json!({"event": "typing"})).await;
    let typing = bob.next().await;
    assert_eq!(
        (&typing["event"], &typing["name"], &typing["seq"]),
        (&json!("typing"), &json!("ann"), &Value::Null)
    );
    one.send("r", &json!({"event": "notice", "message": "hi"})).unwrap();
    for client in [&mut ann, &mut bob] {
        let notice = client.next().await;
        assert_eq!(
            (&notice["event"], &notice["seq"], &notice["member"]),
            (&json!("notice"), &json!(3), &Value::Null)
        );
    }
    for client in [ann, bob] {
        client.disconnect().await;
    }
    for rooms in [one, other] {
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_members_holds_on_all_nodes() {
    let broker = SharedBroker::new();
    let limits = Limits::default().max_room_members(1);
    let [one, other] = nodes(&broker, |builder| builder.limits(limits.clone()));
    let (ann, _) = enter(&one, "ann").await;
    let (mut bob, _) = Client::connect_v1(&other, Admission::anonymous()).await;
    bob.send(enter_frame("bob", "r")).await;
    assert_eq!(bob.next().await["code"], "room_full");
    assert!(other.rooms().is_empty());
    ann.disconnect().await;
    bob.send(enter_frame("bob", "r")).await;
    assert_eq!(bob.next().await["event"], "entered");
    bob.disconnect().await;
    for rooms in [one, other] {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn ids_differ_among_nodes() {
    let broker = SharedBroker::new();
    let [one, other] = nodes(&broker, |builder| builder);
    let (ann, welcome_of_ann) = Client::connect_v1(&one, Admission::anonymous()).await;
    let (bob, welcome_of_bob) = Client::connect_v1(&other, Admission::anonymous()).await;
    assert_ne!(welcome_of_ann["connection"], welcome_of_bob["connection"]);
    for client in [ann, bob] {
        client.disconnect().await;
    }
}

#[tokio::test(start_paused = true)]
async fn calls_of_the_host_work_on_all_nodes() {
    let broker = SharedBroker::new();
    let [one, other] = nodes(&broker, |builder| builder);
    let user = || Admission::user(User::new("u"));
    let (mut ann, welcome) = Client::connect_v1(&other, user()).await;
    ann.send(enter_frame("ann", "r")).await;
    assert_eq!(ann.next_of("enter").await["num"], 1);
    let id = welcome["connection"].as_str().unwrap().parse().unwrap();

    let notice = |n: u64| json!({"event": "notice", "n": n});
    one.send_to(id, &notice(1)).unwrap();
    assert_eq!(one.broadcast(&notice(2)).await.unwrap(), 0);
    assert_eq!(one.send_to_user("u", &notice(3)).unwrap(), 0);
    one.send("r", &notice(4)).unwrap();
    let mut heard = BTreeSet::new();
    while heard.len() < 4 {
        heard.insert(ann.next_of("notice").await["n"].as_u64().unwrap());
    }
    one.set_info("r", id, &"vip").unwrap();
    assert_eq!(ann.next_of("state").await["info"], "vip");
    one.set_access("r", id, &Access::member().read_only()).unwrap();
    assert_eq!(ann.next_of("state").await["readOnly"], true);
    one.close_room("r");
    assert_eq!(ann.next_of("left").await["code"], "room_closed");
    assert!(!one.kick(id), "it is on another node");
    assert_eq!(ann.close_code().await, 4500);
    let (mut ann, _) = Client::connect_v1(&other, user()).await;
    one.kick_user("u");
    assert_eq!(ann.close_code().await, 4500);
    for rooms in [one, other] {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

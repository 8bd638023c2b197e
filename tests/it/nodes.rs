//! Several nodes that share their rooms through a broker.

use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, ChatRoomsBuilder, SharedBroker};

use crate::support::{Client, EventLog, assert_empty, enter_frame, leave_frame, run_other_tasks, unlimited};

/// Nodes that share a broker.
fn nodes<const N: usize>(
    broker: &SharedBroker,
    build: impl Fn(ChatRoomsBuilder) -> ChatRoomsBuilder,
) -> [ChatRooms; N] {
    std::array::from_fn(|_| build(unlimited()).broker(broker.node()).build().unwrap())
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

//! Direct messages to users on other nodes.

use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{ChatRooms, RoomEvent, SharedBroker};

use crate::direct::{ByMessage, builder, connect};
use crate::support::{Client, EventLog, assert_empty, run_other_tasks};

/// Nodes that allow direct messages.
fn nodes<const N: usize>(broker: &SharedBroker) -> [ChatRooms; N] {
    std::array::from_fn(|_| builder().policy(ByMessage::default()).broker(broker.node()).build().unwrap())
}

fn message(text: &str, cid: &str) -> Value {
    json!({"event": "direct", "message": text, "to": "bob", "cid": cid})
}

/// The answer to a message: `reached` or an error's code.
async fn answer(sender: &mut Client, cid: &str) -> Value {
    let answer = sender.next().await;
    assert_eq!(answer["cid"], cid, "{answer}");
    if answer["event"] == "ack" { answer["reached"].clone() } else { answer["code"].clone() }
}

async fn expect(client: &mut Client, text: &str, number: u64) {
    let frame = client.next_of("direct").await;
    assert_eq!((&frame["message"], &frame["direct"]), (&json!(text), &json!(number)), "{frame}");
    assert_eq!(frame["from"], json!({"user": "ann"}));
}

async fn end<const C: usize, const N: usize>(clients: [Client; C], nodes: [ChatRooms; N]) {
    for client in clients {
        client.close().await;
    }
    run_other_tasks().await;
    for rooms in nodes {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_reaches_the_user_on_all_nodes() {
    let broker = SharedBroker::new();
    let [one, two, three] = nodes(&broker);
    let mut ann = connect(&one, "ann").await;
    ann.send(message("hi", "c1")).await;
    assert_eq!(answer(&mut ann, "c1").await, 0);
    let (mut first, mut second, mut third) =
        (connect(&one, "bob").await, connect(&two, "bob").await, connect(&three, "bob").await);
    run_other_tasks().await;
    for (n, text) in (1..).zip(["a", "b", "c"]) {
        ann.send(message(text, text)).await;
        assert_eq!(answer(&mut ann, text).await, 3);
        for client in [&mut first, &mut second, &mut third] {
            expect(client, text, n).await;
        }
    }
    // A repeated message is acknowledged only.
    ann.send(message("a", "a")).await;
    assert_eq!(answer(&mut ann, "a").await, 3);
    // A message that the policy drops looks as if it had been sent.
    ann.send(message("drop", "c2")).await;
    assert_eq!(answer(&mut ann, "c2").await, 3);
    for text in ["refuse", "replace", "later"] {
        ann.send(message(text, text)).await;
    }
    assert_eq!(answer(&mut ann, "refuse").await, "denied");
    for cid in ["replace", "later"] {
        assert_eq!(answer(&mut ann, cid).await, 3);
    }
    // The host's frames are numbered with those of clients.
    assert_eq!(two.send_to_user("bob", &json!({"event": "hint"})).unwrap(), 1, "those of this node");
    for client in [&mut first, &mut second, &mut third] {
        expect(client, "other", 4).await;
        expect(client, "other", 5).await;
        assert_eq!(client.next_of("hint").await["direct"], 6);
    }
    end([ann, first, second, third], [one, two, three]).await;
}

/// Rule: a message that is sent again under its id is delivered once, also if the first attempt has reached some nodes.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_sent_again_is_delivered_once() {
    let broker = SharedBroker::new();
    let log = EventLog::default();
    let lines = log.clone();
    let one = builder()
        .policy(ByMessage::default())
        .events(move |event: RoomEvent<'_>| {
            if let RoomEvent::Direct(event) = event {
                lines.push(format!("{} reached {}", event.body, event.reached));
            }
        })
        .broker(broker.node())
        .build()
        .unwrap();
    let [two] = nodes(&broker);
    let mut ann = connect(&one, "ann").await;
    let (mut here, mut there) = (connect(&one, "bob").await, connect(&two, "bob").await);
    run_other_tasks().await;
    // The other node gets it late.
    broker.set_delivering(false);
    for _ in 0..2 {
        ann.send(message("hi", "c1")).await;
        let refused = ann.next().await;
        assert_eq!((&refused["code"], &refused["cid"]), (&json!("unavailable"), &json!("c1")));
        assert_eq!(refused["retryAfter"], 1000);
    }
    assert_eq!(log.take(), [] as [&str; 0]);
    broker.set_delivering(true);
    ann.send(message("hi", "c1")).await;
    assert_eq!(answer(&mut ann, "c1").await, 2);
    assert_eq!(log.take(), [r#"{"cid":"c1","event":"direct","message":"hi"} reached 2"#]);
    // Nobody gets anything while the broker is away.
    broker.set_available(false);
    ann.send(message("later", "c2")).await;
    assert_eq!(answer(&mut ann, "c2").await, "unavailable");
    broker.set_available(true);
    ann.send(message("bye", "c3")).await;
    assert_eq!(answer(&mut ann, "c3").await, 2);
    for client in [&mut here, &mut there] {
        expect(client, "hi", 1).await;
        expect(client, "bye", 2).await;
    }
    end([ann, here, there], [one, two]).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_gets_the_messages_of_all_nodes_when_it_resumes() {
    let broker = SharedBroker::new();
    let [one, two] = nodes(&broker);
    let mut ann = connect(&one, "ann").await;
    let (bob, token) = crate::users::connect(&two, "bob").await;
    run_other_tasks().await;
    bob.disconnect().await;
    for text in ["a", "b"] {
        ann.send(message(text, text)).await;
        assert_eq!(answer(&mut ann, text).await, 0, "no connection is open");
    }
    let (mut bob, _) = crate::users::connect(&two, "bob").await;
    bob.send(json!({"event": "resume", "message": [token]})).await;
    assert_eq!(bob.next().await["event"], "resumed");
    expect(&mut bob, "a", 1).await;
    expect(&mut bob, "b", 2).await;
    end([ann, bob], [one, two]).await;
}

/// The sender goes away while its message is on its way.
#[tokio::test(start_paused = true)]
async fn a_message_is_sent_although_its_sender_is_gone() {
    let broker = SharedBroker::new();
    let [one, two] = nodes(&broker);
    let mut ann = connect(&one, "ann").await;
    let mut bob = connect(&two, "bob").await;
    run_other_tasks().await;
    broker.set_available(false);
    ann.send(message("hi", "c1")).await;
    run_other_tasks().await;
    let leaving = tokio::spawn(ann.disconnect());
    tokio::time::sleep(Duration::from_millis(100)).await;
    broker.set_available(true);
    expect(&mut bob, "hi", 1).await;
    leaving.await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    drop(bob);
    tokio::time::sleep(Duration::from_secs(120)).await;
    end([], [one, two]).await;
}

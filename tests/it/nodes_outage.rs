//! What members notice while the broker is away, and messages with ids on several nodes.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use tower_chat_rooms::{ChatRooms, SharedBroker};

use crate::nodes::{enter, expect, nodes, stop};
use crate::support::{Client, EventLog, V1Client, leave_frame, message_with_cid, run_other_tasks};

/// Rule: a message waits for up to a second.
#[tokio::test(start_paused = true)]
async fn a_message_waits_while_the_broker_is_away_for_a_moment() {
    let broker = SharedBroker::new();
    let [one, other] = nodes(&broker, |builder| builder);
    let (mut ann, _) = enter(&one, "ann").await;
    let (mut bob, _) = enter(&other, "bob").await;
    expect(&mut ann, "enter", "bob", 2, 2).await;
    broker.set_available(false);
    ann.send(message_with_cid("r", "hi", "c1")).await;
    sleep(Duration::from_millis(900)).await;
    broker.set_available(true);
    for frame in [ann.next().await, ann.next().await] {
        assert_eq!(frame["seq"], 3, "{frame}");
    }
    expect(&mut bob, "message", "ann", 3, 2).await;
    for client in [ann, bob] {
        client.disconnect().await;
    }
    run_other_tasks().await;
    stop([one, other]).await;
}

/// Rule: connections and heartbeats go on while the broker is away. A member that leaves is out for itself at once, and for
/// the others later.
#[tokio::test(start_paused = true)]
async fn members_stay_while_the_broker_is_away() {
    let (broker, log) = (SharedBroker::new(), EventLog::default());
    let [one, other] = nodes(&broker, |builder| builder.events(log.hook()));
    let mut ann = V1Client::enter(&one, "ann").await;
    let mut bob = V1Client::enter(&other, "bob").await;
    assert_eq!(ann.next().await["name"], "bob");
    broker.set_available(false);
    let minute = Duration::from_secs(60);
    tokio::join!(ann.answer_heartbeats_for(minute), bob.answer_heartbeats_for(minute));
    bob.connection.send(leave_frame("r")).await;
    assert_eq!(bob.connection.next().await, json!({"event": "left", "roomId": "r"}));
    ann.answer_heartbeats_for(Duration::from_secs(1)).await;
    assert_eq!(log.take_moves()[..2], ["+ ann r 1", "+ bob r 2"]);
    broker.set_available(true);
    assert_eq!(ann.next().await["event"], "out");
    ann.send_message("still here").await;
    ann.expect_message("still here").await;
    for client in [ann, bob] {
        client.connection.close().await;
    }
    run_other_tasks().await;
    stop([one, other]).await;
}

/// Reads up to a frame with this event and value, and notes the messages before it.
async fn read_up_to(client: &mut Client, event: &str, value: Value, messages: &mut Vec<Value>) {
    loop {
        let frame = client.next().await;
        if frame["event"] == event && [&frame["seq"], &frame["message"]].contains(&&value) {
            return;
        }
        if frame["event"] == "message" {
            messages.push(frame["message"].clone());
        }
    }
}

/// Rule: the id of a message is its sender's: another client may use the same one.
pub(crate) async fn clients_use_the_same_ids(nodes: [ChatRooms; 2]) {
    let mut clients = Vec::new();
    for (node, name) in [(&nodes[0], "ann"), (&nodes[1], "bob"), (&nodes[1], "eve")] {
        clients.push((enter(node, name).await.0, Vec::new()));
    }
    for (n, (client, messages)) in clients.iter_mut().enumerate() {
        client.send(message_with_cid("r", n, "same")).await;
        read_up_to(client, "ack", json!(n + 4), messages).await;
    }
    clients[0].0.send(json!({"event": "message", "message": "end"})).await;
    for (client, messages) in &mut clients {
        read_up_to(client, "message", json!("end"), messages).await;
        assert_eq!(*messages, [0, 1, 2]);
    }
    for (client, _) in clients {
        client.close().await;
    }
    for rooms in nodes {
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn clients_of_several_nodes_use_the_same_ids() {
    clients_use_the_same_ids(nodes(&SharedBroker::new(), |builder| builder)).await;
}

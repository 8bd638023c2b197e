//! Presence in rooms that several nodes share: events that were submitted before the room's mode has changed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tower_chat_rooms::{Admission, ChatRooms, Presence, SharedBroker};

use crate::nodes::{names, nodes, stop};
use crate::support::{Client, enter_frame, leave_frame};

const SECOND: Duration = Duration::from_secs(1);

/// Two nodes whose rooms count from four members on, until there are two.
fn two_nodes(broker: &SharedBroker) -> [ChatRooms; 2] {
    nodes(broker, |builder| builder.presence(Presence::auto(4, 2).unwrap()))
}

/// A `chat-rooms.v1` client in the room "r".
async fn enter(rooms: &ChatRooms, name: &str) -> Client {
    let (mut client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
    client.send(enter_frame(name, "r")).await;
    client.next_of("entered").await;
    client
}

/// Returns the mode and the number of members of the next `presence` frame.
async fn told(client: &mut Client) -> (Value, Value) {
    let frame = timeout(10 * SECOND, client.next_of("presence")).await.expect("nothing was told");
    (frame["mode"].clone(), frame["num"].clone())
}

#[tokio::test(start_paused = true)]
async fn a_member_that_has_entered_without_a_frame_is_told_in_full_mode() {
    let broker = SharedBroker::new();
    let [one, other] = two_nodes(&broker);
    let mut ann = enter(&other, "ann").await;
    let leaving = [enter(&other, "bob").await, enter(&other, "cat").await];
    let dan = enter(&one, "dan").await;
    assert_eq!(told(&mut ann).await, (json!("count"), json!(4)));
    // The first node does not hear that the mode changes.
    broker.set_delivering_to(1, false);
    for mut client in leaving {
        client.send(leave_frame("r")).await;
        client.next_of("left").await;
        client.close().await;
    }
    while told(&mut ann).await != (json!("full"), json!(2)) {}
    let (mut eve, _) = Client::connect_v1(&one, Admission::anonymous()).await;
    eve.send(enter_frame("eve", "r")).await;
    let start = Instant::now();
    assert_eq!(told(&mut ann).await, (json!("full"), json!(3)));
    assert!(start.elapsed() <= SECOND);
    ann.send(json!({"event": "members", "roomId": "r"})).await;
    let page = ann.next_of("members").await;
    assert_eq!(names(&page), ["ann", "dan", "eve"]);
    broker.set_delivering_to(1, true);
    assert_eq!(eve.next_of("entered").await["num"], 3);
    for client in [ann, dan, eve] {
        client.close().await;
    }
    stop([one, other]).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_frames_come_in_count_mode_is_forgotten() {
    let broker = SharedBroker::new();
    let [one, other] = two_nodes(&broker);
    let (ann, bob, mut cat) = (enter(&one, "ann").await, enter(&one, "bob").await, enter(&one, "cat").await);
    // The first node does not hear that the mode changes.
    broker.set_delivering_to(1, false);
    let mut dan = enter(&other, "dan").await;
    assert_eq!(told(&mut dan).await, (json!("count"), json!(4)));
    cat.send(enter_frame("kate", "r")).await;
    assert_eq!(dan.next_of("enter").await["name"], "kate");
    // The number is the same, but the frame has named a member.
    assert_eq!(told(&mut dan).await, (json!("count"), json!(4)));
    broker.set_delivering_to(1, true);
    assert_eq!(cat.next_of("entered").await["num"], 4);
    for client in [ann, bob, cat, dan] {
        client.close().await;
    }
    stop([one, other]).await;
}

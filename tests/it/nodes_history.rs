//! A room's history, which a node reads from the broker's log when it begins to follow the room.

use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{
    Admission, ChatRooms, Denied, History, ReadRequest, Recovery, RoomPolicy, SharedBroker,
};

use crate::nodes::{nodes, stop};
use crate::support::{Client, V1Client, enter_since, leave_frame, resumed_and_recovered};

const WINDOW: Duration = Duration::from_secs(10);

fn recovery(history: History) -> Recovery {
    Recovery::default().resume_window(WINDOW).history(history)
}

fn enter_last(name: &str, last: usize) -> Value {
    json!({"event": "enter", "message": name, "roomId": "r", "last": last})
}

/// Sends messages, and reads them.
async fn say(client: &mut V1Client, messages: &[&str]) {
    for message in messages {
        client.send_message(*message).await;
        client.expect_message(*message).await;
    }
}

/// Enters, and returns the answer and the messages up to the client's own enter.
async fn enter(rooms: &ChatRooms, frame: Value) -> (Client, Value, Vec<Value>) {
    let (mut client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
    let (entered, frames) = enter_again(&mut client, frame).await;
    (client, entered, frames)
}

async fn enter_again(client: &mut Client, frame: Value) -> (Value, Vec<Value>) {
    let name = frame["message"].clone();
    client.send(frame).await;
    let (entered, mut frames) = (client.next().await, Vec::new());
    assert_eq!(entered["event"], "entered", "{entered}");
    loop {
        let frame = client.next().await;
        if frame["event"] == "enter"
            && frame["name"] == name
            && frame["seq"].as_u64() > entered["seq"].as_u64()
        {
            return (entered, frames);
        }
        frames.push(frame);
    }
}

fn messages(frames: &[Value]) -> Vec<&str> {
    frames
        .iter()
        .filter_map(|frame| frame["message"].as_str().filter(|_| frame["event"] == "message"))
        .collect()
}

pub(crate) async fn late_joiners_get_the_history([one, other]: [ChatRooms; 2]) {
    let mut ann = V1Client::enter(&one, "ann").await;
    say(&mut ann, &["a", "b", "c"]).await;
    let (here, _, of_one) = enter(&one, enter_last("eve", 2)).await;
    here.close().await;
    let (bob, entered, of_other) = enter(&other, enter_last("bob", 2)).await;
    assert_eq!((entered["history"].clone(), messages(&of_other)), (json!(2), vec!["b", "c"]));
    assert_eq!(of_other, of_one, "the frames are those that other nodes have delivered");
    for client in [ann.connection, bob] {
        client.close().await;
    }
    stop([one, other]).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_joiner_gets_messages_from_before_its_node_had_members() {
    let broker = SharedBroker::new();
    late_joiners_get_the_history(nodes(&broker, |builder| builder.recovery(recovery(History::last(100)))))
        .await;
}

pub(crate) async fn any_node_replays_from_any_position([one, other]: [ChatRooms; 2]) {
    let mut ann = V1Client::enter(&one, "ann").await;
    say(&mut ann, &["a", "b"]).await;
    let position = ann.position.clone();
    say(&mut ann, &["c"]).await;
    let (mut bob, entered, frames) = enter(&other, enter_since("bob", "r", &position)).await;
    assert_eq!((&entered["recovered"], messages(&frames)), (&json!(true), vec!["c"]));
    // The node has had no members for a while, and has missed messages.
    bob.leave("r").await;
    for (event, name) in [("enter", "bob"), ("out", "bob")] {
        let frame = ann.next().await;
        assert_eq!((&frame["event"], &frame["name"]), (&json!(event), &json!(name)));
    }
    say(&mut ann, &["d"]).await;
    let (entered, frames) = enter_again(&mut bob, enter_since("bob", "r", &position)).await;
    assert_eq!((&entered["recovered"], messages(&frames)), (&json!(true), vec!["c", "d"]));
    let events: Vec<_> = frames.iter().map(|frame| frame["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["message", "enter", "out", "message"]);
    for client in [ann.connection, bob] {
        client.close().await;
    }
    stop([one, other]).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_recovers_on_any_node() {
    let broker = SharedBroker::new();
    any_node_replays_from_any_position(nodes(&broker, |builder| {
        builder.recovery(recovery(History::last(100)))
    }))
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_history_from_the_log_keeps_its_bounds() {
    let broker = SharedBroker::new();
    let history = History::last(4).for_at_most(Duration::from_secs(8));
    let [one, other] = nodes(&broker, |builder| builder.recovery(recovery(history)));
    let mut ann = V1Client::enter(&one, "ann").await;
    say(&mut ann, &["a", "b", "c"]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    say(&mut ann, &["d", "e"]).await;
    let (bob, _, frames) = enter(&other, enter_last("bob", 9)).await;
    assert_eq!(messages(&frames), ["b", "c", "d", "e"], "the latest frames");
    tokio::time::sleep(Duration::from_secs(5)).await;
    // The node has read "c" when it was 5 s old.
    let (eve, _, frames) = enter(&other, enter_last("eve", 9)).await;
    assert_eq!(messages(&frames), ["d", "e"]);
    for client in [ann.connection, bob, eve] {
        client.close().await;
    }
    stop([one, other]).await;
}

struct Secret;

impl RoomPolicy for Secret {
    async fn may_read(&self, _: &ReadRequest<'_>) -> Result<(), Denied> {
        Err(Denied::new("not for you"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_history_from_the_log_is_only_for_those_who_may_read() {
    let broker = SharedBroker::new();
    let [one, other] =
        nodes(&broker, |builder| builder.recovery(recovery(History::last(100))).policy(Secret));
    let mut ann = V1Client::enter(&one, "ann").await;
    say(&mut ann, &["a"]).await;
    let (mut bob, entered, frames) = enter(&other, enter_last("bob", 9)).await;
    assert_eq!((&entered["history"], messages(&frames)), (&json!(0), vec![]));
    bob.send(leave_frame("r")).await;
    assert_eq!(bob.next().await["event"], "left");
    let (entered, frames) = enter_again(&mut bob, enter_since("bob", "r", &ann.position)).await;
    assert_eq!((&entered["recovered"], messages(&frames)), (&json!(false), vec![]));
    for client in [ann.connection, bob] {
        client.close().await;
    }
    stop([one, other]).await;
}

/// After a gap that cannot be closed, the history is that of the broker.
#[tokio::test(start_paused = true)]
async fn after_lost_events_the_history_has_no_gap() {
    let broker = SharedBroker::new();
    let [one, other] = nodes(&broker, |builder| builder.recovery(recovery(History::last(100))));
    let mut ann = V1Client::enter(&one, "ann").await;
    let mut bob = V1Client::enter(&other, "bob").await;
    assert_eq!(ann.next().await["name"], "bob");
    say(&mut ann, &["a"]).await;
    bob.expect_message("a").await;
    let before = bob.position.clone();
    broker.lose_next_event(2);
    say(&mut ann, &["lost"]).await;
    ann.send_message("b").await;
    bob.connection.frames_until_close().await;
    let entered = bob.reconnect(&other).await;
    assert_eq!(resumed_and_recovered(&entered), (true, true));
    assert_eq!(entered["replayed"], 2, "{entered}");
    let (eve, _, frames) = enter(&other, enter_since("eve", "r", &before)).await;
    assert_eq!(messages(&frames), ["lost", "b"]);
    for client in [bob.connection, eve] {
        client.close().await;
    }
    broker.restart();
    ann.connection.frames_until_close().await;
    let entered = ann.reconnect(&one).await;
    assert_eq!((resumed_and_recovered(&entered), &entered["seq"]), ((true, false), &json!(0)));
    say(&mut ann, &["c"]).await;
    let (dan, _, frames) = enter(&other, enter_last("dan", 9)).await;
    assert_eq!(messages(&frames), ["c"]);
    for client in [ann.connection, dan] {
        client.close().await;
    }
    stop([one, other]).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_room_has_no_history() {
    let broker = SharedBroker::new();
    let [one, other] = nodes(&broker, |builder| builder.recovery(recovery(History::last(100))));
    let mut ann = V1Client::enter(&one, "ann").await;
    say(&mut ann, &["a"]).await;
    ann.connection.leave("r").await;
    let (bob, entered, frames) = enter(&other, enter_last("bob", 9)).await;
    assert_eq!((&entered["history"], &entered["seq"], messages(&frames)), (&json!(0), &json!(0), vec![]));
    for client in [ann.connection, bob] {
        client.close().await;
    }
    stop([one, other]).await;
}

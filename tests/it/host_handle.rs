//! The host's handle: sending, listing, kicking, closing rooms.

use serde_json::json;
use tower_chat_rooms::{Admission, SendError};

use crate::support::{
    Client, assert_empty, default_rooms, events_arrive, has_shared_broker, recovering_rooms,
};

#[tokio::test(start_paused = true)]
async fn the_host_sends_to_a_room_to_one_connection_and_to_all() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "a").await;
    let mut bob = Client::enter(&rooms, "bob", "b").await;
    let mut carol = Client::connect(&rooms).await;

    rooms.send("a", &json!({"event": "notice", "name": "host", "num": 99})).unwrap();
    assert_eq!(ann.next_text().await, r#"{"event":"notice","name":"host","num":1}"#);
    let id = rooms.members("b")[0].connection;
    rooms.send_to(id, &json!({"event": "hint", "num": 7})).unwrap();
    assert_eq!(bob.next_text().await, r#"{"event":"hint","num":7}"#);
    assert_eq!(rooms.broadcast(&json!({"event": "bye"})).await.unwrap(), 3);
    for client in [&mut ann, &mut bob, &mut carol] {
        assert_eq!(client.next().await["event"], "bye");
    }

    let frame = json!({"event": "notice"});
    // With a broker, another node may have the room.
    assert_eq!(matches!(rooms.send("c", &frame), Err(SendError::NoSuchRoom)), !has_shared_broker());
    assert!(matches!(rooms.send("a", &json!([1])), Err(SendError::NotAnObject)));
    for value in [json!({}), json!({"message": "hi"}), json!({"event": 7})] {
        assert!(matches!(rooms.send("a", &value), Err(SendError::NoEvent)), "{value}");
        assert!(matches!(rooms.send_to(id, &value), Err(SendError::NoEvent)), "{value}");
        assert!(matches!(rooms.broadcast(&value).await, Err(SendError::NoEvent)), "{value}");
    }
    bob.close().await;
    let sent = rooms.all_nodes().send_to(id, &frame).await;
    assert!(matches!(sent, Err(SendError::NoSuchConnection)), "{sent:?}");
    assert_eq!(matches!(rooms.send_to(id, &frame), Err(SendError::NoSuchConnection)), !has_shared_broker());
    assert!(!rooms.kick(id));
}

#[tokio::test]
async fn the_host_can_send_from_any_thread() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "a").await;
    let handle = rooms.clone();
    let thread = std::thread::spawn(move || handle.send("a", &json!({"event": "notice"})));
    thread.join().unwrap().unwrap();
    assert_eq!(ann.next().await["event"], "notice");
}

#[tokio::test(start_paused = true)]
async fn rooms_and_members_can_be_listed() {
    let rooms = default_rooms();
    let _ann = Client::enter(&rooms, "ann", "a").await;
    let _bob = Client::enter(&rooms, "bob", "a").await;
    let _cid = Client::enter(&rooms, "carol", "").await;
    let mut list: Vec<(String, usize)> = rooms.rooms().iter().map(|r| (r.id.to_string(), r.online)).collect();
    list.sort();
    assert_eq!(list, [(String::new(), 1), ("a".into(), 2)]);
    let names: Vec<String> = rooms.members("a").iter().map(|m| m.name.to_string()).collect();
    assert_eq!(names, ["ann", "bob"]);
    assert!(rooms.members("x").is_empty());
    let stats = rooms.stats();
    assert_eq!((stats.connections, stats.rooms, stats.entered, stats.left), (3, 2, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_kicked_client_gets_earlier_messages() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "a").await;
    let mut bob = Client::enter(&rooms, "bob", "a").await;
    ann.next().await;
    rooms.send("a", &json!({"event": "notice"})).unwrap();
    events_arrive().await;
    assert!(rooms.kick(rooms.members("a")[0].connection));
    let (before, code) = ann.frames_until_close().await;
    assert_eq!((before.len(), code), (1, 4500));
    assert_eq!(bob.next().await["event"], "notice");
    assert_eq!(bob.next().await, json!({"event": "out", "name": "ann", "num": 1}));
}

#[tokio::test(start_paused = true)]
async fn a_closed_room_is_silent_and_its_id_is_free() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "a").await;
    let mut bob = Client::enter(&rooms, "bob", "a").await;
    assert_eq!(ann.next().await["name"], "bob");
    assert_eq!(rooms.close_room("a"), 2);
    assert_eq!(rooms.close_room("a"), 0);
    assert!(rooms.rooms().is_empty());
    let carol = Client::enter(&rooms, "carol", "a").await;
    assert_eq!(rooms.members("a").len(), 1);
    for client in [&mut ann, &mut bob] {
        let (before, code) = client.frames_until_close().await;
        assert!(before.is_empty(), "{before:?}");
        assert_eq!(code, 4501);
    }
    carol.close().await;
    ann.task.await.unwrap();
    bob.task.await.unwrap();
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn sending_to_a_disconnected_member_is_an_error() {
    let (rooms, _) = recovering_rooms();
    let (ann, _) = Client::enter_v1(&rooms, Admission::anonymous()).await;
    ann.disconnect().await;
    let connection = rooms.members("r")[0].connection;
    let sent = rooms.all_nodes().send_to(connection, &json!({"event": "notice"})).await;
    assert!(matches!(sent, Err(SendError::NoSuchConnection)), "{sent:?}");
}

/// An object without an event used to be relayed, and an empty one as invalid JSON.
#[tokio::test(start_paused = true)]
async fn an_object_of_the_host_needs_an_event() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    for value in [json!({}), json!({"num": 9}), json!({"seq": 7})] {
        assert!(matches!(rooms.send("r", &value), Err(SendError::NoEvent)), "{value}");
    }
    rooms.send("r", &json!({"event": "x", "num": 9})).unwrap();
    assert_eq!(ann.next_text().await, r#"{"event":"x","num":1}"#);
}

/// The flush task used to end with a runtime that did not last until the task had begun, and was not started again.
#[tokio::test(start_paused = true)]
async fn a_room_delivers_what_is_sent_from_a_runtime_that_has_ended() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let host = rooms.clone();
    let send = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { drop(host.send("r", &json!({"event": "notice"})).unwrap()) });
    };
    std::thread::spawn(send).join().unwrap();
    assert_eq!(ann.next().await["event"], "notice");
}

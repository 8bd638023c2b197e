//! The host's handle: sending, listing, kicking, closing, shutting down.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tower_chat_rooms::{Admission, ChatRooms, SendError, Timeouts};

use crate::client::{Client, assert_empty, default_rooms};

#[tokio::test(start_paused = true)]
async fn the_host_sends_to_a_room_to_one_connection_and_to_all() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "a").await;
    let mut bob = Client::enter(&rooms, "bob", "b").await;
    let mut cid = Client::connect(&rooms).await;

    rooms.send("a", &json!({"event": "notice", "name": "host", "num": 99})).unwrap();
    assert_eq!(ann.next_text().await, r#"{"event":"notice","name":"host","num":1}"#);
    let id = rooms.members("b")[0].connection;
    rooms.send_to(id, &json!({"event": "hint", "num": 7})).unwrap();
    assert_eq!(bob.next_text().await, r#"{"event":"hint","num":7}"#);
    assert_eq!(rooms.broadcast(&json!({"event": "bye"})).await.unwrap(), 3);
    for client in [&mut ann, &mut bob, &mut cid] {
        assert_eq!(client.next().await["event"], "bye");
    }

    let frame = json!({"event": "notice"});
    assert!(matches!(rooms.send("c", &frame), Err(SendError::NoSuchRoom)));
    assert!(matches!(rooms.send("a", &json!([1])), Err(SendError::NotAnObject)));
    for value in [json!({}), json!({"message": "hi"}), json!({"event": 7})] {
        assert!(matches!(rooms.send("a", &value), Err(SendError::NoEvent)), "{value}");
        assert!(matches!(rooms.send_to(id, &value), Err(SendError::NoEvent)), "{value}");
        assert!(matches!(rooms.broadcast(&value).await, Err(SendError::NoEvent)), "{value}");
    }
    bob.leave().await;
    assert!(matches!(rooms.send_to(id, &frame), Err(SendError::NoSuchConnection)));
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
    let _cid = Client::enter(&rooms, "cid", "").await;
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
    assert!(rooms.kick(rooms.members("a")[0].connection));
    let (before, code) = ann.closed_after().await;
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
    let cid = Client::enter(&rooms, "cid", "a").await;
    assert_eq!(rooms.members("a").len(), 1);
    for client in [&mut ann, &mut bob] {
        let (before, code) = client.closed_after().await;
        assert!(before.is_empty(), "{before:?}");
        assert_eq!(code, 4501);
    }
    cid.leave().await;
    ann.task.await.unwrap();
    bob.task.await.unwrap();
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_no_task_is_left() {
    let rooms = default_rooms();
    let mut clients = Vec::new();
    for n in 0..30 {
        clients.push(Client::enter(&rooms, &format!("m{n}"), &format!("r{}", n % 4)).await);
    }
    let mut outside = Client::connect(&rooms).await;
    outside.say(json!({"event": "message"})).await;
    assert_eq!(outside.next().await["code"], "not_entered");
    clients.push(outside);
    rooms.send("r0", &json!({"event": "last words"})).unwrap();
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                let (before, code) = client.closed_after().await;
                (before.iter().any(|f| f["event"] == "last words"), code)
            })
        })
        .collect();
    rooms.shutdown().await;
    assert_empty(&rooms);
    let mut heard = 0;
    for reader in readers {
        let (last_words, code) = reader.await.unwrap();
        assert_eq!(code, 1012);
        heard += usize::from(last_words);
    }
    assert_eq!(heard, 8);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    // No further connection is accepted.
    let mut late = Client::connect(&rooms).await;
    assert_eq!(late.closed().await, 1006);
    assert_eq!(rooms.stats().refused, 1);
    rooms.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_the_close_delays_the_shutdown_briefly() {
    let rooms = ChatRooms::builder()
        .timeouts(Timeouts::default().close_timeout(Duration::from_secs(2)))
        .build()
        .unwrap();
    // Its buffer takes not even the close frame.
    let mut stuck = Client::connect_as(&rooms, Admission::anonymous(), 16).await;
    stuck.say(json!({"event": "enter", "message": "stuck"})).await;
    let deaf = Client::connect(&rooms).await;
    let begin = Instant::now();
    rooms.shutdown().await;
    assert_eq!(begin.elapsed(), Duration::from_secs(1), "shutdown_timeout");
    assert_empty(&rooms);
    drop((stuck, deaf));
}

/// It waited for the whole close_timeout of a connection that was being closed already.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_being_closed_delays_the_shutdown_no_longer() {
    let rooms = default_rooms();
    let silent = Client::connect(&rooms).await;
    let closing = Client::enter(&rooms, "closing", "r").await;
    assert_eq!(rooms.close_room("r"), 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rooms.stats().connections, 2, "its close frame is not answered");
    let begin = Instant::now();
    rooms.shutdown().await;
    assert_eq!(begin.elapsed(), Duration::from_secs(1), "shutdown_timeout");
    assert_empty(&rooms);
    drop((silent, closing));
}

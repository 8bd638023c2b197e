//! Applications that take no events.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use tower_chat_rooms::{ChatRooms, History, Limits, Recovery};
use tower_chat_rooms_client::{ClientEvent, ClientState};

use crate::reconnecting::next_message;
use crate::scripted_server::{PATIENCE, scripted_server};
use crate::support::{Log, Replaceable};

/// Chat rooms with a long resume window and room log.
fn recovering() -> (ChatRooms, Log) {
    let log = Log::default();
    let history = History::last(10_000).max_bytes(4 << 20);
    let recovery = Recovery::default().resume_window(PATIENCE).history(history);
    let limits = Limits::default().max_queue_frames(20_000).max_queue_bytes(8 << 20);
    let rooms = ChatRooms::builder().events(log.hook()).recovery(recovery).limits(limits).build().unwrap();
    (rooms, log)
}

#[tokio::test(start_paused = true)]
async fn an_application_that_takes_no_events_for_long_can_send_and_misses_nothing() {
    let (rooms, log) = recovering();
    let mut client = Replaceable::new(rooms.clone()).client().name("ann").max_events(50).await.unwrap();
    for n in 0..2000 {
        rooms.send("r", &json!({"event": "notice", "message": n})).unwrap();
        if n % 100 == 99 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    // Long enough for any server to give up a silent client.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(rooms.stats().heartbeats_missed, 0);
    let seq = client.sender().send("still here").await.unwrap();
    let mut expected = 2;
    while expected <= seq {
        assert_eq!(next_message(&mut client).await, expected);
        expected += 1;
    }
    client.leave().await;
    let log = log.take();
    let moves: Vec<&String> = log.iter().filter(|line| line.starts_with(['+', '-'])).collect();
    assert_eq!(moves, ["+ ann r 1", "- ann r 0 closed by the client"]);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_never_takes_events_can_send() {
    let (rooms, _log) = recovering();
    let client = Replaceable::new(rooms.clone()).client().name("ann").max_events(4).await.unwrap();
    let sender = client.sender();
    for n in 2..300 {
        assert_eq!(timeout(PATIENCE, sender.send(&n)).await.unwrap(), Ok(n));
    }
    assert_eq!(rooms.stats().accepted, 1, "it has reconnected");
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_never_takes_events_stays_connected() {
    let (builder, mut server) = scripted_server();
    let (client, mut connection) = tokio::join!(builder.max_events(4).open(), server.let_enter(0));
    let mut client = client.unwrap();
    for _ in 0..50 {
        connection.break_off();
        connection = server.let_enter(0).await;
    }
    let sending = client.sender().send("hi");
    let cid = connection.frame().await["cid"].clone();
    connection.send(json!({"event": "ack", "cid": cid, "seq": 1}));
    assert_eq!(sending.await, Ok(1));
    client.sender().leave().await;
    let mut events = Vec::new();
    while let Some(event) = client.recv().await {
        events.push(event);
    }
    assert!(events.len() < 80, "{}", events.len());
    assert!(events.iter().any(|event| matches!(event, ClientEvent::Overflow { lost: 50.., .. })));
    assert!(matches!(events.last(), Some(ClientEvent::State(ClientState::Closed { .. }))));
}

//! Heartbeats: when they are sent, and what happens to a client that is silent.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tower_chat_rooms::{Access, Admission, Denied, EnterRequest, Heartbeat, RoomPolicy, Timeouts};

use crate::support::{Client, assert_empty, builder, default_rooms, has_shared_broker, rooms_with_log};

/// The times of the next heartbeats, from now. Each is answered.
async fn heartbeats(client: &mut Client, n: usize) -> Vec<Duration> {
    let begin = Instant::now();
    let mut at = Vec::new();
    while at.len() < n {
        let message = client.ws.next().await.unwrap().unwrap();
        let frame: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        if frame["event"] == "heartbeat" {
            assert_eq!(frame["message"], "ping");
            assert_eq!(frame.as_object().unwrap().len(), 3);
            at.push(begin.elapsed());
            client.send_text(r#"{"event":"heartbeat","message":"pong"}"#).await;
        }
    }
    at
}

#[tokio::test(start_paused = true)]
async fn the_first_heartbeat_follows_the_enter_and_others_follow_every_second() {
    let rooms = default_rooms();
    let mut ann = Client::connect(&rooms).await;
    ann.send(json!({"event": "enter", "message": "ann"})).await;
    assert_eq!(ann.next().await["event"], "enter");
    let at = heartbeats(&mut ann, 5).await;
    assert_eq!(at[0], Duration::ZERO);
    assert!(at[1] <= Duration::from_secs(1), "{at:?}");
    for pair in at[1..].windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap >= Duration::from_millis(990) && gap <= Duration::from_millis(1010), "{at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_heartbeat_comes_as_soon_as_the_connection_is_open() {
    let rooms = default_rooms();
    let mut ann = Client::connect(&rooms).await;
    // When the old socket of the tutorial's page closes late, only a heartbeat makes the page reconnect.
    assert_eq!(heartbeats(&mut ann, 1).await, [Duration::ZERO]);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_spread_over_the_interval() {
    let rooms = default_rooms();
    let begin = Instant::now();
    let mut clients = Vec::new();
    for n in 0..50 {
        let mut client = Client::enter(&rooms, &format!("m{n}"), "r").await;
        clients.push(tokio::spawn(async move {
            let first = heartbeats(&mut client, 1).await;
            assert_eq!(first[0], Duration::ZERO);
            // The next one comes in the client's slot.
            heartbeats(&mut client, 1).await;
            begin.elapsed()
        }));
    }
    let mut at = Vec::new();
    for client in clients {
        at.push(client.await.unwrap());
    }
    at.sort();
    at.dedup();
    assert!(at.len() >= 45, "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_have_the_number_of_members() {
    let rooms = default_rooms();
    let mut outside = Client::connect(&rooms).await;
    outside.answers_heartbeats = false;
    assert_eq!(outside.next().await, json!({"event": "heartbeat", "message": "ping", "num": 0}));
    let _ann = Client::enter(&rooms, "ann", "").await;
    let mut bob = Client::enter(&rooms, "bob", "").await;
    bob.answers_heartbeats = false;
    assert_eq!(bob.next().await, json!({"event": "heartbeat", "message": "ping", "num": 2}));
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_closed_within_two_intervals() {
    for interval in [Duration::from_secs(1), Duration::from_secs(7)] {
        for enter in [None, Some(""), Some("room")] {
            let rooms = builder()
                .heartbeat(Heartbeat::every(interval))
                .timeouts(Timeouts::default().enter_timeout(Duration::MAX))
                .build()
                .unwrap();
            let mut silent = Client::connect(&rooms).await;
            if let Some(room) = enter {
                silent.send(json!({"event": "enter", "message": "silent", "roomId": room})).await;
            }
            let begin = Instant::now();
            silent.answers_heartbeats = false;
            assert_eq!(silent.close_code().await, 4000);
            let took = begin.elapsed();
            assert!(took >= interval && took <= 2 * interval, "{took:?} of {interval:?}");
            silent.task.await.unwrap();
            assert_empty(&rooms);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn other_members_receive_the_out_of_a_silent_one() {
    let (rooms, log) = rooms_with_log();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let silent = Client::enter(&rooms, "silent", "r").await;
    assert_eq!(ann.next().await["name"], "silent");
    let begin = Instant::now();
    assert_eq!(ann.next().await, json!({"event": "out", "name": "silent", "num": 1}));
    assert!(begin.elapsed() <= Duration::from_secs(2));
    assert_eq!(log.take().last().unwrap(), "- silent r 1 heartbeat missed");
    assert_eq!(rooms.stats().heartbeats_missed, 1);
    silent.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn any_frame_is_a_sign_of_life() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    for n in 0..60 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        match n % 3 {
            0 => ann.send(json!({"event": "message", "message": n})).await,
            1 => ann.send_text("not JSON").await,
            _ => ann.ws.send(Message::Ping(Bytes::new())).await.unwrap(),
        }
    }
    assert_eq!(rooms.stats().connections, 1);
    let begin = Instant::now();
    ann.answers_heartbeats = false;
    assert_eq!(ann.close_code().await, 4000);
    assert!(begin.elapsed() <= Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_shorter_than_the_interval_holds() {
    let short = Heartbeat::every(Duration::from_secs(10)).with_timeout(Duration::from_secs(2));
    for heartbeat in [short, Heartbeat::wide_internet()] {
        let rooms = builder()
            .heartbeat(heartbeat)
            .timeouts(Timeouts::default().enter_timeout(Duration::MAX))
            .build()
            .unwrap();
        let mut silent = Client::connect(&rooms).await;
        silent.answers_heartbeats = false;
        // The last heartbeat asks for a sign of life. Which one that is depends on the connection's id.
        let mut sent = Instant::now();
        let code = loop {
            match silent.ws.next().await {
                Some(Ok(Message::Text(_))) => sent = Instant::now(),
                Some(Ok(Message::Close(Some(frame)))) => break u16::from(frame.code),
                other => panic!("{other:?} instead of a heartbeat"),
            }
        };
        assert_eq!(code, 4000);
        let took = sent.elapsed();
        let limit = heartbeat.timeout();
        assert!(took >= limit && took <= limit + heartbeat.interval() / 25, "{took:?} of {limit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_task_is_left_without_connections() {
    let rooms = default_rooms();
    for _ in 0..3 {
        Client::enter(&rooms, "ann", "r").await.close().await;
        // The sweep may take an interval to notice that no connection is left.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let metrics = tokio::runtime::Handle::current().metrics();
        // That which hears the broker lasts.
        assert_eq!(metrics.num_alive_tasks(), usize::from(has_shared_broker()));
    }
}

/// Frames that waited to be handled used to excuse any silence after them.
#[tokio::test(start_paused = true)]
async fn silence_after_a_burst_is_noticed() {
    let rooms = default_rooms();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    assert_eq!(bob.next().await["name"], "ann");
    ann.send_at_once((0..16).map(|_| json!({"event": "heartbeat", "message": "pong"}))).await;
    let begin = Instant::now();
    assert_eq!(bob.next().await["event"], "out");
    assert!(begin.elapsed() <= Duration::from_secs(2));
}

/// The sweep used to end with the runtime that it had been started in, and was not started again.
#[test]
fn heartbeats_go_on_in_another_runtime() {
    let rooms = default_rooms();
    let builder =
        || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    builder().block_on(async { drop(Client::enter(&rooms, "ann", "r").await) });
    builder().block_on(async {
        let mut silent = Client::enter(&rooms, "silent", "r").await;
        silent.answers_heartbeats = false;
        assert_eq!(silent.close_code().await, 4000);
    });
}

struct SlowPolicy;

impl RoomPolicy for SlowPolicy {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
        if request.room().as_str() == "r" {
            return Ok(Access::member());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        Err(Denied::new("no"))
    }
}

/// Each enter that waited for the policy used to excuse two intervals of silence.
#[tokio::test(start_paused = true)]
async fn silence_is_noticed_while_enters_wait_for_the_policy() {
    let rooms = builder().policy(SlowPolicy).build().unwrap();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    bob.next().await;
    ann.send_at_once((0..12).map(|n| json!({"event": "enter", "message": "ann", "roomId": n}))).await;
    let begin = Instant::now();
    assert_eq!(bob.next().await, json!({"event": "out", "name": "ann", "num": 1}));
    assert!(begin.elapsed() <= Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_heartbeat_of_a_v1_client_is_answered() {
    let rooms = default_rooms();
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    ann.send(json!({"event": "heartbeat", "message": "ping"})).await;
    // The server's own heartbeats may come before.
    while ann.ws.next().await.unwrap().unwrap() != Message::text(r#"{"event":"heartbeat","message":"pong"}"#)
    {
    }
    // The plain wire has no such frame.
    let mut bob = Client::connect(&rooms).await;
    bob.send(json!({"event": "heartbeat", "message": "ping"})).await;
    assert_eq!(bob.next().await["code"], "reserved_event");
}

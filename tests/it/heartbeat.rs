//! Signs of life, both ways.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tower_chat_rooms::{ChatRooms, Heartbeat, Timeouts};

use crate::client::{Client, assert_empty, default_rooms, logged};

/// When the next heartbeats come, counted from now.
async fn beats(client: &mut Client, n: usize) -> Vec<Duration> {
    let begin = Instant::now();
    let mut at = Vec::new();
    while at.len() < n {
        let message = client.ws.next().await.unwrap().unwrap();
        let frame: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        if frame["event"] == "heartbeat" {
            assert_eq!(frame["message"], "ping");
            assert_eq!(frame.as_object().unwrap().len(), 3);
            at.push(begin.elapsed());
            client.text(r#"{"event":"heartbeat","message":"pong"}"#).await;
        }
    }
    at
}

#[tokio::test(start_paused = true)]
async fn the_first_comes_right_after_the_enter_then_one_a_second() {
    let rooms = default_rooms();
    let mut ann = Client::connect(&rooms).await;
    ann.say(json!({"event": "enter", "message": "ann"})).await;
    assert_eq!(ann.next().await["event"], "enter");
    let at = beats(&mut ann, 5).await;
    assert_eq!(at[0], Duration::ZERO);
    assert!(at[1] <= Duration::from_secs(1), "{at:?}");
    for pair in at[1..].windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap >= Duration::from_millis(990) && gap <= Duration::from_millis(1010), "{at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_comes_as_soon_as_the_connection_is_open() {
    let rooms = default_rooms();
    let mut ann = Client::connect(&rooms).await;
    // The classic page is stranded if a late close of its old socket comes before this one.
    assert_eq!(beats(&mut ann, 1).await, [Duration::ZERO]);
}

#[tokio::test(start_paused = true)]
async fn they_are_spread_over_the_interval() {
    let rooms = default_rooms();
    let begin = Instant::now();
    let mut clients = Vec::new();
    for n in 0..50 {
        let mut client = Client::enter(&rooms, &format!("m{n}"), "r").await;
        clients.push(tokio::spawn(async move {
            let greeted = beats(&mut client, 1).await;
            assert_eq!(greeted[0], Duration::ZERO);
            // The next one comes on the slot.
            beats(&mut client, 1).await;
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
async fn the_count_is_in_them() {
    let rooms = default_rooms();
    let mut out = Client::connect(&rooms).await;
    out.polite = false;
    assert_eq!(out.next().await, json!({"event": "heartbeat", "message": "ping", "num": 0}));
    let _ann = Client::enter(&rooms, "ann", "").await;
    let mut bob = Client::enter(&rooms, "bob", "").await;
    bob.polite = false;
    assert_eq!(bob.next().await, json!({"event": "heartbeat", "message": "ping", "num": 2}));
}

#[tokio::test(start_paused = true)]
async fn the_silent_are_out_within_two_intervals_wherever_they_are() {
    for interval in [Duration::from_secs(1), Duration::from_secs(7)] {
        for enter in [None, Some(""), Some("room")] {
            let rooms = ChatRooms::builder().heartbeat(Heartbeat::every(interval)).build().unwrap();
            let mut mute = Client::connect(&rooms).await;
            if let Some(room) = enter {
                mute.say(json!({"event": "enter", "message": "mute", "roomId": room})).await;
            }
            let begin = Instant::now();
            mute.polite = false;
            assert_eq!(mute.closed().await, 4000);
            let took = begin.elapsed();
            assert!(took >= interval && took <= 2 * interval, "{took:?} of {interval:?}");
            mute.task.await.unwrap();
            assert_empty(&rooms);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_others_are_told_of_the_silent() {
    let (rooms, log) = logged();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mute = Client::enter(&rooms, "mute", "r").await;
    assert_eq!(ann.next().await["name"], "mute");
    let begin = Instant::now();
    assert_eq!(ann.next().await, json!({"event": "out", "name": "mute", "num": 1}));
    assert!(begin.elapsed() <= Duration::from_secs(2));
    assert_eq!(log.take().last().unwrap(), "- mute r 1 heartbeat missed");
    assert_eq!(rooms.stats().heartbeats_missed, 1);
    mute.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn any_frame_is_a_sign_of_life() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    for n in 0..60 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        match n % 3 {
            0 => ann.say(json!({"event": "message", "message": n})).await,
            1 => ann.text("no json").await,
            _ => ann.ws.send(Message::Ping(Bytes::new())).await.unwrap(),
        }
    }
    assert_eq!(rooms.stats().connections, 1);
    let begin = Instant::now();
    ann.polite = false;
    assert_eq!(ann.closed().await, 4000);
    assert!(begin.elapsed() <= Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_short_timeout_and_the_preset_hold() {
    let quick = Heartbeat::every(Duration::from_secs(10)).with_timeout(Duration::from_secs(2));
    for heartbeat in [quick, Heartbeat::wide_internet()] {
        let rooms = ChatRooms::builder()
            .heartbeat(heartbeat)
            .timeouts(Timeouts::default().enter_timeout(Duration::MAX))
            .build()
            .unwrap();
        let mut mute = Client::connect(&rooms).await;
        mute.polite = false;
        assert_eq!(mute.next().await["event"], "heartbeat");
        let asked = Instant::now();
        assert_eq!(mute.closed().await, 4000);
        let took = asked.elapsed();
        let limit = heartbeat.timeout();
        assert!(took >= limit && took <= limit + heartbeat.interval() / 25, "{took:?} of {limit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_engine_has_no_task() {
    let rooms = default_rooms();
    for _ in 0..3 {
        Client::enter(&rooms, "ann", "r").await.leave().await;
        // The sweep may take up to an interval to see that nobody is left.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let metrics = tokio::runtime::Handle::current().metrics();
        assert_eq!(metrics.num_alive_tasks(), 0);
    }
}

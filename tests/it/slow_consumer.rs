//! Clients that read too slowly: their send queues fill, they are closed, and they delay nobody.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message;
use tower_chat_rooms::{
    Admission, ChatRooms, ChatRoomsBuilder, ConnectionId, History, Limits, Recovery, SlowConsumer,
};

use crate::support::{
    Client, EventLog, assert_empty, builder, default_rooms, enter_frame, enter_since, leave_frame,
    skip_with_broker, unlimited, v1_admission,
};

/// A member of the room "r" with a pipe that holds this many bytes. It has read nothing.
async fn unread_member(rooms: &ChatRooms, name: &str, buffer: usize) -> Client {
    let mut client = Client::connect_as(rooms, Admission::anonymous(), buffer).await;
    client.send(json!({"event": "enter", "message": name, "roomId": "r"})).await;
    client
}

/// A member of the room "r" that reads, with a pipe that holds this many bytes.
async fn member(rooms: &ChatRooms, name: &str, buffer: usize) -> Client {
    let mut client = unread_member(rooms, name, buffer).await;
    assert_eq!(client.next().await["name"], name);
    client
}

fn id_of(rooms: &ChatRooms, name: &str) -> ConnectionId {
    rooms.members("r").iter().find(|member| member.name.as_str() == name).unwrap().connection
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_closed_and_delays_nobody() {
    let log = EventLog::default();
    let rooms = builder().limits(Limits::default().max_queue_frames(50)).events(log.hook()).build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    // Its pipe holds a few frames.
    let mut slow = unread_member(&rooms, "slow", 300).await;
    assert_eq!(ann.next().await["name"], "slow");
    let begin = Instant::now();
    let mut sent = 0;
    loop {
        ann.send(json!({"event": "message", "message": sent})).await;
        let frame = ann.next().await;
        if frame["event"] == "out" {
            assert_eq!(frame, json!({"event": "out", "name": "slow", "num": 1}));
            break;
        }
        assert_eq!(frame["message"], sent);
        sent += 1;
        assert!(sent < 100);
    }
    assert!(sent >= 50, "{sent}");
    assert_eq!(begin.elapsed(), Duration::ZERO);
    // The frames that were written before are whole, and the close frame says why.
    let (frames, code) = slow.frames_until_close().await;
    assert_eq!(code, 4001);
    assert!(!frames.is_empty() && frames.len() < 10, "{}", frames.len());
    assert!(log.take().iter().any(|line| line == "- slow r 1 too slow"));
    assert_eq!(rooms.stats().slow, 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_none_of_its_replays_is_closed() {
    let rooms = unlimited()
        .limits(Limits::default().max_message_bytes(4096).max_queue_bytes(8 * 1024))
        .recovery(Recovery::default().history(History::last(100)))
        .build()
        .unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let _bob = Client::enter(&rooms, "bob", "other").await;
    for n in 0..50 {
        ann.send(json!({"event": "message", "message": n, "pad": "x".repeat(100)})).await;
        assert_eq!(ann.next().await["message"], n);
    }
    let mut slow = Client::connect_as(&rooms, v1_admission(), 1024).await;
    for _ in 0..20 {
        // A position of another epoch: all that is kept is replayed.
        let since = json!({"epoch": "0123456789abcdef", "seq": 0});
        slow.send(enter_since("slow", "r", &since)).await;
        slow.send(leave_frame("r")).await;
        slow.send(enter_frame("slow", "other")).await;
        slow.send(leave_frame("other")).await;
    }
    sleep(Duration::from_millis(10)).await;
    assert_eq!(rooms.stats().slow, 1);
    let (frames, code) = slow.frames_until_close().await;
    assert_eq!(code, 4001);
    assert!(frames.len() < 20, "{}", frames.len());
}

#[tokio::test(start_paused = true)]
async fn heartbeats_overtake_a_full_send_queue() {
    let rooms = unlimited()
        .limits(Limits::default().max_queue_frames(100))
        .slow_consumer(SlowConsumer::DropNewest)
        .build()
        .unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut slow = unread_member(&rooms, "slow", 256).await;
    assert_eq!(ann.next().await["name"], "slow");
    for n in 0..200 {
        ann.send(json!({"event": "message", "message": n, "pad": "x".repeat(100)})).await;
        assert_eq!(ann.next().await["message"], n);
    }
    let dropped = rooms.stats().lagged;
    assert!((50..=150).contains(&dropped), "{dropped}");
    tokio::time::sleep(Duration::from_millis(990)).await;
    // The second heartbeat comes after the few frames that were in the pipe.
    let (mut frames, mut heartbeats) = (0, 0);
    while heartbeats < 2 {
        let message = slow.ws.next().await.unwrap().unwrap();
        let frame: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        match frame["event"].as_str() {
            Some("heartbeat") => heartbeats += 1,
            _ => frames += 1,
        }
    }
    assert!(frames < 20, "{frames}");
    slow.send(json!({"event": "heartbeat", "message": "pong"})).await;
    // The first frame was its own enter.
    for n in frames - 1..200 - dropped {
        assert_eq!(slow.next().await["message"], n);
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_concern_no_room_do_not_wait_for_its_backlog() {
    for (admission, waits) in [(v1_admission(), false), (Admission::anonymous(), true)] {
        let rooms = unlimited().build().unwrap();
        let mut ann = Client::enter(&rooms, "ann", "r").await;
        let mut slow = Client::connect_as(&rooms, admission, 256).await;
        slow.send(json!({"event": "enter", "message": "slow", "roomId": "r"})).await;
        assert_eq!(ann.next().await["name"], "slow");
        let id = id_of(&rooms, "slow");
        for n in 0..60 {
            ann.send(json!({"event": "message", "message": n, "pad": "x".repeat(1000)})).await;
            assert_eq!(ann.next().await["message"], n);
        }
        rooms.send_to(id, &json!({"event": "note"})).unwrap();
        let (mut before, mut has_note) = (0, false);
        let mut messages = Vec::new();
        while messages.len() < 60 || !has_note {
            let frame = slow.next().await;
            match frame["event"].as_str() {
                Some("message") => messages.push(frame["message"].as_u64().unwrap()),
                Some("note") => (before, has_note) = (messages.len(), true),
                _ => {}
            }
        }
        assert_eq!(messages, (0..60).collect::<Vec<u64>>());
        // The frames of a plain client keep their order, because they do not say which room they are of.
        if waits {
            assert_eq!(before, 60);
        } else {
            assert!(before <= 20, "{before}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_with_a_full_pipe_can_be_kicked() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut slow = unread_member(&rooms, "slow", 100).await;
    assert_eq!(ann.next().await["name"], "slow");
    for n in 0..20 {
        ann.send(json!({"event": "message", "message": n})).await;
        assert_eq!(ann.next().await["message"], n);
    }
    assert!(rooms.kick(id_of(&rooms, "slow")));
    assert_eq!(ann.next().await, json!({"event": "out", "name": "slow", "num": 1}));
    assert_eq!(slow.close_code().await, 4500);
}

#[tokio::test(start_paused = true)]
async fn unread_pongs_are_limited() {
    let rooms = unlimited().build().unwrap();
    let mut eve = unread_member(&rooms, "eve", 512).await;
    // The server reads every ping. A few pongs wait, and later ones replace them.
    for n in 0..5000u16 {
        let mut payload = vec![7; 125];
        payload[..2].copy_from_slice(&n.to_be_bytes());
        eve.ws.send(Message::Ping(payload.into())).await.unwrap();
    }
    let mut pongs = 0;
    loop {
        match eve.ws.next().await.unwrap().unwrap() {
            Message::Pong(payload) => {
                pongs += 1;
                if payload[..2] == 4999u16.to_be_bytes() {
                    break;
                }
            }
            other => assert!(other.is_text(), "{other:?}"),
        }
    }
    assert!(pongs < 50, "{pongs}");
    eve.close().await;
    assert_empty(&rooms);
}

/// Chat rooms in which a few messages of 4 kB fill a send queue.
fn small_queues() -> ChatRoomsBuilder {
    let limits = Limits::default().max_message_bytes(8 * 1024).max_queue_bytes(16 * 1024);
    unlimited().limits(limits.max_queue_frames(usize::MAX))
}

fn numbered_message(n: u64) -> Value {
    json!({"event": "message", "message": n, "pad": "x".repeat(4000)})
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_while_it_sends_is_not_slow() {
    let rooms = small_queues().build().unwrap();
    let ann = member(&rooms, "ann", 2048).await;
    let (mut sender, mut receiver) = ann.ws.split();
    let sending = tokio::spawn(async move {
        for n in 0..60 {
            sender.send(Message::text(numbered_message(n).to_string())).await.unwrap();
        }
        sender
    });
    for n in 0..60 {
        let frame = loop {
            let message = receiver.next().await.unwrap().unwrap();
            let frame: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            if frame["event"] != "heartbeat" {
                break frame;
            }
        };
        assert_eq!(frame["message"], n);
    }
    drop(sending.await.unwrap());
    assert_eq!(rooms.stats().slow, 0);
}

#[tokio::test(start_paused = true)]
async fn senders_wait_for_a_reader_that_is_behind() {
    const SEND_INTERVAL: Duration = Duration::from_millis(2);
    const READ_INTERVAL: Duration = Duration::from_millis(5);
    let rooms = small_queues().build().unwrap();
    let mut ann = member(&rooms, "ann", 2048).await;
    let mut bob = member(&rooms, "bob", 2048).await;
    assert_eq!(ann.next().await["name"], "bob");
    let begin = Instant::now();
    let reading = tokio::spawn(async move {
        for n in 0..60 {
            assert_eq!(bob.next().await["message"], n);
            tokio::time::sleep(READ_INTERVAL).await;
        }
        bob
    });
    for n in 0..60 {
        ann.send(numbered_message(n)).await;
        assert_eq!(ann.next().await["message"], n);
        tokio::time::sleep(SEND_INTERVAL).await;
    }
    // Only the frames in bob's queue and pipe are sent before bob has read the others.
    assert!(begin.elapsed() > 50 * READ_INTERVAL, "{:?}", begin.elapsed());
    drop(reading.await.unwrap());
    assert_eq!(rooms.stats().slow, 0);
}

/// A burst of many members that was larger than the send queue used to close clients that had kept up.
#[tokio::test(start_paused = true)]
async fn a_client_that_has_kept_up_gets_a_burst_larger_than_its_send_queue() {
    skip_with_broker!("the frames of several members do not come back in one batch");
    for reads in [true, false] {
        let rooms = unlimited().limits(Limits::default().max_queue_frames(10)).build().unwrap();
        let mut ann = member(&rooms, "ann", 64).await;
        let mut others = Vec::new();
        for n in 0..4 {
            others.push(member(&rooms, &format!("m{n}"), 64 * 1024).await);
            ann.next().await;
        }
        // All of it is in one batch, and hardly any of it fits into the pipe.
        for other in &mut others {
            other.send_at_once((0..10).map(|n| json!({"event": "message", "message": n}))).await;
        }
        tokio::task::yield_now().await;
        if reads {
            for n in 0..40 {
                assert_eq!(ann.next().await["message"], n % 10);
            }
        }
        others[0].send(json!({"event": "message", "message": "last"})).await;
        if reads {
            assert_eq!(ann.next().await["message"], "last");
        } else {
            // With a full send queue, one more frame is too many.
            assert_eq!(ann.close_code().await, 4001);
        }
        assert_eq!(rooms.stats().slow, u64::from(!reads));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_kept_up_gets_a_burst_that_fills_its_send_queue() {
    let rooms = unlimited().limits(Limits::default().max_queue_bytes(4 * 61_000)).build().unwrap();
    let mut ann = member(&rooms, "ann", 512).await;
    let mut others = Vec::new();
    for n in 0..4 {
        others.push(member(&rooms, &format!("m{n}"), 1 << 20).await);
        ann.next().await;
    }
    for other in &mut others {
        other.send(json!({"event": "message", "message": "x".repeat(60_000)})).await;
    }
    for _ in 0..4 {
        assert_eq!(ann.next().await["event"], "message");
    }
    assert_eq!(rooms.stats().slow, 0);
}

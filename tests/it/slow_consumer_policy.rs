//! Slow-consumer policies: a slow client misses frames instead of being closed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tower_chat_rooms::{Admission, ChatRooms, ChatRoomsBuilder, Limits, RoomId, RoomPolicy, SlowConsumer};

use crate::support::{Client, assert_empty, enter_frame, leave_frame, unlimited, v1_admission};

const DROPPING: [SlowConsumer; 3] =
    [SlowConsumer::DropOldest, SlowConsumer::DropNewest, SlowConsumer::Latest];

fn builder() -> ChatRoomsBuilder {
    unlimited().limits(Limits::default().max_queue_frames(40))
}

/// A member that has read nothing, with a pipe that holds a few frames.
async fn unread_member(rooms: &ChatRooms, admission: Admission, room: &str) -> Client {
    let mut client = Client::connect_as(rooms, admission, 500).await;
    client.send(json!({"event": "enter", "message": "slow", "roomId": room})).await;
    client
}

/// Sends a message, and receives it.
async fn send_and_receive(client: &mut Client, event: &str, message: impl Into<Value>) {
    let message = message.into();
    client.send(json!({"event": event, "message": message})).await;
    assert_eq!(client.next().await["message"], message);
}

/// Reads up to this message. Asserts that each gap in `seq` is announced. Returns the messages, and how many frames
/// were missed.
async fn read_to(client: &mut Client, last: &str) -> (Vec<Value>, u64) {
    let (mut seq, mut missed, mut messages) = (None, 0, Vec::new());
    loop {
        let frame = client.next().await;
        match frame["event"].as_str().unwrap() {
            "welcome" => {}
            "entered" => seq = frame["seq"].as_u64(),
            "lagged" => {
                assert_eq!((frame.as_object().unwrap().len(), &frame["roomId"]), (3, &json!("r")), "{frame}");
                let n = frame["missed"].as_u64().unwrap();
                assert!(n > 0);
                missed += n;
                seq = seq.map(|seq| seq + n);
            }
            _ => {
                if let Some(before) = seq {
                    assert_eq!(frame["seq"], before + 1, "{frame}");
                    seq = Some(before + 1);
                }
                messages.push(frame["message"].clone());
                if frame["message"] == last {
                    return (messages, missed);
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_is_told_how_many_frames_it_missed_and_delays_nobody() {
    for policy in DROPPING {
        let rooms = builder().slow_consumer(policy).build().unwrap();
        let mut ann = Client::enter(&rooms, "ann", "r").await;
        let mut slow = unread_member(&rooms, v1_admission(), "r").await;
        assert_eq!(ann.next().await["name"], "slow");
        let begin = Instant::now();
        for n in 0..500 {
            send_and_receive(&mut ann, "message", n).await;
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        let lost = rooms.stats().lagged;
        assert!(lost > 400, "{policy:?}: {lost}");
        // Reading makes room in the queue again.
        let reading = read_to(&mut slow, "the end");
        let ((messages, missed), ()) = tokio::join!(reading, async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            send_and_receive(&mut ann, "message", "the end").await;
        });
        // Each frame was received or counted. Its own enter is the first.
        assert_eq!((messages.len() as u64 + missed, missed), (502, lost), "{policy:?}");
        assert_eq!(messages[0], "slow");
        // The frames that were kept are the newest or the oldest.
        let newest = messages[messages.len() - 2].as_u64().unwrap();
        match policy {
            SlowConsumer::DropNewest => assert!(newest < 60, "{newest}"),
            _ => assert_eq!(newest, 499),
        }
        assert_eq!((rooms.stats().slow, rooms.stats().connections), (0, 2));
        // After that, no frame is missed.
        send_and_receive(&mut ann, "message", "more").await;
        assert_eq!(slow.next().await["message"], "more");
        slow.close().await;
        ann.close().await;
        assert_empty(&rooms);
    }
}

#[tokio::test(start_paused = true)]
async fn plain_clients_are_not_told_about_missed_frames() {
    let rooms = builder().slow_consumer(SlowConsumer::DropOldest).build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut slow = unread_member(&rooms, Admission::anonymous(), "r").await;
    assert_eq!(ann.next().await["name"], "slow");
    for n in 0..300 {
        send_and_receive(&mut ann, "message", n).await;
    }
    send_and_receive(&mut ann, "message", "the end").await;
    let (messages, missed) = read_to(&mut slow, "the end").await;
    assert_eq!(missed, 0);
    assert_eq!(messages.len() as u64 + rooms.stats().lagged, 302);
}

#[tokio::test(start_paused = true)]
async fn latest_keeps_the_latest_frame_of_each_event() {
    let rooms = builder().slow_consumer(SlowConsumer::Latest).build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut slow = unread_member(&rooms, v1_admission(), "r").await;
    assert_eq!(ann.next().await["name"], "slow");
    send_and_receive(&mut ann, "rare", "once").await;
    for n in 0..200 {
        send_and_receive(&mut ann, if n % 2 == 0 { "tea" } else { "oil" }, n).await;
    }
    send_and_receive(&mut ann, "rare", "the end").await;
    let (messages, _) = read_to(&mut slow, "the end").await;
    let rest = &messages[messages.len() - 3..];
    assert_eq!(rest, [json!(198), json!(199), json!("the end")]);
}

#[tokio::test(start_paused = true)]
async fn frames_for_one_client_are_not_dropped() {
    for policy in DROPPING {
        let rooms = builder().slow_consumer(policy).build().unwrap();
        let mut ann = Client::enter(&rooms, "ann", "r").await;
        let mut slow = unread_member(&rooms, v1_admission(), "r").await;
        assert_eq!(ann.next().await["name"], "slow");
        let id = rooms.members("r").iter().find(|m| m.name.as_str() == "slow").unwrap().connection;
        for n in 0..200 {
            send_and_receive(&mut ann, "message", n).await;
            if n % 40 == 0 {
                rooms.send_to(id, &json!({"event": "note", "n": n})).unwrap();
            }
        }
        slow.send(json!({"event": "message", "message": "hi", "cid": "c"})).await;
        assert_eq!(ann.next().await["message"], "hi");
        let mut notes = Vec::new();
        let ack = loop {
            let frame = slow.next().await;
            match frame["event"].as_str() {
                Some("note") => notes.push(frame["n"].as_u64().unwrap()),
                Some("ack") => break frame,
                _ => {}
            }
        };
        assert_eq!((ack["cid"].as_str(), notes), (Some("c"), vec![0, 40, 80, 120, 160]), "{policy:?}");
        // If these alone are too many, the client is closed.
        let mut n = 0;
        let all = rooms.all_nodes();
        while all.send_to(id, &json!({"event": "note", "pad": "x".repeat(100), "n": n})).await.is_ok() {
            n += 1;
            assert!(n < 60, "{policy:?}");
        }
        assert_eq!(slow.close_code().await, 4001, "{policy:?}");
    }
}

/// Has a slow-consumer policy per room, and panics for one.
struct MyPolicy;

impl RoomPolicy for MyPolicy {
    fn slow_consumer(&self, room: &RoomId) -> Option<SlowConsumer> {
        match room.as_str() {
            "panic" => panic!("on purpose"),
            "live" => Some(SlowConsumer::Latest),
            _ => None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_can_have_its_own_slow_consumer_policy() {
    let rooms = builder().policy(MyPolicy).build().unwrap();
    let mut client = Client::connect(&rooms).await;
    client.send(json!({"event": "enter", "message": "ann", "roomId": "panic"})).await;
    assert_eq!(client.close_code().await, 1011);
    for (room, stays) in [("live", true), ("talk", false)] {
        let mut ann = Client::enter(&rooms, "ann", room).await;
        let mut slow = unread_member(&rooms, v1_admission(), room).await;
        assert_eq!(ann.next().await["name"], "slow");
        let mut gone = false;
        for n in 0..200 {
            ann.send(json!({"event": "message", "message": n})).await;
            gone |= ann.next().await["event"] == "out";
        }
        assert_eq!(gone, !stays, "{room}");
        if stays {
            // The policy is the room's: in another room the client is closed.
            slow.send(leave_frame(room)).await;
            slow.send(enter_frame("slow", "elsewhere")).await;
            assert_eq!(ann.next().await["event"], "out");
            ann.send(json!({"event": "enter", "message": "ann", "roomId": "elsewhere"})).await;
            while ann.next().await["event"] != "out" {
                ann.send(json!({"event": "message", "message": "x"})).await;
            }
        }
        assert_eq!(slow.close_code().await, 4001, "{room}");
        ann.close().await;
    }
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn clients_cannot_send_lagged() {
    let rooms = builder().build().unwrap();
    let mut eve = Client::enter(&rooms, "eve", "r").await;
    eve.send(json!({"event": "lagged", "missed": 9})).await;
    assert_eq!(eve.next().await["code"], "reserved_event");
}

//! Members who can't keep up, where the host has chosen that they miss something.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tower_chat_rooms::{
    Admission, ChatRooms, ChatRoomsBuilder, Limits, RoomId, RoomPolicy, SlowConsumer, Timeouts,
};

use crate::client::{Client, Log, assert_empty, unhurried};

const LOSSY: [SlowConsumer; 3] = [SlowConsumer::DropOldest, SlowConsumer::DropNewest, SlowConsumer::Latest];

fn builder() -> ChatRoomsBuilder {
    unhurried().limits(Limits::default().max_queue_frames(40))
}

fn v1() -> Admission {
    Admission::anonymous().with_protocol("chat-rooms.v1".parse().unwrap())
}

/// Somebody whose socket holds a few frames, and who reads nothing for the time being.
async fn stuck(rooms: &ChatRooms, admission: Admission, room: &str) -> Client {
    let mut stuck = Client::connect_as(rooms, admission, 500).await;
    stuck.say(json!({"event": "enter", "message": "stuck", "roomId": room})).await;
    stuck
}

/// Says something, and hears it.
async fn say(client: &mut Client, event: &str, message: impl Into<Value>) {
    let message = message.into();
    client.say(json!({"event": event, "message": message})).await;
    assert_eq!(client.next().await["message"], message);
}

/// Reads what is there up to a message; the seqs have the gaps of which the client is told, and no
/// others. Returns the messages and how many frames are missed.
async fn read_to(client: &mut Client, last: &str) -> (Vec<Value>, u64) {
    let (mut seq, mut missed, mut messages) = (None, 0, Vec::new());
    loop {
        let frame = client.next().await;
        match frame["event"].as_str().unwrap() {
            "welcome" => {}
            "entered" => seq = frame["seq"].as_u64(),
            "lagged" => {
                assert_eq!(frame.as_object().unwrap().len(), 2, "{frame}");
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
async fn who_lags_is_told_what_is_missed_and_delays_nobody() {
    for slow in LOSSY {
        let rooms = builder().slow_consumer(slow).build().unwrap();
        let mut ann = Client::enter(&rooms, "ann", "r").await;
        let mut late = stuck(&rooms, v1(), "r").await;
        assert_eq!(ann.next().await["name"], "stuck");
        let begin = Instant::now();
        for n in 0..500 {
            say(&mut ann, "message", n).await;
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        let lost = rooms.stats().lagged;
        assert!(lost > 400, "{slow:?}: {lost}");
        // As the queue is read there is room again.
        let reading = read_to(&mut late, "the end");
        let (heard, ()) = tokio::join!(reading, async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            say(&mut ann, "message", "the end").await;
        });
        let (messages, missed) = heard;
        // All of it, and his own enter first.
        assert_eq!((messages.len() as u64 + missed, missed), (502, lost), "{slow:?}");
        assert_eq!(messages[0], "stuck");
        // The newest before the end, or the oldest.
        let newest = messages[messages.len() - 2].as_u64().unwrap();
        match slow {
            SlowConsumer::DropNewest => assert!(newest < 60, "{newest}"),
            _ => assert_eq!(newest, 499),
        }
        assert_eq!((rooms.stats().slow, rooms.stats().connections), (0, 2));
        // Afterwards nothing is missed.
        say(&mut ann, "message", "more").await;
        assert_eq!(late.next().await["message"], "more");
        late.leave().await;
        ann.leave().await;
        assert_empty(&rooms);
    }
}

#[tokio::test(start_paused = true)]
async fn plain_clients_are_told_nothing() {
    let rooms = builder().slow_consumer(SlowConsumer::DropOldest).build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut late = stuck(&rooms, Admission::anonymous(), "r").await;
    assert_eq!(ann.next().await["name"], "stuck");
    for n in 0..300 {
        say(&mut ann, "message", n).await;
    }
    say(&mut ann, "message", "the end").await;
    let (messages, missed) = read_to(&mut late, "the end").await;
    assert_eq!(missed, 0);
    assert_eq!(messages.len() as u64 + rooms.stats().lagged, 302);
}

#[tokio::test(start_paused = true)]
async fn only_the_latest_of_each_event_is_kept() {
    let rooms = builder().slow_consumer(SlowConsumer::Latest).build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut late = stuck(&rooms, v1(), "r").await;
    assert_eq!(ann.next().await["name"], "stuck");
    say(&mut ann, "rare", "once").await;
    for n in 0..200 {
        say(&mut ann, if n % 2 == 0 { "tea" } else { "oil" }, n).await;
    }
    say(&mut ann, "rare", "the end").await;
    let (messages, _) = read_to(&mut late, "the end").await;
    let rest = &messages[messages.len() - 3..];
    assert_eq!(rest, [json!(198), json!(199), json!("the end")]);
}

#[tokio::test(start_paused = true)]
async fn what_is_for_him_alone_is_not_dropped() {
    for slow in LOSSY {
        let rooms = builder().slow_consumer(slow).build().unwrap();
        let mut ann = Client::enter(&rooms, "ann", "r").await;
        let mut late = stuck(&rooms, v1(), "r").await;
        assert_eq!(ann.next().await["name"], "stuck");
        let id = rooms.members("r").iter().find(|m| m.name.as_str() == "stuck").unwrap().connection;
        for n in 0..200 {
            say(&mut ann, "message", n).await;
            if n % 40 == 0 {
                rooms.send_to(id, &json!({"event": "note", "n": n})).unwrap();
            }
        }
        late.say(json!({"event": "message", "message": "hi", "cid": "c"})).await;
        assert_eq!(ann.next().await["message"], "hi");
        let mut notes = Vec::new();
        let ack = loop {
            let frame = late.next().await;
            match frame["event"].as_str() {
                Some("note") => notes.push(frame["n"].as_u64().unwrap()),
                Some("ack") => break frame,
                _ => {}
            }
        };
        assert_eq!((ack["cid"].as_str(), notes), (Some("c"), vec![0, 40, 80, 120, 160]), "{slow:?}");
        // If that alone is too much, he is too slow after all.
        let mut n = 0;
        while rooms.send_to(id, &json!({"event": "note", "pad": "x".repeat(100), "n": n})).is_ok() {
            n += 1;
            assert!(n < 60, "{slow:?}");
        }
        assert_eq!(late.closed().await, 4001, "{slow:?}");
    }
}

/// Rooms differ, and one is a trap.
struct Rooms;

impl RoomPolicy for Rooms {
    fn slow_consumer(&self, room: &RoomId) -> Option<SlowConsumer> {
        match room.as_str() {
            "trap" => panic!("a bug of the host's"),
            "live" => Some(SlowConsumer::Latest),
            _ => None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_room_may_have_its_own_way() {
    let rooms = builder().policy(Rooms).build().unwrap();
    let mut trapped = Client::connect(&rooms).await;
    trapped.say(json!({"event": "enter", "message": "ann", "roomId": "trap"})).await;
    assert_eq!(trapped.closed().await, 1011);
    for (room, stays) in [("live", true), ("talk", false)] {
        let mut ann = Client::enter(&rooms, "ann", room).await;
        let mut late = stuck(&rooms, v1(), room).await;
        assert_eq!(ann.next().await["name"], "stuck");
        let mut gone = false;
        for n in 0..200 {
            ann.say(json!({"event": "message", "message": n})).await;
            gone |= ann.next().await["event"] == "out";
        }
        assert_eq!(gone, !stays, "{room}");
        if stays {
            // It is the room's way, not the connection's: in another one he is closed.
            late.say(json!({"event": "enter", "message": "stuck", "roomId": "elsewhere"})).await;
            assert_eq!(ann.next().await["event"], "out");
            ann.say(json!({"event": "enter", "message": "ann", "roomId": "elsewhere"})).await;
            while ann.next().await["event"] != "out" {
                ann.say(json!({"event": "message", "message": "x"})).await;
            }
        }
        assert_eq!(late.closed().await, 4001, "{room}");
        ann.leave().await;
    }
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn the_notice_can_not_be_forged() {
    let rooms = builder().build().unwrap();
    let mut eve = Client::enter(&rooms, "eve", "r").await;
    eve.say(json!({"event": "lagged", "missed": 9})).await;
    assert_eq!(eve.next().await["code"], "reserved_event");
}

/// A line to the server by which the client sends pongs, but reads only `each` bytes at a time.
/// Returns whether he is still there at the end.
async fn hardly_reading(rooms: &ChatRooms, each: usize, seconds: usize) -> bool {
    let (theirs, mut ours) = tokio::io::duplex(64);
    let server = rooms.clone();
    let task = tokio::spawn(async move { server.serve(theirs, Admission::anonymous()).await });
    let frame = |text: &str| [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat();
    ours.write_all(&frame(r#"{"event":"enter","message":"ann","roomId":"r"}"#)).await.unwrap();
    for _ in 0..2 * seconds {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let pong = frame(r#"{"event":"heartbeat","message":"pong"}"#);
        if task.is_finished() || ours.write_all(&pong).await.is_err() {
            return false;
        }
        let mut some = vec![0; each];
        if each > 0 && ours.read(&mut some).await.is_err() {
            return false;
        }
    }
    !task.is_finished() && rooms.stats().entered > rooms.stats().left
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_for_the_write_timeout_is_closed() {
    let log = Log::default();
    let rooms = ChatRooms::builder()
        .timeouts(Timeouts::default().write_timeout(Duration::from_secs(20)))
        .events(log.hook())
        .build()
        .unwrap();
    // He is alive, and nothing is said that could fill his queue.
    assert!(hardly_reading(&rooms, 0, 19).await);
    while rooms.stats().connections > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    log.take();
    assert_eq!(rooms.stats().write_timeouts, 0);
    assert!(!hardly_reading(&rooms, 0, 30).await);
    while rooms.stats().connections > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(log.take(), ["+ ann r 1", "- ann r 0 too slow"]);
    assert_eq!((rooms.stats().write_timeouts, rooms.stats().slow), (1, 1));
    // A byte is enough.
    assert!(hardly_reading(&rooms, 1, 100).await);
    assert_eq!(rooms.stats().write_timeouts, 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_write_timeout_he_may_stay() {
    let rooms =
        ChatRooms::builder().timeouts(Timeouts::default().write_timeout(Duration::MAX)).build().unwrap();
    assert!(hardly_reading(&rooms, 0, 300).await);
}

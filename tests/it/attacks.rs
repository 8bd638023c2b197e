//! Attacks on the history, the policy and the limits of several rooms.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message;
use tower_chat_rooms::{
    Access, Admission, Denied, EnterRequest, History, RateLimits, ReadRequest, Recovery, RoomPolicy,
};

use crate::support::{
    Client, RESUME_WINDOW, SteppedConnection, builder, default_rooms, enter_frame, leave_frame,
    message_frame, resume_frame, rooms_in, run_other_tasks, serve, v1_admission,
};

fn ids(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("room {n}")).collect()
}

const SECOND: Duration = Duration::from_secs(1);

/// Nobody may read what was said before.
struct NoReading;

impl RoomPolicy for NoReading {
    async fn may_read(&self, _: &ReadRequest<'_>) -> Result<(), Denied> {
        Err(Denied::new("not for you"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_may_not_read_gets_nothing_from_before_its_enter() {
    let recovery = Recovery::default().history(History::last(100));
    let rooms = builder().recovery(recovery).policy(NoReading).build().unwrap();
    let mut bob = SteppedConnection::connect(&rooms).await;
    bob.send(enter_frame("bob", "r")).await;
    bob.run().await;
    let mut eve = SteppedConnection::connect(&rooms).await;
    // Not delivered yet.
    bob.send(message_frame("r", "secret")).await;
    eve.send(json!({"event": "enter", "message": "eve", "roomId": "r", "last": 0})).await;
    eve.run().await;
    let entered = eve.next().await;
    assert_eq!(entered["event"], "entered", "{entered}");
    let first = eve.next().await;
    assert_eq!((&first["event"], &first["name"]), (&json!("enter"), &json!("eve")), "{entered} {first}");
}

#[tokio::test(start_paused = true)]
async fn renaming_after_a_resume_is_limited_like_other_enters() {
    let rates = RateLimits::default().max_enters_per_minute(10).max_enters_per_minute_per_ip(10);
    let recovery = Recovery::default().resume_window(RESUME_WINDOW);
    let rooms = builder().rate_limits(rates).recovery(recovery).build().unwrap();
    let peer: SocketAddr = "192.0.2.1:1".parse().unwrap();
    let connect = async || {
        let mut client = Client::connect_from(&rooms, v1_admission(), peer).await;
        let token = client.next().await["resume"].clone();
        (client, token)
    };
    let ids = ["a", "b", "c", "d", "e"];
    let (mut ann, mut token) = connect().await;
    for id in ids {
        ann.enter_another("ann", id).await;
    }
    for round in 0..10 {
        ann.disconnect().await;
        let (next, next_token) = connect().await;
        ann = next;
        ann.send(resume_frame([&token])).await;
        assert_eq!(rooms_in(&ann.next().await), ids);
        token = next_token;
        for id in ids {
            ann.send(enter_frame(&format!("ann {round}"), id)).await;
            for event in ["entered", "entered", "enter"] {
                let frame = ann.next().await;
                if frame["code"] == "rate_limited" {
                    return;
                }
                assert_eq!(frame["event"], event, "{frame}");
            }
        }
    }
    let entered = rooms.stats().entered;
    panic!("{entered} enters within a second; 10 a minute are allowed");
}

#[tokio::test(start_paused = true)]
async fn no_frame_of_a_room_follows_its_left() {
    let rooms = default_rooms();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let (io, task) = serve(&rooms, v1_admission(), 256);
    let mut ann = Client::new(io, task).await;
    ann.send(enter_frame("ann", "r")).await;
    assert_eq!(bob.next().await["name"], "ann");
    for n in 0..60 {
        bob.send(json!({"event": "message", "message": n, "pad": "x".repeat(1000)})).await;
        assert_eq!(bob.next().await["message"], n);
    }
    // "A client that is not in the room gets the same answer, so it may repeat a `leave`."
    for _ in 0..2 {
        ann.send(leave_frame("r")).await;
    }
    assert_eq!(bob.next().await["event"], "out");
    let (mut lefts, mut after) = (0, 0);
    while lefts < 2 {
        let frame = ann.next().await;
        match frame["event"].as_str() {
            Some("left") => lefts += 1,
            Some("message") => after += lefts,
            _ => {}
        }
    }
    assert_eq!(after, 0, "frames of the room came after `left`");
}

/// Denies every enter once told so.
#[derive(Clone, Default)]
struct Bans(Arc<AtomicBool>);

impl RoomPolicy for Bans {
    async fn may_enter(&self, _: &EnterRequest<'_>) -> Result<Access, Denied> {
        if self.0.load(Ordering::Relaxed) { Err(Denied::new("banned")) } else { Ok(Access::member()) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_banned_client_that_resumes_does_not_stay_a_member() {
    let bans = Bans::default();
    let recovery = Recovery::default().resume_window(RESUME_WINDOW);
    let rooms = builder().recovery(recovery).policy(bans.clone()).build().unwrap();
    let (eve, token) = Client::enter_rooms(&rooms, "eve", &["r"]).await;
    eve.disconnect().await;
    bans.0.store(true, Ordering::Relaxed);
    let (mut eve, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    eve.resume([&token]).await;
    // It never enters the room again.
    let _ = tokio::time::timeout(SECOND * 3600, eve.next()).await;
    let members = rooms.members("r");
    assert!(members.is_empty(), "an hour after the resume window, still a member: {members:?}");
}

/// With default settings, a client may be in 64 rooms.
#[tokio::test(start_paused = true)]
async fn a_client_that_waits_as_long_as_it_is_told_enters_all_of_its_rooms() {
    let rooms = default_rooms();
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let begin = Instant::now();
    let mut outside = ids(64);
    while !outside.is_empty() {
        ann.send_at_once(outside.iter().map(|id| enter_frame("ann", id))).await;
        let (mut answers, mut wait) = (0, Duration::ZERO);
        while answers < outside.len() {
            let frame = match ann.next_or_close().await {
                crate::support::Next::Frame(frame) => frame,
                closed => {
                    panic!("{closed:?} after {:?}, outside of {} rooms", begin.elapsed(), outside.len())
                }
            };
            match frame["event"].as_str() {
                Some("entered") => answers += 1,
                Some("error") => {
                    answers += 1;
                    wait = wait.max(Duration::from_millis(frame["retryAfter"].as_u64().unwrap()));
                }
                _ => {}
            }
        }
        outside.retain(|id| rooms.members(id).is_empty());
        sleep(wait).await;
    }
}

/// Denies every enter, later.
struct DeniesLater;

impl RoomPolicy for DeniesLater {
    async fn may_enter(&self, _: &EnterRequest<'_>) -> Result<Access, Denied> {
        sleep(SECOND).await;
        Err(Denied::new("no"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_enters_no_room_in_time_is_closed_although_it_tries() {
    let rooms = builder().policy(DeniesLater).build().unwrap();
    let (client, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let (mut sink, mut stream) = client.ws.split();
    tokio::spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
    for n in 0..60 {
        let enter = enter_frame("eve", &format!("{n}"));
        if sink.send(Message::text(enter.to_string())).await.is_err() {
            break;
        }
        sleep(SECOND * 9 / 10).await;
    }
    let stats = rooms.stats();
    assert_eq!((stats.connections, stats.pending), (0, 0), "after 54 s; enter_timeout is 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_room_is_kept_no_longer_than_told() {
    let history = History::last(100).keep_for(SECOND * 10);
    let rooms = builder().recovery(Recovery::default().history(history)).build().unwrap();
    let mut late = 0;
    for room in ids(20) {
        let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &[&room]).await;
        ann.say(&room, "secret").await;
        ann.close().await;
        sleep(SECOND * 15).await;
        let (mut eve, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        eve.send(json!({"event": "enter", "message": "eve", "roomId": room, "last": 10})).await;
        late += eve.next().await["history"].as_u64().unwrap();
        eve.close().await;
    }
    assert_eq!(late, 0, "of 20 rooms, so many had frames after 15 s; they were to be kept for 10 s");
}

/// Drops the oldest frames for slow clients in the room "r".
struct Lossy;

impl RoomPolicy for Lossy {
    fn slow_consumer(&self, room: &tower_chat_rooms::RoomId) -> Option<tower_chat_rooms::SlowConsumer> {
        (room.as_str() == "r").then_some(tower_chat_rooms::SlowConsumer::DropOldest)
    }
}

/// "The client's own `enter` … [is] never dropped."
#[tokio::test(start_paused = true)]
async fn the_own_enter_of_a_slow_client_is_not_dropped() {
    for last in [None, Some(0)] {
        let recovery = Recovery::default().history(History::last(100));
        let rooms = builder().recovery(recovery).policy(Lossy).build().unwrap();
        let mut bob = SteppedConnection::connect(&rooms).await;
        bob.send(enter_frame("bob", "r")).await;
        bob.step().await;
        let mut eve = SteppedConnection::connect(&rooms).await;
        eve.send(enter_frame("eve", "other")).await;
        eve.step().await;
        run_other_tasks().await;
        let flood = |room: &'static str, n: usize| {
            for _ in 0..n {
                rooms.send(room, &json!({"event": "notice", "message": "x".repeat(1000)})).unwrap();
            }
        };
        // Its socket accepts nothing more.
        flood("other", 100);
        run_other_tasks().await;
        // This is not delivered when it enters.
        flood("r", 1);
        let mut enter = enter_frame("eve", "r");
        if let Some(last) = last {
            enter["last"] = last.into();
        }
        eve.send(enter).await;
        eve.step().await;
        for _ in 0..30 {
            flood("r", 100);
            run_other_tasks().await;
        }
        let mut seen = Vec::new();
        let has_entered = loop {
            let Ok(frame) = tokio::time::timeout(SECOND, async {
                eve.step().await;
                eve.next().await
            })
            .await
            else {
                break false;
            };
            if frame["roomId"] == "r" {
                if frame["event"] == "enter" {
                    break true;
                }
                seen.push((frame["event"].clone(), frame["seq"].clone(), frame["missed"].clone()));
            }
        };
        seen.truncate(5);
        assert!(has_entered, "with last: {last:?}: {seen:?}");
    }
}

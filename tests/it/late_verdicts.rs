//! A policy that decides about messages later.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tower_chat_rooms::{Admission, ChatRooms, MessageRequest, RoomPolicy, Timeouts, Verdict};

use crate::support::{Client, builder, enter_frame, message_frame, run_other_tasks};

/// Decides once there is a permit for it.
struct Slow(Arc<Semaphore>);

impl RoomPolicy for Slow {
    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        let permits = self.0.clone();
        match request.event() {
            "now" => Verdict::allow(),
            "twice" => Verdict::later(async { Verdict::later(async { Verdict::refuse("no") }) }),
            "panic" => Verdict::later(async { panic!("a hook panics") }),
            event => {
                let is_bad = event == "bad";
                Verdict::later(async move {
                    permits.acquire().await.unwrap().forget();
                    if is_bad { Verdict::refuse("bad") } else { Verdict::allow() }
                })
            }
        }
    }
}

async fn member(rooms: &ChatRooms, name: &str) -> Client {
    let (mut client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
    client.send(enter_frame(name, "r")).await;
    assert_eq!(client.next().await["event"], "entered");
    assert_eq!(client.next().await["event"], "enter");
    client
}

fn slow_rooms() -> (ChatRooms, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(0));
    let timeouts = Timeouts::default().hook_timeout(Duration::from_secs(5));
    (builder().policy(Slow(permits.clone())).timeouts(timeouts).build().unwrap(), permits)
}

#[tokio::test(start_paused = true)]
async fn the_senders_order_is_kept_and_others_do_not_wait() {
    let (rooms, permits) = slow_rooms();
    let (mut ann, mut bob) = (member(&rooms, "ann").await, member(&rooms, "bob").await);
    assert_eq!(ann.next().await["name"], "bob");
    ann.send_at_once([
        json!({"event": "slow", "message": 1, "roomId": "r", "cid": "1"}),
        json!({"event": "bad", "message": 2, "roomId": "r", "cid": "2"}),
        json!({"event": "now", "message": 3, "roomId": "r", "cid": "3"}),
    ])
    .await;
    bob.send(json!({"event": "now", "message": "bob", "roomId": "r"})).await;
    assert_eq!(bob.next().await["message"], "bob");
    permits.add_permits(2);
    assert_eq!(bob.next().await["message"], 1);
    assert_eq!(bob.next().await["message"], 3);
    assert_eq!(ann.next().await["message"], "bob");
    let mut answers = Vec::new();
    while answers.len() < 3 {
        let frame = ann.next().await;
        if frame["event"] == "ack" || frame["event"] == "error" {
            answers.push((frame["cid"].clone(), frame["code"].clone()));
        }
    }
    let ok = serde_json::Value::Null;
    assert_eq!(answers, [(json!("1"), ok.clone()), (json!("2"), json!("denied")), (json!("3"), ok)]);
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_takes_too_long_is_an_error() {
    let (rooms, _permits) = slow_rooms();
    let mut ann = member(&rooms, "ann").await;
    ann.send(json!({"event": "slow", "roomId": "r", "cid": "1"})).await;
    let error = ann.next().await;
    assert_eq!((&error["code"], &error["cid"]), (&json!("internal"), &json!("1")));
    ann.send(json!({"event": "twice", "roomId": "r", "cid": "2"})).await;
    assert_eq!(ann.next().await["code"], "denied");
    ann.send(message_frame("nowhere", "x")).await;
    assert_eq!(ann.next().await["code"], "not_entered");
}

#[tokio::test(start_paused = true)]
async fn the_last_message_of_a_client_that_is_gone_is_published() {
    for closes in [true, false] {
        let (rooms, permits) = slow_rooms();
        let (mut ann, mut bob) = (member(&rooms, "ann").await, member(&rooms, "bob").await);
        let messages = (0..3).map(|n| json!({"event": "slow", "message": n, "roomId": "r"}));
        ann.send_at_once(messages).await;
        if closes {
            ann.ws.close(None).await.unwrap();
            run_other_tasks().await;
        }
        let gone = tokio::spawn(ann.disconnect());
        run_other_tasks().await;
        permits.add_permits(3);
        for n in 0..3 {
            assert_eq!(bob.next().await["message"], n, "closes: {closes}");
        }
        assert_eq!(bob.next().await["event"], "out");
        gone.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_kick_ends_a_message_that_is_not_decided() {
    let (rooms, permits) = slow_rooms();
    let (mut ann, mut bob) = (member(&rooms, "ann").await, member(&rooms, "bob").await);
    ann.send(json!({"event": "slow", "message": 1, "roomId": "r"})).await;
    let id = rooms.members("r")[0].connection;
    let gone = tokio::spawn(ann.disconnect());
    run_other_tasks().await;
    let begin = Instant::now();
    assert!(rooms.kick(id));
    assert_eq!(bob.next().await["event"], "out");
    assert_eq!(begin.elapsed(), Duration::ZERO);
    permits.add_permits(1);
    bob.send(json!({"event": "now", "message": 2, "roomId": "r"})).await;
    assert_eq!(bob.next().await["message"], 2);
    gone.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_decided_too_late_is_not_published() {
    let (rooms, permits) = slow_rooms();
    let (mut ann, mut bob) = (member(&rooms, "ann").await, member(&rooms, "bob").await);
    ann.send(json!({"event": "slow", "message": 1, "roomId": "r"})).await;
    ann.disconnect().await;
    assert_eq!(bob.next().await["event"], "out");
    permits.add_permits(1);
    bob.send(json!({"event": "now", "message": 2, "roomId": "r"})).await;
    assert_eq!(bob.next().await["message"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_the_senders_connection_only() {
    let (rooms, _permits) = slow_rooms();
    let (mut ann, mut bob) = (member(&rooms, "ann").await, member(&rooms, "bob").await);
    ann.send(json!({"event": "panic", "roomId": "r"})).await;
    assert_eq!(ann.close_code().await, 1011);
    assert_eq!(bob.next().await["event"], "out");
}

/// Drops each message, later.
struct DropsLater;

impl RoomPolicy for DropsLater {
    fn may_send(&self, _: &MessageRequest<'_>) -> Verdict {
        Verdict::later(async {
            sleep(Duration::from_secs(1)).await;
            Verdict::drop_silently()
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_to_a_room_that_was_closed_meanwhile_is_refused() {
    let rooms = builder().policy(DropsLater).build().unwrap();
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["r"]).await;
    ann.send(json!({"event": "message", "message": "hi", "roomId": "r", "cid": "c"})).await;
    run_other_tasks().await;
    rooms.close_room("r");
    assert_eq!(ann.next().await["event"], "left");
    let answer = ann.next().await;
    assert_eq!((&answer["event"], &answer["code"]), (&json!("error"), &json!("not_entered")), "{answer}");
}

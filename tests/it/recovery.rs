//! Recovery: the frames missed while a client was disconnected, and how many of them a room keeps.

use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, History, Limits, Recovery};

use crate::support::{Client, RESUME_WINDOW, V1Client, assert_empty, resumed_and_recovered, v1_admission};

#[tokio::test(start_paused = true)]
async fn history_is_limited_by_frames_bytes_and_age() {
    let minute = Duration::from_secs(60);
    for (history, wait, recovered) in [
        (History::last(3), Duration::ZERO, true),
        (History::last(2), Duration::ZERO, false),
        (History::last(9).max_bytes(300), Duration::ZERO, true),
        (History::last(9).max_bytes(200), Duration::ZERO, false),
        (History::last(9).for_at_most(minute), minute - Duration::from_secs(1), true),
        (History::last(9).for_at_most(minute), minute + Duration::from_secs(1), false),
    ] {
        let rooms = ChatRooms::builder()
            .recovery(Recovery::default().resume_window(minute * 9).history(history))
            .build()
            .unwrap();
        let mut bob = V1Client::enter(&rooms, "bob").await;
        let mut ann = V1Client::enter(&rooms, "ann").await;
        bob.expect_message("ann").await;
        ann.disconnect().await;
        for n in 0..3 {
            bob.send_message(format!("{n} of some twenty bytes")).await;
            bob.next().await;
        }
        bob.answer_heartbeats_for(wait).await;
        assert_eq!(
            resumed_and_recovered(&ann.reconnect(&rooms).await),
            (true, recovered),
            "{history:?} after {wait:?}"
        );
        for n in (0..3).filter(|_| recovered) {
            ann.expect_message(format!("{n} of some twenty bytes")).await;
        }
        ann.send_message("new").await;
        ann.expect_message("new").await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_history_a_client_recovers_if_nothing_was_sent_meanwhile() {
    let rooms =
        ChatRooms::builder().recovery(Recovery::default().resume_window(RESUME_WINDOW)).build().unwrap();
    let mut ann = V1Client::enter(&rooms, "ann").await;
    ann.disconnect().await;
    assert_eq!(resumed_and_recovered(&ann.reconnect(&rooms).await), (true, true));
    let mut bob = V1Client::enter(&rooms, "bob").await;
    ann.expect_message("bob").await;
    ann.disconnect().await;
    bob.send_message("missed").await;
    bob.expect_message("missed").await;
    assert_eq!(resumed_and_recovered(&ann.reconnect(&rooms).await), (true, false));
    bob.send_message("new").await;
    ann.expect_message("new").await;
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_opened_again_has_another_epoch() {
    let rooms = ChatRooms::builder().recovery(Recovery::default().history(History::last(9))).build().unwrap();
    let mut ann = V1Client::enter(&rooms, "ann").await;
    let epoch = ann.position["epoch"].clone();
    ann.disconnect().await;
    assert_empty(&rooms);
    ann.resume_tokens = vec![];
    let entered = ann.reconnect(&rooms).await;
    assert_eq!(resumed_and_recovered(&entered), (false, false));
    assert_ne!(entered["epoch"], epoch);
    assert_eq!(ann.next().await["seq"], 1);
    // A position of the earlier epoch is not one of this room.
    let old = json!({"epoch": epoch, "seq": 0});
    let (mut bob, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    bob.send(json!({"event": "enter", "message": "bob", "roomId": "r", "since": old})).await;
    assert!(!resumed_and_recovered(&bob.next().await).1);
    bob.close().await;
    assert_eq!(ann.next().await["event"], "enter");
    assert_eq!(ann.next().await["event"], "out");
    // Nor is a position after the end of the room log.
    ann.position["seq"] = 99.into();
    ann.disconnect().await;
    assert!(!resumed_and_recovered(&ann.reconnect(&rooms).await).1);
}

/// A replay used to count against the send queue, so that the next frame closed the connection, each time again.
#[tokio::test(start_paused = true)]
async fn a_replay_does_not_fill_the_send_queue() {
    let rooms = ChatRooms::builder()
        .limits(Limits::default().max_queue_frames(128))
        .recovery(Recovery::default().history(History::last(64)).resume_window(RESUME_WINDOW))
        .build()
        .unwrap();
    let (ann, welcome) = Client::enter_v1(&rooms, Admission::anonymous()).await;
    let since = json!({"epoch": epoch(&rooms).await, "seq": 3});
    ann.disconnect().await;
    for n in 0..63 {
        rooms.send("r", &json!({"event": "notice", "message": n})).unwrap();
    }
    // A pipe that holds a few frames.
    let mut ann = Client::connect_as(&rooms, v1_admission(), 512).await;
    assert_eq!(ann.next().await["event"], "welcome");
    let resume = &welcome["resume"];
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r", "since": since, "resume": resume}))
        .await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    for n in 63..100 {
        rooms.send("r", &json!({"event": "notice", "message": n})).unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(resumed_and_recovered(&ann.next().await), (true, true));
    for n in 0..100 {
        assert_eq!(ann.next().await["message"], n);
    }
}

/// The epoch of the room "r", from the answer to an enter. The client leaves again.
async fn epoch(rooms: &ChatRooms) -> Value {
    let (mut client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
    client.send(json!({"event": "enter", "message": "bob", "roomId": "r"})).await;
    let epoch = client.next().await["epoch"].clone();
    client.close().await;
    epoch
}

//! Recovery: the frames missed while a client was disconnected, and how many of them a room keeps.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use tower_chat_rooms::{Admission, ChatRooms, History, Limits, RateLimits, Recovery};

use crate::support::{
    Client, Next, RESUME_WINDOW, TestBroker, V1Client, assert_empty, builder, enter_frame, enter_since,
    events_arrive, nth_id, resume_frame, resumed_and_recovered, skip_with_redis, v1_admission,
};

#[tokio::test(start_paused = true)]
async fn history_is_limited_by_frames_bytes_and_age() {
    let minute = Duration::from_secs(60);
    for (history, wait, kept) in [
        (History::last(3), Duration::ZERO, 3),
        (History::last(2), Duration::ZERO, 2),
        (History::last(9).max_bytes(420), Duration::ZERO, 3),
        (History::last(9).max_bytes(300), Duration::ZERO, 2),
        (History::last(9).for_at_most(minute), minute - Duration::from_secs(1), 3),
        (History::last(9).for_at_most(minute), minute + Duration::from_secs(1), 0),
    ] {
        let builder = builder();
        // Each frame has the id of its sender.
        let ids = kept * (nth_id(0).len() - 1);
        let history = history.max_bytes(history.bytes() + ids);
        let rooms =
            builder.recovery(Recovery::default().resume_window(minute * 9).history(history)).build().unwrap();
        let mut bob = V1Client::enter(&rooms, "bob").await;
        let mut ann = V1Client::enter(&rooms, "ann").await;
        bob.expect_message("ann").await;
        ann.disconnect().await;
        for n in 0..3 {
            bob.send_message(format!("{n} of some twenty bytes")).await;
            bob.next().await;
        }
        bob.answer_heartbeats_for(wait).await;
        let entered = ann.reconnect(&rooms).await;
        assert_eq!(resumed_and_recovered(&entered), (true, kept == 3), "{history:?} after {wait:?}");
        // The frames that are kept arrive, even if others are missing.
        assert_eq!(entered["replayed"], kept, "{history:?} after {wait:?}");
        for n in 3 - kept..3 {
            ann.expect_message(format!("{n} of some twenty bytes")).await;
        }
        ann.send_message("new").await;
        ann.expect_message("new").await;
    }
}

/// The default bound on bytes used to be 64 KiB, no matter how many frames were to be kept.
#[tokio::test(start_paused = true)]
async fn as_many_messages_of_ordinary_size_are_kept_as_were_asked_for() {
    for frames in [100, 1000] {
        let recovery = Recovery::default().resume_window(RESUME_WINDOW).history(History::last(frames));
        // With the default limits, among them those of the send queue.
        let rooms = builder().recovery(recovery).build().unwrap();
        let mut ann = V1Client::enter(&rooms, "ann").await;
        ann.disconnect().await;
        for n in 0..frames {
            rooms.send("r", &json!({"event": "notice", "message": n, "text": "x".repeat(900)})).unwrap();
            tokio::task::yield_now().await;
        }
        events_arrive().await;
        assert_eq!(resumed_and_recovered(&ann.reconnect(&rooms).await), (true, true), "{frames}");
        for n in 0..frames {
            ann.expect_message(n).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_history_a_client_recovers_if_nothing_was_sent_meanwhile() {
    let rooms = builder().recovery(Recovery::default().resume_window(RESUME_WINDOW)).build().unwrap();
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
    let rooms = builder().recovery(Recovery::default().history(History::last(9))).build().unwrap();
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
    bob.send(enter_since("bob", "r", &old)).await;
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
    let rooms = builder()
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
    events_arrive().await;
    // A pipe that holds a few frames.
    let mut ann = Client::connect_as(&rooms, v1_admission(), 512).await;
    assert_eq!(ann.next().await["event"], "welcome");
    ann.send_at_once([resume_frame([&welcome["resume"]]), enter_since("ann", "r", &since)]).await;
    sleep(Duration::from_millis(1)).await;
    for n in 63..100 {
        rooms.send("r", &json!({"event": "notice", "message": n})).unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(resumed_and_recovered(&ann.next_return(&json!("r")).await), (true, true));
    for n in 0..100 {
        assert_eq!(ann.next().await["message"], n);
    }
}

/// The epoch of the room "r", from the answer to an enter. The client leaves again.
async fn epoch(rooms: &ChatRooms) -> Value {
    let (mut client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
    client.send(enter_frame("bob", "r")).await;
    let epoch = client.next().await["epoch"].clone();
    client.close().await;
    epoch
}

/// A slow client used to miss frames for good if the history was larger than its send queue.
#[tokio::test(start_paused = true)]
async fn a_client_that_was_closed_as_slow_recovers_more_than_its_send_queue_holds() {
    let history = History::last(10_000).max_bytes(8 * 1024 * 1024);
    let rooms = builder()
        .limits(Limits::default().max_queue_bytes(64 * 1024).max_message_bytes(16 * 1024))
        .rate_limits(RateLimits::default().max_bytes_per_second(16 * 1024))
        .recovery(Recovery::default().resume_window(Duration::from_secs(60)).history(history))
        .build()
        .unwrap();
    let publish = async |n: u64| {
        rooms.send("r", &json!({"event": "notice", "n": n, "text": "x".repeat(8000)})).unwrap();
        sleep(Duration::from_millis(1)).await;
    };
    // A pipe that holds less than a frame.
    let mut ann = Client::connect_as(&rooms, v1_admission(), 4096).await;
    let welcome = ann.next().await;
    ann.send(enter_frame("ann", "r")).await;
    let entered = ann.next().await;
    let mut sent = 0;
    while rooms.stats().slow == 0 {
        publish(sent).await;
        sent += 1;
        assert!(sent < 500, "the client is never slow");
    }
    let mut since = json!({"epoch": entered["epoch"], "seq": entered["seq"]});
    let mut received = 0;
    loop {
        match ann.next_or_close().await {
            Next::Frame(frame) => {
                since["seq"] = frame["seq"].clone();
                received += u64::from(frame["event"] == "notice");
            }
            Next::Closed(code) => break assert_eq!(code, 4001),
        }
    }
    for n in sent..sent + 100 {
        publish(n).await;
    }
    assert!(sent - received + 100 > 64 * 1024 / 8000 * 2, "the replay is larger than the send queue");
    let mut ann = Client::connect_as(&rooms, v1_admission(), 4096).await;
    assert_eq!(ann.next().await["event"], "welcome");
    let entered = ann.resume_and_enter([&welcome["resume"]], enter_since("ann", "r", &since)).await;
    assert_eq!(resumed_and_recovered(&entered), (true, true));
    for n in received..sent + 100 {
        assert_eq!(ann.next().await["n"], n);
    }
}

/// What was published right after a restart used to be lost to the members that reconnected later.
#[tokio::test(start_paused = true)]
async fn a_client_with_a_position_of_an_earlier_epoch_gets_the_history_of_the_new_one() {
    skip_with_redis!("the members of a node that is gone leave in real time");
    let broker = TestBroker::new();
    let recovery = Recovery::default().history(History::last(100));
    let rooms = || broker.builder().recovery(recovery.clone()).build().unwrap();
    let (old, new) = (rooms(), rooms());
    let enter = |name: &str| enter_frame(name, "r");
    let (mut ann, _) = Client::connect_v1(&old, Admission::anonymous()).await;
    ann.send(enter("ann")).await;
    let since = json!({"epoch": ann.next().await["epoch"], "seq": 17});
    drop((ann, old));
    if let TestBroker::Shared(broker) = &broker {
        broker.remove_node(1);
    }
    let (mut bob, _) = Client::connect_v1(&new, Admission::anonymous()).await;
    bob.send(enter("bob")).await;
    bob.send(json!({"event": "message", "message": "first"})).await;
    for event in ["entered", "enter", "message"] {
        assert_eq!(bob.next().await["event"], event);
    }
    // The epoch of another server may be any string.
    let mut clients = Vec::new();
    for (n, since) in [since, json!({"epoch": "E", "seq": 17})].into_iter().enumerate() {
        let (mut ann, _) = Client::connect_v1(&new, Admission::anonymous()).await;
        ann.send(enter_since("ann", "r", &since)).await;
        let entered = ann.next().await;
        assert_eq!(
            (&entered["recovered"], &entered["seq"], &entered["replayed"]),
            (&json!(false), &json!(2 + n), &json!(2 + n))
        );
        for (seq, event) in [(1, "enter"), (2, "message"), (3, "enter")] {
            let frame = ann.next().await;
            assert_eq!((&frame["seq"], &frame["event"]), (&json!(seq), &json!(event)));
        }
        clients.push(ann);
    }
    // A client without a position gets only the frames from its own enter on.
    let (mut carol, _) = Client::connect_v1(&new, Admission::anonymous()).await;
    carol.send(enter("carol")).await;
    assert_eq!(carol.next().await["replayed"], 0);
    assert_eq!(carol.next().await["name"], "carol");
}

//! Direct messages to and from sessions whose connection, reading or authentication fails.

use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, Limits, OnExpiry, Recovery, Timeouts, User};

use crate::direct::{ByMessage, ack, connect, direct_frame, rooms};
use crate::support::{
    Client, Next, RESUME_WINDOW, assert_empty, builder, run_other_tasks, user_of, v1_admission,
    with_expiring_tokens,
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn the_last_direct_message_of_a_client_that_is_gone_is_sent() {
    let rooms = rooms();
    let (mut ann, mut bob) = (connect(&rooms, "a").await, connect(&rooms, "b").await);
    ann.send(direct_frame("b", "later", "c")).await;
    ann.disconnect().await;
    assert_eq!(bob.next().await["message"], "other");
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_authentication_has_expired_gets_and_sends_none() {
    let rooms = with_expiring_tokens()
        .on_expiry(OnExpiry::WaitForAuth)
        .policy(ByMessage::default())
        .recovery(Recovery::default().resume_window(RESUME_WINDOW))
        .timeouts(Timeouts::default().token_warning(Duration::ZERO))
        .build()
        .unwrap();
    let (mut bob, _) = Client::connect_v1(&rooms, Admission::user(user_of("b:5"))).await;
    let mut ann = connect(&rooms, "a").await;
    assert_eq!(ann.send_direct("b", "before", "1").await, ack("1", 1));
    assert_eq!(bob.next().await["message"], "before");
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(bob.next().await["event"], "noAuth");
    assert_eq!(ann.send_direct("b", "meanwhile", "2").await, ack("2", 0));
    bob.send(direct_frame("a", "meanwhile", "3")).await;
    assert_eq!(bob.next().await["event"], "noAuth");
    bob.authenticate("b:60").await;
    assert_eq!(ann.send_direct("b", "after", "4").await, ack("4", 1));
    let frame = bob.next().await;
    assert_eq!((&frame["message"], &frame["direct"]), (&json!("after"), &json!(2)));
    ann.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_gets_direct_messages_once_it_has_authenticated() {
    let rooms = with_expiring_tokens().policy(ByMessage::default()).build().unwrap();
    let (mut bob, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    bob.enter_another("bob", "r").await;
    assert_eq!(rooms.send_to_user("b", &json!({"event": "x"})).unwrap(), 0);
    bob.authenticate("b").await;
    assert_eq!(rooms.send_to_user("b", &json!({"event": "x"})).unwrap(), 1);
    assert_eq!(bob.next().await, json!({"event": "x", "direct": 1}));
    assert_eq!(bob.next().await["user"], "b", "the room knows the user");
    bob.send(direct_frame("b", "to myself", "c")).await;
    assert_eq!(bob.next().await["from"], json!({"user": "b"}));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_too_slowly_loses_its_connection_and_no_direct_message() {
    use tower_chat_rooms::SlowConsumer;
    for slow in
        [SlowConsumer::Close, SlowConsumer::DropNewest, SlowConsumer::DropOldest, SlowConsumer::Latest]
    {
        let limits = Limits::default().max_queue_frames(20);
        let recovery = Recovery::default().resume_window(RESUME_WINDOW);
        let rooms = builder().limits(limits).recovery(recovery).slow_consumer(slow).build().unwrap();
        let user = || Admission::user(User::new("b")).with_protocol("chat-rooms.v1".parse().unwrap());
        let mut bob = Client::connect_as(&rooms, user(), 512).await;
        let welcome = bob.next().await;
        bob.enter_another("bob", "r").await;
        for n in 0..40 {
            rooms.send_to_user("b", &json!({"event": "x", "message": n})).unwrap();
            // Messages of the room may be dropped instead.
            let _ = rooms.send("r", &json!({"event": "y", "message": "y".repeat(50)}));
            run_other_tasks().await;
        }
        let (frames, code) = bob.frames_until_close().await;
        assert_eq!(code, 4001, "{slow:?}");
        let direct =
            |frames: &[Value]| frames.iter().filter_map(|f| f["direct"].as_u64()).collect::<Vec<_>>();
        let had = direct(&frames);
        let last = had.len() as u64;
        assert!((1..40).contains(&last) && had.into_iter().eq(1..=last), "{slow:?}");
        bob.disconnect().await;
        // A pipe that holds little delays the frames that were missed, but the limits do not apply to them.
        let mut bob = Client::connect_as(&rooms, user(), 512).await;
        bob.next().await;
        bob.send(json!({"event": "resume", "message": [welcome["resume"]], "direct": last})).await;
        let resumed = bob.next().await;
        assert_eq!((&resumed["event"], &resumed["direct"]), (&json!("resumed"), &json!(last)));
        for n in last + 1..=40 {
            let frame = bob.next().await;
            assert_eq!((&frame["direct"], &frame["message"]), (&json!(n), &json!(n - 1)), "{slow:?}");
        }
        bob.close().await;
        assert_empty(&rooms);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_for_its_frames_again_and_again_gets_them_once() {
    let rooms = rooms();
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::user(User::new("a"))).await;
    rooms.send_to_user("a", &json!({"event": "x"})).unwrap();
    assert_eq!(ann.next().await["direct"], 1);
    assert_eq!(ann.resume([&json!("unknown")]).await, json!({"event": "resumed", "rooms": []}));
    assert_eq!(ann.next().await["direct"], 1);
    for _ in 0..3 {
        let resumed = ann.resume([&json!("unknown")]).await;
        assert_eq!(resumed, json!({"event": "resumed", "rooms": [], "direct": 1}));
    }
    ann.assert_quiet().await;
    ann.send(json!({"event": "resume", "message": [], "direct": "x"})).await;
    assert_eq!(ann.next().await["code"], "bad_shape");
}

#[tokio::test(start_paused = true)]
async fn a_kicked_user_keeps_nothing() {
    let rooms = rooms();
    let (mut bob, welcome) = Client::connect_v1(&rooms, Admission::user(User::new("b"))).await;
    rooms.send_to_user("b", &json!({"event": "x"})).unwrap();
    rooms.kick_user("b");
    assert_eq!(bob.next().await["direct"], 1);
    assert_eq!(bob.next_or_close().await, Next::Closed(4500));
    bob.disconnect().await;
    let (mut bob, _) = Client::connect_v1(&rooms, Admission::user(User::new("b"))).await;
    assert_eq!(bob.resume([&welcome["resume"]]).await, json!({"event": "resumed", "rooms": []}));
    bob.assert_quiet().await;
    // Another user can't resume the session, and so gets nothing of it.
    let (first, welcome) = Client::connect_v1(&rooms, Admission::user(User::new("b"))).await;
    rooms.send_to_user("b", &json!({"event": "x"})).unwrap();
    first.disconnect().await;
    for admission in [Admission::user(User::new("c")), v1_admission()] {
        let (mut other, _) = Client::connect_v1(&rooms, admission).await;
        assert_eq!(other.resume([&welcome["resume"]]).await, json!({"event": "resumed", "rooms": []}));
        other.assert_quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_user_changes_no_recipient() {
    let rooms = with_expiring_tokens()
        .policy(ByMessage::default())
        .recovery(Recovery::default().resume_window(RESUME_WINDOW))
        .build()
        .unwrap();
    let (mut bob, welcome) = Client::connect_v1(&rooms, Admission::user(user_of("b"))).await;
    assert_eq!(rooms.send_to_user("b", &json!({"event": "x"})).unwrap(), 1);
    assert_eq!(bob.next().await["direct"], 1);
    bob.send_token("c").await;
    assert_eq!(bob.next().await["event"], "noAuth");
    assert_eq!(rooms.send_to_user("c", &json!({"event": "x"})).unwrap(), 0);
    assert_eq!(rooms.send_to_user("b", &json!({"event": "x"})).unwrap(), 1);
    assert_eq!(bob.next().await["direct"], 2);
    bob.send(direct_frame("b", "to myself", "c")).await;
    assert_eq!(bob.next().await["from"], json!({"user": "b"}));
    bob.disconnect().await;
    // A client that authenticates only on its new connection resumes after that.
    rooms.send_to_user("b", &json!({"event": "x"})).unwrap();
    let (mut bob, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    bob.authenticate("b").await;
    bob.send(json!({"event": "resume", "message": [welcome["resume"]], "direct": 3})).await;
    assert_eq!(bob.next().await["direct"], 3);
    assert_eq!(bob.next().await, json!({"event": "x", "direct": 4}));
    bob.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_is_kicked_while_the_policy_decides_sends_nothing() {
    let rooms = rooms();
    let (mut ann, mut bob) = (connect(&rooms, "a").await, connect(&rooms, "b").await);
    ann.send(direct_frame("b", "later", "c")).await;
    run_other_tasks().await;
    rooms.kick_user("a");
    assert_eq!(ann.close_code().await, 4500);
    // Longer than the policy takes.
    tokio::time::sleep(2 * SECOND).await;
    bob.assert_quiet().await;
}

//! What a client may have of the frames from before its enter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, Denied, History, Limits, ReadRequest, Recovery, RoomPolicy};

use crate::support::{
    Client, builder, enter_frame, enter_since, leave_frame, message_frame, rooms_in, skip_with_broker,
};

const WINDOW: Duration = Duration::from_secs(10);

/// Counts how often it is asked, and refuses if told to.
#[derive(Clone, Default)]
struct Readers {
    refuses: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl RoomPolicy for Readers {
    async fn may_read(&self, _: &ReadRequest<'_>) -> Result<(), Denied> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.refuses.load(Ordering::Relaxed) { Err(Denied::new("not for you")) } else { Ok(()) }
    }
}

impl Readers {
    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

fn rooms(history: History, readers: &Readers) -> ChatRooms {
    let recovery = Recovery::default().resume_window(WINDOW).history(history);
    builder().recovery(recovery).policy(readers.clone()).build().unwrap()
}

async fn connect(rooms: &ChatRooms) -> (Client, Value) {
    Client::connect_v1(rooms, Admission::anonymous()).await
}

/// Enters, and returns the answer.
async fn enter(client: &mut Client, frame: Value) -> Value {
    client.send(frame).await;
    client.next().await
}

fn enter_last(name: &str, last: usize) -> Value {
    json!({"event": "enter", "message": name, "roomId": "r", "last": last})
}

/// A member that has entered and said these.
async fn speaker(rooms: &ChatRooms, messages: &[&str]) -> Client {
    let (mut bob, _) = connect(rooms).await;
    enter(&mut bob, enter_frame("bob", "r")).await;
    assert_eq!(bob.next().await["event"], "enter");
    for message in messages {
        bob.send(message_frame("r", *message)).await;
        assert_eq!(bob.next().await["message"], *message);
    }
    bob
}

#[tokio::test(start_paused = true)]
async fn a_late_joiner_gets_the_latest_messages_before_its_own_enter() {
    let readers = Readers::default();
    let rooms = rooms(History::last(100), &readers);
    let mut bob = speaker(&rooms, &["one", "two", "three"]).await;
    for (last, history) in [(2, vec!["two", "three"]), (9, vec!["one", "two", "three"]), (0, vec![])] {
        let (mut ann, _) = connect(&rooms).await;
        let entered = enter(&mut ann, enter_last("ann", last)).await;
        assert_eq!(entered["history"], history.len(), "{entered}");
        assert_eq!(entered["recovered"], false);
        for message in history {
            let frame = ann.next().await;
            assert_eq!((&frame["event"], &frame["message"]), (&json!("message"), &json!(message)));
            assert!(frame["seq"].as_u64() <= entered["seq"].as_u64());
        }
        // The position is not changed by the history.
        let own = ann.next().await;
        assert_eq!(own["event"], "enter");
        assert!(own.get("last").is_none(), "{own}");
        assert_eq!(own["seq"].as_u64().unwrap(), entered["seq"].as_u64().unwrap() + 1);
        ann.close().await;
        assert_eq!(
            (bob.next().await["event"].clone(), bob.next().await["event"].clone()),
            (json!("enter"), json!("out"))
        );
    }
    assert_eq!(readers.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn messages_that_wait_to_be_delivered_are_not_missed() {
    let rooms = rooms(History::last(100), &Readers::default());
    let mut bob = speaker(&rooms, &["one"]).await;
    let (mut ann, _) = connect(&rooms).await;
    // All of it is handled before the room's frames are delivered.
    rooms.send("r", &json!({"event": "message", "message": "two"})).unwrap();
    ann.send(enter_last("ann", 10)).await;
    let entered = ann.next().await;
    let mut messages = Vec::new();
    loop {
        let frame = ann.next().await;
        match frame["event"].as_str().unwrap() {
            "enter" if frame["name"] == "ann" => break,
            "message" => messages.push(frame["message"].clone()),
            _ => {}
        }
    }
    assert_eq!(messages, [json!("one"), json!("two")], "{entered}");
    assert_eq!(bob.next().await["message"], "two");
}

#[tokio::test(start_paused = true)]
async fn who_may_not_read_enters_without_a_history() {
    let readers = Readers::default();
    readers.refuses.store(true, Ordering::Relaxed);
    let rooms = rooms(History::last(100), &readers);
    let _bob = speaker(&rooms, &["secret"]).await;
    let (mut ann, _) = connect(&rooms).await;
    let entered = enter(&mut ann, enter_last("ann", 10)).await;
    assert_eq!((&entered["event"], &entered["history"]), (&json!("entered"), &json!(0)));
    assert_eq!(ann.next().await["event"], "enter");

    // An invented position is of no use either.
    let (mut eve, _) = connect(&rooms).await;
    for epoch in [entered["epoch"].clone(), json!("00000000000000aa")] {
        let since = json!({"epoch": epoch, "seq": 0});
        let entered = enter(&mut eve, enter_since("eve", "r", &since)).await;
        assert_eq!((&entered["recovered"], &entered["replayed"]), (&json!(false), &json!(0)), "{entered}");
        assert_eq!(eve.next().await["name"], "eve");
        eve.send(leave_frame("r")).await;
        assert_eq!(eve.next().await["event"], "left");
    }
    assert_eq!(readers.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_member_recovers_what_is_its_own_without_a_question() {
    let readers = Readers::default();
    readers.refuses.store(true, Ordering::Relaxed);
    let rooms = rooms(History::last(100), &readers);
    let mut bob = speaker(&rooms, &["before"]).await;
    let (mut ann, welcome) = connect(&rooms).await;
    let entered = enter(&mut ann, enter_frame("ann", "r")).await;
    assert_eq!(ann.next().await["event"], "enter");
    assert_eq!(bob.next().await["event"], "enter");
    ann.disconnect().await;
    bob.send(message_frame("r", "missed")).await;
    assert_eq!(bob.next().await["message"], "missed");

    // From its enter on.
    let (mut ann, next) = connect(&rooms).await;
    assert_eq!(rooms_in(&ann.resume([&welcome["resume"]]).await), ["r"]);
    let since = json!({"epoch": entered["epoch"], "seq": entered["seq"]});
    let back = enter(&mut ann, enter_since("ann", "r", &since)).await;
    assert_eq!((&back["recovered"], &back["replayed"]), (&json!(true), &json!(2)), "{back}");
    assert_eq!(ann.next().await["event"], "enter");
    assert_eq!(ann.next().await["message"], "missed");
    assert_eq!(readers.asked(), 0);
    ann.disconnect().await;

    // From before its enter, it gets no more than that.
    let (mut ann, _) = connect(&rooms).await;
    assert_eq!(rooms_in(&ann.resume([&next["resume"]]).await), ["r"]);
    let since = json!({"epoch": entered["epoch"], "seq": 0});
    let back = enter(&mut ann, enter_since("ann", "r", &since)).await;
    assert_eq!((&back["recovered"], &back["replayed"]), (&json!(false), &json!(2)), "{back}");
    assert_eq!(ann.next().await["event"], "enter");
    assert_eq!(ann.next().await["message"], "missed");
    assert_eq!(readers.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rooms_frames_may_outlive_its_last_member() {
    skip_with_broker!("History::keep_for has no effect");
    let rooms = rooms(History::last(100).keep_for(Duration::from_secs(60)), &Readers::default());
    speaker(&rooms, &["one"]).await.close().await;
    assert_eq!((rooms.rooms().len(), rooms.stats().rooms), (0, 0));
    assert!(rooms.send("r", &json!({"event": "x"})).is_err(), "nobody is there");
    tokio::time::sleep(Duration::from_secs(55)).await;

    let (mut ann, _) = connect(&rooms).await;
    let entered = enter(&mut ann, enter_last("ann", 10)).await;
    assert_eq!(entered["history"], 1, "{entered}");
    assert_eq!(ann.next().await["message"], "one");
    assert_eq!(ann.next().await["event"], "enter");
    ann.close().await;

    tokio::time::sleep(Duration::from_secs(120)).await;
    let (mut ann, _) = connect(&rooms).await;
    let anew = enter(&mut ann, enter_last("ann", 10)).await;
    assert_eq!(anew["history"], 0, "{anew}");
    assert_ne!(anew["epoch"], entered["epoch"]);
    ann.close().await;
    rooms.shutdown().await;
    assert!(rooms.check_consistency().faults.is_empty());
    assert_eq!(rooms.check_consistency().rooms, 0);
}

#[tokio::test(start_paused = true)]
async fn kept_rooms_make_place_for_others() {
    let recovery = Recovery::default().history(History::last(10).keep_for(Duration::from_secs(3600)));
    let limits = Limits::default().max_rooms(2);
    let rooms = builder().recovery(recovery).limits(limits).build().unwrap();
    let (mut ann, _) = connect(&rooms).await;
    for room in ["a", "b", "c", "d"] {
        assert_eq!(enter(&mut ann, enter_frame("ann", room)).await["event"], "entered", "{room}");
        assert_eq!(ann.next().await["event"], "enter");
        ann.send(leave_frame(room)).await;
        assert_eq!(ann.next().await["event"], "left");
    }
    for room in ["e", "f"] {
        assert_eq!(enter(&mut ann, enter_frame("ann", room)).await["event"], "entered", "{room}");
        assert_eq!(ann.next().await["event"], "enter");
    }
    assert_eq!(enter(&mut ann, enter_frame("ann", "g")).await["code"], "too_many_rooms");
    assert!(rooms.check_consistency().faults.is_empty(), "{:?}", rooms.check_consistency());
}

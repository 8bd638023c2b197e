//! Session resumption in several rooms: each room on its own is entered again, left, denied or kept.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, Denied, EnterRequest, History, RateLimits, Recovery};

use crate::support::{
    Client, EventLog, RESUME_WINDOW, assert_empty, builder, enter_frame, enter_since, leave_frame,
    message_with_cid, recovering, recovering_rooms, removed_frame, resume_frame, resumed_and_recovered,
    rooms_in,
};

/// A member of several rooms whose connection is lost.
struct Lost {
    token: Value,
    /// For each room, the position up to which it has received the room.
    positions: Vec<Value>,
}

/// Enters these rooms as "ann" and loses the connection.
async fn lost_member(rooms: &ChatRooms, ids: &[&str]) -> Lost {
    let (mut ann, welcome) = Client::connect_v1(rooms, Admission::anonymous()).await;
    let mut positions = Vec::new();
    for id in ids {
        let entered = ann.enter_another("ann", id).await;
        let seq = entered["seq"].as_u64().unwrap() + 1;
        positions.push(json!({"epoch": entered["epoch"], "seq": seq}));
    }
    ann.disconnect().await;
    Lost { token: welcome["resume"].clone(), positions }
}

/// Connects again and resumes. Returns the token of the new connection too.
async fn resume(rooms: &ChatRooms, token: &Value, expected: &[&str]) -> (Client, Value) {
    let (mut ann, welcome) = Client::connect_v1(rooms, Admission::anonymous()).await;
    let resumed = ann.resume([token]).await;
    assert_eq!(rooms_in(&resumed), expected, "{resumed}");
    (ann, welcome["resume"].clone())
}

/// Enters a room again, and receives these messages as a replay.
async fn enter_again(ann: &mut Client, room: &str, since: &Value, missed: &[&str]) {
    ann.send(enter_since("ann", room, since)).await;
    let entered = ann.next().await;
    assert_eq!(entered["roomId"], room);
    assert_eq!(resumed_and_recovered(&entered), (true, true), "{entered}");
    assert_eq!(entered["replayed"], missed.len(), "{entered}");
    for message in missed {
        ann.expect_message(room, *message).await;
    }
}

#[tokio::test(start_paused = true)]
async fn frames_of_a_room_come_only_after_its_enter_and_each_comes_once() {
    let (rooms, log) = recovering_rooms();
    let (mut bob, _) = Client::enter_rooms(&rooms, "bob", &["a", "b"]).await;
    let lost = lost_member(&rooms, &["a", "b"]).await;
    for _ in 0..2 {
        assert_eq!(bob.next().await["name"], "ann");
    }
    for room in ["a", "b"] {
        bob.say(room, "while lost").await;
    }
    let (mut ann, _) = resume(&rooms, &lost.token, &["a", "b"]).await;
    for room in ["a", "b"] {
        bob.say(room, "after the resume").await;
    }
    ann.assert_quiet().await;
    enter_again(&mut ann, "b", &lost.positions[1], &["while lost", "after the resume"]).await;
    for room in ["a", "b"] {
        bob.say(room, "after the enter of b").await;
    }
    ann.expect_message("b", "after the enter of b").await;
    ann.assert_quiet().await;
    let missed = ["while lost", "after the resume", "after the enter of b"];
    enter_again(&mut ann, "a", &lost.positions[0], &missed).await;
    for room in ["a", "b"] {
        bob.say(room, "after both").await;
        ann.expect_message(room, "after both").await;
        ann.say(room, "back").await;
        // Bob has noticed nothing.
        let back = bob.next().await;
        assert_eq!((&back["message"], &back["num"]), (&json!("back"), &json!(2)));
    }
    assert_eq!(log.take_moves(), ["+ bob a 1", "+ bob b 1", "+ ann a 2", "+ ann b 2"]);
    assert_eq!(rooms.check_consistency().faults, []);
}

#[tokio::test(start_paused = true)]
async fn a_resume_and_all_enters_may_be_sent_at_once() {
    let (rooms, _) = recovering_rooms();
    let ids = ["a", "b", "c", "d"];
    let (mut bob, _) = Client::enter_rooms(&rooms, "bob", &ids).await;
    let lost = lost_member(&rooms, &ids).await;
    for id in ids {
        assert_eq!(bob.next().await["name"], "ann");
        rooms.send(id, &json!({"event": "notice", "message": "missed"})).unwrap();
    }
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let enters = ids.iter().zip(&lost.positions).map(|(id, since)| enter_since("ann", id, since));
    ann.send_at_once([resume_frame([&lost.token])].into_iter().chain(enters)).await;
    assert_eq!(rooms_in(&ann.next().await), ids);
    // Between rooms there is no order.
    let mut frames = Vec::new();
    for _ in 0..ids.len() * 2 {
        frames.push(ann.next().await);
    }
    for id in ids {
        let mut of_room = frames.iter().filter(|frame| frame["roomId"] == id);
        assert_eq!(resumed_and_recovered(of_room.next().unwrap()), (true, true));
        assert_eq!(of_room.next().unwrap()["message"], "missed");
    }
    ann.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_not_entered_again_is_left_after_a_while() {
    let (rooms, log) = recovering_rooms();
    let (mut bob, _) = Client::enter_rooms(&rooms, "bob", &["a", "b"]).await;
    let lost = lost_member(&rooms, &["a", "b"]).await;
    for _ in 0..2 {
        assert_eq!(bob.next().await["name"], "ann");
    }
    let (mut ann, token) = resume(&rooms, &lost.token, &["a", "b"]).await;
    enter_again(&mut ann, "a", &lost.positions[0], &[]).await;
    bob.say("b", "still two").await;
    assert_eq!(rooms.members("b").len(), 2);
    // It is still one after the connection is lost again, and can be entered with the old position.
    ann.disconnect().await;
    let (mut ann, _) = resume(&rooms, &token, &["a", "b"]).await;
    enter_again(&mut ann, "b", &lost.positions[1], &["still two"]).await;
    ann.leave("a").await;
    let out = bob.next().await;
    assert_eq!((&out["event"], &out["roomId"], &out["num"]), (&json!("out"), &json!("a"), &json!(1)));
    ann.say("b", "here").await;
    bob.expect_message("b", "here").await;
    assert_eq!(log.take_moves().last().unwrap(), "- ann a 1 left the room");
    ann.close().await;
    assert_eq!(log.take_moves(), ["- ann b 1 closed by the client"]);

    let lost = lost_member(&rooms, &["a", "b"]).await;
    let (mut ann, _) = resume(&rooms, &lost.token, &["a", "b"]).await;
    enter_again(&mut ann, "a", &lost.positions[0], &[]).await;
    let left = ann.next().await;
    assert_eq!((&left["event"], &left["roomId"]), (&json!("left"), &json!("b")), "{left}");
    assert_eq!(left["code"], "not_entered");
    assert_eq!((rooms.members("a").len(), rooms.members("b").len()), (2, 1));
    assert_eq!(log.take_moves().last().unwrap(), "- ann b 1 never entered");
    ann.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_resumed_client_leaves_a_room_without_entering_it() {
    let (rooms, log) = recovering_rooms();
    let (mut bob, _) = Client::enter_rooms(&rooms, "bob", &["b"]).await;
    let lost = lost_member(&rooms, &["a", "b"]).await;
    assert_eq!(bob.next().await["name"], "ann");
    bob.say("b", "missed").await;
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    ann.send_at_once([
        resume_frame([&lost.token]),
        enter_since("ann", "a", &lost.positions[0]),
        leave_frame("b"),
    ])
    .await;
    assert_eq!(rooms_in(&ann.next().await), ["a", "b"]);
    assert_eq!(ann.next().await["event"], "entered");
    assert_eq!(ann.next().await, json!({"event": "left", "roomId": "b"}), "no frame of the room before");
    assert_eq!(bob.next().await["event"], "out");
    assert_eq!(log.take_moves()[3..], ["- ann b 1 left the room"]);
    // It then enters anew.
    let entered = ann.enter_another("ann", "b").await;
    assert_eq!(resumed_and_recovered(&entered), (false, false));
}

#[tokio::test(start_paused = true)]
async fn a_denial_removes_from_one_room_only() {
    let (log, denied) = (EventLog::default(), Arc::new(Mutex::new("")));
    let (asked, deny) = (EventLog::default(), denied.clone());
    let asking = asked.clone();
    let policy = move |request: &EnterRequest<'_>| {
        asking.push(format!("{} {}", request.room(), request.is_renewal()));
        match request.room().as_str() == *deny.lock().unwrap() {
            true => Err(Denied::new("banned")),
            false => Ok(()),
        }
    };
    let rooms = recovering(&log).policy(policy).build().unwrap();
    let (mut bob, _) = Client::enter_rooms(&rooms, "bob", &["a", "b"]).await;
    let lost = lost_member(&rooms, &["a", "b", "c"]).await;
    for _ in 0..2 {
        assert_eq!(bob.next().await["name"], "ann");
    }
    *denied.lock().unwrap() = "b";
    bob.say("b", "secret").await;
    asked.take();
    let (mut ann, _) = resume(&rooms, &lost.token, &["a", "b", "c"]).await;
    enter_again(&mut ann, "a", &lost.positions[0], &[]).await;
    assert_eq!(asked.take(), ["a true"], "each room is asked about when it is entered");
    ann.send(enter_since("ann", "b", &lost.positions[1])).await;
    assert_eq!(ann.next().await, removed_frame("b", "denied", "banned"));
    enter_again(&mut ann, "c", &lost.positions[2], &[]).await;
    assert_eq!(asked.take(), ["b true", "c true"]);
    assert_eq!(bob.next().await["event"], "out");
    bob.say("b", "secret").await;
    for room in ["a", "c"] {
        ann.say(room, "still here").await;
    }
    bob.expect_message("a", "still here").await;
    assert_eq!(log.take_moves().last().unwrap(), "- ann b 1 denied by the policy");
    // From now on, it is an enter like any other.
    ann.send(enter_frame("ann", "b")).await;
    let refused = ann.next().await;
    assert_eq!((&refused["event"], &refused["roomId"]), (&json!("error"), &json!("b")));
    assert_eq!(asked.take(), ["b false"]);
}

/// A client that is banned meanwhile would otherwise go on sending, because the policy is asked about an enter only.
#[tokio::test(start_paused = true)]
async fn a_resumed_client_can_send_to_a_room_only_after_it_has_entered_it_again() {
    let (rooms, _) = recovering_rooms();
    let (mut bob, _) = Client::enter_rooms(&rooms, "bob", &["r"]).await;
    let lost = lost_member(&rooms, &["r"]).await;
    assert_eq!(bob.next().await["name"], "ann");
    let (mut ann, _) = resume(&rooms, &lost.token, &["r"]).await;
    ann.send(message_with_cid("r", "hi", "c")).await;
    ann.send(json!({"event": "message", "message": "hi", "cid": "d"})).await;
    for cid in ["c", "d"] {
        let refused = ann.next().await;
        assert_eq!((&refused["code"], &refused["cid"]), (&json!("not_entered"), &json!(cid)), "{refused}");
    }
    enter_again(&mut ann, "r", &lost.positions[0], &[]).await;
    ann.say("r", "here").await;
    bob.expect_message("r", "here").await;
}

#[tokio::test(start_paused = true)]
async fn returning_to_many_rooms_does_not_exceed_the_rate_of_enters() {
    let rooms = builder()
        .rate_limits(RateLimits::default().max_enters_per_minute(60).max_new_rooms_per_minute(u32::MAX))
        .recovery(Recovery::default().resume_window(RESUME_WINDOW).history(History::last(9)))
        .build()
        .unwrap();
    let ids: Vec<String> = (0..64).map(|n| format!("r{n:02}")).collect();
    let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    for (n, id) in ids.iter().enumerate() {
        if n == 60 {
            let _ = tokio::time::timeout(Duration::from_secs(10), ann.next()).await.unwrap_err();
        }
        ann.enter_another("ann", id).await;
    }
    ann.disconnect().await;
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let enters = ids.iter().map(|id| enter_frame("ann", id));
    ann.send_at_once([resume_frame([&welcome["resume"]])].into_iter().chain(enters)).await;
    assert_eq!(rooms_in(&ann.next().await), ids);
    for id in &ids {
        let entered = ann.next().await;
        assert_eq!((&entered["roomId"], &entered["resumed"]), (&json!(id), &json!(true)), "{entered}");
    }
    // Further enters of the same rooms do count.
    ann.send_at_once(ids.iter().chain(&ids).take(80).map(|id| enter_frame("ann", id))).await;
    let mut refused = 0;
    for n in 0..80 {
        let answer = ann.next().await;
        assert_eq!(answer["roomId"], ids[n % 64]);
        refused += u32::from(answer["code"] == "rate_limited");
    }
    assert_eq!(refused, 20);
    assert_eq!(rooms.check_consistency().faults, []);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_resumed_only_before_a_room_is_entered() {
    let (rooms, _) = recovering_rooms();
    let lost = lost_member(&rooms, &["a", "b"]).await;
    let (mut ann, _) = Client::enter_rooms(&rooms, "other", &["c"]).await;
    ann.send(resume_frame([&lost.token])).await;
    assert_eq!(ann.next().await["code"], "bad_shape");
    // Nothing has changed: the session is kept, and is resumed by another connection.
    let tokens = vec![lost.token.clone(); 9];
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    ann.send(resume_frame(&tokens)).await;
    assert_eq!(ann.next().await["code"], "bad_shape", "too many tokens");
    for wrong in [json!("token"), json!([1]), Value::Null] {
        ann.send(json!({"event": "resume", "message": wrong})).await;
        assert_eq!(ann.next().await["code"], "bad_shape", "{wrong}");
    }
    assert_eq!(rooms_in(&ann.resume(&tokens[..8]).await), ["a", "b"]);
    // A client that has left all rooms has nothing left to resume.
    for room in ["a", "b"] {
        ann.leave(room).await;
    }
    assert!(rooms_in(&ann.resume([&lost.token]).await).is_empty());
}

#[tokio::test(start_paused = true)]
async fn after_the_resume_window_there_is_one_out_in_each_room() {
    let (rooms, log) = recovering_rooms();
    let (mut bob, _) = Client::enter_rooms(&rooms, "bob", &["a", "b"]).await;
    let lost = lost_member(&rooms, &["a", "b", "c"]).await;
    for _ in 0..2 {
        assert_eq!(bob.next().await["name"], "ann");
    }
    log.take();
    let mut outs = Vec::new();
    for _ in 0..2 {
        let out = bob.next().await;
        assert_eq!((&out["event"], &out["num"]), (&json!("out"), &json!(1)));
        outs.push(out["roomId"].clone());
    }
    outs.sort_by_key(Value::to_string);
    assert_eq!(outs, ["a", "b"]);
    let mut lines = log.take();
    lines.sort();
    assert_eq!(
        lines,
        ["- ann a 1 connection lost", "- ann b 1 connection lost", "- ann c 0 connection lost"]
    );
    let (mut ann, _) = resume(&rooms, &lost.token, &[]).await;
    // Its positions are still of use.
    ann.send(enter_since("ann", "a", &lost.positions[0])).await;
    assert_eq!(resumed_and_recovered(&ann.next().await), (false, true));
    assert_eq!(ann.next().await["event"], "out");
    assert_eq!(ann.next().await["event"], "enter");
}

#[tokio::test(start_paused = true)]
async fn a_lost_client_is_removed_from_a_closed_room_only() {
    let (rooms, log) = recovering_rooms();
    let lost = lost_member(&rooms, &["a", "b"]).await;
    assert_eq!(rooms.close_room("a"), 1);
    assert_eq!(log.take().last().unwrap(), "- ann a 0 room closed");
    assert_eq!(rooms.stats().absent, 1);
    let (mut ann, token) = resume(&rooms, &lost.token, &["b"]).await;
    enter_again(&mut ann, "b", &lost.positions[1], &[]).await;
    // A session that is in no room any more ends.
    ann.disconnect().await;
    assert_eq!(rooms.close_room("b"), 1);
    assert_empty(&rooms);
    let _ = resume(&rooms, &token, &[]).await;
}

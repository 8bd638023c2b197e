//! Transient events, which have no place in the room log, and events that only the host sends.

use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{
    Admission, ChatRooms, ChatRoomsBuilder, History, Limits, MessageRequest, RateLimits, Recovery,
    RoomPolicy, SendError, Verdict,
};

use crate::support::{
    Client, EventLog, RESUME_WINDOW, V1Client, builder, events_arrive, has_redis, nth_id,
    resumed_and_recovered, run_other_tasks, skip_with_broker, skip_with_redis, take_id, v1_admission,
};

fn typing() -> ChatRoomsBuilder {
    builder().transient_events(["typing", "pointer"])
}

fn recovery(frames: usize) -> Recovery {
    Recovery::default().resume_window(RESUME_WINDOW).history(History::last(frames))
}

/// Two `chat-rooms.v1` members, and a plain one, of the room "r". Each has read all enters.
async fn three_members(rooms: &ChatRooms) -> (V1Client, V1Client, Client) {
    let mut ann = V1Client::enter(rooms, "ann").await;
    let mut bob = V1Client::enter(rooms, "bob").await;
    let cat = Client::enter(rooms, "cat", "r").await;
    ann.next().await;
    for client in [&mut ann, &mut bob] {
        client.next().await;
    }
    (ann, bob, cat)
}

/// The plain members "ann" and "bob" of the room "r".
async fn two_members(rooms: &ChatRooms) -> (Client, Client) {
    let mut ann = Client::enter(rooms, "ann", "r").await;
    let bob = Client::enter(rooms, "bob", "r").await;
    ann.next().await;
    (ann, bob)
}

async fn send_message(client: &mut Client, message: &str) {
    client.send(json!({"event": "message", "message": message})).await;
}

async fn send_typing(client: &mut Client, n: usize) {
    client.send(json!({"event": "typing", "n": n})).await;
}

#[tokio::test(start_paused = true)]
async fn a_transient_frame_goes_to_the_other_members_without_a_seq() {
    let log = EventLog::default();
    let rooms = typing().events(log.hook()).build().unwrap();
    let (mut ann, mut bob, mut cat) = three_members(&rooms).await;
    log.take();
    let sent = r#"{"event":"typing","roomId":"r","seq":7,"cid":"c1","on":true,"name":"eve"}"#;
    let stripped = r#"{"event":"typing","roomId":"r","cid":"c1","on":true,"name":"ann","num":3"#;
    // The `cid` is neither acknowledged nor remembered.
    for _ in 0..2 {
        ann.connection.send_text(sent).await;
        assert_eq!(bob.connection.next_text().await, format!(r#"{stripped},"member":"{}"}}"#, nth_id(0)));
        let plain = r#"{"event":"typing","roomId":"r","seq":7,"cid":"c1","on":true,"name":"ann","num":3}"#;
        assert_eq!(cat.next_text().await, plain);
    }
    cat.send_text(r#"{"event":"pointer","message":[1,2]}"#).await;
    let text = r#"{"event":"pointer","message":[1,2],"name":"cat","num":3,"member":"ID","roomId":"r"}"#;
    let text = text.replace("ID", &nth_id(2));
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.connection.next_text().await, text);
    }
    // No sender gets its own, and messages have the next `seq`.
    cat.send(json!({"event": "message", "message": "hi"})).await;
    assert_eq!(cat.next().await["message"], "hi");
    let message = json!({"event": "message", "message": "ho", "cid": "c1"});
    ann.connection.send(message).await;
    ann.expect_message("hi").await;
    let [_, own] = ann.connection.next_acknowledged().await;
    assert_eq!(own["message"], "ho");
    for message in ["hi", "ho"] {
        bob.expect_message(message).await;
    }
    assert_eq!(rooms.stats().messages, 2);
    assert_eq!(log.take().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn transient_frames_cost_a_returning_member_no_message() {
    let rooms = typing().recovery(recovery(3)).build().unwrap();
    let mut ann = V1Client::enter(&rooms, "ann").await;
    let mut bob = V1Client::enter(&rooms, "bob").await;
    ann.next().await;
    bob.disconnect().await;
    for n in 0..3 {
        for typed in 0..12 {
            send_typing(&mut ann.connection, typed).await;
            run_other_tasks().await;
        }
        ann.send_message(n).await;
        ann.expect_message(n).await;
    }
    assert_eq!(resumed_and_recovered(&bob.reconnect(&rooms).await), (true, true));
    for n in 0..3 {
        bob.expect_message(n).await;
    }
    // From now on it gets them again.
    send_typing(&mut ann.connection, 1).await;
    assert_eq!(bob.next().await["event"], "typing");
}

#[tokio::test(start_paused = true)]
async fn a_history_is_trimmed_although_transient_frames_were_sent() {
    let rooms = typing().recovery(recovery(2)).build().unwrap();
    let mut ann = V1Client::enter(&rooms, "ann").await;
    let mut bob = V1Client::enter(&rooms, "bob").await;
    ann.next().await;
    send_typing(&mut ann.connection, 1).await;
    assert_eq!(bob.next().await["event"], "typing");
    bob.disconnect().await;
    for n in 0..5 {
        ann.send_message(n).await;
        ann.expect_message(n).await;
    }
    let entered = bob.reconnect(&rooms).await;
    assert_eq!((resumed_and_recovered(&entered), &entered["replayed"]), ((true, false), &json!(2)));
    for n in [3, 4] {
        bob.expect_message(n).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_transient_frame_replaces_those_that_wait() {
    skip_with_redis!("transient frames come back one by one, so none waits");
    let rooms = typing().build().unwrap();
    let (mut ann, mut bob) = two_members(&rooms).await;
    let frames = (0..12).map(|n| json!({"event": if n % 2 == 0 { "typing" } else { "pointer" }, "n": n}));
    ann.send_at_once(frames).await;
    for n in [10, 11] {
        assert_eq!(bob.next().await["n"], n);
    }
    // They would come after what was sent later.
    ann.send_at_once([json!({"event": "typing"}), json!({"event": "message"}), json!({"event": "pointer"})])
        .await;
    for event in ["message", "pointer"] {
        assert_eq!(bob.next().await["event"], event);
    }
    assert_eq!(rooms.stats().transient_dropped, 0);
}

#[tokio::test(start_paused = true)]
async fn no_transient_frame_follows_its_senders_out() {
    let rooms = typing().build().unwrap();
    let (mut ann, mut bob, mut cat) = three_members(&rooms).await;
    ann.connection.send_at_once([json!({"event": "typing"}), json!({"event": "leave", "roomId": "r"})]).await;
    for (member, event) in [(&mut bob.connection, "out"), (&mut cat, "out"), (&mut ann.connection, "left")] {
        let mut frame = member.next().await;
        // With Redis, it may come before.
        if has_redis() && frame["event"] == "typing" {
            frame = member.next().await;
        }
        assert_eq!(frame["event"], event);
    }
    events_arrive().await;
    send_typing(&mut bob.connection, 1).await;
    assert_eq!(cat.next().await["num"], 2);
    // One that is not in the room cannot send.
    send_typing(&mut ann.connection, 1).await;
    assert_eq!(ann.next().await["code"], "not_entered");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_every_message_and_no_transient_frame() {
    let rooms = typing().build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut bob = Client::connect_as(&rooms, v1_admission(), 600).await;
    bob.send(json!({"event": "enter", "message": "bob", "roomId": "r"})).await;
    while bob.next().await["event"] != "enter" {}
    ann.next().await;
    for n in 0..20 {
        send_message(&mut ann, &format!("{n} {}", "x".repeat(100))).await;
        ann.next().await;
        send_typing(&mut ann, n).await;
        run_other_tasks().await;
    }
    let before = rooms.stats();
    assert!(before.transient_dropped >= 10, "{before:?}");
    assert_eq!(before.lagged, 0);
    let (mut seq, mut messages) = (2, 0);
    while messages < 20 {
        let frame = bob.next().await;
        if frame["event"] == "typing" {
            // Those that came while it could still be written to.
            assert!(messages < 10, "{frame}");
            continue;
        }
        seq += 1;
        assert_eq!(frame["seq"], seq, "{frame}");
        assert!(frame["message"].as_str().unwrap().starts_with(&format!("{messages} ")), "{frame}");
        messages += 1;
    }
    send_typing(&mut ann, 99).await;
    assert_eq!(bob.next().await["n"], 99);
}

#[tokio::test(start_paused = true)]
async fn a_transient_frame_that_was_written_in_part_is_finished() {
    let rooms = typing().build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut bob = Client::connect_as(&rooms, Admission::anonymous(), 300).await;
    bob.send(json!({"event": "enter", "message": "bob", "roomId": "r"})).await;
    assert_eq!(bob.next().await["event"], "enter");
    ann.next().await;
    bob.answer_heartbeats().await;
    let long = "x".repeat(800);
    ann.send(json!({"event": "typing", "message": long})).await;
    run_other_tasks().await;
    for n in 0..3 {
        send_typing(&mut ann, n).await;
        run_other_tasks().await;
    }
    send_message(&mut ann, "hi").await;
    run_other_tasks().await;
    assert_eq!(bob.next().await["message"], long);
    assert_eq!(bob.next().await["message"], "hi");
    assert_eq!(rooms.stats().transient_dropped, 3);
}

#[tokio::test(start_paused = true)]
async fn a_room_holds_a_bounded_number_of_bytes_of_transient_frames() {
    skip_with_broker!("which frames are too many depends on when they come back");
    let rooms = typing().build().unwrap();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    for n in 0..40 {
        rooms
            .send("r", &json!({"event": "typing", "n": n, "message": "x".repeat(1000)}))
            .map(drop)
            .or_else(busy)
            .unwrap();
    }
    for n in 0..15 {
        assert_eq!(bob.next().await["n"], n);
    }
    rooms.send("r", &json!({"event": "typing", "n": 99})).unwrap();
    assert_eq!(bob.next().await["n"], 99);
}

fn busy(error: SendError) -> Result<(), SendError> {
    if matches!(error, SendError::Busy) { Ok(()) } else { Err(error) }
}

#[tokio::test(start_paused = true)]
async fn transient_frames_beyond_their_rate_are_dropped_and_cost_no_message() {
    let rates = RateLimits::default().max_transient_per_second(3).max_messages_per_second(5);
    let rooms = typing().rate_limits(rates).build().unwrap();
    let (mut ann, mut bob) = two_members(&rooms).await;
    for n in 0..12 {
        send_typing(&mut ann, n).await;
        run_other_tasks().await;
    }
    for n in 0..6 {
        assert_eq!(bob.next().await["n"], n);
    }
    // Nine, because its enter was a message.
    for n in 0..9 {
        send_message(&mut ann, &n.to_string()).await;
        for client in [&mut ann, &mut bob] {
            assert_eq!(client.next().await["message"], n.to_string());
        }
    }
    assert_eq!(rooms.stats().rate_limited, 6);
    tokio::time::sleep(Duration::from_millis(500)).await;
    send_typing(&mut ann, 50).await;
    assert_eq!(bob.next().await["n"], 50);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_transient_frames_ends_the_connection() {
    let rates = RateLimits::default().max_rate_violations(10);
    let rooms = typing().rate_limits(rates).build().unwrap();
    let (mut ann, bob) = two_members(&rooms).await;
    for n in 0..300 {
        send_typing(&mut ann, n).await;
        run_other_tasks().await;
        if ann.task.is_finished() {
            break;
        }
    }
    assert_eq!(ann.close_code().await, 1008);
    assert_eq!(rooms.stats().flooded, 1);
    drop(bob);
}

#[tokio::test(start_paused = true)]
async fn a_transient_frame_that_is_too_big_is_refused() {
    let rates = RateLimits::default().max_messages_per_second(5);
    let rooms = typing().rate_limits(rates).build().unwrap();
    let (mut ann, mut bob, _cat) = three_members(&rooms).await;
    let frame = |len: usize| {
        let empty = r#"{"event":"typing","cid":"c","message":""}"#.len();
        format!(r#"{{"event":"typing","cid":"c","message":"{}"}}"#, "x".repeat(len - empty))
    };
    ann.connection.send_text(frame(1024)).await;
    assert_eq!(bob.next().await["event"], "typing");
    // A longer one counts as a message.
    for code in [vec!["too_big"; 9], vec!["rate_limited"]].concat() {
        ann.connection.send_text(frame(1025)).await;
        let error = ann.next().await;
        assert_eq!((&error["code"], &error["cid"]), (&json!(code), &json!("c")));
    }
}

struct Quiet;

impl RoomPolicy for Quiet {
    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        match (request.event(), request.text().as_deref()) {
            ("typing", Some("drop")) => Verdict::drop_silently(),
            ("typing", Some("refuse")) => Verdict::refuse("be quiet"),
            ("typing", Some("replace")) => {
                Verdict::replace(&json!({"event": "typing", "message": "replaced"})).unwrap()
            }
            _ => Verdict::allow(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_policy_decides_about_transient_frames() {
    let rooms = typing().policy(Quiet).build().unwrap();
    let (mut ann, mut bob, mut cat) = three_members(&rooms).await;
    for message in ["drop", "refuse", "replace"] {
        ann.connection.send(json!({"event": "typing", "message": message, "cid": "c"})).await;
    }
    let denied = json!({"event": "error", "code": "denied", "message": "be quiet", "cid": "c"});
    assert_eq!(ann.next().await, denied);
    let replaced = r#"{"event":"typing","message":"replaced","name":"ann","num":3"#;
    let v1 = format!(r#"{replaced},"member":"{}","roomId":"r"}}"#, nth_id(0));
    assert_eq!(bob.connection.next_text().await, v1);
    assert_eq!(cat.next_text().await, format!("{replaced}}}"));
    ann.send_message("hi").await;
    ann.expect_message("hi").await;
}

/// Replaces messages by transient frames, and the other way round.
struct Swap;

impl RoomPolicy for Swap {
    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        let event = if request.event() == "typing" { "message" } else { "typing" };
        Verdict::replace(&json!({"event": event, "message": "replaced"})).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn the_event_of_a_replacement_decides_whether_it_is_transient() {
    let rooms = typing().policy(Swap).build().unwrap();
    let (mut bob, _) = Client::enter_rooms(&rooms, "bob", &["r"]).await;
    let (mut ann, entered) = Client::connect_v1(&rooms, v1_admission()).await;
    assert_eq!(entered["event"], "welcome");
    let seq = ann.enter_another("ann", "r").await["seq"].as_u64().unwrap();
    assert_eq!(bob.next().await["name"], "ann");
    ann.send(json!({"event": "typing", "cid": "t"})).await;
    for client in [&mut ann, &mut bob] {
        let frame = client.next().await;
        assert_eq!((&frame["event"], &frame["seq"]), (&json!("message"), &json!(seq + 2)), "{frame}");
        assert_eq!(frame["cid"], Value::Null);
    }
    // It is acknowledged and remembered all the same, so that its sender need not send it again.
    for _ in 0..2 {
        ann.send(json!({"event": "message", "message": "hi", "cid": "m"})).await;
        let mut ack = ann.next().await;
        take_id(&mut ack);
        assert_eq!(ack, json!({"event": "ack", "cid": "m", "seq": seq + 2}));
    }
    let frame = bob.next().await;
    assert_eq!((&frame["event"], &frame["seq"]), (&json!("typing"), &Value::Null), "{frame}");
    rooms.send("r", &json!({"event": "notice"})).unwrap();
    assert_eq!(bob.next().await["event"], "notice");
}

#[tokio::test(start_paused = true)]
async fn the_host_sends_transient_frames_to_all_members() {
    let rooms = typing().recovery(recovery(9)).build().unwrap();
    let (mut ann, mut bob, mut cat) = three_members(&rooms).await;
    rooms.send("r", &json!({"event": "typing", "member": "1", "seq": 1})).unwrap();
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.connection.next_text().await, r#"{"event":"typing","num":3,"roomId":"r"}"#);
    }
    assert_eq!(cat.next().await["num"], 3);
    rooms.send("r", &json!({"event": "message", "message": "hi"})).unwrap();
    ann.expect_message("hi").await;
}

#[tokio::test(start_paused = true)]
async fn only_the_host_sends_its_events() {
    let limits = Limits::default().max_bad_frames(3);
    let rooms = builder().host_events(["notice"]).limits(limits).build().unwrap();
    let (mut ann, _bob, mut cat) = three_members(&rooms).await;
    let text = r#"the event "notice" is sent by the server only"#;
    for name in ["notice", r"n\u006ftice"] {
        ann.connection.send_text(format!(r#"{{"event":"{name}","message":"hi","cid":"c"}}"#)).await;
        let error = json!({"event": "error", "code": "reserved_event", "message": text, "cid": "c"});
        assert_eq!(ann.next().await, error);
    }
    cat.send(json!({"event": "notice", "cid": "c"})).await;
    assert_eq!(cat.next().await, json!({"event": "error", "code": "reserved_event", "message": text}));
    rooms.send("r", &json!({"event": "notice", "message": "hi", "member": "2"})).unwrap();
    let notice = r#"{"event":"notice","message":"hi","num":3"#;
    let text = ann.connection.next_text().await;
    let id = serde_json::from_str::<Value>(&text).unwrap()["id"].clone();
    assert_eq!(text, format!(r#"{notice},"id":{id},"roomId":"r","seq":4}}"#));
    let frame: Value = cat.next().await;
    assert_eq!(frame.get("id"), None, "a plain client");
    assert_eq!((&frame["message"], frame.get("name")), (&json!("hi"), None));
    // As with the server's own events, a client that repeats it is closed.
    ann.connection.send(json!({"event": "notice"})).await;
    assert_eq!(ann.next().await["code"], "reserved_event");
    assert_eq!(ann.connection.close_code().await, 1008);
}

#[tokio::test(start_paused = true)]
async fn the_welcome_names_the_transient_events_and_their_rate() {
    let (_client, welcome) = Client::connect_v1(&typing().build().unwrap(), Admission::anonymous()).await;
    assert_eq!(welcome["transient"], json!(["typing", "pointer"]));
    assert_eq!(welcome["rates"], json!({"messages": 100, "bytes": 262_144, "burst": 2, "transient": 20}));
    let rates = RateLimits::default().max_messages_per_second(u32::MAX).max_transient_per_second(u32::MAX);
    let rooms = typing().rate_limits(rates.clone()).build().unwrap();
    let (_client, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    assert_eq!(welcome["rates"], json!({"messages": null, "bytes": 262_144, "burst": 2, "transient": null}));
    let rooms = builder().rate_limits(rates).build().unwrap();
    let (_client, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    assert_eq!((welcome.get("transient"), welcome["rates"].get("transient")), (None, None));
}

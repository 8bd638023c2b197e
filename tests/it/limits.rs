//! Limits, and settings that contradict each other.

use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRoomsBuilder, Heartbeat, Limits, RateLimits, Timeouts};

use crate::support::{Client, builder, enter_since};

#[test]
fn contradictions_are_build_errors_that_name_the_setting() {
    let ms = Duration::from_millis;
    let cases: [(ChatRoomsBuilder, &str); 24] = [
        (builder().heartbeat(Heartbeat::every(ms(49))), "interval of ChatRoomsBuilder::heartbeat"),
        (
            builder().heartbeat(Heartbeat::every(ms(100)).with_timeout(ms(101))),
            "timeout of ChatRoomsBuilder::heartbeat",
        ),
        (
            builder().heartbeat(Heartbeat::every(ms(100)).with_timeout(ms(0))),
            "timeout of ChatRoomsBuilder::heartbeat",
        ),
        (builder().v1_heartbeat(Heartbeat::every(ms(49))), "interval of ChatRoomsBuilder::v1_heartbeat"),
        (
            builder().v1_heartbeat(Heartbeat::every(ms(100)).with_timeout(ms(101))),
            "timeout of ChatRoomsBuilder::v1_heartbeat",
        ),
        (builder().limits(Limits::default().max_depth(128)), "Limits::max_depth"),
        (builder().limits(Limits::default().max_depth(usize::MAX)), "use at most 127"),
        (builder().limits(Limits::default().max_message_bytes(0)), "max_message_bytes"),
        (builder().limits(Limits::default().max_message_bytes(100)), "max_name_bytes"),
        (builder().limits(Limits::default().max_message_bytes(1 << 20)), "max_queue_bytes"),
        (builder().limits(Limits::default().max_name_bytes(0)), "max_name_bytes"),
        (builder().limits(Limits::default().max_connections(0)), "max_connections"),
        (builder().limits(Limits::default().max_connections_per_ip(0)), "max_connections_per_ip"),
        (builder().limits(Limits::default().max_pending(0)), "max_pending"),
        (builder().limits(Limits::default().max_queue_frames(0)), "max_queue_frames"),
        (builder().limits(Limits::default().max_bad_frames(0)), "max_bad_frames"),
        (builder().rate_limits(RateLimits::default().max_messages_per_second(0)), "max_messages_per_second"),
        (
            builder().rate_limits(RateLimits::default().max_bytes_per_second(32 * 1024 - 1)),
            "max_bytes_per_second",
        ),
        (builder().rate_limits(RateLimits::default().max_enters_per_minute(0)), "max_enters_per_minute"),
        (
            builder().rate_limits(RateLimits::default().max_new_rooms_per_minute(0)),
            "max_new_rooms_per_minute",
        ),
        (builder().timeouts(Timeouts::default().write_timeout(ms(0))), "write_timeout"),
        (builder().timeouts(Timeouts::default().max_lifetime(ms(0))), "max_lifetime"),
        (builder().timeouts(Timeouts::default().enter_timeout(ms(0))), "enter_timeout"),
        (builder().timeouts(Timeouts::default().close_timeout(ms(0))), "close_timeout"),
    ];
    for (builder, name) in cases {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains(name), "{name}: {error}");
    }
}

#[test]
fn all_limits_can_be_removed() {
    builder()
        .limits(
            Limits::default()
                .max_message_bytes(usize::MAX)
                .max_name_bytes(usize::MAX)
                .max_room_id_bytes(usize::MAX)
                .max_room_members(usize::MAX)
                .max_rooms(usize::MAX)
                .max_connections(usize::MAX)
                .max_connections_per_ip(usize::MAX)
                .max_pending(usize::MAX)
                .max_queue_frames(usize::MAX)
                .max_queue_bytes(usize::MAX)
                .max_failed_auths(u32::MAX)
                .max_bad_frames(u32::MAX),
        )
        .rate_limits(
            RateLimits::default()
                .max_messages_per_second(u32::MAX)
                .max_bytes_per_second(usize::MAX)
                .max_enters_per_minute(u32::MAX)
                .max_new_rooms_per_minute(u32::MAX)
                .max_rate_violations(u32::MAX),
        )
        .timeouts(
            Timeouts::default()
                .max_lifetime(Duration::MAX)
                .write_timeout(Duration::MAX)
                .enter_timeout(Duration::MAX)
                .auth_timeout(Duration::MAX)
                .hook_timeout(Duration::MAX)
                .close_timeout(Duration::MAX),
        )
        .build()
        .unwrap();
}

/// A frame of the greatest depth that can be configured used to be the deepest of any configuration.
#[tokio::test(start_paused = true)]
async fn the_greatest_depth_can_be_sent_and_received() {
    let rooms = builder().limits(Limits::default().max_depth(127)).build().unwrap();
    let mut ann = Client::connect(&rooms).await;
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    assert_eq!(ann.next().await["num"], 1);
    let nested = |depth: usize| {
        let arrays = depth - 1;
        // The escape makes the server parse the whole frame.
        format!(r#"{{"event":"x","b":"\u0061","a":{}{}}}"#, "[".repeat(arrays), "]".repeat(arrays))
    };
    ann.send_text(nested(127)).await;
    assert_eq!(ann.next().await["event"], "x");
    ann.send_text(nested(128)).await;
    assert_eq!(ann.next().await["code"], "too_deep");
}

/// A client must know which of its frames was refused.
#[tokio::test(start_paused = true)]
async fn the_refusal_of_a_deep_frame_names_the_message_or_the_room() {
    let rooms = builder().limits(Limits::default().max_depth(2)).build().unwrap();
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["r"]).await;
    let named =
        |error: Value| (error["code"].clone(), error.get("cid").cloned(), error.get("roomId").cloned());
    let deep = json!([[1]]);
    ann.send(json!({"event": "message", "message": deep, "roomId": "r", "cid": "c"})).await;
    assert_eq!(named(ann.next().await), (json!("too_deep"), Some(json!("c")), None));
    for event in ["state", "typing"] {
        ann.send(json!({"event": event, "message": 1, "state": deep, "roomId": "r"})).await;
        assert_eq!(named(ann.next().await), (json!("too_deep"), None, Some(json!("r"))), "{event}");
    }
    ann.send(json!({"event": "typing", "message": deep})).await;
    assert_eq!(named(ann.next().await), (json!("too_deep"), None, None));
}

#[tokio::test(start_paused = true)]
async fn names_rooms_depth_and_messages_are_limited() {
    let rooms = builder()
        .limits(Limits::default().max_name_bytes(6).max_room_id_bytes(4).max_depth(3).max_message_bytes(300))
        .build()
        .unwrap();
    let mut ann = Client::connect(&rooms).await;
    for (name, room, code) in
        [("seven77", "r", "bad_name"), ("小明小", "r", "bad_name"), ("ann", "rooms", "bad_room_id")]
    {
        ann.send(json!({"event": "enter", "message": name, "roomId": room})).await;
        assert_eq!(ann.next().await["code"], code);
    }
    ann.send(json!({"event": "enter", "message": "小明", "roomId": "1234"})).await;
    assert_eq!(ann.next().await["num"], 1);
    ann.send(json!({"event": "x", "a": [[1]]})).await;
    assert_eq!(ann.next().await["event"], "x");
    ann.send(json!({"event": "x", "a": [[[1]]]})).await;
    assert_eq!(ann.next().await["code"], "too_deep");
    let long = |n: usize| format!(r#"{{"event":"x","a":"{}"}}"#, "x".repeat(n - 20));
    ann.send_text(long(300)).await;
    assert_eq!(ann.next().await["event"], "x");
    ann.send_text(long(301)).await;
    assert_eq!(ann.close_code().await, 1009);
}

#[tokio::test(start_paused = true)]
async fn connections_are_limited_and_permits_returned() {
    let rooms = builder().limits(Limits::default().max_connections(2)).build().unwrap();
    for _ in 0..5 {
        let ann = Client::enter(&rooms, "ann", "r").await;
        let bob = Client::connect(&rooms).await;
        let mut carol = Client::connect(&rooms).await;
        assert_eq!(carol.close_code().await, 1006);
        ann.close().await;
        let mut carol = Client::enter(&rooms, "carol", "r").await;
        carol.send(json!({"event": "message"})).await;
        assert_eq!(carol.next().await["event"], "message");
        carol.disconnect().await;
        bob.close().await;
    }
    assert_eq!(rooms.stats().refused, 5);
}

/// Resume tokens and positions do not count against the limit of an enter's other keys.
#[tokio::test(start_paused = true)]
async fn resume_tokens_and_positions_do_not_count_as_part_of_an_enter() {
    let rooms = builder().limits(Limits::default().max_enter_bytes(64)).build().unwrap();
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let tokens = vec![json!("x".repeat(32)); 8];
    let since = json!({"epoch": "x".repeat(32), "seq": 1});
    let entered = ann.resume_and_enter(&tokens, enter_since("ann", "r", &since)).await;
    assert_eq!(entered["event"], "entered");
}

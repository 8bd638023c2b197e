//! The states of members.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower_chat_rooms::{
    Access, Admission, ChatRooms, Denied, EnterRequest, MessageRequest, RoomPolicy, Verdict,
};

use crate::support::{
    Client, RESUME_WINDOW, V1Client, builder, default_rooms, enter_frame, message_frame, nth_id,
    recovering_rooms, unlimited,
};

const INTERVAL: Duration = Duration::from_millis(100);

fn state_frame(state: impl Into<Value>) -> Value {
    json!({"event": "state", "state": state.into(), "roomId": "r"})
}

fn state_of(member: u64, name: &str, num: usize, state: impl Into<Value>) -> Value {
    json!({"event": "state", "state": state.into(), "name": name, "num": num, "member": nth_id(member), "roomId": "r"})
}

/// The members "ann" (0) and "bob" (1) of the room "r".
async fn two_members(rooms: &ChatRooms) -> (Client, Client) {
    let (mut ann, _) = Client::enter_rooms(rooms, "ann", &["r"]).await;
    let (bob, _) = Client::enter_rooms(rooms, "bob", &["r"]).await;
    ann.next().await;
    (ann, bob)
}

fn states(rooms: &ChatRooms) -> Vec<Option<String>> {
    rooms.members("r").into_iter().map(|member| member.state).collect()
}

#[tokio::test(start_paused = true)]
async fn a_state_goes_to_the_other_v1_members_without_a_seq() {
    let rooms = default_rooms();
    let (mut ann, mut bob) = two_members(&rooms).await;
    let mut cat = Client::enter(&rooms, "cat", "r").await;
    for client in [&mut ann, &mut bob] {
        client.next().await;
    }
    ann.send(state_frame(json!({"away": true}))).await;
    assert_eq!(bob.next().await, state_of(0, "ann", 3, json!({"away": true})));
    assert_eq!(states(&rooms), [Some("{\"away\":true}".into()), None, None]);
    // Without a room id, it is for the only room. `null` and nothing remove it.
    for frame in [json!({"event": "state", "state": null}), json!({"event": "state"})] {
        sleep(INTERVAL).await;
        ann.send(state_frame(1)).await;
        assert_eq!(bob.next().await["state"], 1);
        sleep(INTERVAL).await;
        ann.send(frame).await;
        assert_eq!(bob.next().await, state_of(0, "ann", 3, Value::Null));
    }
    assert_eq!(states(&rooms), [None, None, None]);
    // The same state again is not sent.
    ann.send(state_frame(Value::Null)).await;
    ann.send(message_frame("r", "hi")).await;
    for client in [&mut ann, &mut bob, &mut cat] {
        let frame = client.next().await;
        assert_eq!(frame["message"], "hi");
    }
    cat.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_of_several_changes_is_sent() {
    let rooms = unlimited().build().unwrap();
    let (mut ann, mut bob) = two_members(&rooms).await;
    let start = Instant::now();
    let mut seen = Vec::new();
    for n in 0..100 {
        ann.send(state_frame(n)).await;
        sleep(INTERVAL / 10).await;
    }
    loop {
        let state = bob.next().await["state"].as_u64().unwrap();
        seen.push(state);
        if state == 99 {
            break;
        }
    }
    assert_eq!(seen[0], 0);
    assert!((10..=12).contains(&seen.len()), "{seen:?}");
    assert!(start.elapsed() <= 11 * INTERVAL, "{:?}", start.elapsed());
    sleep(INTERVAL).await;
    // A single change is sent at once.
    let now = Instant::now();
    ann.send(state_frame("x")).await;
    assert_eq!(bob.next().await["state"], "x");
    assert_eq!(now.elapsed(), Duration::ZERO);
    // Changes of a member that has left are not sent.
    ann.send(state_frame("y")).await;
    ann.send(json!({"event": "leave", "roomId": "r"})).await;
    assert_eq!(bob.next().await["event"], "out");
    sleep(2 * INTERVAL).await;
    bob.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn states_beyond_the_rate_close_no_connection() {
    let rooms = default_rooms();
    let (mut ann, mut bob) = two_members(&rooms).await;
    let reading = tokio::spawn(async move {
        while bob.next().await["state"] != 4_999 {}
        bob
    });
    for n in 0..5_000 {
        ann.send(state_frame(n)).await;
    }
    // A message after them is not refused either.
    ann.send(message_frame("r", "hi")).await;
    let frame = ann.next().await;
    assert_eq!(frame["message"], "hi", "{frame}");
    reading.await.unwrap().assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_state_may_have_1024_bytes() {
    let rooms = default_rooms();
    let (mut ann, mut bob) = two_members(&rooms).await;
    let (most, more) = ("x".repeat(1_022), "x".repeat(1_023));
    ann.send(state_frame(&*most)).await;
    assert_eq!(bob.next().await["state"], most);
    ann.send(state_frame(&*more)).await;
    ann.send(json!({"event": "state", "state": more})).await;
    for _ in 0..2 {
        let error = ann.next().await;
        assert_eq!((&error["code"], &error["roomId"]), (&json!("too_big"), &json!("r")));
    }
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "s", "state": more})).await;
    let error = ann.next().await;
    assert_eq!((&error["code"], &error["roomId"]), (&json!("too_big"), &json!("s")));
    let nowhere = json!({"event": "state", "state": 1, "roomId": "nowhere"});
    ann.send(nowhere).await;
    let error = ann.next().await;
    assert_eq!((&error["code"], &error["roomId"]), (&json!("not_entered"), &json!("nowhere")));
    assert_eq!(states(&rooms), [Some(format!("\"{most}\"")), None]);
}

struct NoAdvertising;

impl RoomPolicy for NoAdvertising {
    async fn may_enter(&self, _: &EnterRequest<'_>) -> Result<Access, Denied> {
        Ok(Access::member())
    }

    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        assert_eq!(request.event(), "state");
        match request.body() {
            body if body.contains("buy") => Verdict::refuse("no advertising"),
            body if body.contains("later") => Verdict::later(async { Verdict::refuse("thought about it") }),
            body if body.contains("damn") => {
                Verdict::replace(&json!({"event": "state", "state": "***"})).unwrap()
            }
            body if body.contains("secret") => Verdict::drop_silently(),
            _ => Verdict::allow(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_policy_is_asked_about_a_state() {
    let rooms = unlimited().policy(NoAdvertising).build().unwrap();
    let (mut ann, mut bob) = two_members(&rooms).await;
    for (state, reason) in [("buy", "no advertising"), ("later", "thought about it")] {
        ann.send(json!({"event": "state", "state": state})).await;
        let error = json!({"event": "error", "code": "denied", "message": reason, "roomId": "r"});
        assert_eq!(ann.next().await, error);
    }
    for (state, seen) in [("damn", "***"), ("fine", "fine")] {
        ann.send(state_frame(state)).await;
        assert_eq!(bob.next().await["state"], seen);
        sleep(INTERVAL).await;
    }
    ann.send(state_frame("secret")).await;
    ann.assert_quiet().await;
    bob.assert_quiet().await;
    assert_eq!(states(&rooms), [Some("\"fine\"".into()), None]);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_enters_brings_its_state_and_a_resumed_one_still_has_it() {
    let (rooms, _log) = recovering_rooms();
    let mut ann = V1Client::enter(&rooms, "ann").await;
    let (mut bob, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let enter = r#"{"event":"enter","message":"bob","roomId":"r","state":[1],"user":"admin","info":{},"mood":"good"}"#;
    bob.send_text(enter).await;
    assert_eq!(bob.next().await["members"], json!([{"member": nth_id(0), "name": "ann"}]));
    // What only the server may set is gone.
    let own = json!({"event": "enter", "message": "bob", "roomId": "r", "mood": "good", "state": [1], "name": "bob",
        "num": 2, "member": nth_id(1), "seq": 2});
    assert_eq!(bob.next().await, own);
    assert_eq!(ann.next().await, own);
    ann.connection.send(state_frame("here")).await;
    assert_eq!(bob.next().await["state"], "here");
    ann.disconnect().await;
    sleep(RESUME_WINDOW / 2).await;
    let entered = ann.reconnect(&rooms).await;
    let roster = json!([{"member": nth_id(0), "name": "ann", "state": "here"}, {"member": nth_id(1), "name": "bob", "state": [1]}]);
    assert_eq!(entered["members"], roster);
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_a_plain_enter_are_its_own() {
    let rooms = default_rooms();
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["r"]).await;
    let mut cat = Client::connect(&rooms).await;
    cat.send_text(r#"{"event":"enter","message":"cat","roomId":"r","user":1,"info":2,"state":3,"x":4}"#)
        .await;
    let own = r#"{"event":"enter","message":"cat","roomId":"r","user":1,"info":2,"state":3,"x":4,"name":"cat","num":2}"#;
    assert_eq!(cat.next_text().await, own);
    let seen = format!(
        r#"{{"event":"enter","message":"cat","roomId":"r","x":4,"name":"cat","num":2,"member":"{}","seq":2}}"#,
        nth_id(1)
    );
    assert_eq!(ann.next_text().await, seen);
    assert_eq!(states(&rooms), [None, None]);
}

#[tokio::test(start_paused = true)]
async fn the_events_of_presence_are_reserved() {
    let rooms = default_rooms();
    let mut cat = Client::enter(&rooms, "cat", "r").await;
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["r"]).await;
    cat.next().await;
    for event in ["state", "presence", "members", "direct"] {
        cat.send(json!({"event": event, "message": 1})).await;
        assert_eq!(cat.next().await["code"], "reserved_event", "{event}");
        let built = builder().transient_events([event]).build();
        assert!(built.unwrap_err().to_string().contains("belongs to the protocol"));
    }
    ann.send(json!({"event": "presence", "message": 1, "roomId": "r"})).await;
    assert_eq!(ann.next().await["code"], "reserved_event");
    ann.send(enter_frame("ann", "r")).await;
    assert_eq!(ann.next().await["resumed"], true);
}

//! What members learn about each other in each presence mode.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower_chat_rooms::{
    Access, Admission, ChatRooms, Denied, EnterRequest, Presence, RoomId, RoomPolicy, User,
};

use crate::support::{Client, EventLog, assert_empty, enter_frame, message_frame, unlimited};

const SECOND: Duration = Duration::from_secs(1);

fn with(presence: Presence) -> ChatRooms {
    unlimited().presence(presence).build().unwrap()
}

fn presence(mode: &str, num: usize, users: usize) -> Value {
    json!({"event": "presence", "roomId": "r", "mode": mode, "num": num, "users": users})
}

/// Connects as a `chat-rooms.v1` client, enters the room "r", and reads the answer.
async fn enter(rooms: &ChatRooms, name: &str) -> (Client, Value) {
    enter_as(rooms, name, Admission::anonymous()).await
}

async fn enter_as(rooms: &ChatRooms, name: &str, admission: Admission) -> (Client, Value) {
    let (mut client, _) = Client::connect_v1(rooms, admission).await;
    client.send(enter_frame(name, "r")).await;
    let entered = client.next().await;
    assert_eq!(entered["event"], "entered", "{entered}");
    (client, entered)
}

#[tokio::test(start_paused = true)]
async fn in_count_mode_enters_and_outs_have_no_frame_and_no_seq() {
    let rooms = with(Presence::Count);
    let (mut ann, entered) = enter(&rooms, "ann").await;
    assert_eq!(
        (&entered["mode"], &entered["seq"], &entered["num"], &entered["users"]),
        (&json!("count"), &json!(0), &json!(1), &json!(0))
    );
    assert!(entered.get("members").is_none() && entered.get("next").is_none(), "{entered}");
    // Its own enter changed the number from 0.
    assert_eq!(ann.next().await, presence("count", 1, 0));
    let (mut bob, entered) = enter(&rooms, "bob").await;
    assert_eq!((&entered["seq"], &entered["num"]), (&json!(0), &json!(2)));
    ann.send(message_frame("r", "hi")).await;
    for client in [&mut ann, &mut bob] {
        let message = client.next().await;
        assert_eq!(
            (&message["seq"], &message["num"], &message["message"]),
            (&json!(1), &json!(2), &json!("hi"))
        );
    }
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.next().await, presence("count", 2, 0));
    }
    bob.close().await;
    ann.send(message_frame("r", "ho")).await;
    let message = ann.next().await;
    assert_eq!((&message["seq"], &message["num"]), (&json!(2), &json!(1)));
    assert_eq!(ann.next().await, presence("count", 1, 0));
    assert_eq!(rooms.rooms()[0].online, 1);
}

#[tokio::test(start_paused = true)]
async fn the_number_is_sent_at_most_once_a_second() {
    let rooms = with(Presence::Count);
    let start = Instant::now();
    let (mut ann, _) = enter(&rooms, "ann").await;
    assert_eq!(ann.next().await, presence("count", 1, 0));
    assert_eq!(start.elapsed(), Duration::ZERO);
    let mut others = Vec::new();
    for n in 0..30 {
        let user = Admission::user(User::new(format!("u-{}", n % 3)));
        others.push(enter_as(&rooms, "bob", user).await.0);
        sleep(SECOND / 10).await;
    }
    let mut times = Vec::new();
    for num in [11, 21, 31] {
        let frame = ann.next().await;
        times.push(start.elapsed());
        assert_eq!((&frame["event"], &frame["users"]), (&json!("presence"), &json!(3)), "{frame}");
        assert!((num - 1..=num + 1).contains(&frame["num"].as_u64().unwrap()), "{frame}");
    }
    // They were read late, but no further one arrives.
    ann.assert_quiet().await;
    let num = rooms.rooms()[0].online;
    others.pop().unwrap().close().await;
    let before = Instant::now();
    assert_eq!(ann.next().await, presence("count", num - 1, 3));
    assert!(before.elapsed() <= SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_first_enter_and_the_last_leave_are_announced_at_once() {
    struct Lurkers;
    impl RoomPolicy for Lurkers {
        async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
            let is_hidden = request.name().as_str() == "lurker";
            Ok(if is_hidden { Access::member().hidden() } else { Access::member() })
        }
    }
    let rooms = unlimited().presence(Presence::Count).policy(Lurkers).build().unwrap();
    let (mut lurker, entered) = enter(&rooms, "lurker").await;
    assert_eq!((&entered["num"], &entered["hidden"]), (&json!(0), &json!(true)));
    for _ in 0..5 {
        let now = Instant::now();
        let (ann, _) = enter(&rooms, "ann").await;
        assert_eq!(lurker.next().await, presence("count", 1, 0));
        ann.close().await;
        assert_eq!(lurker.next().await, presence("count", 0, 0));
        assert_eq!(now.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn in_quiet_mode_the_number_is_only_in_other_frames() {
    let rooms = with(Presence::Quiet);
    let (mut ann, entered) = enter(&rooms, "ann").await;
    assert_eq!((&entered["mode"], &entered["num"]), (&json!("quiet"), &json!(1)));
    let (bob, entered) = enter(&rooms, "bob").await;
    assert_eq!((&entered["seq"], &entered["num"]), (&json!(0), &json!(2)));
    sleep(5 * SECOND).await;
    ann.assert_quiet().await;
    ann.send(message_frame("r", "hi")).await;
    assert_eq!(ann.next().await["num"], 2);
    bob.close().await;
    sleep(5 * SECOND).await;
    ann.assert_quiet().await;
    ann.send(json!({"event": "members", "roomId": "r"})).await;
    let answer = json!({"event": "members", "roomId": "r", "seq": 1, "mode": "quiet", "num": 1, "users": 0});
    assert_eq!(ann.next().await, answer);
}

#[tokio::test(start_paused = true)]
async fn a_plain_client_gets_only_its_own_enter() {
    for presence in [Presence::Count, Presence::Quiet] {
        let rooms = with(presence);
        let mut ann = Client::connect(&rooms).await;
        ann.send(json!({"event": "enter", "message": "ann", "roomId": "r", "color": "red"})).await;
        let own = r#"{"event":"enter","message":"ann","roomId":"r","color":"red","name":"ann","num":1}"#;
        assert_eq!(ann.next_text().await, keys_sorted(own));
        let bob = Client::enter(&rooms, "bob", "r").await;
        let (mut cat, _) = enter(&rooms, "cat").await;
        bob.close().await;
        // Nothing but heartbeats.
        for _ in 0..15 {
            sleep(SECOND / 5).await;
            ann.answer_heartbeats().await;
        }
        cat.send(message_frame("r", "hi")).await;
        let message = ann.next().await;
        assert_eq!((&message["message"], &message["num"]), (&json!("hi"), &json!(2)));
        // Under another name, and in another room.
        ann.send(enter_frame("anne", "r")).await;
        let own = ann.next().await;
        assert_eq!((&own["name"], &own["num"]), (&json!("anne"), &json!(2)));
        ann.send(enter_frame("anne", "s")).await;
        let own = ann.next().await;
        assert_eq!((&own["event"], &own["num"]), (&json!("enter"), &json!(1)));
        assert_eq!(rooms.check_consistency().faults, []);
    }
}

/// As the client sent it: serde_json sorts the keys of what it serializes.
fn keys_sorted(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap();
    let (mut head, mut tail) = (value.clone(), String::new());
    for key in ["name", "num"] {
        let value = head.as_object_mut().unwrap().remove(key).unwrap();
        tail += &format!(",\"{key}\":{value}");
    }
    let head = head.to_string();
    format!("{}{tail}}}", head.strip_suffix('}').unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_auto_room_counts_while_it_is_large() {
    let rooms = with(Presence::auto(3, 1).unwrap());
    let (mut ann, entered) = enter(&rooms, "ann").await;
    assert_eq!((&entered["mode"], &entered["members"]), (&json!("full"), &json!([])));
    assert_eq!(ann.next().await["event"], "enter");
    for _ in 0..2 {
        let (mut bob, entered) = enter(&rooms, "bob").await;
        assert_eq!(entered["mode"], "full");
        for client in [&mut ann, &mut bob] {
            assert_eq!(client.next().await["name"], "bob");
        }
        // The enter that makes it large is still published.
        let (mut cat, entered) = enter(&rooms, "cat").await;
        assert_eq!((&entered["mode"], &entered["members"][1]["name"]), (&json!("full"), &json!("bob")));
        for client in [&mut ann, &mut bob, &mut cat] {
            assert_eq!(client.next().await["name"], "cat");
            assert_eq!(client.next().await, presence("count", 3, 0));
        }
        let (mut dan, entered) = enter(&rooms, "dan").await;
        assert_eq!((&entered["mode"], entered.get("members")), (&json!("count"), None));
        for client in [&mut ann, &mut bob, &mut cat, &mut dan] {
            assert_eq!(client.next().await, presence("count", 4, 0));
        }
        dan.close().await;
        cat.close().await;
        for client in [&mut ann, &mut bob] {
            assert_eq!(client.next().await, presence("count", 2, 0));
        }
        // The leave that makes it small has no frame.
        let now = Instant::now();
        bob.close().await;
        assert_eq!(ann.next().await, presence("full", 1, 0));
        assert_eq!(now.elapsed(), Duration::ZERO);
        ann.send(json!({"event": "members", "roomId": "r"})).await;
        let page = ann.next().await;
        assert_eq!((&page["mode"], &page["members"].as_array().unwrap().len()), (&json!("full"), &1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_policy_chooses_for_the_room_that_an_enter_opens() {
    struct ByRoom;
    impl RoomPolicy for ByRoom {
        fn presence(&self, room: &RoomId) -> Option<Presence> {
            match room.as_str() {
                "count" => Some(Presence::Count),
                "full" => Some(Presence::Full),
                _ => None,
            }
        }
    }
    let rooms = unlimited().presence(Presence::Quiet).policy(ByRoom).build().unwrap();
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    for (room, mode) in [("count", "count"), ("full", "full"), ("other", "quiet")] {
        ann.send(enter_frame("ann", room)).await;
        let mut entered = ann.next().await;
        while entered["event"] != "entered" {
            entered = ann.next().await;
        }
        assert_eq!((&entered["roomId"], &entered["mode"]), (&json!(room), &json!(mode)));
    }
}

#[tokio::test(start_paused = true)]
async fn callbacks_members_and_kicks_are_exact_in_every_mode() {
    for presence in [Presence::Full, Presence::Count, Presence::Quiet, Presence::auto(2, 1).unwrap()] {
        let log = EventLog::default();
        let rooms = unlimited().presence(presence).events(log.hook()).build().unwrap();
        let (mut ann, entered) = enter(&rooms, "ann").await;
        let id = entered["member"].as_str().unwrap().parse().unwrap();
        let (bob, _) = enter(&rooms, "bob").await;
        let (cat, _) = enter(&rooms, "cat").await;
        let names: Vec<String> = rooms.members("r").iter().map(|member| member.name.to_string()).collect();
        assert_eq!(names, ["ann", "bob", "cat"]);
        bob.close().await;
        assert!(rooms.kick(id));
        assert_eq!(ann.close_code().await, 4500);
        ann.task.await.unwrap();
        cat.close().await;
        let entered = ["+ ann r 1", "+ bob r 2", "+ cat r 3"];
        let lines = log.take();
        assert_eq!(lines[..3], entered);
        let mut left: Vec<&str> = lines[3..].iter().map(|line| &line[..9]).collect();
        assert_eq!(left.remove(0), "- bob r 2", "{presence:?}");
        assert_eq!(left, ["- ann r 1", "- cat r 0"], "{presence:?}");
        assert_empty(&rooms);
    }
}

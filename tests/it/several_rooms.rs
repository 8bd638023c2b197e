//! A `chat-rooms.v1` client in several rooms at once, and how it gets into them and out of them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use tower_chat_rooms::{
    Admission, ChatRooms, Denied, EnterRequest, Limits, OnExpiry, RateLimits, RoomId, RoomPolicy,
    SlowConsumer, UniqueNames, User,
};

use crate::support::{
    Client, EventLog, RESUME_WINDOW, assert_empty, builder, default_rooms, enter_frame, has_shared_broker,
    leave_frame, message_frame, message_with_cid, recovering, removed_frame, rooms_with_log, unlimited,
    user_of, v1_admission, with_expiring_tokens,
};

const SECOND: Duration = Duration::from_secs(1);

/// The number of rooms that a client may be in by default.
const MAX_ROOMS: usize = 64;

#[tokio::test(start_paused = true)]
async fn each_room_has_its_own_members_and_frames() {
    let (rooms, log) = rooms_with_log();
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["a", "b"]).await;
    let (mut bob, _) = Client::enter_rooms(&rooms, "bob", &["a"]).await;
    let (mut carol, _) = Client::enter_rooms(&rooms, "carol", &["b"]).await;
    for (room, name) in [("a", "bob"), ("b", "carol")] {
        let enter = ann.next().await;
        assert_eq!(
            (&enter["roomId"], &enter["name"], &enter["num"]),
            (&json!(room), &json!(name), &json!(2))
        );
    }
    ann.say("a", "to a").await;
    ann.say("b", "to b").await;
    bob.expect_message("a", "to a").await;
    carol.expect_message("b", "to b").await;
    // A member has the same id in all rooms, and may have another name in each.
    assert_eq!(rooms.members("a")[0].connection, rooms.members("b")[0].connection);
    ann.send(enter_frame("anna", "a")).await;
    assert_eq!(ann.next().await["name"], "anna");
    assert_eq!(ann.next().await["event"], "enter");
    for event in ["out", "enter"] {
        assert_eq!(bob.next().await["event"], event);
    }
    carol.assert_quiet().await;
    assert_eq!(rooms.check_consistency().faults, []);
    for client in [ann, bob, carol] {
        client.close().await;
    }
    assert_empty(&rooms);
    let mut moves = log.take_moves();
    moves.sort();
    assert_eq!(moves.iter().filter(|line| line.starts_with("+ ann")).count(), 3);
    assert_eq!(moves.iter().filter(|line| line.starts_with("- ann")).count(), 3);
}

/// A way out of all rooms.
#[derive(Debug, Clone, Copy, PartialEq)]
enum WayOut {
    Close,
    Kick,
    Lost,
    WindowOver,
    HeartbeatMissed,
    Leave,
    CloseRooms,
    Abort,
    Shutdown,
}

impl WayOut {
    async fn take(self, mut client: Client, rooms: &ChatRooms, ids: &[&str]) {
        match self {
            WayOut::Close => client.close().await,
            WayOut::Kick => {
                assert!(rooms.kick(rooms.members(ids[0])[0].connection));
                assert_eq!(client.close_code().await, 4500);
                client.task.await.unwrap();
            }
            WayOut::Lost => client.disconnect().await,
            WayOut::WindowOver => {
                client.disconnect().await;
                assert_eq!(rooms.rooms().len(), ids.len(), "the session is kept");
                tokio::time::sleep(RESUME_WINDOW * 2).await;
            }
            WayOut::HeartbeatMissed => {
                client.answers_heartbeats = false;
                assert_eq!(client.close_code().await, 4000);
                client.task.await.unwrap();
                tokio::time::sleep(RESUME_WINDOW * 2).await;
            }
            WayOut::Leave => {
                for id in ids {
                    client.leave(id).await;
                }
                client.assert_quiet().await;
                assert_eq!(rooms.stats().connections, 1);
                client.close().await;
            }
            WayOut::CloseRooms => {
                for id in ids {
                    assert_eq!(rooms.close_room(id), 1);
                    assert_eq!(client.next().await, removed_frame(id, "room_closed", "the room was closed"));
                }
                client.close().await;
            }
            WayOut::Abort => {
                client.task.abort();
                let _ = client.task.await;
                tokio::time::sleep(RESUME_WINDOW * 2).await;
            }
            WayOut::Shutdown => {
                let (code, ()) = tokio::join!(client.close_code(), rooms.shutdown());
                assert_eq!(code, 1012);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_enter_has_one_left_on_every_way_out() {
    use WayOut::*;
    let ids = ["a", "b", "c", "d"];
    for way in [Close, Kick, Lost, WindowOver, HeartbeatMissed, Leave, CloseRooms, Abort, Shutdown] {
        let log = EventLog::default();
        let builder = match way {
            Lost => builder().events(log.hook()),
            _ => recovering(&log),
        };
        let rooms = builder.build().unwrap();
        let (client, _) = Client::enter_rooms(&rooms, "ann", &ids).await;
        assert_eq!(log.take(), ids.map(|id| format!("+ ann {id} 1")));
        assert_eq!(rooms.check_consistency().faults, []);
        way.take(client, &rooms, &ids).await;
        let mut lines = log.take();
        lines.sort();
        // Other nodes could resume the session.
        let is_kept = way == Shutdown && has_shared_broker();
        assert_eq!(lines.len(), if is_kept { 0 } else { ids.len() }, "{way:?}: {lines:?}");
        for (line, id) in lines.iter().zip(ids) {
            assert!(line.starts_with(&format!("- ann {id} 0 ")), "{way:?}: {lines:?}");
        }
        assert_empty(&rooms);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leave_may_be_repeated() {
    let (rooms, log) = rooms_with_log();
    let (mut bob, _) = Client::enter_rooms(&rooms, "bob", &["r"]).await;
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    ann.leave("r").await;
    ann.leave("a room that does not exist").await;
    ann.enter_another("ann", "r").await;
    assert_eq!(bob.next().await["event"], "enter");
    for _ in 0..3 {
        ann.leave("r").await;
    }
    let out = bob.next().await;
    assert_eq!((&out["event"], &out["num"]), (&json!("out"), &json!(1)));
    bob.assert_quiet().await;
    assert_eq!(log.take(), ["+ bob r 1", "+ ann r 2", "- ann r 1 left the room"]);
    // The connection stays, for longer than the time to enter, and may enter again.
    timeout(60 * SECOND, ann.next()).await.unwrap_err();
    ann.enter_another("ann", "r").await;
    ann.send(json!({"event": "leave", "roomId": [1]})).await;
    assert_eq!(ann.next().await["code"], "bad_room_id");
    ann.say("r", "still here").await;
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_room_follows_left() {
    let rooms = default_rooms();
    let (mut bob, _) = Client::enter_rooms(&rooms, "bob", &["a", "b"]).await;
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["a", "b"]).await;
    for _ in 0..2 {
        assert_eq!(bob.next().await["name"], "ann");
    }
    // What ann has sent before comes before. With a broker, ann leaves before it has come back.
    ann.send_at_once([message_frame("a", 1), leave_frame("a"), message_frame("a", 2), message_frame("b", 3)])
        .await;
    bob.send_at_once([message_frame("a", 4), message_frame("b", 5)]).await;
    let (mut in_a, mut in_b) = (Vec::new(), Vec::new());
    while in_b.len() < 2 {
        let frame = ann.next().await;
        match frame["roomId"].as_str() {
            Some("a") => in_a.push(frame),
            Some("b") => in_b.push(frame["message"].clone()),
            _ => assert_eq!(frame["code"], "not_entered"),
        }
    }
    assert_eq!(in_a.last().unwrap(), &json!({"event": "left", "roomId": "a"}));
    if !has_shared_broker() {
        assert_eq!(in_a[0]["message"], 1);
    }
    in_b.sort_by_key(Value::as_u64);
    assert_eq!(in_b, [json!(3), json!(5)]);
    rooms.send("a", &json!({"event": "notice"})).unwrap();
    ann.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn one_room_too_many_is_refused_and_nothing_closes() {
    let rooms = unlimited().build().unwrap();
    let ids: Vec<String> = (0..MAX_ROOMS).map(|n| format!("r{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    assert_eq!(welcome["limits"]["rooms"], MAX_ROOMS);
    for id in &ids {
        ann.enter_another("ann", id).await;
    }
    for _ in 0..3 {
        ann.send(enter_frame("ann", "one more")).await;
        let refused = ann.next().await;
        assert_eq!(
            (&refused["event"], &refused["code"], &refused["roomId"]),
            (&json!("error"), &json!("too_many_memberships"), &json!("one more"))
        );
    }
    assert_eq!(rooms.rooms().len(), MAX_ROOMS);
    for id in [ids[0], ids[MAX_ROOMS - 1]] {
        ann.say(id, "still here").await;
    }
    // A further enter of one of its rooms is none too many, under the same name or another.
    ann.send(enter_frame("ann", ids[7])).await;
    assert_eq!(ann.next().await["resumed"], true);
    ann.enter_another("anna", ids[7]).await;
    ann.leave(ids[7]).await;
    ann.enter_another("ann", "one more").await;
    // A plain client moves.
    let mut plain = Client::connect(&rooms).await;
    for id in ids.iter().chain(&["one more"]) {
        plain.send(enter_frame("plain", id)).await;
        assert_eq!(plain.next().await["event"], "enter");
    }
    plain.close().await;
    ann.close().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_closed_room_closes_plain_clients_and_removes_the_others_from_it_only() {
    let (rooms, log) = rooms_with_log();
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["a", "b"]).await;
    let mut plain = Client::enter(&rooms, "plain", "a").await;
    assert_eq!(ann.next().await["name"], "plain");
    assert_eq!(rooms.close_room("a"), 2);
    assert_eq!(plain.close_code().await, 4501);
    assert_eq!(ann.next().await, removed_frame("a", "room_closed", "the room was closed"));
    ann.say("b", "still here").await;
    // A new room with the same id has nothing to do with the old one.
    ann.enter_another("ann", "a").await;
    ann.say("a", "new").await;
    plain.task.await.unwrap();
    assert_eq!(rooms.check_consistency().faults, []);
    let moves = log.take_moves();
    for name in ["ann", "plain"] {
        let is_removal =
            |line: &&String| line.starts_with(&format!("- {name} a ")) && line.ends_with("room closed");
        assert_eq!(moves.iter().filter(is_removal).count(), 1, "{moves:?}");
    }
    ann.close().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_removes_a_client_from_all_rooms() {
    let log = EventLog::default();
    let rooms = with_expiring_tokens().events(log.hook()).on_expiry(OnExpiry::WaitForAuth).build().unwrap();
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::user(user_of("u1:40"))).await;
    for room in ["a", "b", "c"] {
        ann.enter_another("ann", room).await;
    }
    assert_eq!(ann.next().await["event"], "expiring");
    for room in ["a", "b", "c"] {
        assert_eq!(ann.next().await, removed_frame(room, "token_expired", "the token has expired"));
    }
    let no_auth = ann.next().await;
    assert_eq!((&no_auth["event"], no_auth.get("roomId")), (&json!("noAuth"), None));
    assert_eq!(log.take()[3..], ["a", "b", "c"].map(|room| format!("- ann {room} 0 authentication expired")));
    ann.send(leave_frame("a")).await;
    assert_eq!(ann.next().await["event"], "noAuth");
    ann.authenticate("u1").await;
    for room in ["a", "b", "c"] {
        ann.enter_another("ann", room).await;
    }
    ann.close().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_name_is_taken_in_one_room_only() {
    let log = EventLog::default();
    let rooms = builder().unique_names(UniqueNames::Exact).events(log.hook()).build().unwrap();
    let (mut eve, _) = Client::enter_rooms(&rooms, "Ann", &["a", "b"]).await;
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::user(User::new("u1").with_name("Ann"))).await;
    ann.enter_another("Ann", "a").await;
    let left = eve.next().await;
    assert_eq!(
        (&left["event"], &left["roomId"], &left["code"]),
        (&json!("left"), &json!("a"), &json!("name_taken"))
    );
    eve.say("b", "still here").await;
    eve.send(message_with_cid("a", "?", "c")).await;
    assert_eq!(eve.next().await["code"], "not_entered");
    eve.enter_another("Eve", "a").await;
    assert_eq!(
        log.take_moves(),
        ["+ Ann a 1", "+ Ann b 1", "- Ann a 0 name taken by its user", "+ Ann a 1", "+ Eve a 2"]
    );
    assert_eq!(rooms.check_consistency().faults, []);
}

/// Frames of one room may be dropped, and those of all others not.
struct MyPolicy;

impl RoomPolicy for MyPolicy {
    fn slow_consumer(&self, room: &RoomId) -> Option<SlowConsumer> {
        (room.as_str() == "live").then_some(SlowConsumer::DropOldest)
    }
}

#[tokio::test(start_paused = true)]
async fn each_room_has_its_own_slow_consumer_policy() {
    let rooms = unlimited().limits(Limits::default().max_queue_frames(40)).policy(MyPolicy).build().unwrap();
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["live", "talk"]).await;
    // A pipe that holds a few frames.
    let mut slow = Client::connect_as(&rooms, v1_admission(), 1000).await;
    slow.send_at_once([enter_frame("slow", "live"), enter_frame("slow", "talk")]).await;
    for _ in 0..2 {
        assert_eq!(ann.next().await["name"], "slow");
    }
    for n in 0..300 {
        ann.say("live", n).await;
    }
    // Frames of the room that may not lose any are not lost, and do not count as too many.
    for n in 0..10 {
        ann.say("talk", n).await;
    }
    ann.say("live", "the last").await;
    assert_eq!(rooms.stats().connections, 2);
    let (mut lagged, mut talk, mut live) = (0, Vec::new(), Value::Null);
    while live != "the last" || talk.len() < 10 {
        let frame = slow.next().await;
        match (frame["event"].as_str(), frame["roomId"].as_str()) {
            (Some("lagged"), room) => {
                assert!(room.is_none_or(|room| room == "live"), "{frame}");
                lagged += frame["missed"].as_u64().unwrap();
            }
            (Some("message"), Some("talk")) => talk.push(frame["message"].as_u64().unwrap()),
            (Some("message"), Some("live")) => live = frame["message"].clone(),
            _ => {}
        }
    }
    assert!(talk.iter().copied().eq(0..10), "{talk:?}");
    assert_eq!(lagged, rooms.stats().lagged);
    assert!(lagged > 200, "{lagged}");
    // Too many frames of that room close the client, which leaves both.
    for n in 0.. {
        assert!(n < 300, "the client is never closed");
        ann.send(message_frame("talk", n)).await;
        if ann.next().await["event"] == "out" {
            break;
        }
    }
    assert_eq!(slow.close_code().await, 4001);
    slow.task.await.unwrap();
    assert_eq!((rooms.members("live").len(), rooms.members("talk").len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refused_enter_names_its_room() {
    let rates = RateLimits::default().max_enters_per_minute(3);
    let rooms = builder()
        .rate_limits(rates)
        .limits(Limits::default().max_rooms(2))
        .policy(|request: &EnterRequest<'_>| match request.room().as_str() {
            "denied" => Err(Denied::new("no")),
            _ => Ok(()),
        })
        .build()
        .unwrap();
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["a"]).await;
    ann.send(enter_frame("ann", "denied")).await;
    expect_refusal(&mut ann, "denied", "denied").await;
    ann.send(enter_frame("", "b")).await;
    expect_refusal(&mut ann, "b", "bad_name").await;
    ann.send(enter_frame("ann", "c")).await;
    expect_refusal(&mut ann, "c", "rate_limited").await;
    assert_eq!(rooms.rooms().len(), 1);
}

/// The next frame is the refusal of an enter of this room.
async fn expect_refusal(client: &mut Client, room: &str, code: &str) {
    let refused = client.next().await;
    assert_eq!((&refused["code"], &refused["roomId"]), (&json!(code), &json!(room)), "{refused}");
    assert_eq!(refused["retryAfter"].is_u64(), code == "rate_limited", "{refused}");
}

#[tokio::test(start_paused = true)]
async fn an_enter_beyond_the_rate_of_messages_is_refused_with_its_room() {
    let rates = RateLimits::default().max_messages_per_second(1);
    let rooms = builder().rate_limits(rates).build().unwrap();
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["a", "b"]).await;
    ann.send(enter_frame("ann", "c")).await;
    expect_refusal(&mut ann, "c", "rate_limited").await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_of_v1_clients_are_the_same_in_any_number_of_rooms() {
    let ping = json!({"event": "heartbeat", "message": "ping"});
    let rooms = default_rooms();
    let (mut ann, _) = Client::enter_v1(&rooms, Admission::anonymous()).await;
    ann.answers_heartbeats = false;
    for room in ["a", "b", "c"] {
        assert_eq!(ann.next().await, ping);
        while timeout(SECOND, ann.next()).await.is_ok() {}
        // From here on, the next one is due after the interval.
        ann.send(enter_frame("ann", room)).await;
        for event in ["entered", "enter"] {
            assert_eq!(ann.next().await["event"], event);
        }
        let next = timeout(20 * SECOND, ann.next()).await;
        assert!(next.is_err(), "an extra heartbeat: {next:?}");
    }
}

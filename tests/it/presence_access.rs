//! The access that the host gives a member: its info, read-only and hidden.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use tower_chat_rooms::{
    Access, Admission, AuthRefusal, ChatRooms, ConnectionId, Denied, EnterRequest, Limits, Presence,
    RoomEvent, RoomPolicy, SendError, User,
};

use crate::support::{
    Client, EventLog, RESUME_WINDOW, V1Client, assert_empty, default_rooms, enter_frame, message_frame,
    message_with_cid, nth_id, recovering, unlimited,
};

const INTERVAL: Duration = Duration::from_millis(100);

/// Gives every member this access, unless its name asks for another.
#[derive(Clone, Default)]
struct Accesses(Arc<Mutex<Access>>);

impl Accesses {
    fn set(&self, access: Access) {
        *self.0.lock().unwrap() = access;
    }
}

impl RoomPolicy for Accesses {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
        let access = self.0.lock().unwrap().clone();
        Ok(match request.name().as_str() {
            "lurker" => access.hidden(),
            "reader" => access.read_only(),
            _ => access,
        })
    }
}

fn info(value: Value) -> Access {
    Access::member().info(&value).unwrap()
}

fn id_in(frame: &Value) -> ConnectionId {
    frame["member"].as_str().unwrap().parse().unwrap()
}

fn infos(rooms: &ChatRooms) -> Vec<Option<String>> {
    rooms.members("r").into_iter().map(|member| member.info).collect()
}

async fn on_token(token: String) -> Result<User, Denied> {
    Ok(User::new("u-1").with_info(&json!({"token": token}))?)
}

#[tokio::test(start_paused = true)]
async fn infos_come_from_the_policy_or_the_user() {
    let policy = Accesses::default();
    let rooms = unlimited().policy(policy.clone()).build().unwrap();
    let user = || Admission::user(User::new("u-1").with_info(&"of the user").unwrap());
    let (mut ann, _) = Client::connect_v1(&rooms, user()).await;
    ann.send(enter_frame("ann", "r")).await;
    assert_eq!(ann.next().await["event"], "entered");
    let own = ann.next().await;
    assert_eq!((&own["user"], &own["info"]), (&json!("u-1"), &json!("of the user")));
    policy.set(info(json!({"role": "guest"})));
    let (mut bob, _) = Client::connect_v1(&rooms, user()).await;
    bob.send(enter_frame("bob", "r")).await;
    let entered = bob.next().await;
    let roster = json!([{"member": nth_id(0), "name": "ann", "user": "u-1", "info": "of the user"}]);
    assert_eq!((&entered["members"], &entered["users"]), (&roster, &json!(1)));
    assert_eq!(ann.next().await["info"], json!({"role": "guest"}));
    assert!(matches!(Access::member().info(&"x".repeat(1_023)), Err(SendError::InfoTooBig)));
    assert!(matches!(User::new("u").with_info(&"x".repeat(1_023)), Err(SendError::InfoTooBig)));
    assert_eq!(Access::member().info(&Value::Null).unwrap(), Access::member());
}

#[test]
fn an_invalid_info_is_a_refusal_without_details() {
    assert!(Denied::from(SendError::InfoTooBig).reason().contains("1,024 bytes"));
    let json = SendError::Json("s3cret".into());
    assert!(!Denied::from(json).reason().contains("s3cret"));
    assert_eq!(AuthRefusal::from(SendError::InfoTooBig).status(), 500);
}

#[tokio::test(start_paused = true)]
async fn the_host_changes_an_info_and_all_are_told() {
    let rooms = default_rooms();
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let id = id_in(&ann.enter_another("ann", "r").await);
    let mut bob = V1Client::enter(&rooms, "bob").await;
    let mut plain = Client::enter(&rooms, "plain", "r").await;
    ann.next().await;
    ann.next().await;
    bob.next().await;
    rooms.set_info("r", id, &json!({"role": "moderator"})).unwrap();
    let frame = json!({"event": "state", "info": {"role": "moderator"}, "name": "ann", "num": 3, "member": nth_id(0),
        "roomId": "r"});
    assert_eq!(ann.next().await, frame);
    assert_eq!(bob.next().await, frame);
    // Only the others are told of the state that the member has set at the same time.
    sleep(INTERVAL).await;
    ann.send(json!({"event": "state", "state": "busy"})).await;
    rooms.set_info("r", id, &Value::Null).unwrap();
    let mine = ann.next().await;
    assert_eq!((&mine["info"], mine.get("state")), (&Value::Null, None));
    assert!(mine.as_object().unwrap().contains_key("info"));
    let mut seen = bob.next().await;
    assert!(seen.as_object().unwrap().contains_key("info"), "{seen}");
    if seen.get("state").is_none() {
        seen = bob.next().await;
    }
    assert_eq!(seen["state"], "busy");
    plain.assert_quiet().await;
    for (room, connection, error) in [("s", id, "room"), ("r", "77".parse().unwrap(), "connection")] {
        let result = rooms.all_nodes().set_info(room, connection, &1).await;
        match error {
            "room" => assert!(matches!(result, Err(SendError::NoSuchRoom))),
            _ => assert!(matches!(result, Err(SendError::NoSuchConnection))),
        }
    }
    assert!(matches!(rooms.set_info("r", id, &"x".repeat(2_000)), Err(SendError::InfoTooBig)));
    assert_eq!(infos(&rooms), [None, None, None]);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_authenticates_gets_its_user_and_info() {
    let rooms = unlimited().auth(on_token).build().unwrap();
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["r"]).await;
    let mut bob = V1Client::enter(&rooms, "bob").await;
    ann.next().await;
    ann.authenticate("t-1").await;
    let mut seen = bob.next().await;
    assert_eq!((&seen["event"], &seen["user"]), (&json!("state"), &json!("u-1")));
    while seen.get("info").is_none() {
        seen = bob.next().await;
    }
    assert_eq!(seen["info"], json!({"token": "t-1"}));
    assert_eq!(rooms.rooms()[0].users, 1);
    // A new token has another info. What the host has set stays if the hooks say the same as before.
    sleep(INTERVAL).await;
    ann.authenticate("t-2").await;
    assert_eq!(bob.next().await["info"], json!({"token": "t-2"}));
    sleep(INTERVAL).await;
    let id = rooms.members("r")[0].connection;
    rooms.set_info("r", id, &"of the host").unwrap();
    assert_eq!(bob.next().await["info"], "of the host");
    sleep(INTERVAL).await;
    ann.authenticate("t-2").await;
    ann.assert_no_error().await;
    assert_eq!(infos(&rooms), [Some("\"of the host\"".into()), None]);
    ann.authenticate("t-3").await;
    assert_eq!(bob.next().await["info"], json!({"token": "t-3"}));
}

impl Client {
    /// Reads what has arrived: only states.
    async fn assert_no_error(&mut self) {
        while let Ok(frame) = tokio::time::timeout(Duration::from_millis(1), self.next()).await {
            assert_eq!(frame["event"], "state", "{frame}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_resumption_renews_what_the_policy_has_given() {
    let (policy, log) = (Accesses::default(), EventLog::default());
    let rooms = recovering(&log).policy(policy.clone()).build().unwrap();
    let mut ann = V1Client::enter(&rooms, "ann").await;
    let mut bob = V1Client::enter(&rooms, "bob").await;
    ann.next().await;
    ann.disconnect().await;
    policy.set(info(json!(1)).read_only().hidden());
    let entered = ann.reconnect(&rooms).await;
    // Whether it is hidden does not change.
    assert_eq!((&entered["readOnly"], entered.get("hidden")), (&json!(true), None));
    assert_eq!(entered["members"][0]["info"], 1);
    assert_eq!(bob.next().await["info"], 1);
    ann.connection.assert_no_error().await;
    ann.send_message("hi").await;
    assert_eq!(ann.next().await["code"], "read_only");
    policy.set(Access::member());
    ann.disconnect().await;
    let entered = ann.reconnect(&rooms).await;
    assert_eq!(entered.get("readOnly"), None);
    ann.connection.assert_no_error().await;
    ann.send_message("hi").await;
    ann.expect_message("hi").await;
    sleep(RESUME_WINDOW / 100).await;
    assert_eq!(infos(&rooms), [None, None]);
}

#[tokio::test(start_paused = true)]
async fn a_read_only_member_sends_no_messages_but_may_set_its_state() {
    let rooms = unlimited().policy(Accesses::default()).transient_events(["typing"]).build().unwrap();
    let (mut reader, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    reader.send(enter_frame("reader", "r")).await;
    assert_eq!(reader.next().await["readOnly"], true);
    assert_eq!(reader.next().await["event"], "enter");
    let mut bob = V1Client::enter(&rooms, "bob").await;
    reader.next().await;
    reader.send(message_with_cid("r", "hi", "c1")).await;
    let error = reader.next().await;
    assert_eq!(
        (&error["code"], &error["cid"], error.get("roomId")),
        (&json!("read_only"), &json!("c1"), None)
    );
    reader.send(json!({"event": "typing", "roomId": "r", "cid": "c2"})).await;
    let error = reader.next().await;
    assert_eq!((&error["code"], &error["cid"]), (&json!("read_only"), &json!("c2")));
    reader.send(json!({"event": "state", "state": "hand raised", "roomId": "r"})).await;
    assert_eq!(bob.next().await["state"], "hand raised");
    bob.send_message("hi").await;
    assert_eq!(reader.next().await["message"], "hi");
    // A plain client is told as well.
    let mut plain = Client::connect(&rooms).await;
    plain.send(enter_frame("reader", "r")).await;
    assert_eq!(plain.next().await["event"], "enter");
    plain.send(json!({"event": "message", "message": "hi"})).await;
    assert_eq!(plain.next().await["code"], "read_only");
}

#[tokio::test(start_paused = true)]
async fn a_hidden_member_is_not_seen_and_gets_everything() {
    for presence in [Presence::Full, Presence::Count] {
        let events = Arc::new(Mutex::new(Vec::new()));
        let log = events.clone();
        let rooms = unlimited()
            .presence(presence)
            .policy(Accesses::default())
            .limits(Limits::default().max_room_members(3))
            .events(move |event: RoomEvent<'_>| match event {
                RoomEvent::Entered(e) => {
                    log.lock().unwrap().push((e.name.to_string(), e.online, e.is_hidden))
                }
                RoomEvent::Left(e) => log.lock().unwrap().push((e.name.to_string(), e.online, e.is_hidden)),
                _ => {}
            })
            .build()
            .unwrap();
        let user = Admission::user(User::new("u-1"));
        let (mut lurker, _) = Client::connect_v1(&rooms, user).await;
        lurker.send(enter_frame("lurker", "r")).await;
        let entered = lurker.next().await;
        assert_eq!(
            (&entered["hidden"], &entered["num"], &entered["users"], &entered["seq"]),
            (&json!(true), &json!(0), &json!(0), &json!(0))
        );
        let info = &rooms.rooms()[0];
        assert_eq!((info.online, info.users, info.hidden), (0, 0, 1));
        rooms.send("r", &json!({"event": "notice"})).unwrap();
        let notice = lurker.next().await;
        assert_eq!((&notice["event"], &notice["num"]), (&json!("notice"), &json!(0)));
        let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        ann.send(enter_frame("ann", "r")).await;
        let entered = ann.next().await;
        assert_eq!((&entered["num"], &entered["users"]), (&json!(1), &json!(0)));
        if presence == Presence::Full {
            assert_eq!(entered["members"], json!([]));
        }
        for client in [&mut lurker, &mut ann] {
            let frame = client.next().await;
            assert_eq!(frame["event"], if presence == Presence::Full { "enter" } else { "presence" });
        }
        // Its state is accepted, and not published; so is its end.
        lurker.send(json!({"event": "state", "state": 1, "roomId": "r"})).await;
        sleep(2 * INTERVAL).await;
        ann.assert_quiet().await;
        assert_eq!(rooms.members("r")[0].state.as_deref(), Some("1"));
        assert!(rooms.members("r")[0].is_hidden && !rooms.members("r")[1].is_hidden);
        rooms.set_info("r", rooms.members("r")[0].connection, &1).unwrap();
        // What it publishes has its name.
        lurker.send(message_frame("r", "boo")).await;
        for client in [&mut lurker, &mut ann] {
            let message = client.next().await;
            assert_eq!((&message["name"], &message["num"]), (&json!("lurker"), &json!(1)));
        }
        // It takes a place.
        let mut plain = Client::connect(&rooms).await;
        plain.send(enter_frame("lurker", "r")).await;
        assert_eq!(plain.next().await["num"], 1);
        let (mut cat, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        cat.send(enter_frame("cat", "r")).await;
        assert_eq!(cat.next().await["code"], "room_full");
        plain.close().await;
        lurker.close().await;
        sleep(Duration::from_secs(2)).await;
        ann.assert_quiet().await;
        ann.close().await;
        cat.close().await;
        assert_empty(&rooms);
        let expected = [
            ("lurker", 0, true),
            ("ann", 1, false),
            ("lurker", 1, true),
            ("lurker", 1, true),
            ("lurker", 1, true),
            ("ann", 0, false),
        ];
        let expected = expected.map(|(name, online, is_hidden)| (name.to_owned(), online, is_hidden));
        assert_eq!(*events.lock().unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_host_promotes_a_reader_without_an_enter() {
    let rooms = unlimited().policy(Accesses::default()).presence(Presence::Quiet).build().unwrap();
    let (mut reader, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let id: ConnectionId = welcome["connection"].as_str().unwrap().parse().unwrap();
    let unknown = "99".parse().unwrap();
    reader.send(enter_frame("reader", "r")).await;
    assert_eq!(reader.next().await["readOnly"], true);
    assert!(matches!(rooms.set_access("other", id, &Access::member()), Err(SendError::NoSuchRoom)));
    let set = rooms.all_nodes().set_access("r", unknown, &Access::member()).await;
    assert!(matches!(set, Err(SendError::NoSuchConnection)), "{set:?}");
    rooms.set_access("r", id, &info(json!({"role": "member"}))).unwrap();
    let told = json!({"event": "state", "readOnly": false, "member": id.to_string(), "roomId": "r"});
    assert_eq!(reader.next().await, told);
    assert_eq!(infos(&rooms), [Some(json!({"role": "member"}).to_string())]);
    reader.send(message_frame("r", "hi")).await;
    assert_eq!(reader.next().await["message"], "hi");
    // It is told only of changes.
    rooms.set_access("r", id, &Access::member()).unwrap();
    rooms.set_access("r", id, &Access::member().read_only()).unwrap();
    assert_eq!(reader.next().await["readOnly"], true);
    reader.send(message_frame("r", "hi")).await;
    assert_eq!(reader.next().await["code"], "read_only");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_yet_to_enter_again_learns_its_rights_from_the_answer() {
    let rooms = recovering(&EventLog::default()).policy(Accesses::default()).build().unwrap();
    let mut reader = V1Client::enter(&rooms, "reader").await;
    let id = rooms.members("r")[0].connection;
    reader.disconnect().await;
    rooms.set_access("r", id, &Access::member()).unwrap();
    let entered = reader.reconnect(&rooms).await;
    assert_eq!(entered["readOnly"], true, "the policy was asked again");
    reader.connection.assert_no_error().await;
}

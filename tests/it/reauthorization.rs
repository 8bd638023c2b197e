//! Renewed authorization: whenever a user authenticates again, the policy is asked again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{Access, Admission, Denied, EnterRequest, Recovery, RoomPolicy, User};

use crate::support::{
    Client, EventLog, enter_frame, enter_since, enter_with_token, message_frame, recovering, removed_frame,
    rooms_in, user_of, with_expiring_tokens,
};

const SECOND: Duration = Duration::from_secs(1);

/// Logs each request, and denies all of them once told so. Never answers for the user "hang".
#[derive(Clone, Default)]
struct MyPolicy {
    denies: Arc<AtomicBool>,
    log: EventLog,
}

impl RoomPolicy for MyPolicy {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
        let user = request.user().map_or("anonymous", User::id);
        self.log.push(format!("{user} {} {} {}", request.name(), request.room(), request.is_renewal()));
        if user == "hang" {
            std::future::pending::<()>().await;
        }
        if self.denies.load(Ordering::Relaxed) { Err(Denied::new("banned")) } else { Ok(Access::member()) }
    }
}

#[tokio::test(start_paused = true)]
async fn the_policy_is_asked_again_after_each_accepted_token() {
    let (policy, log) = (MyPolicy::default(), EventLog::default());
    let rooms = with_expiring_tokens().policy(policy.clone()).events(log.hook()).build().unwrap();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let (mut ann, _) = enter_with_token(&rooms, "u1").await;
    assert_eq!(bob.next().await["name"], "ann");
    ann.authenticate("u1").await;
    ann.round_trip().await;
    assert_eq!(bob.next().await["message"], "round trip");
    assert_eq!(policy.log.take(), ["anonymous bob r false", "u1 ann r false", "u1 ann r true"]);
    policy.denies.store(true, Ordering::Relaxed);
    ann.send(json!({"event": "message", "message": "still here"})).await;
    assert_eq!(ann.next().await["message"], "still here");
    ann.authenticate("u1").await;
    assert_eq!(ann.next().await, removed_frame("r", "denied", "banned"));
    assert_eq!(bob.next().await["message"], "still here");
    assert_eq!(bob.next().await, json!({"event": "out", "name": "ann", "num": 1}));
    assert_eq!(log.take().last().unwrap(), "- ann r 1 denied by the policy");
    // The connection stays open, for longer than the time to enter.
    ann.send(json!({"event": "message", "message": "?"})).await;
    assert_eq!(ann.next().await["code"], "not_entered");
    tokio::time::timeout(SECOND * 30, ann.next()).await.unwrap_err();
    policy.denies.store(false, Ordering::Relaxed);
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    assert_eq!(ann.next().await["num"], 2);
}

#[tokio::test(start_paused = true)]
async fn the_frame_that_removes_a_member_follows_the_rooms_backlog() {
    let policy = MyPolicy::default();
    let rooms = with_expiring_tokens().policy(policy.clone()).build().unwrap();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let user = Admission::user(user_of("u1")).with_protocol("chat-rooms.v1".parse().unwrap());
    let mut ann = Client::connect_as(&rooms, user, 256).await;
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    assert_eq!(bob.next().await["name"], "ann");
    for n in 0..60 {
        bob.send(json!({"event": "message", "message": n, "pad": "x".repeat(1000)})).await;
        assert_eq!(bob.next().await["message"], n);
    }
    policy.denies.store(true, Ordering::Relaxed);
    ann.send_token("u1").await;
    assert_eq!(bob.next().await["event"], "out");
    let mut messages = 0;
    let left = loop {
        let frame = ann.next().await;
        match frame["event"].as_str() {
            Some("message") => messages += 1,
            Some("left") => break frame,
            _ => {}
        }
    };
    assert_eq!((left["roomId"].as_str(), messages), (Some("r"), 60));
}

#[tokio::test(start_paused = true)]
async fn the_policy_is_asked_again_when_an_authenticated_client_resumes() {
    let (policy, log) = (MyPolicy::default(), EventLog::default());
    let rooms = with_expiring_tokens()
        .policy(policy.clone())
        .events(log.hook())
        .recovery(Recovery::default().resume_window(SECOND * 60))
        .build()
        .unwrap();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let (ann, token) = enter_with_token(&rooms, "u1").await;
    assert_eq!(bob.next().await["name"], "ann");
    policy.log.take();
    ann.disconnect().await;
    let resume = async |token: &Value| {
        let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::user(user_of("u1"))).await;
        let answer = ann.resume_and_enter([token], enter_frame("ann", "r")).await;
        (ann, welcome["resume"].clone(), answer)
    };
    let (ann, token, answer) = resume(&token).await;
    assert_eq!(answer["resumed"], true);
    assert_eq!(policy.log.take(), ["u1 ann r true"]);
    ann.disconnect().await;
    policy.denies.store(true, Ordering::Relaxed);
    let (mut ann, _, answer) = resume(&token).await;
    assert_eq!(answer, removed_frame("r", "denied", "banned"));
    assert_eq!(bob.next().await, json!({"event": "out", "name": "ann", "num": 1}));
    assert_eq!(log.take().last().unwrap(), "- ann r 1 denied by the policy");
    ann.send(json!({"event": "message", "message": "?"})).await;
    assert_eq!(ann.next().await["code"], "not_entered");
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_does_not_answer_counts_as_denial() {
    let rooms = with_expiring_tokens().policy(MyPolicy::default()).build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    ann.send_token("hang").await;
    // A plain client gets an error frame of the plain wire.
    let answer = ann.next().await;
    assert_eq!((answer["code"].as_str(), answer.as_object().unwrap().len()), (Some("internal"), 3));
    assert!(rooms.rooms().is_empty());
}

/// A client that asked for another room or name when it resumed used to get its membership back without the policy
/// being asked.
#[tokio::test(start_paused = true)]
async fn a_denied_client_cannot_resume_by_asking_for_another_room_or_name() {
    for (name, room) in [("ann", "r"), ("ann", "other"), ("anna", "r")] {
        let (policy, log) = (MyPolicy::default(), EventLog::default());
        let rooms = recovering(&log).policy(policy.clone()).build().unwrap();
        let mut bob = Client::enter(&rooms, "bob", "r").await;
        let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        ann.send(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
        let entered = ann.next().await;
        assert_eq!(bob.next().await["name"], "ann");
        ann.disconnect().await;
        policy.denies.store(true, Ordering::Relaxed);
        rooms.send("r", &json!({"event": "secret"})).unwrap();
        assert_eq!(bob.next().await["event"], "secret");

        let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        assert_eq!(rooms_in(&ann.resume([&welcome["resume"]]).await), ["r"]);
        let since = json!({"epoch": entered["epoch"], "seq": 2});
        ann.send(enter_since(name, room, &since)).await;
        if room == "other" {
            let denied = ann.next().await;
            assert_eq!((&denied["code"], &denied["roomId"]), (&json!("denied"), &json!("other")));
            // It gets no frame of the room that it was in.
            rooms.send("r", &json!({"event": "secret"})).unwrap();
            assert_eq!(bob.next().await["event"], "secret");
            ann.assert_quiet().await;
            ann.send(enter_since("ann", "r", &since)).await;
        }
        assert_eq!(ann.next().await, removed_frame("r", "denied", "banned"), "{name} {room}");
        assert_eq!(bob.next().await, json!({"event": "out", "name": "ann", "num": 1}));
        rooms.send("r", &json!({"event": "secret"})).unwrap();
        assert_eq!(bob.next().await["event"], "secret");
        ann.send(message_frame("r", "?")).await;
        loop {
            match ann.next().await {
                frame if frame["code"] == "not_entered" => break,
                frame => assert_eq!(frame["code"], "denied", "{name} {room}: {frame}"),
            }
        }
        assert_eq!(log.take().last().unwrap(), "- ann r 1 denied by the policy");
    }
}

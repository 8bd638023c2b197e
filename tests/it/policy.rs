//! The room policy.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{
    Access, ChatRooms, Denied, EnterRequest, MessageRequest, RoomEvent, RoomPolicy, SendError, User, Verdict,
};

use crate::support::{Client, EventLog, assert_empty, builder};

struct MyPolicy;

impl RoomPolicy for MyPolicy {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
        match request.room().as_str() {
            "closed" => return Err(Denied::new("closed today")),
            "slow" => tokio::time::sleep(Duration::from_secs(3)).await,
            "never" => std::future::pending().await,
            "panic" => panic!("on purpose"),
            "upstairs" if request.from().is_none_or(|r| r.as_str() != "hall") => {
                return Err(Denied::new("through the hall"));
            }
            _ => {}
        }
        Ok(Access::member())
    }

    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        match request.event() {
            "shout" => {
                let name = request.name().as_str().to_owned();
                Verdict::replace(
                    &json!({"event": "message", "message": "(shouting)", "was": name, "num": -1}),
                )
                .unwrap()
            }
            "secret" => Verdict::drop_silently(),
            "rude" => Verdict::refuse("be nice"),
            "panic" => panic!("on purpose"),
            _ => Verdict::allow(),
        }
    }
}

fn guarded() -> (ChatRooms, EventLog) {
    let log = EventLog::default();
    (builder().policy(MyPolicy).events(log.hook()).build().unwrap(), log)
}

async fn try_enter(client: &mut Client, room: &str) -> Value {
    client.send(json!({"event": "enter", "message": "ann", "roomId": room})).await;
    client.next().await
}

#[tokio::test(start_paused = true)]
async fn a_denied_client_stays_in_its_room() {
    let (rooms, log) = guarded();
    let mut ann = Client::enter(&rooms, "ann", "garden").await;
    let denied = try_enter(&mut ann, "closed").await;
    assert_eq!(denied, json!({"event": "error", "code": "denied", "message": "closed today"}));
    assert_eq!(try_enter(&mut ann, "upstairs").await["code"], "denied");
    assert_eq!(try_enter(&mut ann, "hall").await["num"], 1);
    assert_eq!(try_enter(&mut ann, "upstairs").await["num"], 1);
    assert_eq!(rooms.rooms().len(), 1);
    assert_eq!(
        log.take(),
        [
            "+ ann garden 1",
            "- ann garden 0 moved to another room",
            "+ ann hall 1",
            "- ann hall 0 moved to another room",
            "+ ann upstairs 1",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_policy_is_awaited_and_a_hanging_one_is_not() {
    let (rooms, _) = guarded();
    let mut ann = Client::enter(&rooms, "ann", "garden").await;
    assert_eq!(try_enter(&mut ann, "slow").await["num"], 1);
    assert_eq!(try_enter(&mut ann, "never").await["code"], "internal");
    assert_eq!(rooms.members("slow").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_can_be_replaced_dropped_and_refused() {
    let (rooms, log) = guarded();
    let mut ann = Client::enter(&rooms, "ann", "garden").await;
    for event in ["secret", "shout"] {
        ann.send(json!({"event": event, "message": "x"})).await;
    }
    let replaced = r#"{"event":"message","message":"(shouting)","was":"ann","name":"ann","num":1}"#;
    assert_eq!(ann.next_text().await, replaced);
    ann.send(json!({"event": "rude", "message": "x"})).await;
    assert_eq!(ann.next().await, json!({"event": "error", "code": "denied", "message": "be nice"}));
    assert_eq!(rooms.stats().messages, 1);
    assert_eq!(log.take().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_panics_ends_only_its_connection() {
    let (rooms, log) = guarded();
    let mut bob = Client::enter(&rooms, "bob", "garden").await;
    let mut ann = Client::enter(&rooms, "ann", "garden").await;
    bob.next().await;
    ann.send(json!({"event": "panic"})).await;
    assert_eq!(ann.close_code().await, 1011);
    assert_eq!(bob.next().await["event"], "out");
    let mut carol = Client::enter(&rooms, "carol", "garden").await;
    carol.send(json!({"event": "enter", "message": "carol", "roomId": "panic"})).await;
    assert_eq!(carol.close_code().await, 1011);
    assert_eq!(log.take().iter().filter(|l| l.contains("a hook failed")).count(), 2);
}

#[test]
fn only_objects_with_an_event_replace_a_message() {
    assert!(matches!(Verdict::replace(&"text"), Err(SendError::NotAnObject)));
    assert!(matches!(Verdict::replace(&json!([1])), Err(SendError::NotAnObject)));
    assert!(matches!(Verdict::replace(&json!({"message": "hi"})), Err(SendError::NoEvent)));
}

/// A closure runs before there is a future. Its panic used to end the task without a close frame.
#[tokio::test(start_paused = true)]
async fn closures_that_panic_end_only_their_connection() {
    let log = EventLog::default();
    let rooms = builder()
        .policy(|request: &EnterRequest<'_>| -> Result<(), Denied> {
            assert_ne!(request.room().as_str(), "bad", "on purpose");
            Ok(())
        })
        .auth(|_: String| -> std::future::Ready<Result<User, Denied>> { panic!("on purpose") })
        .events(log.hook())
        .build()
        .unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "bad"})).await;
    assert_eq!(ann.close_code().await, 1011);
    ann.task.await.unwrap();
    assert_eq!(log.take().pop().unwrap(), "- ann r 0 a hook failed");
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    bob.send(json!({"event": "auth", "message": "x"})).await;
    assert_eq!(bob.close_code().await, 1011);
    bob.task.await.unwrap();
}

/// A client whose connection ended while the policy was asked used to enter and leave.
#[tokio::test(start_paused = true)]
async fn a_client_that_disconnects_while_the_policy_is_asked_does_not_enter() {
    let (rooms, log) = guarded();
    let mut ann = Client::connect(&rooms).await;
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "slow"})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ann.disconnect().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(log.take().is_empty());
    assert_empty(&rooms);
}

/// The `name` and `num` that a client had put into its message used to be in the body that hooks see.
#[tokio::test(start_paused = true)]
async fn hooks_see_no_forged_name() {
    #[derive(Clone, Default)]
    struct Bodies(Arc<Mutex<Vec<String>>>);
    impl RoomPolicy for Bodies {
        fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
            self.0.lock().unwrap().push(request.body().to_owned());
            Verdict::allow()
        }
    }
    let bodies = Bodies::default();
    let of_events = bodies.0.clone();
    let rooms = builder()
        .policy(bodies.clone())
        .events(move |event: RoomEvent<'_>| {
            if let RoomEvent::Message(message) = event {
                of_events.lock().unwrap().push(message.body.to_owned());
            }
        })
        .build()
        .unwrap();
    let mut eve = Client::enter(&rooms, "eve", "r").await;
    eve.send_text(r#"{"name":"ann","event":"message","message":"It was me","num":9}"#).await;
    assert_eq!(eve.next().await["name"], "eve");
    let body = r#"{"event":"message","message":"It was me"}"#;
    assert_eq!(*bodies.0.lock().unwrap(), [body, body]);
}

/// An enter can have more keys, which are relayed. The policy used not to see them, and they had no limit.
#[tokio::test(start_paused = true)]
async fn the_policy_sees_an_enter_with_all_its_keys() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen = bodies.clone();
    let rooms = builder()
        .policy(move |request: &EnterRequest<'_>| {
            seen.lock().unwrap().push(request.body().unwrap().to_owned());
            Ok(())
        })
        .build()
        .unwrap();
    let mut ann = Client::connect(&rooms).await;
    let enter = |avatar: &str| json!({"event": "enter", "message": "ann", "roomId": "r", "avatar": avatar});
    ann.send(enter(&"x".repeat(3000))).await;
    assert_eq!(ann.next().await["code"], "bad_shape");
    assert!(bodies.lock().unwrap().is_empty());
    ann.send(enter("cat")).await;
    assert_eq!(ann.next().await["avatar"], "cat");
    let body: Value = serde_json::from_str(&bodies.lock().unwrap()[0]).unwrap();
    assert_eq!(body, enter("cat"));
}

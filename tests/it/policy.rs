//! The room policy.

use std::time::Duration;

use serde_json::json;
use tower_chat_rooms::{
    ChatRooms, Denied, EnterRequest, MessageRequest, RoomPolicy, SendError, User, Verdict,
};

use crate::support::{Client, EventLog};

struct MyPolicy;

impl RoomPolicy for MyPolicy {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<(), Denied> {
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
        Ok(())
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
    (ChatRooms::builder().policy(MyPolicy).events(log.hook()).build().unwrap(), log)
}

async fn try_enter(client: &mut Client, room: &str) -> serde_json::Value {
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
    let rooms = ChatRooms::builder()
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

//! Transient events, against a real server.

use serde_json::json;
use tokio::time::timeout;
use tower_chat_rooms::{ChatRooms, History, Recovery};
use tower_chat_rooms_client::{Client, ClientError, ClientEvent, ClientState};

use crate::rates::reach;
use crate::scripted_server::PATIENCE;
use crate::support::{Replaceable, assert_empty, unlimited};

fn with_typing() -> ChatRooms {
    let recovery = Recovery::default().resume_window(PATIENCE).history(History::last(100));
    unlimited().recovery(recovery).transient_events(["typing"]).build().unwrap()
}

/// The next transient frame or message.
async fn next_frame(client: &mut Client) -> ClientEvent {
    loop {
        let event = timeout(PATIENCE, client.recv()).await.expect("no event").expect("the client has ended");
        if matches!(event, ClientEvent::Transient(_) | ClientEvent::Message(_)) {
            return event;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_transient_event_reaches_the_others_and_is_not_replayed() {
    let rooms = with_typing();
    let mut ann = Replaceable::new(rooms.clone()).client().name("ann").await.unwrap();
    let server = Replaceable::new(rooms.clone());
    let mut bob = server.client().name("bob").await.unwrap();
    bob.sender().send_transient("typing", &true).unwrap();
    let ClientEvent::Transient(frame) = next_frame(&mut ann).await else { panic!("not transient") };
    assert_eq!((frame.event(), frame.message(), frame.seq()), ("typing", &json!(true), None));
    assert_eq!(frame.member().map(str::to_owned), bob.member());
    // The sender does not get it back: its message is its first event.
    let seq = bob.sender().send("hi").await.unwrap();
    let ClientEvent::Message(frame) = next_frame(&mut bob).await else { panic!("not a message") };
    assert_eq!(frame.seq(), Some(seq));
    next_frame(&mut ann).await;
    // Without a connection, it gets lost, and a message does not.
    server.cut();
    reach(&mut bob, |state| matches!(state, ClientState::Reconnecting { .. })).await;
    bob.sender().send_transient("typing", &true).unwrap();
    let sending = bob.sender().send("back");
    server.mend();
    let seq = sending.await.unwrap();
    let ClientEvent::Message(frame) = next_frame(&mut ann).await else { panic!("it was kept") };
    assert_eq!(frame.seq(), Some(seq));
    ann.leave().await;
    let sender = bob.sender();
    bob.leave().await;
    assert!(matches!(sender.send_transient("typing", &true), Err(ClientError::Closed { .. })));
    rooms.shutdown().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn the_errors_name_the_right_method() {
    let rooms = with_typing();
    let bob = Replaceable::new(rooms.clone()).client().name("bob").await.unwrap();
    let sender = bob.sender();
    for (result, text) in [
        (sender.send_transient("pointer", &1), "use `send_event`"),
        (sender.send_transient("enter", &1), "reserved by the protocol"),
        (sender.send_event("typing", &true).await.map(|_| ()), "use `send_transient`"),
        (sender.send_object(&json!({"event": "typing", "on": true})).await.map(|_| ()), "`send_transient`"),
        (sender.send_transient("typing", &"x".repeat(1024)), "accepts at most 1024"),
    ] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    assert!(sender.send("still there").await.is_ok());
    bob.leave().await;
    rooms.shutdown().await;
    assert_empty(&rooms);
}

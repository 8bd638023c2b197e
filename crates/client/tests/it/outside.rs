//! Connected, but not in the room; and a first enter that is refused for the moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::time::Instant;
use tower_chat_rooms::{Access, ChatRooms, Denied, EnterRequest, History, Recovery, RoomPolicy, User};
use tower_chat_rooms_client::{ClientEvent, ClientState};

use crate::rates::reach;
use crate::reconnecting::next_message;
use crate::scripted_server::{HEARTBEAT, PATIENCE, entered, message, scripted_server, welcome};
use crate::support::Replaceable;

/// Lets users enter while it is told to.
struct Door(Arc<AtomicBool>);

impl RoomPolicy for Door {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
        if request.user().is_none() || self.0.load(Ordering::Relaxed) {
            Ok(Access::member())
        } else {
            Err(Denied::new("banned"))
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_rights_have_ended_is_outside_until_it_may_enter_again() {
    let is_open = Arc::new(AtomicBool::new(true));
    let rooms = ChatRooms::builder()
        .auth(|token: String| async move { Ok(User::new(token).expires_in(HEARTBEAT * 60)) })
        .policy(Door(is_open.clone()))
        .recovery(Recovery::default().resume_window(PATIENCE).history(History::last(100)))
        .build()
        .unwrap();
    let bob = Replaceable::new(rooms.clone()).client().name("bob").await.unwrap();
    let token = || async { Ok::<_, String>("u".to_owned()) };
    let server = Replaceable::pending_auth(rooms.clone());
    let mut client = server.client().name("ann").token_with(token).await.unwrap();
    reach(&mut client, |state| matches!(state, ClientState::Online)).await;

    // The next renewal asks for its rights.
    is_open.store(false, Ordering::Relaxed);
    let outside = reach(&mut client, |state| !matches!(state, ClientState::Online)).await;
    assert!(
        outside.contains("Outside") && outside.contains("banned") && outside.contains("None"),
        "{outside}"
    );
    assert_eq!(rooms.members("r").len(), 1);
    let sending = client.sender().send("from outside");
    bob.sender().send("meanwhile").await.unwrap();

    is_open.store(true, Ordering::Relaxed);
    client.sender().enter().await;
    let seq = next_message(&mut client).await;
    assert_eq!(next_message(&mut client).await, sending.await.unwrap());
    assert_eq!(seq, 4, "after two enters and an out");
    assert_eq!(rooms.stats().accepted, 2, "on the same connection");
}

#[tokio::test(start_paused = true)]
async fn a_first_enter_that_is_refused_for_the_moment_is_repeated() {
    let (builder, mut server) = scripted_server();
    let (client, _connection) = tokio::join!(builder.open(), async {
        let mut connection = server.accept(HEARTBEAT).await;
        connection.send(welcome());
        for (code, retry_after) in [("internal", None), ("rate_limited", Some(3000))] {
            assert_eq!(connection.frame().await["event"], "enter");
            let mut error = json!({"event": "error", "code": code, "message": "later", "roomId": "r"});
            if let Some(ms) = retry_after {
                error["retryAfter"] = json!(ms);
            }
            connection.send(error);
        }
        let refused = Instant::now();
        assert_eq!(connection.frame().await["event"], "enter");
        assert!((3.0..4.5).contains(&refused.elapsed().as_secs_f64()), "{:?}", refused.elapsed());
        connection.send(entered(0));
        connection
    });
    let mut client = client.unwrap();
    assert_eq!(client.recv().await, Some(ClientEvent::State(ClientState::Online)));
}

#[tokio::test(start_paused = true)]
async fn outside_of_the_room_its_frames_do_not_count() {
    let (builder, mut server) = scripted_server();
    let (client, connection) = tokio::join!(builder.open(), server.let_enter(0));
    let (mut client, mut connection) = (client.unwrap(), connection);
    connection
        .send(json!({"event": "left", "roomId": "r", "code": "internal", "message": "the policy failed"}));
    connection.send(message(1));
    let outside = reach(&mut client, |state| matches!(state, ClientState::Outside { .. })).await;
    assert!(outside.contains("the policy failed") && outside.contains("Some("), "{outside}");
    assert_eq!(connection.frame().await["since"], json!({"epoch": "E", "seq": 0}));
    connection.send(json!({"event": "entered", "roomId": "r", "name": "ann", "member": "1", "epoch": "E",
        "seq": 1, "num": 1, "resumed": false, "recovered": true, "replayed": 1}));
    connection.send(message(1));
    assert_eq!(next_message(&mut client).await, 1);
}

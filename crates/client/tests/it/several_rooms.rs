//! Several rooms on one connection, against a real server and a scripted one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tower_chat_rooms::{Access, ChatRooms, Denied, EnterRequest, History, Limits, Recovery, RoomPolicy};
use tower_chat_rooms_client::{Chat, ChatEvent, ChatState, Client, ClientError, ClientEvent, ClientState};

use crate::rates::reach;
use crate::reconnecting::next_message;
use crate::scripted_server::{HEARTBEAT, PATIENCE, Received, scripted_server_of_chat, welcome};
use crate::support::{Replaceable, assert_empty, unlimited};

/// Chat rooms with a resume window and a room log.
fn recovering() -> ChatRooms {
    let recovery = Recovery::default().resume_window(PATIENCE).history(History::last(100));
    unlimited().recovery(recovery).build().unwrap()
}

fn names(rooms: &ChatRooms, room: &str) -> Vec<String> {
    rooms.members(room).iter().map(|member| member.name.to_string()).collect()
}

/// Waits until a member with this name leaves the room.
async fn see_out(observer: &mut Client, name: &str) {
    loop {
        let event =
            timeout(PATIENCE, observer.recv()).await.expect("no event").expect("the client has ended");
        if let ClientEvent::Out(frame) = event
            && frame.name() == Some(name)
        {
            return;
        }
    }
}

/// Waits until the chat's connection is in this state.
async fn reach_state(chat: &mut Chat, is_wanted: impl Fn(&ChatState) -> bool) {
    loop {
        let event = timeout(PATIENCE, chat.recv()).await.expect("no event").expect("the chat has ended");
        if let ChatEvent::State(state) = event
            && is_wanted(&state)
        {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_rooms_share_a_connection() {
    let rooms = recovering();
    let mut chat = Replaceable::new(rooms.clone()).chat().await.unwrap();
    let mut tea = chat.join("tea", "ann").await.unwrap();
    let mut coffee = chat.join("coffee", "ann").await.unwrap();
    assert_eq!(rooms.stats().accepted, 1);
    let mut bob = Replaceable::new(rooms.clone()).client().room("tea").name("bob").await.unwrap();
    let seq = tea.sender().send("to tea").await.unwrap();
    assert_eq!(next_message(&mut tea).await, seq);
    assert_eq!(next_message(&mut bob).await, seq);
    let seq = coffee.sender().send("to coffee").await.unwrap();
    assert_eq!(next_message(&mut coffee).await, seq);
    // What a handle can tell without an event.
    assert_eq!((tea.state(), coffee.position().unwrap().seq()), (ClientState::Online, seq));
    assert_eq!((tea.member(), coffee.member()), (tea.member(), tea.member()));
    let member = rooms.members("coffee")[0].connection;
    assert_eq!(tea.member(), Some(member.to_string()));
    rooms.send_to(member, &json!({"event": "hint"})).unwrap();
    reach_state(&mut chat, |state| *state == ChatState::Online).await;
    let Some(ChatEvent::Direct(frame)) = chat.recv().await else { panic!() };
    assert_eq!(frame.event(), "hint");

    let again = chat.join("tea", "ann").await.unwrap_err();
    assert!(matches!(&again, ClientError::Config(text) if text.contains("joined already")), "{again}");
    chat.close().await;
    reach(&mut tea, |state| matches!(state, ClientState::Closed { .. })).await;
    assert_eq!(tea.recv().await, None);
    bob.leave().await;
    rooms.shutdown().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn one_of_two_rooms_is_left_by_a_call_or_by_dropping_its_client() {
    let rooms = recovering();
    let chat = Replaceable::new(rooms.clone()).chat().await.unwrap();
    let coffee = chat.join("coffee", "ann").await.unwrap();
    let mut bob = Replaceable::new(rooms.clone()).client().room("tea").name("bob").await.unwrap();
    for _ in 0..3 {
        chat.join("tea", "ann").await.unwrap().leave().await;
        assert_eq!((names(&rooms, "tea"), names(&rooms, "coffee")), (vec!["bob".into()], vec!["ann".into()]));
        see_out(&mut bob, "ann").await;
        drop(chat.join("tea", "ann").await.unwrap());
        see_out(&mut bob, "ann").await;
    }
    assert!(coffee.sender().send("still here").await.is_ok());
    assert_eq!(rooms.stats().accepted, 2);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_left_without_a_connection_has_no_ghost() {
    let rooms = recovering();
    let server = Replaceable::new(rooms.clone());
    let chat = server.chat().await.unwrap();
    let tea = chat.join("tea", "ann").await.unwrap();
    let mut coffee = chat.join("coffee", "ann").await.unwrap();
    let mut bob = Replaceable::new(rooms.clone()).client().room("tea").name("bob").await.unwrap();
    server.cut();
    reach(&mut coffee, |state| matches!(state, ClientState::Reconnecting { .. })).await;
    tea.leave().await;
    assert_eq!(names(&rooms, "tea"), ["ann", "bob"]);
    server.mend();
    see_out(&mut bob, "ann").await;
    reach(&mut coffee, |state| *state == ClientState::Online).await;
    assert_eq!(names(&rooms, "coffee"), ["ann"]);
}

/// Refuses members of one room that return, while it is told to.
struct Door(Arc<AtomicBool>);

impl RoomPolicy for Door {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
        if request.room().as_str() == "tea" && self.0.load(Ordering::Relaxed) {
            Err(Denied::new("banned"))
        } else {
            Ok(Access::member())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_two_rooms_is_denied_at_a_resumption() {
    let is_closed = Arc::new(AtomicBool::new(false));
    let recovery = Recovery::default().resume_window(PATIENCE).history(History::last(100));
    let rooms = ChatRooms::builder().policy(Door(is_closed.clone())).recovery(recovery).build().unwrap();
    let server = Replaceable::new(rooms.clone());
    let chat = server.chat().await.unwrap();
    let mut tea = chat.join("tea", "ann").await.unwrap();
    let mut coffee = chat.join("coffee", "ann").await.unwrap();
    server.cut();
    reach(&mut coffee, |state| matches!(state, ClientState::Reconnecting { .. })).await;
    is_closed.store(true, Ordering::Relaxed);
    server.mend();
    let outside = reach(&mut tea, |state| matches!(state, ClientState::Outside { .. })).await;
    assert!(outside.contains("banned"), "{outside}");
    reach(&mut coffee, |state| *state == ClientState::Online).await;
    assert_eq!((names(&rooms, "tea").len(), names(&rooms, "coffee").len()), (0, 1));
    is_closed.store(false, Ordering::Relaxed);
    let sending = tea.sender().send("from outside");
    tea.sender().enter().await;
    assert!(sending.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_room_that_the_host_closes_is_over_and_the_other_goes_on() {
    let rooms = recovering();
    let chat = Replaceable::new(rooms.clone()).chat().await.unwrap();
    let mut tea = chat.join("tea", "ann").await.unwrap();
    let coffee = chat.join("coffee", "ann").await.unwrap();
    let sender = tea.sender();
    rooms.close_room("tea");
    let closed = reach(&mut tea, |state| matches!(state, ClientState::Closed { .. })).await;
    assert!(closed.contains("room_closed"), "{closed}");
    assert_eq!(tea.recv().await, None);
    assert!(matches!(sender.send("late").await, Err(ClientError::Closed { .. })));
    assert!(coffee.sender().send("still here").await.is_ok());
    // There may be a new room with the same id.
    let tea = chat.join("tea", "ann").await.unwrap();
    assert!(tea.sender().send("again").await.is_ok());
    assert_eq!(rooms.stats().accepted, 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_of_the_server_both_rooms_are_entered_anew() {
    let (old, new) = (recovering(), recovering());
    let server = Replaceable::new(old.clone());
    let mut chat = server.chat().await.unwrap();
    let mut tea = chat.join("tea", "ann").await.unwrap();
    let mut coffee = chat.join("coffee", "ann").await.unwrap();
    server.replace(new.clone());
    old.shutdown().await;
    reach_state(&mut chat, |state| matches!(state, ChatState::Reconnecting { .. })).await;
    let sendings = [tea.sender().send("waiting"), coffee.sender().send("waiting")];
    for sending in sendings {
        assert_eq!(sending.await, Ok(2));
    }
    for client in [&mut tea, &mut coffee] {
        let mut told = Vec::new();
        while !told.contains(&"gap") {
            match client.recv().await.unwrap() {
                ClientEvent::Gap { missed: None, .. } => told.push("gap"),
                ClientEvent::Entered { resumed: false, .. } => told.push("entered"),
                ClientEvent::State(ClientState::Reconnecting { .. }) => told.push("reconnecting"),
                _ => {}
            }
        }
        assert_eq!(told, ["entered", "reconnecting", "entered", "gap"]);
    }
    assert_eq!(new.stats().accepted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_room_too_many_is_refused() {
    let limits = Limits::default().max_memberships(2);
    let rooms = unlimited().limits(limits).build().unwrap();
    let chat = Replaceable::new(rooms.clone()).chat().await.unwrap();
    let tea = chat.join("tea", "ann").await.unwrap();
    let coffee = chat.join("coffee", "ann").await.unwrap();
    let refused = chat.join("third", "ann").await.unwrap_err();
    assert!(
        matches!(&refused, ClientError::Refused { code, .. } if code == "too_many_memberships"),
        "{refused:?}"
    );
    tea.leave().await;
    assert!(chat.join("third", "ann").await.is_ok());
    assert!(coffee.sender().send("still here").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_room_can_be_joined_while_reconnecting() {
    let rooms = recovering();
    let server = Replaceable::new(rooms.clone());
    let mut chat = server.chat().await.unwrap();
    let coffee = chat.join("coffee", "ann").await.unwrap();
    server.cut();
    reach_state(&mut chat, |state| matches!(state, ChatState::Reconnecting { .. })).await;
    let handle = chat.handle();
    let joining = tokio::spawn(async move { handle.join("tea", "ann").await });
    tokio::task::yield_now().await;
    server.mend();
    let tea = joining.await.unwrap().unwrap();
    assert!(tea.sender().send("hi").await.is_ok() && coffee.sender().send("hi").await.is_ok());
    // One that is dropped before it has entered leaves nothing behind.
    server.cut();
    reach_state(&mut chat, |state| matches!(state, ChatState::Reconnecting { .. })).await;
    assert!(timeout(Duration::from_millis(1), chat.join("third", "ann")).await.is_err());
    server.mend();
    assert!(tea.sender().send("hi").await.is_ok());
    assert!(names(&rooms, "third").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_room_whose_events_are_not_taken_does_not_hold_up_the_other() {
    let history = History::last(10_000).max_bytes(4 << 20);
    let recovery = Recovery::default().resume_window(PATIENCE).history(history);
    let rooms = unlimited().recovery(recovery).build().unwrap();
    let chat = Replaceable::new(rooms.clone()).chat().max_events(50).await.unwrap();
    let mut tea = chat.join("tea", "ann").await.unwrap();
    let mut coffee = chat.join("coffee", "ann").await.unwrap();
    let begin = Instant::now();
    for n in 0..500 {
        rooms.send("tea", &json!({"event": "notice", "message": n})).unwrap();
        rooms.send("coffee", &json!({"event": "notice", "message": n})).unwrap();
        assert_eq!(next_message(&mut coffee).await, n + 2);
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    for n in 0..500 {
        assert_eq!(next_message(&mut tea).await, n + 2);
    }
    assert_eq!(rooms.stats().accepted, 1, "it has reconnected");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_put_off_in_one_room_does_not_hold_up_the_other() {
    let (builder, mut server) = scripted_server_of_chat();
    let entered = |room: &Value| {
        json!({"event": "entered", "roomId": room, "name": "ann", "member": "1", "epoch": "E", "seq": 0, "num": 1,
               "resumed": false, "recovered": false, "replayed": 0})
    };
    let (chat, mut connection) = tokio::join!(builder.open(), async {
        let connection = server.accept(HEARTBEAT).await;
        connection.send(welcome());
        connection
    });
    let chat = chat.unwrap();
    let (tea, coffee, ()) = tokio::join!(chat.join("tea", "ann"), chat.join("coffee", "ann"), async {
        for _ in 0..2 {
            let enter = connection.frame().await;
            connection.send(entered(&enter["roomId"]));
        }
    });
    let (tea, coffee) = (tea.unwrap(), coffee.unwrap());
    let sendings = [tea.sender().send("1"), tea.sender().send("2"), coffee.sender().send("3")];
    let mut frames = Vec::new();
    for _ in 0..3 {
        frames.push(connection.frame().await);
    }
    for frame in &frames[..2] {
        connection.send(json!({"event": "error", "code": "unavailable", "message": "later",
            "cid": frame["cid"], "retryAfter": 2000}));
    }
    let refused = Instant::now();
    connection.send(json!({"event": "ack", "cid": frames[2]["cid"], "seq": 1}));
    drop(coffee.sender().send("4"));
    let fourth = connection.frame().await;
    assert_eq!((&fourth["message"], &fourth["roomId"]), (&json!("4"), &json!("coffee")));
    for (n, frame) in frames[..2].iter().enumerate() {
        assert_eq!((&connection.frame().await, refused.elapsed().as_secs()), (frame, 2));
        connection.send(json!({"event": "ack", "cid": frame["cid"], "seq": n + 1}));
    }
    for (sending, seq) in sendings.into_iter().zip([1, 2, 1]) {
        assert_eq!(sending.await, Ok(seq));
    }
    // Dropping everything closes the connection.
    drop((chat, tea));
    let leave = connection.frame().await;
    assert_eq!(leave, json!({"event": "leave", "roomId": "tea"}));
    drop(coffee);
    assert_eq!(connection.receive().await, Received::Closed(1000));
}

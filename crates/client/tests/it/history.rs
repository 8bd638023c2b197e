//! The latest messages for a client that enters late, from a real server.

use tokio::time::timeout;
use tower_chat_rooms::{ChatRooms, History, Recovery};
use tower_chat_rooms_client::{Client, ClientEvent, RoomFrame};

use crate::reconnecting::next_message;
use crate::scripted_server::PATIENCE;
use crate::support::{Replaceable, assert_empty, unlimited};

fn with_history() -> ChatRooms {
    let recovery = Recovery::default().resume_window(PATIENCE).history(History::last(100));
    unlimited().recovery(recovery).build().unwrap()
}

/// The next frame of the room.
async fn next_frame(client: &mut Client) -> RoomFrame {
    loop {
        match timeout(PATIENCE, client.recv()).await.expect("no event").expect("the client has ended") {
            ClientEvent::Enter(frame) | ClientEvent::Out(frame) | ClientEvent::Message(frame) => {
                return frame;
            }
            ClientEvent::Gap { missed, .. } => panic!("missed {missed:?}"),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_enters_late_gets_the_latest_messages_once() {
    let rooms = with_history();
    let bob = Replaceable::new(rooms.clone()).client().name("bob").await.unwrap();
    for n in 1..=3 {
        let _ = bob.sender().send(&n).await.unwrap();
    }
    let server = Replaceable::new(rooms.clone());
    let mut ann = server.client().name("ann").history(2).await.unwrap();
    for n in 2..=3 {
        let frame = next_frame(&mut ann).await;
        assert_eq!((frame.message(), frame.name()), (&n.into(), Some("bob")));
        assert!(frame.is_history() && !frame.is_own() && !frame.is_replayed());
    }
    let enter = next_frame(&mut ann).await;
    assert!(enter.event() == "enter" && enter.is_own() && !enter.is_history());
    // What it misses meanwhile is replayed, and no history comes again.
    server.cut();
    let seq = bob.sender().send(&4).await.unwrap();
    server.mend();
    let frame = next_frame(&mut ann).await;
    assert_eq!((frame.seq(), frame.is_replayed(), frame.is_history()), (Some(seq), true, false));
    ann.leave().await;
    bob.leave().await;
    rooms.shutdown().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn each_room_of_a_chat_may_ask_for_its_history() {
    let rooms = with_history();
    let server = Replaceable::new(rooms.clone());
    let bob = server.client().room("tea").name("bob").await.unwrap();
    let _ = bob.sender().send("old").await.unwrap();
    let chat = server.chat().await.unwrap();
    let mut tea = chat.join("tea", "ann").history(10).await.unwrap();
    assert!(next_frame(&mut tea).await.is_history());
    let seq = tea.sender().send("own").await.unwrap();
    assert_eq!(next_message(&mut tea).await, seq);
    tea.leave().await;
    // It comes back as another client, and gets what it has said itself.
    let mut tea = chat.join("tea", "ann").history(1).await.unwrap();
    let frame = next_frame(&mut tea).await;
    assert!(frame.is_history() && frame.is_own() && frame.seq() == Some(seq), "{frame:?}");
    let mut coffee = chat.join("coffee", "ann").await.unwrap();
    assert_eq!(next_frame(&mut coffee).await.event(), "enter");
    chat.close().await;
    bob.leave().await;
    rooms.shutdown().await;
    assert_empty(&rooms);
}

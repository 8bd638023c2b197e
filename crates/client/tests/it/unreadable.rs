//! Frames that this client can't read, from a scripted and a real server.

use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tower_chat_rooms::{ChatRooms, History, Recovery};
use tower_chat_rooms_client::{Client, ClientError, ClientEvent, ClientState};

use crate::reconnecting::next_message;
use crate::scripted_server::{PATIENCE, message, online};
use crate::support::Replaceable;

/// What the application is told up to the next message.
async fn told(client: &mut Client) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let event = timeout(PATIENCE, client.recv()).await.expect("no event").expect("the client has ended");
        match event {
            ClientEvent::Message(frame) => {
                told.push(format!("message {}", frame.seq().unwrap()));
                return told;
            }
            ClientEvent::Error(ClientError::BadFrame(_)) => told.push("bad frame".into()),
            ClientEvent::Gap { missed, .. } => told.push(format!("gap of {}", missed.unwrap())),
            ClientEvent::State(ClientState::Reconnecting { .. }) => told.push("reconnecting".into()),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_may_send_what_this_client_can_not_read() {
    let recovery = Recovery::default().resume_window(PATIENCE).history(History::last(100));
    let rooms = ChatRooms::builder().recovery(recovery).build().unwrap();
    let server = Replaceable::new(rooms.clone());
    let mut client = server.client().name("ann").await.unwrap();
    let deep = (0..200).fold(json!(0), |inner, _| json!([inner]));
    let notice = |message| json!({"event": "notice", "message": message});
    rooms.send("r", &notice(deep.clone())).unwrap();
    rooms.send("r", &notice(json!("after"))).unwrap();
    assert_eq!(told(&mut client).await, ["bad frame", "gap of 1", "message 3"]);
    // It is skipped in a replay, too.
    server.cut();
    rooms.send("r", &notice(deep)).unwrap();
    rooms.send("r", &notice(json!("after"))).unwrap();
    server.mend();
    assert_eq!(told(&mut client).await, ["reconnecting", "bad frame", "gap of 1", "message 5"]);
    assert_eq!(rooms.stats().accepted, 2);
}

#[tokio::test(start_paused = true)]
async fn binary_frames_and_unknown_events_are_no_reason_to_go() {
    let (mut client, connection, _server) = online().await;
    connection.send_raw(Message::binary(vec![1, 2, 3]));
    connection.send_raw(Message::text("{"));
    connection.send_raw(Message::Ping(vec![0; 100].into()));
    connection.send(json!({"event": "from the future", "seq": "?"}));
    connection.send(message(1));
    assert_eq!(told(&mut client).await, ["bad frame", "bad frame", "message 1"]);
    connection.send(message(2));
    assert_eq!(next_message(&mut client).await, 2);
}

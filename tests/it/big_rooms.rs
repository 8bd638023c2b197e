//! Rooms that are so large that several worker threads deliver a batch.

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, Presence};

use crate::support::{Client, assert_empty, enter_frame, message_frame, unlimited};

const LISTENERS: usize = 700;
const SPEAKERS: usize = 3;
const MESSAGES: usize = 20;

async fn enter(rooms: &ChatRooms) -> (Client, u64) {
    let (mut client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
    client.send(enter_frame("ann", "r")).await;
    let entered = client.next_of("entered").await;
    (client, entered["seq"].as_u64().unwrap())
}

/// The next message of the room. Each must follow the one before.
async fn next_message(client: &mut Client, seq: &mut u64) -> Value {
    let message = client.next_of("message").await;
    *seq += 1;
    assert_eq!(message["seq"], *seq, "{message}");
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_members_get_all_messages_in_order_while_others_enter_and_leave() {
    let rooms = unlimited().presence(Presence::Count).build().unwrap();
    let mut members = Vec::new();
    for _ in 0..LISTENERS + SPEAKERS {
        members.push(enter(&rooms).await);
    }
    let all = (SPEAKERS * MESSAGES) as u64;
    let listen = |(mut client, mut seq): (Client, u64), is_speaker: bool| async move {
        for n in 0..all as usize {
            if is_speaker && n < MESSAGES {
                client.send(message_frame("r", "hi")).await;
            }
            next_message(&mut client, &mut seq).await;
        }
        client
    };
    let clients: Vec<_> = members
        .into_iter()
        .enumerate()
        .map(|(n, member)| tokio::spawn(listen(member, n >= LISTENERS)))
        .collect();
    // Members enter and leave while the batches are being delivered. No member sees a gap.
    for _ in 0..50 {
        let (mut client, mut seq) = enter(&rooms).await;
        if seq < all {
            next_message(&mut client, &mut seq).await;
        }
        client.close().await;
    }
    for client in clients {
        client.await.unwrap().close().await;
    }
    assert_eq!(rooms.position("r"), None);
    assert_empty(&rooms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_frames_of_the_host_reach_all_members_too() {
    let rooms = unlimited().presence(Presence::Count).build().unwrap();
    let mut members = Vec::new();
    for _ in 0..LISTENERS {
        members.push(enter(&rooms).await.0);
    }
    rooms.send("r", &json!({"event": "notice", "n": 1})).unwrap().await.unwrap();
    assert_eq!(rooms.close_room("r"), LISTENERS);
    for mut client in members {
        assert_eq!(client.next_of("notice").await["n"], 1);
        client.next_of("left").await;
    }
}

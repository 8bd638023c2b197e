//! Many connections on real threads: enters, moves, messages, kicks and lost connections at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tower_chat_rooms::{Admission, ChatRooms, Heartbeat, LeaveReason, Limits, RoomEvent};

use crate::support::{Client, MembershipRecord, Random, assert_empty, builder};

/// How long a client waits for its enter at most.
const MOMENT: Duration = Duration::from_millis(20);

/// A client that connects many times, and ends each connection in some way.
async fn run_client(rooms: ChatRooms, seed: u64, connections: usize) {
    let mut random = Random::new(seed);
    for n in 0..connections {
        let buffer = [64, 700, 64 * 1024][random.below(3) as usize];
        let mut client = Client::connect_as(&rooms, Admission::anonymous(), buffer).await;
        for _ in 0..random.below(8) {
            let room = format!("r{}", random.below(4));
            let frame = match random.below(6) {
                0..=2 => {
                    json!({"event": "enter", "message": format!("n{}", random.below(3)), "roomId": room})
                }
                3 => json!({"event": "message", "message": [seed, n], "name": "forged"}),
                4 => json!({"event": "out"}),
                _ => json!({"event": "draw", "pad": "x".repeat(random.below(900) as usize)}),
            };
            // The server may have closed a client that is slow or was kicked.
            if client.ws.send(Message::text(frame.to_string())).await.is_err() {
                break;
            }
            if random.below(3) == 0 {
                while let Some(Some(Ok(Message::Text(text)))) = client.ws.next().now_or_never() {
                    let _: Value = serde_json::from_str(&text).unwrap();
                }
            }
        }
        match random.below(4) {
            0 => {
                // Only members can be dropped. With a broker, it takes a while until a client is one.
                let is_enter = |text: &str| text.contains(r#""event":"enter""#);
                while let Ok(Some(Ok(message))) = timeout(MOMENT, client.ws.next()).await {
                    if matches!(message, Message::Text(text) if is_enter(&text)) {
                        break;
                    }
                }
                client.task.abort();
            }
            1 => drop(client.ws.close(None).await),
            _ => {}
        }
        drop(client.ws);
        let _ = client.task.await;
    }
}

/// A host that kicks, closes rooms, sends, and checks the consistency until it is told to stop.
async fn run_host(rooms: ChatRooms, stop: Arc<AtomicBool>) {
    let mut random = Random::new(7);
    while !stop.load(Ordering::Relaxed) {
        let room = format!("r{}", random.below(4));
        let members = rooms.members(&room);
        match random.below(6) {
            0 => drop(rooms.close_room(&room)),
            1 if !members.is_empty() => {
                rooms.kick(members[random.below(members.len() as u64) as usize].connection);
            }
            2 => drop(rooms.send(&room, &json!({"event": "notice"}))),
            3 => drop(rooms.broadcast(&json!({"event": "notice"})).await),
            _ => drop(rooms.check_consistency()),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_left_after_many_connections_at_once() {
    let record = Arc::new(Mutex::new(MembershipRecord::new(1)));
    let recording = record.clone();
    let rooms = builder()
        .limits(Limits::default().max_room_members(12).max_rooms(3).max_queue_frames(20))
        .heartbeat(Heartbeat::every(Duration::from_secs(5)))
        .events(move |event: RoomEvent<'_>| recording.lock().unwrap().record(event))
        .build()
        .unwrap();
    let clients: Vec<_> = (0..32).map(|seed| tokio::spawn(run_client(rooms.clone(), seed, 60))).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let host = tokio::spawn(run_host(rooms.clone(), stop.clone()));
    for client in clients {
        client.await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    host.await.unwrap();
    assert_empty(&rooms);
    rooms.shutdown().await;
    // If one of these reasons did not occur, the test did not test it.
    use LeaveReason::{Dropped, Lost, Moved, Renamed};
    record.lock().unwrap().assert_complete(&[Dropped, Lost, Moved, Renamed]);
}

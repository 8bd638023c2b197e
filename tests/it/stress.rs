//! Everything at once on real threads, with an audit at the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tower_chat_rooms::{Admission, ChatRooms, Heartbeat, LeaveReason, Limits, RoomEvent};

use crate::client::{Client, assert_empty};
use crate::crowd::{Dice, Ledger};

async fn life(rooms: ChatRooms, seed: u64, rounds: usize) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
    for round in 0..rounds {
        let buffer = [64, 700, 64 * 1024][dice.roll(3) as usize];
        let mut client = Client::connect_as(&rooms, Admission::anonymous(), buffer).await;
        for _ in 0..dice.roll(8) {
            let room = format!("r{}", dice.roll(4));
            let frame = match dice.roll(6) {
                0..=2 => json!({"event": "enter", "message": format!("n{}", dice.roll(3)), "roomId": room}),
                3 => json!({"event": "message", "message": [seed, round], "name": "forged"}),
                4 => json!({"event": "out"}),
                _ => json!({"event": "draw", "pad": "x".repeat(dice.roll(900) as usize)}),
            };
            // Whoever is slow, kicked or shut out finds his socket closed, rightly.
            if client.ws.send(Message::text(frame.to_string())).await.is_err() {
                break;
            }
            if dice.roll(3) == 0 {
                while let Some(Some(Ok(Message::Text(text)))) =
                    futures_util::FutureExt::now_or_never(client.ws.next())
                {
                    let _: Value = serde_json::from_str(&text).unwrap();
                }
            }
        }
        match dice.roll(4) {
            0 => client.task.abort(),
            1 => drop(client.ws.close(None).await),
            _ => {}
        }
        drop(client.ws);
        let _ = client.task.await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_happens_at_once_the_books_agree() {
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let noted = ledger.clone();
    let rooms = ChatRooms::builder()
        .limits(Limits::default().max_room_members(12).max_rooms(3).max_queue_frames(20))
        .heartbeat(Heartbeat::every(std::time::Duration::from_secs(5)))
        .events(move |event: RoomEvent<'_>| noted.lock().unwrap().note(event))
        .build()
        .unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let lives: Vec<_> = (0..32).map(|seed| tokio::spawn(life(rooms.clone(), seed, 60))).collect();
    let (host, seen_over) = (rooms.clone(), over.clone());
    let meddler = tokio::spawn(async move {
        let mut dice = Dice(7);
        while !seen_over.load(Ordering::Relaxed) {
            let room = format!("r{}", dice.roll(4));
            let members = host.members(&room);
            match dice.roll(6) {
                0 => drop(host.close_room(&room)),
                1 if !members.is_empty() => {
                    host.kick(members[dice.roll(members.len() as u64) as usize].connection);
                }
                2 => drop(host.send(&room, &json!({"event": "notice"}))),
                3 => drop(host.broadcast(&json!({"event": "notice"})).await),
                _ => drop(host.check_consistency()),
            }
            tokio::task::yield_now().await;
        }
    });
    for life in lives {
        life.await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    meddler.await.unwrap();
    assert_empty(&rooms);
    rooms.shutdown().await;
    let ledger = ledger.lock().unwrap();
    assert!(ledger.mistakes.is_empty(), "{:?}", ledger.mistakes);
    assert!(ledger.places.is_empty(), "{:?}", ledger.places);
    // The test does what it says only if all this has happened.
    use LeaveReason::{Dropped, Lost, Moved, Renamed};
    for reason in [Dropped, Lost, Moved, Renamed] {
        assert!(ledger.ended.contains_key(&reason), "{reason:?}: {:?}", ledger.ended);
    }
}

//! Clients that come and go by `chat-rooms.v1` on real threads, with kicks and closed rooms in
//! between, and an audit at the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tower_chat_rooms::{Admission, ChatRooms, History, LeaveReason, Recovery, RoomEvent};

use crate::client::{Client, assert_empty};
use crate::crowd::{Dice, Ledger};

/// So long they flap.
const TIME: Duration = Duration::from_millis(1500);

/// A client, over all of its connections.
struct Flapper {
    rooms: ChatRooms,
    dice: Dice,
    room: String,
    secrets: Vec<Value>,
    since: Option<(Value, u64)>,
    mistakes: Vec<String>,
}

impl Flapper {
    fn new(rooms: &ChatRooms, seed: u64) -> Flapper {
        let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
        let room = format!("r{}", seed % 3);
        Flapper { rooms: rooms.clone(), dice, room, secrets: Vec::new(), since: None, mistakes: Vec::new() }
    }

    async fn connect(&mut self) -> Client {
        let admission = Admission::anonymous().with_protocol("chat-rooms.v1".parse().unwrap());
        let buffer = [512, 64 * 1024][self.dice.roll(2) as usize];
        let mut client = Client::connect_as(&self.rooms, admission, buffer).await;
        let welcome = client.next().await;
        self.secrets.push(welcome["resume"].clone());
        self.secrets.drain(..self.secrets.len().saturating_sub(8));
        let since = self.since.as_ref().map(|(epoch, seq)| json!({"epoch": epoch, "seq": seq}));
        let mut enter =
            json!({"event": "enter", "message": "n", "roomId": self.room, "resume": self.secrets});
        if let Some(since) = since {
            enter["since"] = since;
        }
        let _ = client.ws.send(Message::text(enter.to_string())).await;
        client
    }

    /// Hears what comes for a while; what comes after what must have come before.
    async fn listen(&mut self, client: &mut Client, frames: u64, sent: &Option<(Value, u64)>) {
        for _ in 0..frames {
            let Ok(Some(Ok(Message::Text(text)))) =
                tokio::time::timeout(Duration::from_millis(5), client.ws.next()).await
            else {
                return;
            };
            let frame: Value = serde_json::from_str(&text).unwrap();
            match (frame["event"].as_str(), frame["seq"].as_u64()) {
                (Some("entered"), Some(seq)) => {
                    let own = self.secrets.pop();
                    self.secrets.clear();
                    self.secrets.extend(own);
                    let replayed = frame["replayed"].as_u64().unwrap();
                    if frame["recovered"] == true {
                        assert_eq!(sent, &Some((frame["epoch"].clone(), seq - replayed)), "{frame}");
                    }
                    self.since = Some((frame["epoch"].clone(), seq - replayed));
                }
                (Some("ack"), _) | (_, None) => {}
                (_, Some(seq)) => match &mut self.since {
                    Some((_, last)) if seq == *last + 1 => *last = seq,
                    since => self.mistakes.push(format!("{since:?}, then {frame}")),
                },
            }
        }
    }

    async fn flap(mut self, until: Instant) -> Vec<String> {
        let mut before = None;
        while Instant::now() < until {
            let sent = self.since.clone();
            let mut client = self.connect().await;
            // The old one ends before, while, or after the new one is in its place.
            if self.dice.roll(2) == 0 {
                drop(before.take());
            }
            let most = self.dice.roll(12);
            self.listen(&mut client, most, &sent).await;
            for n in 0..self.dice.roll(3) {
                let said =
                    json!({"event": "message", "message": n, "cid": format!("c{}", self.dice.roll(9))});
                let _ = client.ws.send(Message::text(said.to_string())).await;
            }
            let most = self.dice.roll(12);
            self.listen(&mut client, most, &sent).await;
            match self.dice.roll(8) {
                0 => client.task.abort(),
                1 => drop(client.ws.close(None).await),
                2 => {
                    let mean = CloseFrame { code: 4000.into(), reason: "".into() };
                    drop(client.ws.close(Some(mean)).await);
                }
                3 => self.room = format!("r{}", self.dice.roll(3)),
                _ => {}
            }
            before = Some(client);
        }
        self.mistakes
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn seats_that_change_hands_are_neither_lost_nor_doubled() {
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let noted = ledger.clone();
    let rooms = ChatRooms::builder()
        .recovery(Recovery::default().resume_window(Duration::from_millis(40)).history(History::last(500)))
        .events(move |event: RoomEvent<'_>| noted.lock().unwrap().note(event))
        .build()
        .unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let (host, seen_over) = (rooms.clone(), over.clone());
    let meddler = tokio::spawn(async move {
        let mut dice = Dice(7);
        while !seen_over.load(Ordering::Relaxed) {
            let room = format!("r{}", dice.roll(3));
            let members = host.members(&room);
            match dice.roll(40) {
                0 => drop(host.close_room(&room)),
                1..=4 if !members.is_empty() => {
                    host.kick(members[dice.roll(members.len() as u64) as usize].connection);
                }
                5 => drop(host.send(&room, &json!({"event": "notice"}))),
                _ => drop(host.check_consistency()),
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    });
    let until = Instant::now() + TIME;
    let flappers: Vec<_> = (0..24).map(|seed| tokio::spawn(Flapper::new(&rooms, seed).flap(until))).collect();
    let mut mistakes = Vec::new();
    for flapper in flappers {
        mistakes.extend(flapper.await.unwrap());
    }
    over.store(true, Ordering::Relaxed);
    meddler.await.unwrap();
    assert!(mistakes.is_empty(), "{} of them: {:?}", mistakes.len(), &mistakes[..mistakes.len().min(5)]);
    // The last to be lost are let go after the grace, without a shutdown.
    while rooms.stats().absent + rooms.stats().connections > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rooms.shutdown().await;
    assert_empty(&rooms);
    let stats = rooms.stats();
    assert_eq!(stats.absent, 0);
    let ledger = ledger.lock().unwrap();
    assert!(ledger.mistakes.is_empty(), "{:?}", ledger.mistakes);
    assert!(ledger.places.is_empty(), "{:?}", ledger.places);
    // The test does what it says only if all this has happened.
    assert!(stats.resumed > 0, "{stats:?}");
    for reason in [LeaveReason::Dropped, LeaveReason::Lost, LeaveReason::Closed] {
        assert!(ledger.ended.contains_key(&reason), "{reason:?}: {:?}", ledger.ended);
    }
}

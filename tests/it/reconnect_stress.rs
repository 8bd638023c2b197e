//! Many `chat-rooms.v1` clients on real threads that reconnect all the time, with kicks and closed rooms.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tower_chat_rooms::{ChatRooms, History, LeaveReason, Recovery, RoomEvent};

use crate::support::{Client, MembershipRecord, Random, assert_empty, v1_admission};

const TEST_TIME: Duration = Duration::from_millis(1500);

/// An epoch and the `seq` of the last frame received.
type Position = (Value, u64);

/// A client over all of its connections.
struct ReconnectingClient {
    rooms: ChatRooms,
    random: Random,
    room: String,
    resume_tokens: Vec<Value>,
    position: Option<Position>,
    /// Gaps and repetitions in `seq`.
    errors: Vec<String>,
}

impl ReconnectingClient {
    fn new(rooms: &ChatRooms, seed: u64) -> ReconnectingClient {
        ReconnectingClient {
            rooms: rooms.clone(),
            random: Random::new(seed),
            room: format!("r{}", seed % 3),
            resume_tokens: Vec::new(),
            position: None,
            errors: Vec::new(),
        }
    }

    /// Connects and sends an enter, with what it knows of its session.
    async fn connect(&mut self) -> Client {
        let buffer = [512, 64 * 1024][self.random.below(2) as usize];
        let mut client = Client::connect_as(&self.rooms, v1_admission(), buffer).await;
        let welcome = client.next().await;
        self.resume_tokens.push(welcome["resume"].clone());
        self.resume_tokens.drain(..self.resume_tokens.len().saturating_sub(8));
        let mut enter =
            json!({"event": "enter", "message": "n", "roomId": self.room, "resume": self.resume_tokens});
        if let Some((epoch, seq)) = &self.position {
            enter["since"] = json!({"epoch": epoch, "seq": seq});
        }
        let _ = client.ws.send(Message::text(enter.to_string())).await;
        client
    }

    /// Reads up to `max` frames. Those of the room must follow the position. `since` is the position that the enter
    /// had.
    async fn read(&mut self, client: &mut Client, max: u64, since: Option<&Position>) {
        for _ in 0..max {
            let next = timeout(Duration::from_millis(5), client.ws.next()).await;
            let Ok(Some(Ok(Message::Text(text)))) = next else { return };
            let frame: Value = serde_json::from_str(&text).unwrap();
            match (frame["event"].as_str(), frame["seq"].as_u64()) {
                (Some("entered"), Some(seq)) => {
                    // The token of this connection is the only one that is still valid.
                    self.resume_tokens.drain(..self.resume_tokens.len() - 1);
                    let position = (frame["epoch"].clone(), seq - frame["replayed"].as_u64().unwrap());
                    if frame["recovered"] == true {
                        assert_eq!(since, Some(&position), "{frame}");
                    }
                    self.position = Some(position);
                }
                (Some("ack"), _) | (_, None) => {}
                (_, Some(seq)) => match &mut self.position {
                    Some((_, last)) if seq == *last + 1 => *last = seq,
                    position => self.errors.push(format!("{position:?}, then {frame}")),
                },
            }
        }
    }

    /// Reconnects until this time. Returns the errors.
    async fn run(mut self, end: Instant) -> Vec<String> {
        let mut old = None;
        while Instant::now() < end {
            let since = self.position.clone();
            let mut client = self.connect().await;
            // The old connection ends before, while or after the new one is attached.
            if self.random.below(2) == 0 {
                drop(old.take());
            }
            let max = self.random.below(12);
            self.read(&mut client, max, since.as_ref()).await;
            for n in 0..self.random.below(3) {
                let cid = format!("c{}", self.random.below(9));
                let message = json!({"event": "message", "message": n, "cid": cid});
                let _ = client.ws.send(Message::text(message.to_string())).await;
            }
            let max = self.random.below(12);
            self.read(&mut client, max, since.as_ref()).await;
            match self.random.below(8) {
                0 => client.task.abort(),
                1 => drop(client.ws.close(None).await),
                2 => {
                    // This code keeps the session.
                    let frame = CloseFrame { code: 4000.into(), reason: "".into() };
                    drop(client.ws.close(Some(frame)).await);
                }
                3 => self.room = format!("r{}", self.random.below(3)),
                _ => {}
            }
            old = Some(client);
        }
        self.errors
    }
}

/// A host that kicks, closes rooms, sends, and checks the consistency until it is told to stop.
async fn run_host(rooms: ChatRooms, stop: Arc<AtomicBool>) {
    let mut random = Random::new(7);
    while !stop.load(Ordering::Relaxed) {
        let room = format!("r{}", random.below(3));
        let members = rooms.members(&room);
        match random.below(40) {
            0 => drop(rooms.close_room(&room)),
            1..=4 if !members.is_empty() => {
                rooms.kick(members[random.below(members.len() as u64) as usize].connection);
            }
            5 => drop(rooms.send(&room, &json!({"event": "notice"}))),
            _ => drop(rooms.check_consistency()),
        }
        sleep(Duration::from_micros(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_reconnect_all_the_time_lose_no_frame_and_leave_nothing() {
    let record = Arc::new(Mutex::new(MembershipRecord::default()));
    let recording = record.clone();
    let rooms = ChatRooms::builder()
        .recovery(Recovery::default().resume_window(Duration::from_millis(40)).history(History::last(500)))
        .events(move |event: RoomEvent<'_>| recording.lock().unwrap().record(event))
        .build()
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let host = tokio::spawn(run_host(rooms.clone(), stop.clone()));
    let end = Instant::now() + TEST_TIME;
    let clients: Vec<_> =
        (0..24).map(|seed| tokio::spawn(ReconnectingClient::new(&rooms, seed).run(end))).collect();
    let mut errors = Vec::new();
    for client in clients {
        errors.extend(client.await.unwrap());
    }
    stop.store(true, Ordering::Relaxed);
    host.await.unwrap();
    assert!(errors.is_empty(), "{} errors: {:?}", errors.len(), &errors[..errors.len().min(5)]);
    // The last sessions end after the resume window, without a shutdown.
    while rooms.stats().absent + rooms.stats().connections > 0 {
        sleep(Duration::from_millis(5)).await;
    }
    rooms.shutdown().await;
    assert_empty(&rooms);
    let stats = rooms.stats();
    assert_eq!(stats.absent, 0);
    // If nothing was resumed or one of these reasons did not occur, the test did not test it.
    assert!(stats.resumed > 0, "{stats:?}");
    use LeaveReason::{Closed, Dropped, Lost};
    record.lock().unwrap().assert_complete(&[Dropped, Lost, Closed]);
}

//! Many `chat-rooms.v1` clients on real threads that are in several rooms and reconnect all the time, with kicks and
//! closed rooms.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tower_chat_rooms::{ChatRooms, History, LeaveReason, Recovery, RoomEvent};

use crate::support::{
    Client, MembershipRecord, Random, assert_empty, builder, enter_frame, enter_since, leave_frame,
    resume_frame, v1_admission,
};

const TEST_TIME: Duration = Duration::from_millis(1500);

/// For an answer, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

const ROOMS: [&str; 3] = ["r0", "r1", "r2"];

/// An epoch and the `seq` of the last frame received.
type Position = (Value, u64);

fn any_room(random: &mut Random) -> &'static str {
    ROOMS[random.below(ROOMS.len() as u64) as usize]
}

/// A client over all of its connections.
struct ReconnectingClient {
    rooms: ChatRooms,
    random: Random,
    /// The rooms that it wants to be in.
    wanted: BTreeSet<&'static str>,
    resume_tokens: Vec<Value>,
    positions: HashMap<String, Position>,
    /// The rooms that it is in by its current connection.
    entered: HashSet<String>,
    /// Gaps and repetitions in `seq`, and frames of other rooms.
    errors: Vec<String>,
}

impl ReconnectingClient {
    fn new(rooms: &ChatRooms, seed: u64) -> ReconnectingClient {
        ReconnectingClient {
            rooms: rooms.clone(),
            random: Random::new(seed),
            wanted: BTreeSet::from([ROOMS[seed as usize % ROOMS.len()]]),
            resume_tokens: Vec::new(),
            positions: HashMap::new(),
            entered: HashSet::new(),
            errors: Vec::new(),
        }
    }

    /// Connects, resumes, enters the rooms that it wants to be in with what it knows of them, and leaves the others.
    async fn connect(&mut self) -> Client {
        let buffer = [512, 64 * 1024][self.random.below(2) as usize];
        let mut client = Client::connect_as(&self.rooms, v1_admission(), buffer).await;
        let welcome = client.next().await;
        self.entered.clear();
        self.resume_tokens.push(welcome["resume"].clone());
        self.resume_tokens.drain(..self.resume_tokens.len().saturating_sub(8));
        let mut frames = vec![resume_frame(&self.resume_tokens)];
        for room in ROOMS {
            frames.push(match self.positions.get(room) {
                _ if !self.wanted.contains(room) => leave_frame(room),
                Some((epoch, seq)) => enter_since("n", room, &json!({"epoch": epoch, "seq": seq})),
                None => enter_frame("n", room),
            });
        }
        for frame in frames {
            let _ = client.ws.send(Message::text(frame.to_string())).await;
        }
        client
    }

    /// Reads until each enter and leave of the connection is answered, unless the server closes it. `since` are the
    /// positions that the enters had.
    async fn until_answered(&mut self, client: &mut Client, since: &HashMap<String, Position>) {
        let mut unanswered = HashSet::from(ROOMS);
        while !unanswered.is_empty() {
            let next =
                timeout(PATIENCE, client.ws.next()).await.expect("an enter or a leave is not answered");
            let Some(Ok(Message::Text(text))) = next else { return };
            let frame = self.receive(&text, since);
            if let Some("entered" | "left" | "error") = frame["event"].as_str() {
                unanswered.remove(frame["roomId"].as_str().unwrap_or_default());
            }
        }
    }

    /// Reads up to `max` frames.
    async fn read(&mut self, client: &mut Client, max: u64, since: &HashMap<String, Position>) {
        for _ in 0..max {
            let next = timeout(Duration::from_millis(5), client.ws.next()).await;
            let Ok(Some(Ok(Message::Text(text)))) = next else { return };
            self.receive(&text, since);
        }
    }

    /// A frame has arrived. Those of a room must follow its position.
    fn receive(&mut self, text: &str, since: &HashMap<String, Position>) -> Value {
        let frame: Value = serde_json::from_str(text).unwrap();
        let room = frame["roomId"].as_str().unwrap_or_default().to_owned();
        match (frame["event"].as_str(), frame["seq"].as_u64()) {
            // The token of this connection is the only one that is still valid.
            (Some("resumed"), _) => drop(self.resume_tokens.drain(..self.resume_tokens.len() - 1)),
            (Some("entered"), Some(seq)) => {
                let position = (frame["epoch"].clone(), seq - frame["replayed"].as_u64().unwrap());
                if frame["recovered"] == true {
                    assert_eq!(since.get(&room), Some(&position), "{frame}");
                }
                self.positions.insert(room.clone(), position);
                self.entered.insert(room);
            }
            (Some("left"), _) => drop(self.entered.remove(&room)),
            (Some("ack"), _) | (_, None) => {}
            (_, Some(seq)) => match self.positions.get_mut(&room) {
                Some((_, last)) if seq == *last + 1 && self.entered.contains(&room) => *last = seq,
                position => self.errors.push(format!("{position:?}, then {frame}")),
            },
        }
        frame
    }

    /// Sends messages, some of them under the same id, and some for rooms that it is not in.
    async fn send_messages(&mut self, client: &mut Client) {
        for n in 0..self.random.below(3) {
            let (cid, room) = (format!("c{}", self.random.below(9)), any_room(&mut self.random));
            let message = json!({"event": "message", "message": n, "roomId": room, "cid": cid});
            let _ = client.ws.send(Message::text(message.to_string())).await;
        }
    }

    /// Wants to be in other rooms. Tells the server so now, or only with the next connection.
    async fn change_rooms(&mut self, client: &mut Client) {
        let room = any_room(&mut self.random);
        let is_in = self.wanted.remove(room);
        if !is_in || self.wanted.is_empty() {
            self.wanted.insert(room);
        }
        if is_in && self.random.below(2) == 0 {
            let _ = client.ws.send(Message::text(leave_frame(room).to_string())).await;
        }
    }

    /// Reconnects until this time, and until the record has these reasons. Returns the errors.
    async fn run(
        mut self,
        end: Instant,
        record: Arc<Mutex<MembershipRecord>>,
        rarest: [LeaveReason; 2],
    ) -> Vec<String> {
        let mut old = None;
        let has_all = || rarest.iter().all(|reason| record.lock().unwrap().has(*reason));
        while Instant::now() < end || !has_all() {
            let since = self.positions.clone();
            let mut client = self.connect().await;
            // The old connection ends before, while or after the new one is attached.
            if self.random.below(2) == 0 {
                drop(old.take());
            }
            // Only members can be dropped, and with a broker, it may take a while until a client is one.
            match self.random.below(2) {
                0 => self.until_answered(&mut client, &since).await,
                _ => {
                    let max = self.random.below(20);
                    self.read(&mut client, max, &since).await;
                }
            }
            self.send_messages(&mut client).await;
            let max = self.random.below(20);
            self.read(&mut client, max, &since).await;
            match self.random.below(8) {
                0 => client.task.abort(),
                1 => drop(client.ws.close(None).await),
                2 => {
                    // This code keeps the session.
                    let frame = CloseFrame { code: 4000.into(), reason: "".into() };
                    drop(client.ws.close(Some(frame)).await);
                }
                3 | 4 => self.change_rooms(&mut client).await,
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
        let room = any_room(&mut random);
        let members = rooms.members(room);
        match random.below(40) {
            0 => drop(rooms.close_room(room)),
            1..=4 if !members.is_empty() => {
                rooms.kick(members[random.below(members.len() as u64) as usize].connection);
            }
            5 => drop(rooms.send(room, &json!({"event": "notice"}))),
            _ => drop(rooms.check_consistency()),
        }
        sleep(Duration::from_micros(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_reconnect_all_the_time_lose_no_frame_and_leave_nothing() {
    let record = Arc::new(Mutex::new(MembershipRecord::new(ROOMS.len())));
    let recording = record.clone();
    let rooms = builder()
        .recovery(Recovery::default().resume_window(Duration::from_millis(40)).history(History::last(500)))
        .events(move |event: RoomEvent<'_>| recording.lock().unwrap().record(event))
        .build()
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let host = tokio::spawn(run_host(rooms.clone(), stop.clone()));
    let end = Instant::now() + TEST_TIME;
    // On a loaded machine, the host may come to close few rooms, and few clients are members when they are dropped.
    let rarest = [LeaveReason::RoomClosed, LeaveReason::Dropped];
    let run = |seed| ReconnectingClient::new(&rooms, seed).run(end, record.clone(), rarest);
    let clients: Vec<_> = (0..24).map(|seed| tokio::spawn(run(seed))).collect();
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
    use LeaveReason::{Closed, Dropped, Left, Lost, RoomClosed};
    record.lock().unwrap().assert_complete_with_resumes(&[Dropped, Left, Lost, Closed, RoomClosed]);
}

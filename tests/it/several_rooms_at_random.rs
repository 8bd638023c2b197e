//! Clients that enter, leave and publish in several rooms in random order: each room has one order, which all of its
//! members see, and each message is in it once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use tower_chat_rooms::{Admission, ChatRooms, LeaveReason, RoomEvent};

use crate::support::{
    Client, MembershipRecord, Random, assert_empty, enter_frame, has_shared_broker, leave_frame,
    message_with_cid, unlimited,
};

const ROOMS: [&str; 3] = ["a", "b", "c"];
const CLIENTS: u64 = 4;
const STEPS: usize = 250;

fn any_room(random: &mut Random) -> &'static str {
    ROOMS[random.below(ROOMS.len() as u64) as usize]
}

/// A client that keeps every frame that it gets.
struct Recorder {
    client: Client,
    /// The rooms that it is in once the server has handled what it has sent.
    is_in: BTreeSet<&'static str>,
    /// How many enters and leaves it has sent.
    enters: usize,
    leaves: usize,
    /// For each cid, the room that the message should be in.
    sent: Vec<(String, Option<&'static str>)>,
    frames: Vec<Value>,
}

impl Recorder {
    async fn connect(rooms: &ChatRooms) -> Recorder {
        let (client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
        let (sent, frames) = (Vec::new(), Vec::new());
        Recorder { client, is_in: BTreeSet::new(), enters: 0, leaves: 0, sent, frames }
    }

    async fn enter(&mut self, name: &str, room: &'static str) {
        self.client.send(enter_frame(name, room)).await;
        self.is_in.insert(room);
        self.enters += 1;
    }

    async fn leave(&mut self, room: &'static str) {
        self.client.send(leave_frame(room)).await;
        self.is_in.remove(room);
        self.leaves += 1;
    }

    async fn publish(&mut self, cid: String, room: Option<&'static str>) {
        let mut message = message_with_cid(room.unwrap_or_default(), "hi", &cid);
        if room.is_none() {
            message.as_object_mut().unwrap().remove("roomId");
        }
        self.client.send(message).await;
        let only = if self.is_in.len() == 1 { self.is_in.first().copied() } else { None };
        let place = room.map_or(only, |room| self.is_in.get(room).copied());
        self.sent.push((cid, place));
    }

    /// Does something at random.
    async fn step(&mut self, random: &mut Random, id: u64, n: usize) {
        let room = any_room(random);
        match random.below(10) {
            0 | 1 => self.enter(&format!("{id}"), room).await,
            2 => self.enter(&format!("{id} again"), room).await,
            3 => self.leave(room).await,
            4 => self.publish(format!("{id}.{n}"), None).await,
            5..=7 => self.publish(format!("{id}.{n}"), Some(room)).await,
            _ => self.read(random.below(9) as usize).await,
        }
    }

    /// Reads up to `max` frames, or until none comes any more.
    async fn read(&mut self, max: usize) {
        for _ in 0..max {
            match timeout(Duration::from_millis(1), self.client.next()).await {
                Ok(frame) => self.frames.push(frame),
                Err(_) => return,
            }
        }
    }

    /// Asserts that the client has had of each room what is in its log while it was there, and nothing else.
    fn check(&self, logs: &BTreeMap<&str, Vec<Value>>) {
        let (mut positions, mut member): (HashMap<&str, u64>, _) = (HashMap::new(), Value::Null);
        let mut own_enters = BTreeSet::new();
        let (mut entered, mut left) = (0, 0);
        let (mut acks, mut errors) = (HashMap::new(), BTreeSet::new());
        for frame in &self.frames {
            let (seq, cid) = (frame["seq"].as_u64(), frame["cid"].as_str().unwrap_or_default());
            let room = frame["roomId"].as_str().unwrap_or_default();
            match frame["event"].as_str().unwrap() {
                "ack" => assert_eq!(acks.insert(cid, seq.unwrap()), None, "{frame}"),
                "error" => {
                    assert_eq!(frame["code"], "not_entered");
                    assert!(errors.insert(cid), "{frame}");
                }
                "left" => {
                    left += 1;
                    positions.remove(room);
                }
                "entered" => {
                    entered += 1;
                    member = frame["member"].clone();
                    let was_in = positions.insert(room, seq.unwrap());
                    let is_new = frame["resumed"] == false;
                    // A member that changes its name does not get its own `out`.
                    let expected = was_in.map(|last| last + u64::from(is_new));
                    assert!(
                        expected.is_none_or(|expected| seq == Some(expected)),
                        "{frame} after {was_in:?}"
                    );
                    assert!(is_new || was_in.is_some(), "{frame}");
                    if is_new {
                        own_enters.insert(room);
                    }
                }
                event => {
                    let last = positions.get_mut(room).expect("a frame of a room that the client is in");
                    *last += 1;
                    assert_eq!(seq, Some(*last), "{frame}");
                    assert_eq!(*frame, logs[room][*last as usize - 1]);
                    if own_enters.remove(room) {
                        assert_eq!((event, &frame["member"]), ("enter", &member), "{frame}");
                    }
                }
            }
        }
        assert_eq!((entered, left), (self.enters, self.leaves));
        assert_eq!(positions.keys().copied().collect::<BTreeSet<_>>(), self.is_in);
        for (cid, room) in &self.sent {
            let Some(room) = room else {
                assert!(errors.contains(&**cid) && !acks.contains_key(&**cid), "{cid}");
                continue;
            };
            assert!(!errors.contains(&**cid), "{cid}");
            assert_eq!(logs[room][acks[&**cid] as usize - 1]["cid"], **cid);
        }
        assert_eq!(acks.len() + errors.len(), self.sent.len());
    }
}

/// Asserts that a log is one order of enters, outs and messages, in which each number of members is right.
fn check_log(room: &str, log: &[Value], clients: &[Recorder]) {
    let (mut online, mut cids) = (0, Vec::new());
    for (n, frame) in log.iter().enumerate() {
        assert_eq!((&frame["seq"], &frame["roomId"]), (&json!(n + 1), &json!(room)));
        match frame["event"].as_str() {
            Some("enter") => online += 1,
            Some("out") => online -= 1,
            _ => cids.extend(frame["cid"].as_str()),
        }
        assert_eq!(frame["num"], online, "{frame}");
    }
    // Each message is there once, and those of each sender are in its order.
    for (id, client) in clients.iter().enumerate() {
        let in_room = |(cid, place): &(String, _)| (*place == Some(room)).then(|| cid.clone());
        let sent: Vec<String> = client.sent.iter().filter_map(in_room).collect();
        let prefix = format!("{id}.");
        let published: Vec<&str> = cids.iter().copied().filter(|cid| cid.starts_with(&prefix)).collect();
        assert_eq!(published, sent, "{room}");
    }
}

/// A plain client moves from room to room, and reads what has arrived.
async fn step_plain(plain: &mut Client, random: &mut Random) {
    match random.below(3) {
        0 => plain.send(enter_frame("plain", any_room(random))).await,
        1 => plain.send(json!({"event": "plain", "message": 1})).await,
        _ => {}
    }
    while let Ok(frame) = timeout(Duration::from_millis(1), plain.next()).await {
        if frame["event"] == "plain" {
            assert_eq!(frame.as_object().unwrap().len(), 4, "no key of chat-rooms.v1: {frame}");
        }
    }
}

async fn run(seed: u64) {
    let record = Arc::new(Mutex::new(MembershipRecord::new(ROOMS.len())));
    let recording = record.clone();
    let rooms = unlimited()
        .events(move |event: RoomEvent<'_>| recording.lock().unwrap().record(event))
        .build()
        .unwrap();
    let mut random = Random::new(seed);
    // An observer is in all rooms all the time.
    let mut observer = Recorder::connect(&rooms).await;
    for room in ROOMS {
        observer.enter("observer", room).await;
    }
    observer.read(usize::MAX).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Recorder::connect(&rooms).await);
    }
    let mut plain = Client::connect(&rooms).await;
    for n in 0..STEPS {
        let id = random.below(CLIENTS);
        clients[id as usize].step(&mut random, id, n).await;
        match random.below(6) {
            0 => tokio::task::yield_now().await,
            1 => step_plain(&mut plain, &mut random).await,
            2 => observer.read(3).await,
            _ => {}
        }
        // With a broker, an enter may be under way.
        if !has_shared_broker() {
            assert_eq!(rooms.check_consistency().faults, []);
        }
    }
    plain.close().await;
    for client in clients.iter_mut().chain([&mut observer]) {
        client.read(usize::MAX).await;
    }
    let is_room_frame = |frame: &&Value| frame["seq"].is_u64() && frame["event"] != "entered";
    let logs: BTreeMap<&str, Vec<Value>> = ROOMS
        .map(|room| {
            let of_room = observer.frames.iter().filter(|frame| frame["roomId"] == room);
            (room, of_room.filter(is_room_frame).cloned().collect())
        })
        .into();
    for (room, log) in &logs {
        check_log(room, log, &clients);
    }
    for client in clients.iter().chain([&observer]) {
        client.check(&logs);
    }
    for client in clients.into_iter().chain([observer]) {
        client.client.close().await;
    }
    assert_empty(&rooms);
    use LeaveReason::{Closed, Left, Renamed};
    record.lock().unwrap().assert_complete(&[Closed, Left, Renamed]);
}

#[tokio::test(start_paused = true)]
async fn each_room_has_one_order_and_each_message_once() {
    for seed in 0..40 {
        println!("seed {seed}");
        run(seed).await;
    }
}

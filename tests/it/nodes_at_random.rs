//! Clients of several nodes get the same frames in the same order, and nothing is left of them, even if the broker fails
//! at random.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tower_chat_rooms::{Admission, ChatRooms, History, Recovery, SharedBroker};

use crate::support::{
    Client, EventLog, RESUME_WINDOW, Random, assert_empty, enter_frame, leave_frame, message_frame, unlimited,
};

const ROOMS: [&str; 2] = ["r", "s"];
const CLIENTS: usize = 6;
const STEPS: usize = 200;

/// The frames of all rooms by their ids, epochs and numbers, as some client got them.
#[derive(Default)]
struct Log(HashMap<(String, String, u64), Value>);

struct Member {
    client: Client,
    /// The tokens of the connections that may hold its session, and that of this one.
    tokens: Vec<Value>,
    /// The position in each room that it is in.
    positions: HashMap<String, (String, u64)>,
    is_closed: bool,
}

impl Member {
    async fn connect(rooms: &ChatRooms) -> Member {
        let (client, welcome) = Client::connect_v1(rooms, Admission::anonymous()).await;
        let tokens = vec![welcome["resume"].clone()];
        Member { client, tokens, positions: HashMap::new(), is_closed: false }
    }

    /// Reads what has arrived.
    async fn read(&mut self, log: &mut Log) {
        while let Some(message) = self.client.ws.next().now_or_never() {
            match message {
                Some(Ok(Message::Text(text))) => self.follow(serde_json::from_str(&text).unwrap(), log).await,
                _ => return self.is_closed = true,
            }
        }
    }

    async fn follow(&mut self, frame: Value, log: &mut Log) {
        let event = frame["event"].as_str().unwrap();
        if event == "heartbeat" {
            let pong = Message::text(r#"{"event":"heartbeat","message":"pong"}"#);
            let _ = futures_util::SinkExt::send(&mut self.client.ws, pong).await;
        }
        if event == "resumed" {
            self.tokens.drain(..self.tokens.len() - 1);
        }
        let Some(room) = frame["roomId"].as_str() else { return };
        match (event, frame["seq"].as_u64()) {
            ("entered", Some(seq)) => {
                let epoch = frame["epoch"].as_str().unwrap().to_owned();
                let seq = seq - frame["replayed"].as_u64().unwrap();
                self.positions.insert(room.to_owned(), (epoch, seq));
            }
            ("left", _) => drop(self.positions.remove(room)),
            ("ack", _) | (_, None) => {}
            (_, Some(seq)) => {
                let (epoch, position) = self.positions.get_mut(room).unwrap();
                assert_eq!(seq, *position + 1, "{frame}");
                *position = seq;
                let known =
                    log.0.entry((room.to_owned(), epoch.clone(), seq)).or_insert_with(|| frame.clone());
                assert_eq!(*known, frame);
            }
        }
    }

    /// Connects again, and resumes if it can.
    async fn reconnect(&mut self, rooms: &ChatRooms) {
        let mut new = Member::connect(rooms).await;
        // As many as a client may name: the first one and the latest.
        if self.tokens.len() > 8 {
            self.tokens.drain(1..self.tokens.len() - 7);
        }
        new.client.send(json!({"event": "resume", "message": self.tokens})).await;
        self.tokens.append(&mut new.tokens);
        new.tokens = std::mem::take(&mut self.tokens);
        for (room, (epoch, seq)) in self.positions.drain() {
            let mut enter = enter_frame("m", &room);
            enter["since"] = json!({"epoch": epoch, "seq": seq});
            new.client.send(enter).await;
        }
        *self = new;
    }
}

/// Which node a client connects to.
#[derive(Clone, Copy, PartialEq)]
enum Balancer {
    /// Always the same one.
    Sticky,
    /// Any.
    Random,
}

async fn run(seed: u64, balancer: Balancer) {
    let (broker, events) = (SharedBroker::new(), EventLog::default());
    let recovery = Recovery::default().resume_window(RESUME_WINDOW).history(History::last(1_000));
    let builder = || unlimited().recovery(recovery.clone()).events(events.hook());
    let nodes = [(); 3].map(|()| builder().broker(broker.node()).build().unwrap());
    let (mut random, mut log, mut members) = (Random::new(seed), Log::default(), Vec::new());
    for n in 0..CLIENTS {
        members.push(Member::connect(&nodes[n % nodes.len()]).await);
    }
    for n in 0..STEPS {
        let who = random.below(CLIENTS as u64) as usize;
        let node = match balancer {
            Balancer::Sticky => who,
            Balancer::Random => random.below(nodes.len() as u64) as usize,
        };
        let (member, rooms) = (&mut members[who], &nodes[node % nodes.len()]);
        let room = ROOMS[random.below(2) as usize];
        member.read(&mut log).await;
        match random.below(20) {
            _ if member.is_closed => member.reconnect(rooms).await,
            0..=4 => member.client.send(enter_frame(&format!("m{}", random.below(2)), room)).await,
            5 | 6 => member.client.send(leave_frame(room)).await,
            7..=12 => member.client.send(message_frame(room, n)).await,
            13 => member.reconnect(rooms).await,
            14 | 15 => broker.set_available(random.below(2) == 0),
            16 | 17 => broker.set_delivering(random.below(2) == 0),
            18 if random.below(3) == 0 => broker.restart(),
            _ => tokio::time::sleep(Duration::from_millis(random.below(2_000))).await,
        }
        tokio::task::yield_now().await;
    }
    broker.set_available(true);
    broker.set_delivering(true);
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for member in &mut members {
            member.read(&mut log).await;
        }
    }
    for rooms in &nodes {
        assert_eq!(rooms.check_consistency().faults, [], "seed {seed}");
        for info in rooms.rooms() {
            let of_node = |rooms: &ChatRooms| rooms.members(&info.id).len();
            assert_eq!(info.online, nodes.iter().map(of_node).sum::<usize>(), "seed {seed}");
        }
    }
    drop(members);
    tokio::time::sleep(2 * RESUME_WINDOW).await;
    nodes.iter().for_each(assert_empty);
    assert_eq!(broker.members(), 0, "seed {seed}");
    assert_eq!(broker.sessions(), 0, "seed {seed}");
    for rooms in nodes {
        rooms.shutdown().await;
    }
    // Over all nodes, each member that has entered has left once.
    let (mut inside, moves) = (HashMap::<String, i64>::new(), events.take_moves());
    for line in &moves {
        let mut words = line.split(' ');
        let sign = if words.next() == Some("+") { 1 } else { -1 };
        *inside.entry(words.nth(1).unwrap().to_owned()).or_default() += sign;
    }
    assert!(inside.values().all(|n| *n == 0), "seed {seed}: {inside:?}");
}

#[tokio::test(start_paused = true)]
async fn all_clients_get_the_same_frames_even_if_the_broker_fails() {
    for seed in 0..60 {
        println!("seed {seed}");
        run(seed, Balancer::Sticky).await;
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_come_back_on_any_node_get_the_same_frames() {
    for seed in 0..60 {
        println!("seed {seed}");
        run(seed, Balancer::Random).await;
    }
}

//! Clients of several nodes get the same frames in the same order, and nothing is left of them, even if the broker fails
//! at random.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tower_chat_rooms::{
    Access, Admission, ChatRooms, ConnectionId, Denied, EnterRequest, History, Recovery, RoomEvent, RoomId,
    RoomPolicy, SharedBroker, UniqueNames,
};

use crate::support::{
    Client, RESUME_WINDOW, Random, assert_empty, enter_frame, leave_frame, message_frame, unlimited,
};

const ROOMS: [&str; 2] = ["r", "s"];
const CLIENTS: usize = 6;
const STEPS: usize = 200;

/// Hides members with some names.
struct Hide;

impl RoomPolicy for Hide {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
        let is_hidden = request.name().as_str().starts_with("hidden");
        Ok(if is_hidden { Access::member().hidden() } else { Access::member() })
    }
}

/// The frames of all rooms by their ids, epochs and numbers, as some client got them.
#[derive(Default)]
struct Log(HashMap<(String, String, u64), Value>);

struct Member {
    client: Client,
    /// The tokens of the connections that may hold its session, and that of this one.
    tokens: Vec<Value>,
    /// The position in each room that it is in.
    positions: HashMap<String, (String, u64)>,
    /// Its name in each room that it has entered.
    names: HashMap<String, String>,
    is_closed: bool,
}

impl Member {
    async fn connect(rooms: &ChatRooms) -> Member {
        let (client, welcome) = Client::connect_v1(rooms, Admission::anonymous()).await;
        let (tokens, positions, names) = (vec![welcome["resume"].clone()], HashMap::new(), HashMap::new());
        Member { client, tokens, positions, names, is_closed: false }
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
                self.names.insert(room.to_owned(), frame["name"].as_str().unwrap().to_owned());
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
            let mut enter = enter_frame(&self.names[&room], &room);
            enter["since"] = json!({"epoch": epoch, "seq": seq});
            new.client.send(enter).await;
        }
        *self = new;
    }
}

/// What the hosts of all nodes are told of each member.
#[derive(Clone, Default)]
struct Moves(Arc<Mutex<HashMap<Membership, Vec<String>>>>);

type Membership = (ConnectionId, RoomId);

impl Moves {
    fn hook(&self, node: usize) -> impl Fn(RoomEvent<'_>) + Send + Sync + 'static {
        let moves = self.clone();
        move |event| {
            let (key, line) = match event {
                RoomEvent::Entered(e) => ((e.connection, e.room.clone()), format!("+ {} on {node}", e.name)),
                RoomEvent::Left(e) => {
                    ((e.connection, e.room.clone()), format!("- {} on {node}: {}", e.name, e.reason))
                }
                _ => return,
            };
            moves.0.lock().unwrap().entry(key).or_default().push(line);
        }
    }

    /// Over all nodes, each member that has entered has left once. If it stays on one node, it leaves before it enters
    /// again. If it moves while it enters or changes its name, no node may have told of its enter.
    fn check(&self, seed: u64, balancer: Balancer) {
        for (member, lines) in &*self.0.lock().unwrap() {
            let entered = lines.iter().filter(|line| line.starts_with('+')).count();
            let left = lines.len() - entered;
            let uncertain = lines.iter().filter(|line| line.ends_with("broker unavailable")).count();
            let is_in_order = |(n, line): (usize, &String)| line.starts_with(['+', '-'][n % 2]);
            let is_right = match balancer {
                Balancer::Sticky => entered == left && lines.iter().enumerate().all(is_in_order),
                Balancer::Random => (entered..=entered + 2 + uncertain).contains(&left),
            };
            assert!(is_right, "seed {seed}: {member:?}: {lines:#?}");
        }
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
    let (broker, moves) = (SharedBroker::new(), Moves::default());
    let recovery = Recovery::default().resume_window(RESUME_WINDOW).history(History::last(1_000));
    let nodes = [0, 1, 2].map(|n| {
        let builder = unlimited().recovery(recovery.clone()).unique_names(UniqueNames::AnyCase).policy(Hide);
        builder.events(moves.hook(n)).broker(broker.node()).build().unwrap()
    });
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
            0..=4 => {
                let name = format!("{} {}", ["m", "M", "hidden"][random.below(3) as usize], random.below(4));
                member.client.send(enter_frame(&name, room)).await;
            }
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
    }
    for rooms in &nodes {
        for info in rooms.rooms() {
            let members: Vec<_> = nodes.iter().flat_map(|rooms| rooms.members(&info.id)).collect();
            let hidden = members.iter().filter(|member| member.is_hidden).count();
            let numbers = (members.len() - hidden, hidden);
            assert_eq!((info.online, info.hidden), numbers, "seed {seed}: {info:?} {members:#?}");
            let names: HashSet<_> =
                members.iter().map(|member| member.name.as_str().to_lowercase()).collect();
            assert_eq!(names.len(), members.len(), "seed {seed}: {members:?}");
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
    moves.check(seed, balancer);
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

//! The machine against a small model of a server, cut off from it at any moment: what it says is
//! in the room once and in order, and what is said there reaches the application once and in
//! order.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, from_str, json};
use tower_chat_rooms_protocol::MAX_RESUME_TOKENS;

use super::*;

/// What the server remembers of each seat.
const CIDS: usize = 3;

/// One room, whose log is never cut short.
#[derive(Default)]
struct Server {
    log: Vec<Value>,
    links: Vec<Link>,
    /// By their secret.
    seats: HashMap<String, Seat>,
}

struct Seat {
    /// The connection that it began with.
    id: usize,
    /// What was said from there last, and its `seq`.
    cids: Vec<(String, u64)>,
}

/// One connection, with what is on its way in both directions. Its number is its secret.
#[derive(Default)]
struct Link {
    to_server: VecDeque<String>,
    to_client: VecDeque<String>,
    entered: bool,
    /// The server doesn't listen to it any more.
    ended: bool,
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Say,
    OtherSays,
    /// The server handles one frame, and acknowledges before or after the room hears of it.
    Serve(bool),
    /// The client handles one frame.
    Hear,
    /// The connection breaks, and what is on its way is lost.
    Cut,
    /// It breaks after the server has handled everything.
    CutServed,
    /// The lost seat is given up.
    Expire,
    /// The time comes for which the client waits.
    Wait,
    /// The application takes no events, and takes some again.
    Full,
    Room,
}

struct World {
    machine: Machine<u64>,
    now: Now,
    server: Server,
    /// The client's connection.
    link: Option<usize>,
    said: u64,
    settled: HashMap<u64, Result<u64, ClientError>>,
    /// The `seq` of the frames that the application was told of.
    told: Vec<u64>,
    gaps: usize,
}

impl Server {
    fn open(&mut self) -> usize {
        let n = self.links.len();
        let welcome = json!({"event": "welcome", "resume": n.to_string(),
            "heartbeat": {"interval": 1000, "timeout": 1000}, "limits": {"cids": CIDS}, "grace": 10_000});
        self.links.push(Link { to_client: [welcome.to_string()].into(), ..Link::default() });
        n
    }

    fn publish(&mut self, mut frame: Value) -> u64 {
        let seq = self.log.len() as u64 + 1;
        frame["seq"] = json!(seq);
        for link in self.links.iter_mut().filter(|link| link.entered && !link.ended) {
            link.to_client.push_back(frame.to_string());
        }
        self.log.push(frame);
        seq
    }

    /// Handles the next frame of a connection; `false` when there is none.
    fn serve(&mut self, n: usize, ack_first: bool) -> bool {
        let link = &mut self.links[n];
        let Some(text) = link.to_server.pop_front().filter(|_| !link.ended) else { return false };
        let mut frame: Value = from_str(&text).unwrap();
        match frame["event"].as_str().unwrap() {
            "heartbeat" => {}
            "enter" => self.enter(n, &frame),
            _ => {
                let cid = frame["cid"].as_str().unwrap().to_owned();
                let known = &self.seats[&n.to_string()].cids;
                let ack = |seq| json!({"event": "ack", "cid": cid, "seq": seq}).to_string();
                if let Some((_, seq)) = known.iter().find(|(known, _)| *known == cid) {
                    let answer = ack(*seq);
                    self.links[n].to_client.push_back(answer);
                } else if is_refused(frame["message"].as_u64().unwrap()) {
                    let error = json!({"event": "error", "code": "denied", "message": "no", "cid": cid});
                    self.links[n].to_client.push_back(error.to_string());
                } else {
                    frame["name"] = json!("ann");
                    let seq = self.log.len() as u64 + 1;
                    if ack_first {
                        self.links[n].to_client.push_back(ack(seq));
                    }
                    self.publish(frame);
                    if !ack_first {
                        self.links[n].to_client.push_back(ack(seq));
                    }
                    let known = &mut self.seats.get_mut(&n.to_string()).unwrap().cids;
                    known.push((cid, seq));
                    if known.len() > CIDS {
                        known.remove(0);
                    }
                }
            }
        }
        true
    }

    fn enter(&mut self, n: usize, frame: &Value) {
        let secrets: Vec<&str> =
            frame["resume"].as_array().into_iter().flatten().map(|s| s.as_str().unwrap()).collect();
        assert!(secrets.len() <= MAX_RESUME_TOKENS);
        let secret = secrets.into_iter().find(|s| self.seats.contains_key(*s));
        let seat = secret.and_then(|secret| self.seats.remove(secret));
        if let Some(secret) = secret {
            self.links[secret.parse::<usize>().unwrap()].ended = true;
        }
        let (resumed, recovered) = (seat.is_some(), frame["since"].is_object());
        let seat = seat.unwrap_or_else(|| Seat { id: n, cids: Vec::new() });
        let entered = json!({"event": "entered", "name": "ann", "connection": seat.id.to_string(), "epoch": "E", "seq": self.log.len(),
            "resumed": resumed, "recovered": recovered});
        self.seats.insert(n.to_string(), seat);
        let link = &mut self.links[n];
        link.entered = true;
        link.to_client.push_back(entered.to_string());
        if recovered {
            let since = frame["since"]["seq"].as_u64().unwrap() as usize;
            link.to_client.extend(self.log[since..].iter().map(Value::to_string));
        }
        if !resumed {
            self.publish(json!({"event": "enter", "message": "ann", "name": "ann"}));
        }
    }
}

/// Some messages are refused.
fn is_refused(message: u64) -> bool {
    message % 5 == 3
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = seed | 1;
        let random = move || {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice
        };
        let plan = Plan {
            name: "ann".into(),
            room: "r".into(),
            credential: Credential::Fixed,
            backoff: (Now::from_millis(10), Now::from_millis(100)),
            step_timeout: Now::from_secs(10),
            first_timeout: Now::MAX,
            max_unsent: usize::MAX,
        };
        let mut world = World {
            machine: Machine::new(plan, Box::new(random)),
            now: Now::ZERO,
            server: Server::default(),
            link: None,
            said: 0,
            settled: HashMap::new(),
            told: Vec::new(),
            gaps: 0,
        };
        world.perform();
        world
    }

    fn perform(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Connect => {
                    assert_eq!(self.link, None, "two connections at once");
                    self.link = Some(self.server.open());
                    self.machine.on_open(self.now, None);
                }
                Output::Send(text) => self.link().to_server.push_back(text),
                Output::Pong => self.link().to_server.push_back(r#"{"event":"heartbeat"}"#.into()),
                Output::Close(code) => {
                    assert_eq!(code, close::HEARTBEAT_MISSED);
                    self.serve_all();
                    self.link().to_client.clear();
                    self.link = None;
                }
                Output::Settle(n, result) => assert_eq!(self.settled.insert(n, result), None),
                Output::Tell(ClientEvent::Enter(f) | ClientEvent::Message(f)) => {
                    self.told.push(f.seq().unwrap());
                }
                Output::Tell(ClientEvent::Gap { .. }) => self.gaps += 1,
                Output::Tell(_) => {}
            }
        }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.server.links[self.link.unwrap()]
    }

    fn serve_all(&mut self) {
        while self.link.is_some_and(|n| self.server.serve(n, true)) {}
    }

    fn cut(&mut self) {
        if let Some(n) = self.link.take() {
            self.server.links[n].to_server.clear();
            self.machine.on_closed(self.now, close::ABNORMAL, "");
        }
    }

    /// The client handles one frame; `false` when there is none, or it doesn't read.
    fn hear(&mut self) -> bool {
        let Some(link) = self.link.filter(|_| self.machine.may_read()) else { return false };
        let Some(text) = self.server.links[link].to_client.pop_front() else { return false };
        self.machine.on_text(self.now, &text);
        true
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Say => {
                self.machine.send(&format!(r#"{{"event":"message","message":{}"#, self.said), self.said);
                self.said += 1;
            }
            Op::OtherSays => {
                self.server.publish(json!({"event": "message", "message": "hi", "name": "bob"}));
            }
            Op::Serve(ack_first) => {
                self.link.map(|n| self.server.serve(n, ack_first));
            }
            Op::Hear => {
                self.hear();
            }
            Op::Cut => self.cut(),
            Op::CutServed => {
                self.serve_all();
                self.cut();
            }
            Op::Expire if self.link.is_none() => {
                self.server.seats.clear();
                self.server.links.iter_mut().for_each(|link| link.ended = true);
            }
            Op::Expire => {}
            Op::Wait => {
                self.now = self.machine.deadline().unwrap();
                self.machine.tick(self.now);
            }
            Op::Full => self.machine.on_full(self.now),
            Op::Room => self.machine.on_room(self.now),
        }
        self.perform();
    }

    /// Until all is said and heard.
    fn settle(&mut self) {
        self.step(Op::Room);
        for _ in 0..100 {
            if self.link.is_none() {
                self.step(Op::Wait);
            }
            let mut idle = false;
            while !idle {
                self.serve_all();
                idle = !self.hear();
                self.perform();
            }
            if self.link.is_some() && self.settled.len() as u64 == self.said {
                return;
            }
        }
        panic!("it does not come to rest");
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => Just(Op::Say),
        2 => Just(Op::OtherSays),
        6 => any::<bool>().prop_map(Op::Serve),
        8 => Just(Op::Hear),
        1 => Just(Op::Cut),
        1 => Just(Op::CutServed),
        1 => Just(Op::Expire),
        3 => Just(Op::Wait),
        1 => Just(Op::Full),
        1 => Just(Op::Room),
    ];
    prop::collection::vec(op, 0..150)
}

proptest! {
    #[test]
    fn everything_arrives_once_and_in_order(ops in ops(), seed in any::<u64>()) {
        let mut world = World::new(seed);
        for op in ops {
            world.step(op);
        }
        world.settle();
        world.step(Op::OtherSays);
        world.settle();

        let log = &world.server.log;
        let own: Vec<u64> = log.iter().filter_map(|frame| frame["message"].as_u64()).collect();
        let expected: Vec<u64> = (0..world.said).filter(|n| !is_refused(*n)).collect();
        prop_assert_eq!(own, expected);
        for (n, result) in &world.settled {
            match result {
                Ok(seq) => prop_assert_eq!(&log[*seq as usize - 1]["message"], *n),
                Err(_) => prop_assert!(is_refused(*n)),
            }
        }
        prop_assert_eq!(world.gaps, 0);
        let first = world.told[0];
        let all: Vec<u64> = (first..=log.len() as u64).collect();
        prop_assert_eq!(&world.told, &all);
    }
}

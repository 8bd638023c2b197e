//! The machine against a small model of a server, with connections that break at any moment: each
//! message is published once and in order, and each frame of the room reaches the application once
//! and in order.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, from_str, json};
use tower_chat_rooms_protocol::MAX_RESUME_TOKENS;

use super::*;

/// How many message ids the server remembers per session.
const CIDS: usize = 3;

/// A server with one room, whose log is never truncated.
#[derive(Default)]
struct Server {
    log: Vec<Value>,
    connections: Vec<Connection>,
    /// By resume token.
    sessions: HashMap<String, Session>,
}

struct Session {
    /// The number of its first connection.
    id: usize,
    /// The ids of its latest messages, and the `seq` of each.
    cids: Vec<(String, u64)>,
}

/// A connection, with the frames under way in both directions. Its number is its resume token.
#[derive(Default)]
struct Connection {
    to_server: VecDeque<String>,
    to_client: VecDeque<String>,
    entered: bool,
    /// The server has ended it.
    ended: bool,
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Publish,
    OtherPublishes,
    /// The server handles one frame, and acknowledges before or after it publishes.
    Serve(bool),
    /// The client handles one frame.
    Receive,
    /// The connection breaks, and the frames under way are lost.
    Break,
    /// The connection breaks after the server has handled everything.
    BreakServed,
    /// The session's resume window ends.
    Expire,
    /// Time passes until the client's deadline.
    Wait,
    /// The application takes no events.
    Full,
    /// The application takes events again.
    Capacity,
}

struct Simulation {
    machine: Machine<u64>,
    now: Now,
    server: Server,
    /// The client's connection.
    connection: Option<usize>,
    published: u64,
    resolved: HashMap<u64, Result<u64, ClientError>>,
    /// The `seq` of each room frame that the application received.
    received: Vec<u64>,
    gaps: usize,
}

impl Server {
    fn open(&mut self) -> usize {
        let n = self.connections.len();
        let welcome = json!({"event": "welcome", "resume": n.to_string(),
            "heartbeat": {"interval": 1000, "timeout": 1000}, "limits": {"cids": CIDS}, "resumeWindow": 10_000});
        self.connections
            .push(Connection { to_client: [welcome.to_string()].into(), ..Connection::default() });
        n
    }

    fn publish(&mut self, mut frame: Value) -> u64 {
        let seq = self.log.len() as u64 + 1;
        frame["seq"] = json!(seq);
        for connection in
            self.connections.iter_mut().filter(|connection| connection.entered && !connection.ended)
        {
            connection.to_client.push_back(frame.to_string());
        }
        self.log.push(frame);
        seq
    }

    /// Handles the next frame of a connection. Returns `false` if there is none.
    fn serve(&mut self, n: usize, ack_first: bool) -> bool {
        let connection = &mut self.connections[n];
        let Some(text) = connection.to_server.pop_front().filter(|_| !connection.ended) else { return false };
        let mut frame: Value = from_str(&text).unwrap();
        match frame["event"].as_str().unwrap() {
            "heartbeat" => {}
            "enter" => self.enter(n, &frame),
            _ => {
                let cid = frame["cid"].as_str().unwrap().to_owned();
                let known = &self.sessions[&n.to_string()].cids;
                let ack = |seq| json!({"event": "ack", "cid": cid, "seq": seq}).to_string();
                if let Some((_, seq)) = known.iter().find(|(known, _)| *known == cid) {
                    let answer = ack(*seq);
                    self.connections[n].to_client.push_back(answer);
                } else if is_refused(frame["message"].as_u64().unwrap()) {
                    let error = json!({"event": "error", "code": "denied", "message": "no", "cid": cid});
                    self.connections[n].to_client.push_back(error.to_string());
                } else {
                    frame["name"] = json!("ann");
                    let seq = self.log.len() as u64 + 1;
                    if ack_first {
                        self.connections[n].to_client.push_back(ack(seq));
                    }
                    self.publish(frame);
                    if !ack_first {
                        self.connections[n].to_client.push_back(ack(seq));
                    }
                    let known = &mut self.sessions.get_mut(&n.to_string()).unwrap().cids;
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
        let resume_tokens: Vec<&str> =
            frame["resume"].as_array().into_iter().flatten().map(|s| s.as_str().unwrap()).collect();
        assert!(resume_tokens.len() <= MAX_RESUME_TOKENS);
        let token = resume_tokens.into_iter().find(|s| self.sessions.contains_key(*s));
        let session = token.and_then(|token| self.sessions.remove(token));
        if let Some(token) = token {
            self.connections[token.parse::<usize>().unwrap()].ended = true;
        }
        let (resumed, recovered) = (session.is_some(), frame["since"].is_object());
        let session = session.unwrap_or_else(|| Session { id: n, cids: Vec::new() });
        let since = if recovered { frame["since"]["seq"].as_u64().unwrap() as usize } else { self.log.len() };
        let replay = self.log[since..].to_vec();
        let entered = json!({"event": "entered", "name": "ann", "member": session.id.to_string(), "epoch": "E", "seq": self.log.len(),
            "resumed": resumed, "recovered": recovered, "replayed": replay.len()});
        self.sessions.insert(n.to_string(), session);
        let connection = &mut self.connections[n];
        connection.entered = true;
        connection.to_client.push_back(entered.to_string());
        connection.to_client.extend(replay.iter().map(Value::to_string));
        if !resumed {
            self.publish(json!({"event": "enter", "message": "ann", "name": "ann"}));
        }
    }
}

/// Whether the server refuses this message.
fn is_refused(message: u64) -> bool {
    message % 5 == 3
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut state = seed | 1;
        let random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let settings = Settings {
            name: "ann".into(),
            room: "r".into(),
            credential: Credential::Fixed,
            backoff: (Now::from_millis(10), Now::from_millis(100)),
            step_timeout: Now::from_secs(10),
            first_timeout: Now::MAX,
            max_unsent: usize::MAX,
        };
        let mut simulation = Simulation {
            machine: Machine::new(settings, Box::new(random)),
            now: Now::ZERO,
            server: Server::default(),
            connection: None,
            published: 0,
            resolved: HashMap::new(),
            received: Vec::new(),
            gaps: 0,
        };
        simulation.perform();
        simulation
    }

    fn perform(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Connect => {
                    assert_eq!(self.connection, None, "two connections at once");
                    self.connection = Some(self.server.open());
                    self.machine.on_open(self.now, None);
                }
                Output::Send(text) => self.connection().to_server.push_back(text),
                Output::Pong => self.connection().to_server.push_back(r#"{"event":"heartbeat"}"#.into()),
                Output::Close(code) => {
                    assert_eq!(code, close::HEARTBEAT_MISSED);
                    self.serve_all();
                    self.connection().to_client.clear();
                    self.connection = None;
                }
                Output::Resolve(n, result) => assert_eq!(self.resolved.insert(n, result), None),
                Output::Emit(ClientEvent::Enter(f) | ClientEvent::Message(f)) => {
                    self.received.push(f.seq().unwrap());
                }
                Output::Emit(ClientEvent::Gap { .. }) => self.gaps += 1,
                Output::Emit(_) => {}
            }
        }
    }

    fn connection(&mut self) -> &mut Connection {
        &mut self.server.connections[self.connection.unwrap()]
    }

    fn serve_all(&mut self) {
        while self.connection.is_some_and(|n| self.server.serve(n, true)) {}
    }

    fn break_connection(&mut self) {
        if let Some(n) = self.connection.take() {
            self.server.connections[n].to_server.clear();
            self.machine.on_closed(self.now, close::ABNORMAL, "");
        }
    }

    /// The client handles one frame. Returns `false` if there is none or the client doesn't read.
    fn receive(&mut self) -> bool {
        let Some(connection) = self.connection.filter(|_| self.machine.may_read()) else { return false };
        let Some(text) = self.server.connections[connection].to_client.pop_front() else { return false };
        self.machine.on_text(self.now, &text);
        true
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Publish => {
                self.machine
                    .publish(&format!(r#"{{"event":"message","message":{}"#, self.published), self.published);
                self.published += 1;
            }
            Op::OtherPublishes => {
                self.server.publish(json!({"event": "message", "message": "hi", "name": "bob"}));
            }
            Op::Serve(ack_first) => {
                self.connection.map(|n| self.server.serve(n, ack_first));
            }
            Op::Receive => {
                self.receive();
            }
            Op::Break => self.break_connection(),
            Op::BreakServed => {
                self.serve_all();
                self.break_connection();
            }
            Op::Expire if self.connection.is_none() => {
                self.server.sessions.clear();
                self.server.connections.iter_mut().for_each(|connection| connection.ended = true);
            }
            Op::Expire => {}
            Op::Wait => {
                self.now = self.machine.deadline().unwrap();
                self.machine.tick(self.now);
            }
            Op::Full => self.machine.on_full(self.now),
            Op::Capacity => self.machine.on_capacity(self.now),
        }
        self.perform();
    }

    /// Runs until every message is resolved and every frame received.
    fn finish(&mut self) {
        self.step(Op::Capacity);
        for _ in 0..100 {
            if self.connection.is_none() {
                self.step(Op::Wait);
            }
            let mut idle = false;
            while !idle {
                self.serve_all();
                idle = !self.receive();
                self.perform();
            }
            if self.connection.is_some() && self.resolved.len() as u64 == self.published {
                return;
            }
        }
        panic!("it does not finish");
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => Just(Op::Publish),
        2 => Just(Op::OtherPublishes),
        6 => any::<bool>().prop_map(Op::Serve),
        8 => Just(Op::Receive),
        1 => Just(Op::Break),
        1 => Just(Op::BreakServed),
        1 => Just(Op::Expire),
        3 => Just(Op::Wait),
        1 => Just(Op::Full),
        1 => Just(Op::Capacity),
    ];
    prop::collection::vec(op, 0..150)
}

proptest! {
    #[test]
    fn everything_arrives_once_and_in_order(ops in ops(), seed in any::<u64>()) {
        let mut simulation = Simulation::new(seed);
        for op in ops {
            simulation.step(op);
        }
        simulation.finish();
        simulation.step(Op::OtherPublishes);
        simulation.finish();

        let log = &simulation.server.log;
        let own: Vec<u64> = log.iter().filter_map(|frame| frame["message"].as_u64()).collect();
        let expected: Vec<u64> = (0..simulation.published).filter(|n| !is_refused(*n)).collect();
        prop_assert_eq!(own, expected);
        for (n, result) in &simulation.resolved {
            match result {
                Ok(seq) => prop_assert_eq!(&log[*seq as usize - 1]["message"], *n),
                Err(_) => prop_assert!(is_refused(*n)),
            }
        }
        prop_assert_eq!(simulation.gaps, 0);
        let first = simulation.received[0];
        let all: Vec<u64> = (first..=log.len() as u64).collect();
        prop_assert_eq!(&simulation.received, &all);
    }
}

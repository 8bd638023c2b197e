//! The machine against a small model of a server, with connections that break at any moment, a server that
//! refuses messages and puts members out, and frames that can't be read: each message is published once and in
//! order, and each frame of the room reaches the application once and in order, or is told to be missed.

use std::collections::BTreeMap;
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
    log: Vec<String>,
    connections: Vec<Connection>,
    /// By resume token: the number of the connection that holds the session.
    sessions: BTreeMap<usize, Session>,
    /// Messages from this number on are refused until this one comes again, after this time.
    throttled: Option<(u64, Now)>,
}

struct Session {
    /// The number of its first connection: its member id.
    id: usize,
    is_member: bool,
    /// The ids of its latest messages, and the `seq` of each.
    cids: Vec<(String, u64)>,
}

/// A connection, with the frames under way in both directions. Its number is its resume token.
#[derive(Default)]
struct Connection {
    to_server: VecDeque<String>,
    to_client: VecDeque<String>,
    /// The server has ended it.
    is_ended: bool,
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Publish,
    OtherPublishes,
    /// Another member publishes what this client can't read, with or without a `seq` that it can.
    OtherPublishesUnreadable(bool),
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
    /// The server puts the client out of the room.
    PutOut,
    /// The server refuses the next message for some time.
    Throttle,
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
    was_in: bool,
    /// The last position that the application was told.
    last: u64,
    /// The `seq` of each frame that it was told to have missed.
    missed: Vec<u64>,
    throttles: bool,
}

/// A frame of a room that this client can't read.
fn is_unreadable(frame: &str) -> bool {
    from_str::<Value>(frame).is_err()
}

/// Whether the server refuses this message.
fn is_refused(message: u64) -> bool {
    message % 5 == 3
}

impl Server {
    fn open(&mut self) -> usize {
        let n = self.connections.len();
        let welcome = json!({"event": "welcome", "resume": n.to_string(),
            "heartbeat": {"interval": 1000, "timeout": 1000}, "limits": {"cids": CIDS},
            "rates": {"messages": null, "bytes": null}, "resumeWindow": 10_000});
        self.connections
            .push(Connection { to_client: [welcome.to_string()].into(), ..Connection::default() });
        self.sessions.insert(n, Session { id: n, is_member: false, cids: Vec::new() });
        n
    }

    fn publish(&mut self, mut frame: Value) -> u64 {
        let seq = self.log.len() as u64 + 1;
        frame["seq"] = json!(seq);
        self.publish_text(frame.to_string())
    }

    fn publish_text(&mut self, frame: String) -> u64 {
        for (n, _) in self.sessions.iter().filter(|(_, session)| session.is_member) {
            self.connections[*n].to_client.push_back(frame.clone());
        }
        self.log.push(frame);
        self.log.len() as u64
    }

    fn tell(&mut self, n: usize, frame: Value) {
        self.connections[n].to_client.push_back(frame.to_string());
    }

    /// Handles the next frame of a connection. Returns `false` if there is none.
    fn serve(&mut self, n: usize, now: Now, throttles: bool, ack_first: bool) -> bool {
        let connection = &mut self.connections[n];
        let Some(text) = connection.to_server.pop_front().filter(|_| !connection.is_ended) else {
            return false;
        };
        let frame: Value = from_str(&text).unwrap();
        match frame["event"].as_str().unwrap() {
            "heartbeat" => {}
            "enter" => self.enter(n, &frame),
            _ => self.on_message(n, frame, now, throttles, ack_first),
        }
        true
    }

    fn on_message(&mut self, n: usize, mut frame: Value, now: Now, throttles: bool, ack_first: bool) {
        let cid = frame["cid"].as_str().unwrap().to_owned();
        let number = frame["message"].as_u64().unwrap();
        let (session, seq) = (&self.sessions[&n], self.log.len() as u64 + 1);
        let (id, is_member) = (session.id.to_string(), session.is_member);
        let known = session.cids.iter().find(|(known, _)| *known == cid).map(|(_, seq)| *seq);
        let ack = |seq: u64| json!({"event": "ack", "cid": cid, "seq": seq});
        let refuse = |code: &str| json!({"event": "error", "code": code, "message": "no", "cid": cid});
        if let Some(seq) = known {
            return self.tell(n, ack(seq));
        }
        if throttles && self.throttled.is_none() {
            self.throttled = Some((number, now + Now::from_millis(50)));
        }
        if let Some((first, until)) = self.throttled.filter(|(first, _)| *first <= number) {
            if first < number || now < until {
                let mut error = refuse("rate_limited");
                error["retryAfter"] = json!(until.saturating_sub(now).as_millis() as u64 + 1);
                return self.tell(n, error);
            }
            self.throttled = None;
        }
        if !is_member {
            return self.tell(n, refuse("not_entered"));
        }
        if is_refused(number) {
            return self.tell(n, refuse("denied"));
        }
        frame["name"] = json!("ann");
        frame["member"] = json!(id);
        if ack_first {
            self.tell(n, ack(seq));
        }
        self.publish(frame);
        if !ack_first {
            self.tell(n, ack(seq));
        }
        let known = &mut self.sessions.get_mut(&n).unwrap().cids;
        known.push((cid, seq));
        if known.len() > CIDS {
            known.remove(0);
        }
    }

    fn enter(&mut self, n: usize, frame: &Value) {
        let tokens: Vec<usize> = frame["resume"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|token| token.as_str().unwrap().parse().unwrap())
            .collect();
        assert!(tokens.len() <= MAX_RESUME_TOKENS && !tokens.contains(&n));
        for token in tokens {
            let Some(session) = self.sessions.get(&token).filter(|session| session.is_member) else {
                continue;
            };
            if !self.sessions[&n].is_member {
                assert!(session.is_member);
                let session = self.sessions.remove(&token).unwrap();
                self.sessions.insert(n, session);
                self.connections[token].is_ended = true;
            }
        }
        let session = self.sessions.get_mut(&n).unwrap();
        let (resumed, recovered) = (session.is_member, frame["since"].is_object());
        session.is_member = true;
        let since = frame["since"]["seq"].as_u64().unwrap_or(self.log.len() as u64) as usize;
        let id = session.id.to_string();
        let entered = json!({"event": "entered", "name": "ann", "member": id, "epoch": "E", "seq": self.log.len(),
            "resumed": resumed, "recovered": recovered, "replayed": self.log.len() - since});
        self.tell(n, entered);
        self.connections[n].to_client.extend(self.log[since..].iter().cloned());
        if !resumed {
            self.publish(json!({"event": "enter", "message": "ann", "name": "ann", "member": id}));
        }
    }

    /// Ends a membership.
    fn leave(&mut self, n: usize) {
        let session = self.sessions.get_mut(&n).unwrap();
        if std::mem::take(&mut session.is_member) {
            let id = session.id.to_string();
            self.publish(json!({"event": "out", "name": "ann", "member": id}));
        }
    }
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
            max_attempts: u32::MAX,
            max_unsent: usize::MAX,
        };
        let mut simulation = Simulation {
            machine: Machine::new(settings, Box::new(random)),
            now: Now::ZERO,
            server: Server::default(),
            connection: None,
            published: 0,
            resolved: HashMap::new(),
            was_in: false,
            last: 0,
            missed: Vec::new(),
            throttles: false,
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
                Output::AskToken => panic!("there is no token function"),
                Output::Send(text) => self.connection().to_server.push_back(text),
                Output::Pong => self.connection().to_server.push_back(r#"{"event":"heartbeat"}"#.into()),
                Output::Close(code) => {
                    assert_eq!(code, close::HEARTBEAT_MISSED);
                    self.serve_all();
                    self.connection().to_client.clear();
                    self.connection = None;
                    self.server.throttled = None;
                }
                Output::Resolve(n, result) => assert_eq!(self.resolved.insert(n, result), None),
                Output::Emit(ClientEvent::Enter(f) | ClientEvent::Out(f) | ClientEvent::Message(f)) => {
                    self.last += 1;
                    assert_eq!(f.seq(), Some(self.last), "the order of frames");
                }
                Output::Emit(ClientEvent::Gap { missed }) => {
                    let before = self.last;
                    self.last += missed.unwrap();
                    self.missed.extend(before + 1..=self.last);
                }
                Output::Emit(ClientEvent::Entered { .. }) if !self.was_in => {
                    self.was_in = true;
                    self.last = self.machine.position.as_ref().unwrap().seq;
                }
                Output::Emit(_) => {}
            }
        }
    }

    fn connection(&mut self) -> &mut Connection {
        &mut self.server.connections[self.connection.unwrap()]
    }

    fn serve(&mut self, ack_first: bool) -> bool {
        let Some(n) = self.connection else { return false };
        let throttles = std::mem::take(&mut self.throttles);
        self.server.serve(n, self.now, throttles, ack_first)
    }

    fn serve_all(&mut self) {
        while self.serve(true) {}
    }

    fn break_connection(&mut self) {
        if let Some(n) = self.connection.take() {
            self.server.connections[n].to_server.clear();
            self.server.throttled = None;
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
                let body = format!(r#"{{"event":"message","message":{}"#, self.published);
                self.machine.publish(self.now, &body, self.published);
                self.published += 1;
            }
            Op::OtherPublishes => {
                let frame = json!({"event": "message", "message": "hi", "name": "bob", "member": "b"});
                self.server.publish(frame);
            }
            Op::OtherPublishesUnreadable(has_seq) => {
                let seq = self.server.log.len() + 1;
                let text = if has_seq { format!(r#"{{"message":1e999,"seq":{seq}}}"#) } else { "{".into() };
                self.server.publish_text(text);
            }
            Op::Serve(ack_first) => {
                self.serve(ack_first);
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
                let sessions: Vec<usize> = self.server.sessions.keys().copied().collect();
                sessions.into_iter().for_each(|n| self.server.leave(n));
                self.server.sessions.clear();
                self.server.connections.iter_mut().for_each(|connection| connection.is_ended = true);
            }
            Op::Expire => {}
            Op::PutOut => {
                if let Some(n) = self.connection.filter(|n| self.server.sessions[n].is_member) {
                    self.server.leave(n);
                    let error =
                        json!({"event": "error", "code": "internal", "message": "out", "roomId": "r"});
                    self.server.tell(n, error);
                }
            }
            Op::Throttle => self.throttles = true,
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
        for _ in 0..200 {
            let mut idle = false;
            while !idle {
                self.serve_all();
                idle = !self.receive();
                self.perform();
            }
            let is_in = self.connection.is_some_and(|n| self.server.sessions[&n].is_member);
            if is_in && self.machine.state == State::Online && self.resolved.len() as u64 == self.published {
                return;
            }
            self.step(Op::Wait);
        }
        panic!("it does not finish: {:?}", self.machine.link);
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => Just(Op::Publish),
        2 => Just(Op::OtherPublishes),
        1 => any::<bool>().prop_map(Op::OtherPublishesUnreadable),
        6 => any::<bool>().prop_map(Op::Serve),
        8 => Just(Op::Receive),
        1 => Just(Op::Break),
        1 => Just(Op::BreakServed),
        1 => Just(Op::Expire),
        1 => Just(Op::PutOut),
        1 => Just(Op::Throttle),
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
        let frames: Vec<Value> = log.iter().map(|frame| from_str(frame).unwrap_or_default()).collect();
        let own: Vec<u64> = frames.iter().filter_map(|frame| frame["message"].as_u64()).collect();
        let expected: Vec<u64> = (0..simulation.published).filter(|n| !is_refused(*n)).collect();
        prop_assert_eq!(own, expected);
        for (n, result) in &simulation.resolved {
            match result {
                Ok(seq) => prop_assert_eq!(&frames[*seq as usize - 1]["message"], *n),
                Err(_) => prop_assert!(is_refused(*n)),
            }
        }
        prop_assert_eq!(simulation.last, log.len() as u64);
        for seq in &simulation.missed {
            prop_assert!(is_unreadable(&log[*seq as usize - 1]), "{} was there", seq);
        }
    }
}

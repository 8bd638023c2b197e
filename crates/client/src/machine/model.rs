//! Tests the machine against a small model of a server. Connections break at any moment, the server refuses
//! messages and removes members, and some frames can't be read. Each message is published once and in order, and
//! each frame of the room reaches the application once and in order, or is reported as missed.

mod server;

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, from_str, json};

use self::server::{Connection, Server, is_refused, is_unreadable};
use super::*;

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
    /// The server removes the client from the room.
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
    /// The `seq` of each frame that the application was told to have missed.
    missed: Vec<u64>,
    throttles: bool,
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
                    self.connection.take().into_iter().for_each(|n| self.server.lose(n));
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
            self.server.lose(n);
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
            Op::Expire if self.connection.is_none() => self.server.expire(),
            Op::Expire => {}
            Op::PutOut => self.connection.into_iter().for_each(|n| self.server.put_out(n)),
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
            let is_in = self.connection.is_some_and(|n| self.server.has_member(n));
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

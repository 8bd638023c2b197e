//! Tests the machine against a small model of a server with two rooms. Connections break at any moment, the server refuses
//! messages and removes members, the application leaves one of the rooms and joins it again, and some frames can't be
//! read. Each message is published once and in order, each frame of a room reaches the application once and in order, or
//! is reported as missed, and the session is in no room that was left.

mod server;

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, from_str, json};

use self::server::{Connection, ROOMS, Server, is_refused, is_unreadable};
use super::*;
use crate::event::{ClientEvent, ClientState};

/// The application leaves this room and joins it again. It is always in the other one.
const VISITED: usize = 1;

#[derive(Debug, Clone, Copy)]
enum Op {
    Publish(usize),
    OtherPublishes(usize),
    /// Another member publishes what this client can't read, with or without a `seq` that it can.
    OtherPublishesUnreadable(usize, bool),
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
    /// The server removes the client from a room.
    PutOut(usize),
    /// The server refuses the next message to a room for some time.
    Throttle(usize),
    /// Time passes until the client's deadline.
    Wait,
    /// The application takes no events of a room.
    Full(usize),
    /// The application takes events of a room again.
    Capacity(usize),
    Join,
    Leave,
}

/// What the application knows of a room.
#[derive(Debug, Default)]
struct Told {
    /// `None` if it is not to be in the room.
    key: Option<RoomKey>,
    is_online: bool,
    was_in: bool,
    /// The last position.
    last: u64,
    /// The `seq` of each frame that was missed.
    missed: Vec<u64>,
}

struct Simulation {
    machine: Machine<u64>,
    now: Now,
    server: Server,
    /// The client's connection.
    connection: Option<usize>,
    joined: u64,
    told: [Told; ROOMS],
    /// The room of each message.
    published: Vec<usize>,
    resolved: HashMap<u64, Result<u64, ClientError>>,
    throttles: [bool; ROOMS],
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
            joined: 0,
            told: Default::default(),
            published: Vec::new(),
            resolved: HashMap::new(),
            throttles: [false; ROOMS],
        };
        (0..ROOMS).for_each(|room| simulation.join(room));
        simulation
    }

    fn join(&mut self, room: usize) {
        let key = RoomKey(self.joined);
        self.joined += 1;
        self.told[room] = Told { key: Some(key), ..Told::default() };
        self.machine.join(self.now, key, super::tests::room(&room.to_string()));
        self.perform();
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
                Output::SendTransient(text) => panic!("there are no transient events: {text}"),
                Output::Send(text) => self.connection().to_server.push_back(text),
                Output::Pong => self.connection().to_server.push_back(r#"{"event":"heartbeat"}"#.into()),
                Output::Close(code) => {
                    assert_eq!(code, close::HEARTBEAT_MISSED);
                    self.serve_all();
                    self.connection.take().into_iter().for_each(|n| self.server.lose(n));
                }
                Output::Resolve(n, result) => assert_eq!(self.resolved.insert(n, result), None),
                Output::ResolveHistory(n, _) => panic!("{n}: nothing has asked for messages"),
                Output::Emit(key, event) => {
                    if let Some(room) = self.told.iter_mut().find(|room| room.key == Some(key)) {
                        room.hear(event, self.machine.room_status(key).unwrap_or_default());
                    }
                }
                Output::Presence(_) | Output::EmitChat(_) | Output::Left(_) => {}
                Output::Closed(key, error) => {
                    let room = self.told.iter().position(|room| room.key == Some(key));
                    assert_eq!(room, None, "closed: {error}");
                }
            }
        }
    }

    fn connection(&mut self) -> &mut Connection {
        &mut self.server.connections[self.connection.unwrap()]
    }

    fn serve(&mut self, ack_first: bool) -> bool {
        let Some(n) = self.connection else { return false };
        self.server.serve(n, self.now, &mut self.throttles, ack_first)
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
            Op::Publish(room) => {
                let Some(key) = self.told[room].key else { return };
                let n = self.published.len() as u64;
                self.published.push(room);
                self.machine.publish(self.now, key, &super::tests::body("message", n), n);
            }
            Op::OtherPublishes(room) => {
                let frame = json!({"event": "message", "message": "hi", "name": "bob", "member": "b"});
                self.server.publish(room, frame);
            }
            Op::OtherPublishesUnreadable(room, has_seq) => {
                let seq = self.server.logs[room].len() + 1;
                let text = match has_seq {
                    true => format!(r#"{{"message":1e999,"roomId":"{room}","seq":{seq}}}"#),
                    false => "{".into(),
                };
                self.server.publish_text(room, text);
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
            Op::PutOut(room) => self.connection.into_iter().for_each(|n| self.server.put_out(n, room)),
            Op::Throttle(room) => self.throttles[room] = true,
            Op::Wait => {
                self.now = self.machine.deadline().unwrap();
                self.machine.tick(self.now);
            }
            Op::Full(room) => {
                self.told[room].key.into_iter().for_each(|key| self.machine.on_full(self.now, key))
            }
            Op::Capacity(room) => {
                self.told[room].key.into_iter().for_each(|key| self.machine.on_capacity(self.now, key));
            }
            Op::Join if self.told[VISITED].key.is_none() => self.join(VISITED),
            Op::Join => {}
            Op::Leave => {
                if let Some(key) = self.told[VISITED].key.take() {
                    self.machine.leave(self.now, key);
                }
            }
        }
        self.perform();
    }

    /// Runs until every message is resolved, every frame received, and every room left that was to be left.
    fn finish(&mut self) {
        (0..ROOMS).for_each(|room| self.step(Op::Capacity(room)));
        for _ in 0..300 {
            let mut idle = false;
            while !idle {
                self.serve_all();
                idle = !self.receive();
                self.perform();
            }
            let is_there = (0..ROOMS).all(|room| {
                let is_member = self.connection.is_some_and(|n| self.server.is_member(n, room));
                let told = &self.told[room];
                is_member == told.key.is_some() && (told.key.is_none() || told.is_online)
            });
            if is_there && self.connection.is_some() && self.resolved.len() == self.published.len() {
                return;
            }
            self.step(Op::Wait);
        }
        panic!("it does not finish: {:?} {:?}", self.machine.link, self.machine.rooms);
    }

    /// Checks what was published in a room, and what the application knows of it.
    fn check(&self, room: usize) -> Result<(), TestCaseError> {
        let log = &self.server.logs[room];
        let frames: Vec<Value> = log.iter().map(|frame| from_str(frame).unwrap_or_default()).collect();
        let own: Vec<u64> = frames.iter().filter_map(|frame| frame["message"].as_u64()).collect();
        prop_assert!(own.is_sorted_by(|a, b| a < b), "each once and in order: {:?}", own);
        for (n, _) in self.published.iter().enumerate().filter(|(_, of)| **of == room) {
            let n = n as u64;
            match &self.resolved[&n] {
                Ok(seq) => prop_assert_eq!(&frames[*seq as usize - 1]["message"], n),
                Err(ClientError::Refused { .. }) => prop_assert!(is_refused(n) && !own.contains(&n)),
                Err(error) => prop_assert!(room == VISITED, "not published: {}", error),
            }
        }
        let told = &self.told[room];
        if told.key.is_some() {
            prop_assert_eq!(told.last, log.len() as u64);
        }
        for seq in &told.missed {
            prop_assert!(is_unreadable(&log[*seq as usize - 1]), "{} was there", seq);
        }
        Ok(())
    }
}

impl Told {
    fn hear(&mut self, event: ClientEvent, room_status: RoomStatus) {
        match event {
            ClientEvent::Enter(frame) | ClientEvent::Out(frame) | ClientEvent::Message(frame) => {
                self.last += 1;
                assert_eq!(frame.seq(), Some(self.last), "the order of frames");
            }
            ClientEvent::Gap { missed } => {
                let before = self.last;
                self.last += missed.unwrap();
                self.missed.extend(before + 1..=self.last);
            }
            ClientEvent::Entered { .. } if !self.was_in => {
                self.was_in = true;
                self.last = room_status.position.unwrap().seq();
            }
            ClientEvent::State(state) => self.is_online = state == ClientState::Online,
            _ => {}
        }
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let room = 0..ROOMS;
    let op = prop_oneof![
        4 => room.clone().prop_map(Op::Publish),
        2 => room.clone().prop_map(Op::OtherPublishes),
        1 => (room.clone(), any::<bool>()).prop_map(|(room, has_seq)| Op::OtherPublishesUnreadable(room, has_seq)),
        8 => any::<bool>().prop_map(Op::Serve),
        10 => Just(Op::Receive),
        1 => Just(Op::Break),
        1 => Just(Op::BreakServed),
        1 => Just(Op::Expire),
        1 => room.clone().prop_map(Op::PutOut),
        1 => room.clone().prop_map(Op::Throttle),
        3 => Just(Op::Wait),
        1 => room.clone().prop_map(Op::Full),
        1 => room.prop_map(Op::Capacity),
        1 => Just(Op::Join),
        1 => Just(Op::Leave),
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
        (0..ROOMS).for_each(|room| simulation.step(Op::OtherPublishes(room)));
        simulation.finish();
        for room in 0..ROOMS {
            simulation.check(room)?;
        }
    }
}

//! Tests what a client knows about the members of a room against a small model of a server. Connections break at any
//! moment, frames are dropped or can't be read, the mode of the room changes, the server refuses requests and states,
//! and the client is removed, hidden, or a new member. Whenever no frame is in flight, the roster is exact.

mod server;

use proptest::prelude::*;
use serde_json::{Value, json};

use self::server::{Refusal, Server};
use super::tests::R;
use super::*;
use crate::presence::{Member, PresenceMode};

#[derive(Debug, Clone, Copy)]
enum Op {
    /// Another client enters, or leaves if it is in the room.
    Toggle(u64),
    /// Another client enters, in a frame that this client can't read.
    EnterUnreadable(u64),
    /// Another client, or the host for it, changes its state.
    OtherState(u64, u64),
    /// Another client takes another name.
    Rename(u64),
    Say,
    Mode(PresenceMode),
    OwnState(u64),
    /// The server refuses the next frame about members.
    Refuse(Refusal),
    /// From now on, the server drops the frames for this client.
    Lag,
    CatchUp,
    /// The next new member of this client is hidden and read-only, or not.
    Hide(bool),
    Serve,
    Receive,
    /// Everything that is in flight arrives.
    Settle,
    Break,
    /// The connection breaks after the server has handled everything.
    BreakServed,
    /// The resume window of the session ends.
    Expire,
    /// The server is replaced by a new one.
    Restart,
    PutOut,
    /// The application takes no events.
    Full,
    Capacity,
    /// Time passes until the client's deadline.
    Wait,
}

struct Simulation {
    machine: Machine<u64>,
    now: Now,
    server: Server,
    is_connected: bool,
    /// The state that the application has set.
    state: Value,
    /// Whether the server has refused a state. The client then knows that of the server.
    was_refused: bool,
    /// What the application was last told.
    told: Presence,
}

impl Simulation {
    fn new(seed: u64, roster: usize) -> Simulation {
        let mut random = seed | 1;
        let random = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let settings = Settings {
            backoff: (Now::from_millis(10), Now::from_millis(100)),
            first_timeout: Now::MAX,
            ..super::tests::settings()
        };
        let room = RoomSettings { roster, ..super::tests::room("r") };
        let mut simulation = Simulation {
            machine: Machine::with_room(settings, Box::new(random), R, room),
            now: Now::ZERO,
            server: Server::default(),
            is_connected: false,
            state: Value::Null,
            was_refused: false,
            told: Presence::default(),
        };
        simulation.perform();
        simulation
    }

    fn perform(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Connect => {
                    self.server.open();
                    self.is_connected = true;
                    self.machine.on_open(self.now, None);
                }
                Output::Send(text) => self.server.to_server.push_back(text),
                Output::Presence(R) => self.told = self.presence(),
                Output::Close(_) => {
                    self.server.lose();
                    self.is_connected = false;
                }
                Output::Closed(..) => panic!("closed: {:?}", self.machine.ended()),
                _ => {}
            }
        }
    }

    fn presence(&self) -> Presence {
        self.machine.room_status(R).unwrap().presence
    }

    fn serve(&mut self) -> bool {
        self.is_connected && self.server.serve()
    }

    fn receive(&mut self) -> bool {
        if !self.is_connected || !self.machine.may_read() {
            return false;
        }
        let Some(text) = self.server.to_client.pop_front() else { return false };
        self.machine.on_text(self.now, &text);
        self.perform();
        true
    }

    fn break_connection(&mut self) {
        if std::mem::take(&mut self.is_connected) {
            self.server.lose();
            self.machine.on_closed(self.now, close::ABNORMAL, "");
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Toggle(n) => self.server.toggle(n, false),
            Op::EnterUnreadable(n) => self.server.toggle(n, true),
            Op::OtherState(n, state) => self.server.change(n, state),
            Op::Rename(n) => self.server.rename(n),
            Op::Say => self.server.say(),
            Op::Mode(mode) => self.server.set_mode(mode),
            Op::OwnState(state) => {
                self.state = if state == 0 { Value::Null } else { json!(state) };
                self.machine.set_state(self.now, R, self.state.clone());
            }
            Op::Refuse(refusal) => self.server.refuse_next(refusal),
            Op::Lag => self.server.lag(),
            Op::CatchUp => self.server.catch_up(),
            Op::Hide(is_hidden) => self.server.hides = is_hidden,
            Op::Serve => {
                self.serve();
            }
            Op::Receive => {
                self.receive();
            }
            Op::Settle => self.settle(),
            Op::Break => self.break_connection(),
            Op::BreakServed => {
                while self.serve() {}
                self.break_connection();
            }
            Op::Expire if !self.is_connected => self.server.expire(),
            Op::Expire => {}
            Op::Restart => {
                self.break_connection();
                self.server.restart();
            }
            Op::PutOut => self.server.put_out(),
            Op::Full => self.machine.on_full(self.now, R),
            Op::Capacity => self.machine.on_capacity(self.now, R),
            Op::Wait => {
                self.now = self.machine.deadline().unwrap();
                self.machine.tick(self.now);
            }
        }
        self.was_refused |= std::mem::take(&mut self.server.has_refused_state);
        self.perform();
    }

    fn settle(&mut self) {
        while self.serve() || self.receive() {}
    }

    /// Everything arrives, and the client sends what is due until it knows as many members as it wants.
    fn finish(&mut self) {
        self.step(Op::Capacity);
        self.step(Op::CatchUp);
        for _ in 0..300 {
            self.step(Op::Settle);
            let room = self.machine.rooms.get(R).unwrap();
            let is_settled = room.is_in() && !room.is_entering() && room.presence().deadline().is_none();
            if is_settled && self.server.to_server.is_empty() {
                return;
            }
            self.step(Op::Wait);
        }
        panic!("it does not finish: {:?} {:?}", self.machine.link, self.machine.rooms);
    }

    /// Whether neither the server nor the client has anything to send.
    fn is_quiet(&self) -> bool {
        let room = self.machine.rooms.get(R).unwrap();
        room.presence().deadline().is_none()
            && self.server.is_subscribed()
            && self.server.to_server.is_empty()
            && self.server.to_client.is_empty()
    }

    /// Checks what the client knows while no frame is in flight.
    fn check(&self, has_finished: bool) -> Result<(), TestCaseError> {
        let (known, is_full) = (self.presence(), self.server.mode == PresenceMode::Full);
        prop_assert_eq!(&self.told, &known, "all changes are told");
        if !self.is_quiet() || self.server.is_lagging() || self.server.has_hidden_change() {
            return Ok(());
        }
        prop_assert_eq!(known.mode(), self.server.mode);
        if !is_full {
            prop_assert!(known.members().is_none() && !known.is_complete());
            prop_assert!(known.num() == self.server.num() || self.server.mode == PresenceMode::Quiet);
            return Ok(());
        }
        let max = self.machine.rooms.get(R).unwrap().presence().max_requested();
        // A client that requests no members learns of those that it has missed with the next frame.
        prop_assert!(known.num() == self.server.num() || max == 0);
        let text = |member: &Member| {
            let state = member.state().map(Value::to_string).unwrap_or_default();
            format!("{} {} {state}{}", member.id(), member.name(), if member.is_own() { "*" } else { "" })
        };
        let members: Vec<String> = known.members().into_iter().flatten().map(text).collect();
        let expected = self.server.roster();
        if known.is_complete() {
            prop_assert_eq!(members, expected);
            prop_assert_eq!(known.users(), self.server.users());
        } else if has_finished {
            // When members leave a room that had too many, the others are requested only once there are few, or never if
            // none are requested at all.
            prop_assert!(max == 0 || max / 2 < expected.len());
            prop_assert!(
                members.iter().all(|member| expected.contains(member)),
                "{:?} {:?}",
                members,
                expected
            );
        }
        Ok(())
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let mode = prop::sample::select(vec![
        PresenceMode::Full,
        PresenceMode::Full,
        PresenceMode::Count,
        PresenceMode::Quiet,
    ]);
    let refusal = prop::sample::select(vec![Refusal::Members, Refusal::State, Refusal::StateForNow]);
    let other = 0..6u64;
    let op = prop_oneof![
        12 => other.clone().prop_map(Op::Toggle),
        2 => other.clone().prop_map(Op::EnterUnreadable),
        4 => (other.clone(), 0..4u64).prop_map(|(n, state)| Op::OtherState(n, state)),
        3 => other.prop_map(Op::Rename),
        2 => Just(Op::Say),
        4 => mode.prop_map(Op::Mode),
        8 => (0..4u64).prop_map(Op::OwnState),
        4 => refusal.prop_map(Op::Refuse),
        3 => Just(Op::Lag),
        2 => Just(Op::CatchUp),
        1 => any::<bool>().prop_map(Op::Hide),
        6 => Just(Op::Serve),
        10 => Just(Op::Receive),
        12 => Just(Op::Settle),
        2 => Just(Op::Break),
        1 => Just(Op::BreakServed),
        1 => Just(Op::Expire),
        1 => Just(Op::Restart),
        1 => Just(Op::PutOut),
        1 => Just(Op::Full),
        2 => Just(Op::Capacity),
        10 => Just(Op::Wait),
    ];
    prop::collection::vec(op, 0..150)
}

proptest! {
    #[test]
    fn the_roster_is_exact(
        ops in ops(),
        seed in any::<u64>(),
        roster in prop::sample::select(vec![1000, 1000, 3, 0]),
    ) {
        let mut simulation = Simulation::new(seed, roster);
        for op in ops {
            simulation.step(op);
            simulation.check(false)?;
        }
        simulation.finish();
        // Only a frame of the room tells that one before it could not be read, or how many members a quiet room has.
        simulation.step(Op::Say);
        simulation.finish();
        simulation.check(true)?;
        prop_assert_eq!(simulation.presence().num(), simulation.server.num());
        if !simulation.was_refused {
            prop_assert_eq!(simulation.server.own_state(), Some(&simulation.state), "the state of the client");
        }
        let status = simulation.machine.room_status(R).unwrap();
        prop_assert_eq!((status.is_hidden, status.is_read_only), simulation.server.rights());
    }
}

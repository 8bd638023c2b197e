//! The machine, driven step by step.

mod connecting;
mod direct;
mod entering;
mod frames;
mod history;
mod history_requests;
mod liveness;
mod outside;
mod pause;
mod presence;
mod rates;
mod reconnecting;
mod rooms;
mod rooms_reconnecting;
mod sending;
mod sending_to_rooms;
mod store;
mod tokens;
mod tokens_put_off;
mod transients;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::body::Body;
use crate::event::{ClientEvent, ClientState};
use crate::presence::PresenceMode;

/// The room of a machine with one room.
pub(super) const R: RoomKey = RoomKey(0);

/// A machine, its clock, and its randomness.
struct Bench {
    machine: Machine<u32>,
    now: Now,
    /// From 0 to 100: which part of each random wait is waited.
    percent: Arc<AtomicU64>,
    /// The resume window of the next welcome.
    resume_window: u64,
    /// Whether the outputs as text contain changes of the presence.
    shows_presence: bool,
    /// The message ids in the order in which they were sent. A test calls them `c1`, `c2` and so on.
    cids: Mutex<Vec<String>>,
}

pub(super) fn settings() -> Settings {
    Settings {
        credential: Credential::Fixed,
        backoff: (ms(500), ms(10_000)),
        step_timeout: ms(10_000),
        first_timeout: ms(30_000),
        max_attempts: u32::MAX,
        max_unsent: 128,
    }
}

fn renewable() -> Settings {
    Settings { credential: Credential::Renewable, ..settings() }
}

pub(super) fn body(event: &str, message: impl serde::Serialize) -> Body {
    Body::of_message(event, &message).unwrap()
}

/// A room that the application joins as "ann".
pub(super) fn room(id: &str) -> RoomSettings {
    RoomSettings { id: id.into(), name: "ann".into(), ..RoomSettings::default() }
}

pub(super) fn ms(n: u64) -> Now {
    Now::from_millis(n)
}

fn welcome(token: &str) -> Value {
    json!({"event": "welcome", "connection": "1", "resume": token,
           "heartbeat": {"interval": 1000, "timeout": 1000},
           "limits": {"messageBytes": 65536, "cidBytes": 64, "cids": 128, "rooms": 64},
           "rates": {"messages": 100, "bytes": 262_144, "burst": 2}, "history": true, "resumeWindow": 9000})
}

/// The answer to an enter. `more` overwrites its keys.
fn entered(seq: u64, more: Value) -> Value {
    let frame = json!({"event": "entered", "roomId": "r", "name": "ann", "member": "1", "epoch": "E", "seq": seq,
                       "num": 2, "resumed": false, "recovered": false, "replayed": 0});
    merged(frame, more)
}

/// The answer to an enter that resumes the session.
fn resumed(seq: u64, replayed: u64) -> Value {
    entered(seq, json!({"resumed": true, "recovered": true, "replayed": replayed}))
}

fn said(seq: u64, message: &str) -> Value {
    json!({"event": "message", "message": message, "name": "bob", "num": 2, "member": "b", "seq": seq})
}

/// A message of this client.
fn own(seq: u64, message: &str, cid: &str) -> Value {
    json!({"event": "message", "message": message, "cid": cid, "name": "ann", "num": 2, "member": "1", "seq": seq})
}

fn ack(cid: &str, seq: u64) -> Value {
    json!({"event": "ack", "cid": cid, "seq": seq})
}

/// The answer to a resume.
fn session_resumed(rooms: &[&str]) -> Value {
    let rooms: Vec<Value> = rooms.iter().map(|room| json!({"roomId": room, "name": "ann"})).collect();
    json!({"event": "resumed", "member": "1", "rooms": rooms})
}

/// The server has removed the client from its room.
fn removed(code: &str) -> Value {
    json!({"event": "left", "roomId": "r", "code": code, "message": "so it is"})
}

fn error(code: &str, more: Value) -> Value {
    merged(json!({"event": "error", "code": code, "message": "so it is"}), more)
}

fn no_auth(why: &str) -> Value {
    json!({"event": "noAuth", "message": why})
}

fn heartbeat() -> Value {
    json!({"event": "heartbeat", "message": "ping"})
}

fn merged(mut frame: Value, more: Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        frame[key] = value.clone();
    }
    frame
}

impl Bench {
    /// A machine with one room. All random waits are as long as they can be.
    fn new(settings: Settings) -> Bench {
        Bench::with(|random| Machine::with_room(settings, random, R, room("r")))
    }

    fn with(machine: impl FnOnce(Box<dyn FnMut() -> u64 + Send>) -> Machine<u32>) -> Bench {
        let percent = Arc::new(AtomicU64::new(100));
        let (random, mut n) = (percent.clone(), 0);
        let random = move || {
            n += 1;
            (u64::MAX / 100 * random.load(Ordering::Relaxed)) & !0x7ff | n
        };
        let (machine, cids) = (machine(Box::new(random)), Mutex::default());
        let mut bench =
            Bench { machine, now: ms(0), percent, resume_window: 9000, shows_presence: false, cids };
        assert_eq!(bench.lines(), ["connect"]);
        bench
    }

    /// In its room at position 1 since the time 0.
    fn online_with(settings: Settings) -> Bench {
        Bench::new(settings).entered()
    }

    fn online() -> Bench {
        Bench::online_with(settings())
    }

    /// The same at a server that keeps sessions for this time.
    fn online_with_window(resume_window: u64) -> Bench {
        Bench { resume_window, ..Bench::new(settings()) }.entered()
    }

    fn entered(mut self) -> Bench {
        self.open("s1");
        self.say(entered(1, json!({})));
        assert_eq!(self.lines()[0], "online");
        self
    }

    /// The connection opens, and the server sends a welcome.
    fn open(&mut self, token: &str) -> Vec<String> {
        self.machine.on_open(self.now, None);
        self.say(merged(welcome(token), json!({"resumeWindow": self.resume_window})));
        self.lines()
    }

    /// A resume token that no other connection has.
    fn fresh_token(&self) -> String {
        format!("s at {:?}", self.now)
    }

    /// Waits for the next attempt, which succeeds. Returns what was sent.
    fn reconnect_unanswered(&mut self, token: &str) -> Vec<String> {
        self.wait();
        assert_eq!(self.lines(), ["connect"]);
        self.open(token)
    }

    /// Waits for the next attempt, which succeeds, and the session is resumed. Returns what else was sent.
    fn reconnect(&mut self, token: &str) -> Vec<String> {
        let mut lines = self.reconnect_unanswered(token);
        lines.retain(|line| line != "chat: online");
        assert!(lines.remove(0).starts_with(r#"{"event":"resume","message":["#));
        let rooms: Vec<String> = self.machine.rooms.iter().map(|room| room.id().to_owned()).collect();
        self.say(session_resumed(&rooms.iter().map(String::as_str).collect::<Vec<_>>()));
        lines
    }

    /// The connection breaks, and the client comes back.
    fn come_back(&mut self, token: &str, answer: Value) -> Vec<String> {
        self.machine.on_closed(self.now, 1006, "");
        self.lines();
        self.reconnect(token);
        self.say(answer);
        self.lines()
    }

    /// A frame of a room gets the id of the room, unless it has one.
    fn say(&mut self, mut frame: Value) {
        let has_place = (frame["event"] != "ack" && frame["seq"].is_u64()) || frame["event"] == "lagged";
        if has_place && frame["roomId"].is_null() {
            frame["roomId"] = json!("r");
        }
        let mut text = frame.to_string();
        for (n, cid) in self.cids.lock().unwrap().iter().enumerate() {
            text = text.replace(&format!(r#""c{}""#, n + 1), &format!("{cid:?}"));
        }
        self.say_text(&text);
    }

    fn say_text(&mut self, text: &str) {
        self.machine.on_text(self.now, text);
    }

    fn send(&mut self, n: u32) {
        self.send_text(n, &n.to_string());
    }

    fn send_text(&mut self, n: u32, message: &str) {
        self.machine.publish(self.now, R, &body("message", message), n);
    }

    /// Time passes, and all that is due is done.
    fn pass(&mut self, ms: u64) {
        let end = self.now + Now::from_millis(ms);
        while let Some(at) = self.machine.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.machine.tick(self.now);
        }
        self.now = end;
    }

    /// Time passes until the next thing is due.
    fn wait(&mut self) -> u64 {
        let at = self.machine.deadline().unwrap();
        let wait = at.saturating_sub(self.now);
        self.pass(wait.as_millis() as u64 + 1);
        wait.as_millis() as u64
    }

    /// Time passes while heartbeats come.
    fn beats(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.say(heartbeat());
            self.pass(1000);
        }
        let pongs = |output: &Output<u32>| !matches!(output, Output::Pong);
        self.machine.cx.outputs.retain(pongs);
    }

    fn state(&self) -> State {
        self.machine.rooms.get(R).unwrap().state()
    }

    fn enter_again(&mut self) {
        self.machine.enter_again(self.now, R);
    }

    fn leave(&mut self) {
        self.machine.leave(self.now, R);
    }

    /// The application takes no events.
    fn fill(&mut self) {
        self.machine.on_full(self.now, R);
    }

    /// The application takes events again.
    fn free(&mut self) {
        self.machine.on_capacity(self.now, R);
    }

    /// How long until the next enter.
    fn enter_in(&self) -> Option<u64> {
        let at = self.machine.rooms.enter_deadline()?;
        Some(((at - self.now).as_secs_f64() * 1000.0).round() as u64)
    }

    /// How long until the next attempt to connect.
    fn retry_in(&self) -> u64 {
        let wait = self.machine.attempts.deadline().unwrap() - self.now;
        // Randomness is almost 1, at most.
        (wait.as_secs_f64() * 1000.0).round() as u64
    }

    /// The outputs as lines of text.
    fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(output) = self.machine.poll_output() {
            lines.push(match output {
                Output::Connect => "connect".into(),
                Output::AskToken => "ask for a token".into(),
                Output::Send(text) | Output::SendTransient(text) => self.with_short_ids(text),
                Output::Pong => "pong".into(),
                Output::Close(code) => format!("close {code}"),
                Output::Emit(R, event) => describe(event),
                Output::Emit(RoomKey(key), event) => format!("{key}: {}", describe(event)),
                Output::Presence(RoomKey(key)) if self.shows_presence => {
                    format!(
                        "{key}: {}",
                        describe_presence(&self.machine.room_status(RoomKey(key)).unwrap().presence)
                    )
                }
                Output::Presence(_) => continue,
                Output::EmitChat(event) => format!("chat: {}", describe_chat(event)),
                // A machine with one room ends with it, and the last event has told why.
                Output::Closed(R, _) | Output::Left(R) => continue,
                Output::Closed(RoomKey(key), error) => format!("{key} is over: {error}"),
                Output::Left(RoomKey(key)) => format!("{key} is left"),
                Output::Resolve(n, Ok(seq)) => format!("{n}: ok {seq}"),
                Output::Resolve(n, Err(error)) => format!("{n}: {error}"),
                Output::ResolveHistory(n, page) => {
                    let messages = page.messages.into_iter().map(ClientEvent::Message).map(describe);
                    let more = if page.has_more { ", and more" } else { "" };
                    format!("{n}: {}{more}", messages.collect::<Vec<_>>().join(", "))
                }
            });
        }
        lines
    }

    fn with_short_ids(&self, text: String) -> String {
        let frame: Value = serde_json::from_str(&text).unwrap();
        let Some(cid) = frame["cid"].as_str() else { return text };
        let mut cids = self.cids.lock().unwrap();
        let n = cids.iter().position(|known| known == cid).unwrap_or_else(|| {
            cids.push(cid.into());
            cids.len() - 1
        });
        text.replace(cid, &format!("c{}", n + 1))
    }
}

/// Numbers that were sent as messages, of outputs as lines.
fn numbers(lines: &[String]) -> Vec<u32> {
    let frames = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    frames.filter_map(|frame| frame["message"].as_str()?.split(' ').next()?.parse().ok()).collect()
}

fn describe_chat(event: ChatEvent) -> String {
    match event {
        ChatEvent::State(ChatState::Online) => "online".into(),
        ChatEvent::State(ChatState::Idle) => "idle".into(),
        ChatEvent::State(ChatState::Reconnecting { reason, .. }) => format!("reconnecting: {reason}"),
        ChatEvent::State(ChatState::Closed { reason }) => format!("closed: {reason}"),
        other => describe(other.of_room().unwrap()),
    }
}

/// For example "full 3/1: ann* bob{"x":1} ...": 3 members, 1 user, this client is ann, bob has a state, and there are
/// others.
fn describe_presence(presence: &Presence) -> String {
    let mode = match presence.mode() {
        PresenceMode::Full => "full",
        PresenceMode::Count => "count",
        PresenceMode::Quiet => "quiet",
    };
    let mut text = format!("{mode} {}/{}", presence.num(), presence.users());
    if let Some(members) = presence.members() {
        text.push(':');
        for member in members {
            let state = member.state().map(Value::to_string).unwrap_or_default();
            text.push_str(&format!(" {}{}{state}", member.name(), if member.is_own() { "*" } else { "" }));
        }
        text.push_str(if presence.is_complete() { "" } else { " ..." });
    }
    text
}

fn describe(event: ClientEvent) -> String {
    match event {
        ClientEvent::State(ClientState::Online) => "online".into(),
        ClientEvent::State(ClientState::Outside { reason, retry_in: None }) => format!("outside: {reason}"),
        ClientEvent::State(ClientState::Outside { reason, retry_in: Some(time) }) => {
            format!("outside for {:.1} s: {reason}", time.as_secs_f64())
        }
        ClientEvent::State(ClientState::Reconnecting { reason, .. }) => format!("reconnecting: {reason}"),
        ClientEvent::State(ClientState::Closed { reason }) => format!("closed: {reason}"),
        ClientEvent::Transient(f) => format!("transient {} {}", f.event(), f.message()),
        ClientEvent::Enter(f) | ClientEvent::Out(f) | ClientEvent::Message(f) | ClientEvent::Direct(f) => {
            let own = if f.is_own() { "own " } else { "" };
            let replayed = if f.is_replayed() { "replayed " } else { "" };
            let history = if f.is_history() { "history " } else { "" };
            let seq = f.seq().map_or(String::new(), |seq| format!(" {seq}"));
            format!("{own}{replayed}{history}{} {}{seq}", f.event(), f.message())
        }
        ClientEvent::Entered { member, resumed, recovered, .. } => {
            format!("entered as {member}, resumed {resumed}, recovered {recovered}")
        }
        ClientEvent::Gap { missed: Some(missed) } => format!("gap of {missed}"),
        ClientEvent::Gap { missed: None } => "gap".into(),
        ClientEvent::DirectGap { missed: Some(missed) } => format!("direct gap of {missed}"),
        ClientEvent::DirectGap { missed: None } => "direct gap".into(),
        ClientEvent::Presence(_) => panic!("it is told by another output"),
        ClientEvent::Overflow { lost } => format!("overflow of {lost}"),
        ClientEvent::ReadOnly(is_read_only) => format!("read-only: {is_read_only}"),
        ClientEvent::Error(error) => format!("error: {error}"),
    }
}

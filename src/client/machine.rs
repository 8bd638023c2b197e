//! The client as a pure state machine: it is told what happens and at which time, and says what
//! is to be done. It does no I/O and reads no clock.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::client::error::ClientError;
use crate::client::event::{ClientEvent, ClientState, RoomFrame};
use crate::client::incoming::{Entered, Incoming, Welcome, retry_in};
use crate::client::outgoing::Outgoing;
use crate::protocol::close::may_return;

/// The client takes the connection for lost and comes back.
pub(crate) const COMES_BACK: u16 = 4000;
/// The client leaves.
const LEAVES: u16 = 1000;
/// The connection broke without a close frame.
pub(crate) const LOST: u16 = 1006;

/// Secrets of earlier connections that an enter may name.
const MAX_SECRETS: usize = 8;
/// Refused tokens in a row, each asked for anew, after which the client stays away.
const MAX_REFUSALS: u32 = 3;
/// Messages under way where the server sets no limit.
const MAX_WINDOW: usize = 1024;

/// What refuses a client for good; any other error on entering may pass.
const FOR_GOOD: [&str; 7] =
    ["denied", "bad_name", "bad_room_id", "bad_json", "bad_shape", "not_an_object", "too_deep"];

/// Time since the client was made.
type Now = Duration;

/// The settings.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) room: String,
    pub(crate) credential: Credential,
    /// Bound of the first wait, and of the longest.
    pub(crate) backoff: (Duration, Duration),
    /// For connecting until the welcome, and for entering.
    pub(crate) step_timeout: Duration,
    /// For being in the room for the first time.
    pub(crate) first_timeout: Duration,
    pub(crate) max_unsent: usize,
}

/// Whether another attempt may have another token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential {
    /// None, or one that stays the same.
    Fixed,
    /// Asked for at each attempt.
    Fresh,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output<T> {
    /// Begin to connect.
    Connect,
    Send(String),
    /// Answer a heartbeat; one that still waits to be sent is enough.
    Pong,
    /// Close the connection, or give up connecting, and hear no more of it.
    Close(u16),
    Tell(ClientEvent),
    Settle(T, Result<u64, ClientError>),
}

/// Why connecting failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another attempt may succeed.
    Broken(String),
    /// The server answered with this status, and when to come again.
    Http(u16, Option<Duration>),
    /// None will.
    Hopeless(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Until then.
    Waiting(Now),
    /// Until then at most; the same for the next two.
    Connecting(Now),
    /// Connected; the welcome has not come.
    Greeted(Now),
    Entering(Now),
    Online,
    Over,
}

#[derive(Debug, Clone)]
struct Position {
    epoch: String,
    /// The last frame that the application was told of.
    seq: u64,
}

/// `T` waits for a message's acknowledgement.
pub(crate) struct Machine<T> {
    plan: Plan,
    random: Box<dyn FnMut() -> u64 + Send>,
    phase: Phase,
    /// The application has been told that the client is in its room.
    was_online: bool,
    online_since: Now,
    /// Failed attempts in a row, and connections that did not last.
    series: u32,
    /// Refused tokens in a row.
    refusals: u32,
    /// Secrets of connections whose seat this client may have, the oldest first.
    secrets: Vec<String>,
    position: Option<Position>,
    /// The id of the seat in the room.
    seat: String,
    /// Nothing is sent before the replay has come this far.
    hold: u64,
    outgoing: Outgoing<T>,
    /// From here on all is of the present connection.
    welcome: Option<Welcome>,
    last_heard: Now,
    /// The `seq` of the `entered`, and whether the seat was taken over.
    entered: (u64, bool),
    /// The last of the room's frames that has come.
    heard: u64,
    /// The application takes no events: since when, and when the server next has to hear of us.
    paused: Option<(Now, Now)>,
    /// The room's frames are read and not told any more.
    overrun: bool,
    /// Frames that were dropped meanwhile and are in no replay.
    lost: u64,
    outputs: VecDeque<Output<T>>,
    ending: Option<ClientError>,
}

impl<T> Machine<T> {
    pub(crate) fn new(plan: Plan, random: Box<dyn FnMut() -> u64 + Send>) -> Machine<T> {
        let mut machine = Machine {
            plan,
            random,
            phase: Phase::Over,
            was_online: false,
            online_since: Now::ZERO,
            series: 0,
            refusals: 0,
            secrets: Vec::new(),
            position: None,
            seat: String::new(),
            outgoing: Outgoing::new(),
            welcome: None,
            last_heard: Now::ZERO,
            entered: (0, false),
            heard: 0,
            hold: 0,
            paused: None,
            overrun: false,
            lost: 0,
            outputs: VecDeque::new(),
            ending: None,
        };
        machine.connect(Now::ZERO);
        machine
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output<T>> {
        self.outputs.pop_front()
    }

    /// Why the client is closed for good, once it is.
    pub(crate) fn ending(&self) -> Option<&ClientError> {
        self.ending.as_ref()
    }

    /// Whether the connection should be read.
    pub(crate) fn may_read(&self) -> bool {
        self.paused.is_none() || self.overrun
    }

    /// Whether the application takes no events.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// When [`tick`](Machine::tick) is due.
    pub(crate) fn deadline(&self) -> Option<Now> {
        let watch = self.watch();
        let step = match self.phase {
            Phase::Waiting(at) | Phase::Connecting(at) | Phase::Greeted(at) | Phase::Entering(at) => Some(at),
            Phase::Online | Phase::Over => None,
        };
        [watch, step].into_iter().flatten().min()
    }

    /// When something is due because nothing has come, or nothing is read.
    fn watch(&self) -> Option<Now> {
        let welcome = self.welcome.as_ref()?;
        match self.paused {
            Some((since, beat)) if !self.overrun => Some(beat.min(since.saturating_add(welcome.patience))),
            _ => Some(self.last_heard.saturating_add(welcome.patience)),
        }
    }

    pub(crate) fn tick(&mut self, now: Now) {
        match self.phase {
            Phase::Waiting(at) if at <= now => return self.connect(now),
            Phase::Connecting(at) | Phase::Greeted(at) | Phase::Entering(at) if at <= now => {
                let doing = match self.phase {
                    Phase::Connecting(_) => "no connection was made",
                    Phase::Greeted(_) => "the server sent no welcome",
                    _ => "the server did not answer the wish to enter",
                };
                return self.come_back(now, &format!("{doing} in time"));
            }
            _ => {}
        }
        if self.watch().is_none_or(|at| at > now) {
            return;
        }
        let Some(welcome) = &self.welcome else { return };
        match &mut self.paused {
            Some((since, beat)) if !self.overrun => {
                if *beat <= now {
                    *beat = now.saturating_add(welcome.interval);
                    self.outputs.push_back(Output::Pong);
                }
                if since.saturating_add(welcome.patience) <= now {
                    tracing::debug!("the application takes no events; the room's frames are dropped");
                    self.overrun = true;
                    self.last_heard = now;
                }
            }
            _ => self.come_back(now, "nothing came from the server"),
        }
    }

    /// The WebSocket handshake is done. A token is given where it is to be sent in band.
    pub(crate) fn on_open(&mut self, now: Now, token: Option<&str>) {
        if !matches!(self.phase, Phase::Connecting(_)) {
            return;
        }
        self.last_heard = now;
        self.phase = Phase::Greeted(self.step_end(now));
        if let Some(token) = token {
            self.send_frame(&json!({"event": "auth", "message": token}));
        }
    }

    pub(crate) fn on_failed(&mut self, now: Now, failure: Failure) {
        if !matches!(self.phase, Phase::Connecting(_)) {
            return;
        }
        match failure {
            Failure::Broken(why) => self.lose(now, Duration::ZERO, &why),
            Failure::Hopeless(why) if !self.was_online => self.end(ClientError::Unreachable(why)),
            Failure::Hopeless(why) => self.lose(now, Duration::ZERO, &why),
            Failure::Http(status @ (401 | 403), _) => self.refuse_token(now, format!("HTTP {status}")),
            Failure::Http(status, after) => {
                self.lose(now, after.unwrap_or_default(), &format!("the server answered HTTP {status}"));
            }
        }
    }

    /// The connection has ended.
    pub(crate) fn on_closed(&mut self, now: Now, code: u16, reason: &str) {
        if !matches!(self.phase, Phase::Greeted(_) | Phase::Entering(_) | Phase::Online) {
            return;
        }
        if may_return(code) {
            let why = if reason.is_empty() { "the connection was lost" } else { reason };
            self.lose(now, retry_in(reason).unwrap_or_default(), why);
        } else {
            self.end(ClientError::Closed { code, reason: reason.into() });
        }
    }

    /// Something has come that is no text.
    pub(crate) fn on_alive(&mut self, now: Now) {
        self.last_heard = now;
    }

    pub(crate) fn on_text(&mut self, now: Now, text: &str) {
        if !matches!(self.phase, Phase::Greeted(_) | Phase::Entering(_) | Phase::Online) {
            return;
        }
        self.last_heard = now;
        match Incoming::parse(text) {
            None => tracing::debug!("the server sent a frame that makes no sense"),
            Some(Incoming::Heartbeat) => self.outputs.push_back(Output::Pong),
            Some(Incoming::Welcome(welcome)) => self.on_welcome(now, welcome),
            Some(Incoming::Entered(entered)) => self.on_entered(now, entered),
            Some(Incoming::Ack { cid, seq }) => {
                if let Some(waiting) = self.outgoing.settle(&cid) {
                    self.outputs.push_back(Output::Settle(waiting, Ok(seq)));
                    self.outgoing.expect(cid);
                    self.flush();
                }
            }
            Some(Incoming::NoAuth(reason)) => {
                self.refuse_token(now, reason);
            }
            Some(Incoming::Error { code, message, cid }) => self.on_error(now, code, message, cid),
            Some(Incoming::Said(object)) => self.on_said(now, object),
        }
    }

    /// Says something: an object without its closing brace.
    pub(crate) fn send(&mut self, body: &str, waiting: T) {
        if let Some(ending) = &self.ending {
            let closed = ending.as_closed();
            return self.outputs.push_back(Output::Settle(waiting, Err(closed)));
        }
        if self.outgoing.unsent() >= self.plan.max_unsent {
            return self.outputs.push_back(Output::Settle(waiting, Err(ClientError::QueueFull)));
        }
        // Nobody can foresee it, and so none can have a message taken for acknowledged.
        let mut cid = format!("{:016x}", (self.random)());
        if let Some(welcome) = &self.welcome {
            cid.truncate(welcome.cid_bytes);
        }
        let text = format!(r#"{body},"cid":"{cid}"}}"#);
        self.outgoing.push(cid, text, waiting);
        self.flush();
    }

    pub(crate) fn leave(&mut self) {
        if self.phase != Phase::Over {
            self.outputs.push_back(Output::Close(LEAVES));
            self.end(ClientError::Closed { code: LEAVES, reason: "left".into() });
        }
    }

    /// The application takes no events, and no more may wait for it.
    pub(crate) fn on_full(&mut self, now: Now) {
        if let (Phase::Online, None, Some(welcome)) = (self.phase, self.paused, &self.welcome) {
            self.paused = Some((now, now.saturating_add(welcome.interval)));
        }
    }

    /// The application takes events again.
    pub(crate) fn on_room(&mut self, now: Now) {
        if self.paused.take().is_none() {
            return;
        }
        self.last_heard = now;
        if self.overrun {
            self.come_back(now, "the application took no events for a while");
        }
    }

    fn connect(&mut self, now: Now) {
        self.phase = Phase::Connecting(self.step_end(now));
        self.outputs.push_back(Output::Connect);
    }

    fn step_end(&self, now: Now) -> Now {
        let end = now.saturating_add(self.plan.step_timeout);
        if self.was_online { end } else { end.min(self.plan.first_timeout) }
    }

    fn send_frame(&mut self, frame: &Value) {
        self.outputs.push_back(Output::Send(frame.to_string()));
    }

    fn on_welcome(&mut self, now: Now, welcome: Welcome) {
        let Phase::Greeted(_) = self.phase else { return };
        let mut enter = json!({"event": "enter", "message": self.plan.name, "roomId": self.plan.room});
        if let Some(position) = &self.position {
            enter["since"] = json!({"epoch": position.epoch, "seq": position.seq});
        }
        if !self.secrets.is_empty() {
            enter["resume"] = json!(self.secrets);
        }
        self.send_frame(&enter);
        // Whether the server hears of it or not, the seat may be this connection's from now on.
        if let Some(secret) = &welcome.resume {
            if self.secrets.len() == MAX_SECRETS {
                self.secrets.remove(0);
            }
            self.secrets.push(secret.clone());
        }
        self.welcome = Some(welcome);
        self.phase = Phase::Entering(self.step_end(now));
    }

    fn on_entered(&mut self, now: Now, entered: Entered) {
        let (Phase::Entering(_), Some(welcome)) = (self.phase, &self.welcome) else { return };
        self.secrets = welcome.resume.iter().cloned().collect();
        self.phase = Phase::Online;
        self.was_online = true;
        self.online_since = now;
        self.refusals = 0;
        let Entered { name, connection, epoch, seq, num, resumed, recovered } = entered;
        self.entered = (seq, resumed);
        // A seat that came of an enter whose answer was lost is not the one of before.
        let same_room = self.position.as_ref().is_some_and(|position| position.epoch == epoch);
        let resumed = resumed && same_room && connection == self.seat;
        self.seat.clone_from(&connection);
        self.outputs.push_back(Output::Tell(ClientEvent::State(ClientState::Online)));
        let told = ClientEvent::Entered { name, connection, num, resumed, recovered };
        self.outputs.push_back(Output::Tell(told));
        match &self.position {
            Some(position) if recovered => self.heard = position.seq,
            before => {
                let missed = match before {
                    None => Some(0),
                    Some(before) if before.epoch == epoch => seq.checked_sub(before.seq),
                    Some(_) => None,
                };
                if missed != Some(0) {
                    self.outputs.push_back(Output::Tell(ClientEvent::Gap { missed }));
                }
                self.heard = seq;
                self.position = Some(Position { epoch, seq });
            }
        }
        // A seat that was kept knows the cids of before. Another one doesn't: what the room has of
        // ours is in the replay, which must be heard to its end, be it on a later connection.
        if !(resumed && recovered) {
            self.hold = seq;
        }
        self.flush();
    }

    fn on_error(&mut self, now: Now, code: String, message: String, cid: Option<String>) {
        if let Some(waiting) = cid.and_then(|cid| self.outgoing.settle(&cid)) {
            self.outputs.push_back(Output::Settle(waiting, Err(ClientError::Refused { code, message })));
            return self.flush();
        }
        match self.phase {
            Phase::Entering(_) if !self.was_online || FOR_GOOD.contains(&&*code) => {
                self.outputs.push_back(Output::Close(LEAVES));
                self.end(ClientError::Refused { code, message });
            }
            Phase::Entering(_) => self.come_back(now, &message),
            _ => self.tell_once(ClientEvent::Error { code, message }),
        }
    }

    fn on_said(&mut self, now: Now, object: Map<String, Value>) {
        let Some(seq) = object.get("seq").and_then(Value::as_u64) else {
            return self.tell_once(ClientEvent::Direct(RoomFrame::new(object, false)));
        };
        if self.phase != Phase::Online {
            return;
        }
        let mut own = false;
        if let Some(cid) = object.get("cid").and_then(Value::as_str) {
            own = self.outgoing.recognize(cid);
            if let Some(waiting) = self.outgoing.settle(cid) {
                own = true;
                self.outputs.push_back(Output::Settle(waiting, Ok(seq)));
            }
        }
        if seq > self.heard.saturating_add(1) {
            return self.come_back(now, "frames of the room are missing");
        }
        if seq > self.heard {
            self.heard = seq;
            self.tell_frame(seq, own, object);
        }
        self.flush();
    }

    /// Tells of the room's next frame, unless it is left to a replay.
    fn tell_frame(&mut self, seq: u64, own: bool, object: Map<String, Value>) {
        if self.overrun {
            return;
        }
        if let Some(position) = &mut self.position {
            position.seq = seq;
        }
        let event = match object.get("event").and_then(Value::as_str) {
            // Who has entered anew finds its own enter right behind the place where it entered.
            Some("enter") => ClientEvent::Enter(RoomFrame::new(object, self.entered == (seq - 1, false))),
            Some("out") => ClientEvent::Out(RoomFrame::new(object, false)),
            _ => ClientEvent::Message(RoomFrame::new(object, own)),
        };
        self.outputs.push_back(Output::Tell(event));
    }

    /// Tells of what is in no replay.
    fn tell_once(&mut self, event: ClientEvent) {
        if self.overrun {
            self.lost += 1;
        } else {
            self.outputs.push_back(Output::Tell(event));
        }
    }

    /// Sends what may be sent.
    fn flush(&mut self) {
        let (Phase::Online, Some(welcome)) = (self.phase, &self.welcome) else { return };
        if self.heard < self.hold {
            return;
        }
        // A window of none would be the end of all sending.
        let window = welcome.window.clamp(1, MAX_WINDOW);
        while let Some(text) = self.outgoing.next(window) {
            let (bytes, max) = (text.len(), welcome.message_bytes);
            if bytes <= max {
                self.outputs.push_back(Output::Send(text.into()));
                self.outgoing.advance();
            } else if let Some(waiting) = self.outgoing.refuse() {
                self.outputs.push_back(Output::Settle(waiting, Err(ClientError::TooBig { bytes, max })));
            }
        }
    }

    fn refuse_token(&mut self, now: Now, reason: String) {
        self.refusals += 1;
        if self.plan.credential == Credential::Fresh && self.refusals < MAX_REFUSALS {
            return self.come_back(now, &reason);
        }
        self.outputs.push_back(Output::Close(LEAVES));
        self.end(ClientError::NoAuth(reason));
    }

    /// Closes the connection, or gives up connecting, to try again.
    fn come_back(&mut self, now: Now, why: &str) {
        self.outputs.push_back(Output::Close(COMES_BACK));
        self.lose(now, Duration::ZERO, why);
    }

    /// The connection is gone, or none was made.
    fn lose(&mut self, now: Now, not_before: Duration, why: &str) {
        if self.phase == Phase::Online {
            self.outputs.push_back(Output::Tell(ClientEvent::State(ClientState::Reconnecting)));
            if now.saturating_sub(self.online_since) > self.plan.backoff.1 {
                self.series = 0;
            }
        }
        let wait = not_before.saturating_add(self.jitter());
        tracing::debug!(why, ?wait, "not connected");
        self.series = self.series.saturating_add(1);
        self.outgoing.rewind();
        self.welcome = None;
        self.paused = None;
        self.overrun = false;
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            self.outputs.push_back(Output::Tell(ClientEvent::Overflow { lost }));
        }
        let at = now.saturating_add(wait);
        if !self.was_online && at >= self.plan.first_timeout {
            return self.end(ClientError::Unreachable(why.into()));
        }
        self.phase = Phase::Waiting(at);
    }

    /// Anything up to a bound that doubles with each failure.
    fn jitter(&mut self) -> Duration {
        let (first, longest) = self.plan.backoff;
        let bound = first.saturating_mul(1 << self.series.min(30)).min(longest);
        let part = (self.random)() >> 11;
        bound.mul_f64(part as f64 / (1u64 << 53) as f64)
    }

    /// It is over for good.
    fn end(&mut self, ending: ClientError) {
        tracing::debug!(%ending, "client closed");
        for waiting in self.outgoing.drain() {
            self.outputs.push_back(Output::Settle(waiting, Err(ending.as_closed())));
        }
        if self.was_online {
            self.outputs.push_back(Output::Tell(ClientEvent::State(ClientState::Closed)));
            if let ClientError::Closed { code, reason } = ending.as_closed() {
                self.outputs.push_back(Output::Tell(ClientEvent::Closed { code, reason }));
            }
        }
        self.phase = Phase::Over;
        self.welcome = None;
        self.paused = None;
        self.ending = Some(ending);
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

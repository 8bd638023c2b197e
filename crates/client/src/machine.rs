//! The client as a pure state machine. It is told what happens and when, and returns what to do. It
//! does no I/O and reads no clock.

use std::collections::VecDeque;
use std::time::Duration;

use tower_chat_rooms_protocol::close;

use crate::error::ClientError;
use crate::event::ClientEvent;
use crate::incoming::Welcome;
use crate::outgoing::Outgoing;

mod connection;
mod room;

/// Refused tokens in a row, each provided anew, after which the client gives up.
const MAX_REFUSED_TOKENS: u32 = 3;
/// Unacknowledged messages if the server sets no limit.
const MAX_WINDOW: usize = 1024;

/// How many of its member ids the client remembers, to recognize its own frames in a replay.
const MAX_MEMBERS: usize = 16;

/// Errors on entering that will not go away. Any other may be temporary.
const PERMANENT_REFUSALS: [&str; 7] =
    ["denied", "bad_name", "bad_room_id", "bad_json", "bad_shape", "not_an_object", "too_deep"];

/// Errors about a frame that the server could not read, and so could not find the `cid` of.
const UNREADABLE: [&str; 5] = ["bad_json", "bad_shape", "not_an_object", "too_deep", "reserved_event"];

/// Time since the client was created.
type Now = Duration;

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) room: String,
    pub(crate) credential: Credential,
    /// Bound of the first wait between attempts, and of the longest.
    pub(crate) backoff: (Duration, Duration),
    /// For connecting until the welcome, and then for entering.
    pub(crate) step_timeout: Duration,
    /// For entering the room for the first time.
    pub(crate) first_timeout: Duration,
    pub(crate) max_unsent: usize,
}

/// Whether another attempt may use another token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential {
    /// No token, or always the same.
    Fixed,
    /// Provided for each attempt.
    Renewable,
}

/// What the driver has to do. `T` waits for a message's acknowledgement.
#[derive(Debug)]
pub(crate) enum Output<T> {
    /// Start to connect.
    Connect,
    Send(String),
    /// Answer a heartbeat. One answer is enough for all heartbeats that wait for one.
    Pong,
    /// Close the connection or give up the attempt to connect, and report nothing more of it.
    Close(u16),
    Emit(ClientEvent),
    Resolve(T, Result<u64, ClientError>),
}

/// Why an attempt to connect failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another attempt may succeed.
    Transient(String),
    /// The server answered with this status, and perhaps asked for a wait.
    Http(u16, Option<Duration>),
    /// No attempt will succeed.
    Permanent(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Connects at this time.
    Waiting(Now),
    /// Gives up at this time, as in the next two phases.
    Connecting(Now),
    /// The WebSocket is open, and the welcome has not arrived.
    Connected(Now),
    Entering(Now),
    Online,
    Ended,
}

#[derive(Debug, Clone)]
struct Position {
    epoch: String,
    /// The last frame that was emitted.
    seq: u64,
}

/// `T` waits for a message's acknowledgement.
pub(crate) struct Machine<T> {
    settings: Settings,
    random: Box<dyn FnMut() -> u64 + Send>,
    phase: Phase,
    /// The client has entered its room at least once.
    was_online: bool,
    online_since: Now,
    /// Attempts that failed and connections that did not last, in a row.
    failures: u32,
    /// Refused tokens in a row.
    refused_tokens: u32,
    /// Tokens of the connections that may hold the session, the oldest first.
    resume_tokens: Vec<String>,
    position: Option<Position>,
    /// The client's member ids in the room's epoch, the current one last.
    members: VecDeque<String>,
    /// No message is sent before the frame with this `seq` has arrived.
    send_after: u64,
    outgoing: Outgoing<T>,
    /// This and the following fields are about the current connection.
    welcome: Option<Welcome>,
    last_received: Now,
    /// The `seq` of the room's last frame that arrived.
    last_seq: u64,
    /// The application takes no events: since when, and when the next sign of life is due.
    paused: Option<(Now, Now)>,
    /// The room's frames are read and dropped, to be replayed later.
    drops_frames: bool,
    /// Dropped events that no replay contains.
    lost: u64,
    outputs: VecDeque<Output<T>>,
    ended: Option<ClientError>,
}

impl<T> Machine<T> {
    pub(crate) fn new(settings: Settings, random: Box<dyn FnMut() -> u64 + Send>) -> Machine<T> {
        let mut machine = Machine {
            settings,
            random,
            phase: Phase::Ended,
            was_online: false,
            online_since: Now::ZERO,
            failures: 0,
            refused_tokens: 0,
            resume_tokens: Vec::new(),
            position: None,
            members: VecDeque::new(),
            send_after: 0,
            outgoing: Outgoing::new(),
            welcome: None,
            last_received: Now::ZERO,
            last_seq: 0,
            paused: None,
            drops_frames: false,
            lost: 0,
            outputs: VecDeque::new(),
            ended: None,
        };
        machine.connect(Now::ZERO);
        machine
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output<T>> {
        self.outputs.pop_front()
    }

    /// Why the client is closed for good, once it is.
    pub(crate) fn ended(&self) -> Option<&ClientError> {
        self.ended.as_ref()
    }

    /// Whether the connection should be read.
    pub(crate) fn may_read(&self) -> bool {
        self.paused.is_none() || self.drops_frames
    }

    /// Whether the application takes no events.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// When to call [`tick`](Machine::tick).
    pub(crate) fn deadline(&self) -> Option<Now> {
        let step = match self.phase {
            Phase::Waiting(at) | Phase::Connecting(at) | Phase::Connected(at) | Phase::Entering(at) => {
                Some(at)
            }
            Phase::Online | Phase::Ended => None,
        };
        [self.heartbeat_deadline(), step].into_iter().flatten().min()
    }

    /// When the server counts as dead or, while nothing is read, when something is due.
    fn heartbeat_deadline(&self) -> Option<Now> {
        let welcome = self.welcome.as_ref()?;
        match self.paused {
            Some((since, pong)) if !self.drops_frames => {
                Some(pong.min(since.saturating_add(welcome.timeout)))
            }
            _ => Some(self.last_received.saturating_add(welcome.timeout)),
        }
    }

    pub(crate) fn tick(&mut self, now: Now) {
        match self.phase {
            Phase::Waiting(at) if at <= now => return self.connect(now),
            Phase::Connecting(at) if at <= now => return self.reconnect(now, "connecting timed out"),
            Phase::Connected(at) if at <= now => return self.reconnect(now, "no welcome in time"),
            Phase::Entering(at) if at <= now => return self.reconnect(now, "entering timed out"),
            _ => {}
        }
        if self.heartbeat_deadline().is_none_or(|at| at > now) {
            return;
        }
        let Some(welcome) = &self.welcome else { return };
        match &mut self.paused {
            Some((since, pong)) if !self.drops_frames => {
                if *pong <= now {
                    *pong = now.saturating_add(welcome.interval);
                    self.outputs.push_back(Output::Pong);
                }
                if since.saturating_add(welcome.timeout) <= now {
                    tracing::debug!("the application takes no events; dropping the room's frames");
                    self.drops_frames = true;
                    self.last_received = now;
                }
            }
            _ => self.reconnect(now, "no heartbeat from the server"),
        }
    }

    /// Something other than a text was received.
    pub(crate) fn on_alive(&mut self, now: Now) {
        self.last_received = now;
    }

    /// Publishes an object, given without its closing brace.
    pub(crate) fn publish(&mut self, body: &str, waiting: T) {
        if let Some(error) = &self.ended {
            let closed = error.as_closed();
            return self.outputs.push_back(Output::Resolve(waiting, Err(closed)));
        }
        if self.outgoing.unsent() >= self.settings.max_unsent {
            return self.outputs.push_back(Output::Resolve(waiting, Err(ClientError::QueueFull)));
        }
        // Random, so that no other member can have a message taken for acknowledged.
        let mut cid = format!("{:016x}", (self.random)());
        if let Some(welcome) = &self.welcome {
            cid.truncate(welcome.cid_bytes);
        }
        let text = format!(r#"{body},"cid":"{cid}"}}"#);
        self.outgoing.push(cid, text, waiting);
        self.flush();
    }

    pub(crate) fn leave(&mut self) {
        if self.phase != Phase::Ended {
            self.outputs.push_back(Output::Close(close::NORMAL));
            self.end(ClientError::Closed { code: close::NORMAL, reason: "left".into() });
        }
    }

    /// The application takes no events, and the queue is full.
    pub(crate) fn on_full(&mut self, now: Now) {
        if let (Phase::Online, None, Some(welcome)) = (self.phase, self.paused, &self.welcome) {
            self.paused = Some((now, now.saturating_add(welcome.interval)));
        }
    }

    /// The application takes events again.
    pub(crate) fn on_capacity(&mut self, now: Now) {
        if self.paused.take().is_none() {
            return;
        }
        self.last_received = now;
        if self.drops_frames {
            self.reconnect(now, "the application took no events for a while");
        }
    }
}

#[cfg(test)]
mod hostile_server;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

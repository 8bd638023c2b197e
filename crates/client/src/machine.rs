//! The client as a pure state machine: it is told what happens and at which time, and says what
//! is to be done. It does no I/O and reads no clock.

use std::collections::VecDeque;
use std::time::Duration;

use tower_chat_rooms_protocol::close;

use crate::error::ClientError;
use crate::event::ClientEvent;
use crate::incoming::Welcome;
use crate::outgoing::Outgoing;

mod link;
mod room;

/// Refused tokens in a row, each asked for anew, after which the client stays away.
const MAX_REFUSALS: u32 = 3;
/// Messages under way where the server sets no limit.
const MAX_WINDOW: usize = 1024;

/// What refuses a client for good; any other error on entering may pass.
const FOR_GOOD: [&str; 7] =
    ["denied", "bad_name", "bad_room_id", "bad_json", "bad_shape", "not_an_object", "too_deep"];

/// A frame that couldn't be read, so that the error has no `cid`.
const UNREADABLE: [&str; 5] = ["bad_json", "bad_shape", "not_an_object", "too_deep", "reserved_event"];

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

    /// Something has come that is no text.
    pub(crate) fn on_alive(&mut self, now: Now) {
        self.last_heard = now;
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
            self.outputs.push_back(Output::Close(close::NORMAL));
            self.end(ClientError::Closed { code: close::NORMAL, reason: "left".into() });
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
}

#[cfg(test)]
mod any_server;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

//! The client as a pure state machine. It is told what happens and when, and returns what to do. It
//! does no I/O and reads no clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tower_chat_rooms_protocol::close;

use crate::error::ClientError;
use crate::event::ClientEvent;
use crate::incoming::{RetryHint, Welcome};
use crate::machine::backoff::Backoff;
use crate::machine::link::Questions;
use crate::machine::liveness::Liveness;
use crate::machine::membership::Membership;
use crate::machine::pause::Pause;
use crate::machine::resume_tokens::ResumeTokens;
use crate::outgoing::{Next, Outgoing};

mod auth;
mod backoff;
mod connection;
mod entering;
mod link;
mod liveness;
mod membership;
mod pause;
mod resume_tokens;
mod room;

/// Refused tokens in a row, each provided anew, after which the client gives up.
const MAX_REFUSED_TOKENS: u32 = 3;

/// Time since the client was created.
type Now = Duration;

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) room: String,
    pub(crate) credential: Credential,
    /// The bound of the first wait between attempts, and that of the longest.
    pub(crate) backoff: (Duration, Duration),
    /// For connecting until the welcome, and then for each answer.
    pub(crate) step_timeout: Duration,
    /// For entering the room for the first time.
    pub(crate) first_timeout: Duration,
    /// Failed attempts in a row after which the client gives up.
    pub(crate) max_attempts: u32,
    pub(crate) max_unsent: usize,
}

/// Whether another attempt may use another token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential {
    /// No token, or always the same.
    Fixed,
    /// Each attempt gets a token from the application.
    Renewable,
}

/// What the driver has to do. `T` waits for a message's acknowledgement.
#[derive(Debug)]
pub(crate) enum Output<T> {
    /// Start to connect.
    Connect,
    /// Ask the application for a token, to be sent over the open connection.
    AskToken,
    Send(String),
    /// Answer a heartbeat. One answer is enough for all heartbeats that wait for one.
    Pong,
    /// Close the connection or give up the attempt to connect, and report nothing more about it.
    Close(u16),
    Emit(ClientEvent),
    Resolve(T, Result<u64, ClientError>),
}

/// Why an attempt to connect failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another attempt may succeed.
    Transient(String),
    /// The application had no token.
    Token(String),
    /// The server answered with this status and text, and perhaps asked for a wait.
    Http { status: u16, body: String, retry: Option<RetryHint> },
    /// No attempt will succeed.
    Permanent(String),
}

#[derive(Debug, Clone)]
struct Position {
    epoch: String,
    /// The last frame that was emitted.
    seq: u64,
}

/// What the application was last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing: the room was not entered yet.
    Connecting,
    Online,
    Outside,
    Reconnecting,
    Closed,
}

/// One attempt to connect, and the connection that results from it.
#[derive(Debug)]
struct Link {
    liveness: Liveness,
    /// The WebSocket handshake is done.
    is_open: bool,
    welcome: Option<Welcome>,
    /// `None` outside of the room.
    membership: Option<Membership>,
    /// The client was in the room on this connection.
    was_in: bool,
    /// When to enter again, after a temporary refusal.
    enter_at: Option<Now>,
    questions: Questions,
    auth: LinkAuth,
    /// The application takes no events.
    pause: Option<Pause>,
}

/// How a connection is authenticated.
#[derive(Debug)]
struct LinkAuth {
    /// Why the server last refused it.
    refusal: Option<String>,
    /// The client has to authenticate, and then to enter.
    is_needed: bool,
    /// The application was asked for a token.
    is_asking: bool,
    /// When to ask for the next token.
    ask_at: Option<Now>,
    /// When the last token was used.
    used_at: Now,
}

/// `T` waits for a message's acknowledgement.
pub(crate) struct Machine<T> {
    settings: Settings,
    random: Box<dyn FnMut() -> u64 + Send>,
    state: State,
    /// The only attempt or connection.
    link: Option<Link>,
    /// When to make the next attempt.
    connect_at: Option<Now>,
    backoff: Backoff,
    /// The factor by which the next attempt is given more time: see [`Liveness`].
    patience: u32,
    /// Refused tokens in a row.
    refused_tokens: u32,
    resume_tokens: ResumeTokens,
    position: Option<Position>,
    /// The latest member ids of this client in the current epoch. The last one is its current id.
    members: VecDeque<Arc<str>>,
    outgoing: Outgoing<T>,
    outputs: VecDeque<Output<T>>,
    ended: Option<ClientError>,
}

impl<T> Machine<T> {
    pub(crate) fn new(settings: Settings, random: Box<dyn FnMut() -> u64 + Send>) -> Machine<T> {
        let backoff = Backoff::new(settings.backoff.0, settings.backoff.1);
        let mut machine = Machine {
            settings,
            random,
            state: State::Connecting,
            link: None,
            connect_at: None,
            backoff,
            patience: 1,
            refused_tokens: 0,
            resume_tokens: ResumeTokens::default(),
            position: None,
            members: VecDeque::new(),
            outgoing: Outgoing::new(),
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

    /// When to call [`tick`](Machine::tick).
    pub(crate) fn deadline(&self) -> Option<Now> {
        let link = self.link.as_ref().and_then(Link::deadline);
        [self.connect_at, link, self.outgoing.deadline()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Now) {
        let is_due = |at: &mut Option<Now>| at.take_if(|at| *at <= now).is_some();
        if is_due(&mut self.connect_at) {
            return self.connect(now);
        }
        let Some(link) = &mut self.link else { return };
        let (enters, asks) = (is_due(&mut link.enter_at), is_due(&mut link.auth.ask_at));
        if self.may_read() && self.link.as_ref().is_some_and(|link| link.liveness.is_over(now)) {
            return self.give_up(now);
        }
        self.tick_pause(now);
        if enters {
            self.enter(now);
        }
        if asks {
            self.ask_for_token(now);
        }
        self.flush(now);
    }

    /// Something was received, even if only a part of a frame.
    pub(crate) fn on_alive(&mut self, now: Now) {
        if let Some(link) = &mut self.link {
            link.liveness.receive(now);
        }
    }

    /// Publishes an object, given without its closing brace.
    pub(crate) fn publish(&mut self, now: Now, body: &str, waiting: T) {
        if let Some(error) = &self.ended {
            let closed = error.as_closed();
            return self.outputs.push_back(Output::Resolve(waiting, Err(closed)));
        }
        if self.outgoing.unsent() >= self.settings.max_unsent {
            return self.outputs.push_back(Output::Resolve(waiting, Err(ClientError::QueueFull)));
        }
        // Nobody can guess it, so nobody can use it before the message is in the room.
        let cid = format!("{:016x}{:016x}", (self.random)(), (self.random)());
        let text = format!(r#"{body},"cid":"{cid}"}}"#);
        self.outgoing.push(cid, text, waiting);
        self.flush(now);
    }

    /// The application wants to be in the room again.
    pub(crate) fn enter_again(&mut self, now: Now) {
        let is_entering = self.link.as_ref().is_some_and(|link| link.questions.has(link::Question::Enter));
        if self.state == State::Outside && !is_entering {
            self.enter(now);
        }
    }

    pub(crate) fn leave(&mut self) {
        self.close(ClientError::Closed { code: close::NORMAL, reason: "left".into() });
    }

    /// Sends as many messages as the server allows.
    fn flush(&mut self, now: Now) {
        while let Some(next) = self.outgoing.next(now) {
            self.outputs.push_back(match next {
                Next::Send(text) => Output::Send(text),
                Next::TooBig { waiting, bytes, max } => {
                    Output::Resolve(waiting, Err(ClientError::TooBig { bytes, max }))
                }
            });
        }
    }

    fn emit(&mut self, event: ClientEvent) {
        self.outputs.push_back(Output::Emit(event));
    }

    /// A random number from 0 to 1.
    fn random_part(&mut self) -> f64 {
        ((self.random)() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod hostile_server;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

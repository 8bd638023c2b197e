//! One attempt to connect, and the connection that results from it.

use super::Now;
use super::auth::Auth;
use super::enter_gate::EnterGate;
use super::liveness::Liveness;
use super::pause::Pause;
use super::questions::{Question, Questions};
use crate::incoming::Welcome;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) liveness: Liveness,
    pub(super) questions: Questions,
    pub(super) auth: Auth,
    /// The application takes no events.
    pub(super) pause: Option<Pause>,
    pub(super) resumption: Resumption,
    pub(super) enters: EnterGate,
    /// The WebSocket handshake is done.
    is_open: bool,
    welcome: Option<Welcome>,
    /// The client was in a room on this connection, or did not want to be in any.
    is_useful: bool,
    /// The limits of the server are in use.
    has_limits: bool,
    /// How many frames were sent, without heartbeats.
    sent: u64,
}

/// Whether the session from before continues on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resumption {
    Unasked,
    Asked,
    /// The server has not looked at the tokens. It does after this time.
    Postponed(Now),
    /// The server has answered, or there is no session from before.
    Done,
}

impl Link {
    pub(super) fn new(now: Now, liveness: Liveness) -> Link {
        Link {
            liveness,
            questions: Questions::default(),
            auth: Auth::new(now),
            pause: None,
            resumption: Resumption::Unasked,
            enters: EnterGate::new(),
            is_open: false,
            welcome: None,
            is_useful: false,
            has_limits: false,
            sent: 0,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn open(&mut self, now: Now) {
        self.is_open = true;
        self.liveness.open(now);
    }

    pub(super) fn welcome(&self) -> Option<&Welcome> {
        self.welcome.as_ref()
    }

    /// The first frame has arrived. Returns `false` if it is not the first.
    pub(super) fn set_welcome(&mut self, welcome: Welcome) -> bool {
        let is_first = self.welcome.is_none();
        if is_first {
            self.liveness.expect_heartbeats(welcome.silence);
            self.welcome = Some(welcome);
        }
        is_first
    }

    /// The token that resumes this connection's session.
    pub(super) fn token(&self) -> Option<&str> {
        self.welcome.as_ref()?.resume_token.as_deref()
    }

    /// Whether rooms may be entered. Where the token buckets are empty at the start, the server may refuse to resume the
    /// session. It could not be resumed any more once a room was entered.
    pub(super) fn may_enter(&self) -> bool {
        match (&self.welcome, self.resumption) {
            (None, _) | (_, Resumption::Unasked | Resumption::Postponed(_)) => false,
            (Some(welcome), Resumption::Asked) => !welcome.rates.is_empty,
            (Some(_), Resumption::Done) => true,
        }
    }

    /// Whether it is not known yet if this connection continues the session from before.
    pub(super) fn may_resume(&self) -> bool {
        self.resumption != Resumption::Done
    }

    /// Whether it is time to try again to resume the session.
    pub(super) fn is_resume_due(&self, now: Now) -> bool {
        matches!(self.resumption, Resumption::Postponed(at) if at <= now)
    }

    /// When an enter that is due at this time may be sent.
    pub(super) fn enter_time(&self, due: Now) -> Option<Now> {
        self.enters.time_of(due, self.questions.enters())
    }

    pub(super) fn is_useful(&self) -> bool {
        self.is_useful
    }

    pub(super) fn become_useful(&mut self) {
        self.is_useful = true;
    }

    /// The limits of the server, unless they are in use.
    pub(super) fn take_limits(&mut self) -> Option<&Welcome> {
        if std::mem::replace(&mut self.has_limits, true) { None } else { self.welcome.as_ref() }
    }

    /// The number of the next frame.
    pub(super) fn next_frame(&self) -> u64 {
        self.sent
    }

    pub(super) fn count_frame(&mut self) {
        self.sent += 1;
    }

    /// Whether the server has to do something else than to send heartbeats.
    pub(super) fn is_waiting(&self) -> bool {
        let waits_for_auth = self.auth.is_asking() || self.questions.has(&Question::Auth);
        self.welcome.is_none()
            || self.questions.has_any_about_rooms()
            || (self.auth.is_needed() && waits_for_auth)
    }

    /// What the server did not do in time.
    pub(super) fn overdue(&self) -> &'static str {
        match self {
            Link { is_open: false, .. } => "connecting timed out",
            Link { welcome: None, .. } => "the server sent no welcome in time",
            Link { questions, .. } if questions.has(&Question::Resume) => "resuming timed out",
            Link { questions, .. } if questions.has_any_about_rooms() => "entering timed out",
            Link { auth, .. } if auth.is_needed() => "authenticating timed out",
            _ => "no heartbeat from the server",
        }
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Now> {
        let silence = match &self.pause {
            Some(pause) => Some(pause.deadline()),
            None => self.liveness.deadline(),
        };
        let resume_at = match self.resumption {
            Resumption::Postponed(at) => Some(at),
            _ => None,
        };
        [silence, resume_at, self.auth.deadline()].into_iter().flatten().min()
    }
}

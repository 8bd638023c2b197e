//! One attempt to connect, and the connection that results from it.

use std::collections::VecDeque;

use super::liveness::Liveness;
use super::{Link, LinkAuth, Now};

/// What the server will answer, as far as the answer may be a `noAuth`. It answers in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Auth,
    Enter,
    Message,
}

/// What the server has not answered yet, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Questions(VecDeque<Question>);

impl Link {
    pub(super) fn new(now: Now, liveness: Liveness) -> Link {
        Link {
            liveness,
            is_open: false,
            welcome: None,
            membership: None,
            was_in: false,
            enter_at: None,
            questions: Questions::default(),
            auth: LinkAuth { refusal: None, is_needed: false, is_asking: false, ask_at: None, used_at: now },
            pause: None,
        }
    }

    /// What the server did not do in time.
    pub(super) fn overdue(&self) -> &'static str {
        match self {
            Link { is_open: false, .. } => "connecting timed out",
            Link { welcome: None, .. } => "the server sent no welcome in time",
            Link { questions, .. } if questions.has(Question::Enter) => "entering timed out",
            Link { auth: LinkAuth { is_needed: true, .. }, .. } => "authenticating timed out",
            _ => "no heartbeat from the server",
        }
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Now> {
        let silence = match &self.pause {
            Some(pause) if !pause.drops_frames() => Some(pause.deadline()),
            _ => self.liveness.deadline(),
        };
        [silence, self.enter_at, self.auth.ask_at].into_iter().flatten().min()
    }
}

impl Questions {
    pub(super) fn ask(&mut self, question: Question) {
        self.0.push_back(question);
    }

    /// This many messages in flight will be answered with `noAuth`, before everything that is asked next.
    pub(super) fn expect_refusals(&mut self, messages: usize) {
        (0..messages).for_each(|_| self.0.push_front(Question::Message));
    }

    pub(super) fn has(&self, question: Question) -> bool {
        self.0.contains(&question)
    }

    /// Whether this is what the server will answer next.
    pub(super) fn is_next(&self, question: Question) -> bool {
        self.0.front() == Some(&question)
    }

    /// This was answered, and with it everything that was asked before.
    pub(super) fn answer(&mut self, question: Question) {
        if let Some(at) = self.0.iter().position(|asked| *asked == question) {
            self.0.drain(..=at);
        }
    }

    /// The oldest question was answered.
    pub(super) fn answer_oldest(&mut self) -> Option<Question> {
        self.0.pop_front()
    }
}

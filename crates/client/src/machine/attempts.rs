//! Attempts to connect: when the next one is made, and when there are no more.

use std::time::Duration;

use super::backoff::{Backoff, Retry};
use super::liveness::Liveness;
use super::{Now, Settings};
use crate::error::ClientError;

#[derive(Debug)]
pub(super) struct Attempts {
    step_timeout: Duration,
    first_timeout: Duration,
    max: u32,
    backoff: Backoff,
    /// The factor by which the next attempt is given more time: see [`Liveness`].
    patience: u32,
    /// No attempt has succeeded yet.
    are_first: bool,
    /// When to make the next attempt.
    connect_at: Option<Now>,
}

impl Attempts {
    pub(super) fn new(settings: &Settings) -> Attempts {
        Attempts {
            step_timeout: settings.step_timeout,
            first_timeout: settings.first_timeout,
            max: settings.max_attempts,
            backoff: Backoff::new(settings.backoff.0, settings.backoff.1),
            patience: 1,
            are_first: true,
            connect_at: None,
        }
    }

    pub(super) fn are_first(&self) -> bool {
        self.are_first
    }

    pub(super) fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    pub(super) fn deadline(&self) -> Option<Now> {
        self.connect_at
    }

    pub(super) fn is_due(&mut self, now: Now) -> bool {
        self.connect_at.take_if(|at| *at <= now).is_some()
    }

    /// An attempt begins.
    pub(super) fn begin(&self, now: Now) -> Liveness {
        let mut liveness = Liveness::new(self.patience, now);
        liveness.expect_answer(Some(self.step_deadline(now, self.patience)));
        liveness
    }

    /// The time by which the server must have done the next step.
    pub(super) fn step_deadline(&self, now: Now, patience: u32) -> Now {
        let end = now.saturating_add(self.step_timeout.saturating_mul(patience));
        if self.are_first { end.min(self.first_timeout) } else { end }
    }

    /// The application has its connection.
    pub(super) fn end_first(&mut self) {
        self.are_first = false;
    }

    /// The connection is of use.
    pub(super) fn succeed(&mut self, now: Now) {
        self.are_first = false;
        self.backoff.succeed(now);
    }

    /// The connection is of no use at the moment. The next attempt has to wait as long as the next enter would.
    pub(super) fn postpone(&mut self, now: Now, enter: &Backoff) {
        self.backoff.end_success(now);
        self.backoff.raise_to(enter);
    }

    /// The connection has ended, or could not be made.
    pub(super) fn end(&mut self, liveness: &Liveness) {
        self.patience = liveness.patience();
    }

    /// An attempt has failed.
    ///
    /// # Errors
    ///
    /// If it was the last one.
    pub(super) fn fail(&mut self, reason: &ClientError) -> Result<(), ClientError> {
        if self.backoff.fail() >= self.max { Err(self.gave_up(reason)) } else { Ok(()) }
    }

    /// Chooses the time of the next attempt, with a backoff of `longest` at most. Returns the wait.
    ///
    /// # Errors
    ///
    /// If the first attempts have taken too long.
    pub(super) fn schedule(
        &mut self,
        now: Now,
        retry: Retry,
        longest: Duration,
        random: f64,
        reason: &ClientError,
    ) -> Result<Duration, ClientError> {
        let wait = self.backoff.wait(retry, longest, random, now);
        let at = now.saturating_add(wait);
        self.check_time(at, reason)?;
        self.connect_at = Some(at);
        Ok(wait)
    }

    /// # Errors
    ///
    /// If this is too late for a first attempt.
    pub(super) fn check_time(&self, at: Now, reason: &ClientError) -> Result<(), ClientError> {
        if self.are_first && at >= self.first_timeout { Err(self.gave_up(reason)) } else { Ok(()) }
    }

    pub(super) fn stop(&mut self) {
        self.connect_at = None;
    }

    fn gave_up(&self, last: &ClientError) -> ClientError {
        ClientError::GaveUp { attempts: self.backoff.failures(), last: last.clone().into() }
    }
}

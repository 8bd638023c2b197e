//! Whether the server is still there.

use std::time::Duration;

use super::Now;

/// How many times longer than announced a silence may last if connections have turned out to be slow.
const MAX_PATIENCE: u32 = 4;

/// Heartbeats that arrive in time for this long show that the connection is not slow any more.
const PROMPT_AFTER: Duration = Duration::from_secs(10);

/// One attempt or connection.
#[derive(Debug)]
pub(super) struct Liveness {
    /// The factor by which all times are longer than requested.
    patience: u32,
    opened_at: Now,
    last_received: Now,
    /// How long the server may be silent, according to its announcement.
    silence: Option<Duration>,
    /// The time by which the server must have answered, no matter what else it sends.
    answer_by: Option<Now>,
    /// Nothing has arrived later than announced.
    is_prompt: bool,
}

impl Liveness {
    pub(super) fn new(patience: u32, now: Now) -> Liveness {
        let (silence, answer_by) = (None, None);
        Liveness { patience, opened_at: now, last_received: now, silence, answer_by, is_prompt: true }
    }

    /// The factor by which the times of the next connection have to be longer than requested.
    pub(super) fn patience(&self) -> u32 {
        self.patience
    }

    /// The connection is open.
    pub(super) fn open(&mut self, now: Now) {
        (self.opened_at, self.last_received) = (now, now);
    }

    /// The server has announced how often it sends something.
    pub(super) fn expect_heartbeats(&mut self, silence: Duration) {
        self.silence = Some(silence);
    }

    /// From now on, the server has to answer by this time. `None`: anything within the heartbeat will do.
    pub(super) fn expect_answer(&mut self, by: Option<Now>) {
        self.answer_by = by;
    }

    /// Whether the server has to answer by some time.
    pub(super) fn expects_answer(&self) -> bool {
        self.answer_by.is_some()
    }

    /// Something was received, even if only a part of a frame.
    pub(super) fn receive(&mut self, now: Now) {
        let silence = now.saturating_sub(self.last_received);
        self.is_prompt &= self.silence.is_none_or(|announced| silence <= announced);
        self.last_received = now;
    }

    /// A heartbeat was received. Patience ends when heartbeats arrive in time.
    pub(super) fn receive_heartbeat(&mut self, now: Now) {
        if self.is_prompt && now.saturating_sub(self.opened_at) > PROMPT_AFTER {
            self.patience = 1;
        }
    }

    /// Nothing was read for a while, so the silence says nothing.
    pub(super) fn restart(&mut self, now: Now) {
        let unread = now.saturating_sub(self.last_received);
        self.answer_by = self.answer_by.map(|by| by.saturating_add(unread));
        self.last_received = now;
    }

    /// When the server counts as dead.
    pub(super) fn deadline(&self) -> Option<Now> {
        self.answer_by.or_else(|| {
            let silence = self.silence?.saturating_mul(self.patience);
            Some(self.last_received.saturating_add(silence))
        })
    }

    /// Whether the server counts as dead at this time.
    pub(super) fn is_over(&self, now: Now) -> bool {
        self.deadline().is_some_and(|at| at <= now)
    }

    /// The server counts as dead. It may only be slow, so the next connection is given more time.
    pub(super) fn give_up(&mut self) {
        self.patience = (self.patience * 2).min(MAX_PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Now {
        Now::from_secs(n)
    }

    #[test]
    fn whatever_is_received_counts_as_life() {
        let mut liveness = Liveness::new(1, secs(0));
        assert_eq!(liveness.deadline(), None);
        liveness.expect_answer(Some(secs(9)));
        liveness.open(secs(1));
        liveness.expect_heartbeats(secs(45));
        assert_eq!(liveness.deadline(), Some(secs(9)));
        liveness.expect_answer(None);
        assert_eq!(liveness.deadline(), Some(secs(46)));
        liveness.receive(secs(7));
        assert_eq!(liveness.deadline(), Some(secs(52)));
        liveness.restart(secs(17));
        assert_eq!(liveness.deadline(), Some(secs(62)));
        liveness.expect_answer(Some(secs(20)));
        liveness.restart(secs(30));
        assert_eq!(liveness.deadline(), Some(secs(33)));
        liveness.expect_answer(None);
        liveness.expect_heartbeats(Duration::MAX);
        assert_eq!(liveness.deadline(), Some(Now::MAX));
    }

    #[test]
    fn patience_grows_until_heartbeats_come_in_time() {
        let mut patience = 1;
        for expected in [2, 4, 4] {
            let mut liveness = Liveness::new(patience, secs(0));
            liveness.expect_heartbeats(secs(2));
            assert_eq!(liveness.deadline(), Some(secs(2 * u64::from(patience))));
            liveness.give_up();
            patience = liveness.patience();
            assert_eq!(patience, expected);
        }
        // Not in time, then not for long enough, then both.
        for (seconds, expected) in
            [(vec![1, 5, 7, 9, 11], 4), (vec![2, 4, 6, 8, 10], 4), (vec![2, 4, 6, 8, 10, 12], 1)]
        {
            let mut liveness = Liveness::new(4, secs(0));
            liveness.expect_heartbeats(secs(2));
            for at in seconds {
                liveness.receive(secs(at));
                liveness.receive_heartbeat(secs(at));
            }
            assert_eq!(liveness.patience(), expected);
        }
    }
}

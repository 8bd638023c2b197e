//! How many enters may be in flight.

use super::Now;

/// At first, all rooms are entered at once. After the server has refused an enter for its rates, one is in flight at a
/// time: a client that goes on regardless is closed for good. Each success allows one more.
#[derive(Debug)]
pub(super) struct EnterGate {
    window: usize,
    /// The server accepts enters from this time on.
    not_before: Now,
}

impl EnterGate {
    pub(super) fn new() -> EnterGate {
        EnterGate { window: usize::MAX, not_before: Now::ZERO }
    }

    /// When an enter that is due at this time may be sent; `None` if an answer has to come first.
    pub(super) fn time_of(&self, due: Now, in_flight: usize) -> Option<Now> {
        (in_flight < self.window).then(|| due.max(self.not_before))
    }

    /// The server has accepted an enter.
    pub(super) fn accept(&mut self) {
        self.window = self.window.saturating_add(1);
    }

    /// The server has refused an enter for its rates.
    pub(super) fn refuse(&mut self, until: Now) {
        self.window = 1;
        self.not_before = self.not_before.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_refusal_one_goes_at_a_time() {
        let mut gate = EnterGate::new();
        let [early, late] = [1, 5].map(Now::from_secs);
        assert_eq!(gate.time_of(early, 1000), Some(early));
        gate.refuse(late);
        gate.refuse(early);
        assert_eq!((gate.time_of(early, 0), gate.time_of(early, 1)), (Some(late), None));
        gate.accept();
        assert_eq!((gate.time_of(early, 1), gate.time_of(early, 2)), (Some(late), None));
    }
}

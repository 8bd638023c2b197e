//! The state that the application gives to this member.

use std::time::Duration;

use serde_json::Value;

use super::super::Now;

/// The shortest time between two changes that are sent.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// [`Value::Null`] is no state.
#[derive(Debug)]
pub(super) struct OwnState {
    wanted: Value,
    /// What was sent with the enter that is not answered yet.
    entering: Value,
    /// What the server has; `None` if it is not known.
    known: Option<Value>,
    /// What the server had before the last change.
    before: Value,
    /// Whether a change was sent on this connection.
    is_sent: bool,
    /// When the next change may be sent.
    not_before: Now,
    /// Whether the server has refused a change. The next roster tells which state the server has.
    is_doubtful: bool,
    /// Whether the application has ever set a state.
    is_used: bool,
}

impl OwnState {
    pub(super) fn new(wanted: Value) -> OwnState {
        let (none, is_used) = (Value::Null, !wanted.is_null());
        OwnState {
            wanted,
            entering: none.clone(),
            known: Some(none.clone()),
            before: none,
            is_sent: false,
            not_before: Now::ZERO,
            is_doubtful: false,
            is_used,
        }
    }

    pub(super) fn set(&mut self, wanted: Value) {
        self.wanted = wanted;
        self.is_used = true;
    }

    /// What the server has, as far as is known.
    pub(super) fn known(&self) -> Option<&Value> {
        self.known.as_ref()
    }

    /// The room is entered. Returns the state that the member is to have if it is a new one.
    pub(super) fn enter(&mut self) -> Option<&Value> {
        self.entering = self.wanted.clone();
        Some(&self.entering).filter(|state| !state.is_null())
    }

    /// The client is in the room as a new member, with the state from the enter.
    pub(super) fn on_entered(&mut self) {
        self.known = Some(self.entering.clone());
        self.before = Value::Null;
        self.is_doubtful = false;
    }

    /// The server has this state.
    pub(super) fn learn(&mut self, state: Value) {
        self.known = Some(state);
    }

    /// It is not known what the server has.
    pub(super) fn forget(&mut self) {
        if self.is_used {
            self.known = None;
        }
    }

    /// The connection is lost, and perhaps the last change with it.
    pub(super) fn on_lost(&mut self) {
        if std::mem::take(&mut self.is_sent) {
            self.known = None;
        }
        self.not_before = Now::ZERO;
        self.is_doubtful = false;
    }

    /// When the state is to be sent.
    pub(super) fn deadline(&self) -> Option<Now> {
        let is_known = self.known.as_ref() == Some(&self.wanted);
        (!is_known).then_some(self.not_before)
    }

    /// The state that is to be sent by now counts as sent.
    pub(super) fn send(&mut self, now: Now) -> Option<&Value> {
        self.deadline().filter(|at| *at <= now)?;
        self.is_sent = true;
        self.is_doubtful = false;
        self.not_before = now.saturating_add(MIN_INTERVAL);
        self.before = self.known.replace(self.wanted.clone()).unwrap_or_default();
        self.known.as_ref()
    }

    /// Whether the server may refuse a change, or the state in the enter.
    pub(super) fn may_be_refused(&self) -> bool {
        self.is_sent || !self.entering.is_null()
    }

    /// The server has put off a change until this time.
    pub(super) fn postpone(&mut self, at: Now) {
        self.known = None;
        self.not_before = at.max(self.not_before);
    }

    /// The server has refused a change: probably the last one, but perhaps an earlier one.
    pub(super) fn refuse(&mut self) {
        if self.known.as_ref() == Some(&self.wanted) {
            self.wanted = self.before.clone();
        }
        self.known = Some(self.before.clone());
        self.is_doubtful = true;
    }

    /// The roster says that the server has this state.
    pub(super) fn check(&mut self, state: Option<&Value>) {
        if std::mem::take(&mut self.is_doubtful) {
            let state = state.cloned().unwrap_or_default();
            if self.known.as_ref() == Some(&self.wanted) {
                self.wanted = state.clone();
            }
            self.known = Some(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Now = Now::ZERO;

    #[test]
    fn the_newest_state_is_sent_at_most_every_100_ms() {
        let mut state = OwnState::new(Value::Null);
        assert_eq!(state.deadline(), None);
        state.set(json!(1));
        assert_eq!(state.send(NOW), Some(&json!(1)));
        state.set(json!(2));
        state.set(json!(3));
        assert_eq!(state.send(NOW), None);
        assert_eq!(state.deadline(), Some(MIN_INTERVAL));
        assert_eq!(state.send(MIN_INTERVAL), Some(&json!(3)));
        state.set(json!(4));
        state.set(json!(3));
        assert_eq!(state.deadline(), None);
        state.refuse();
        assert_eq!((state.known(), state.deadline()), (Some(&json!(1)), None));
    }

    #[test]
    fn after_a_refusal_the_roster_tells_which_state_is_valid() {
        let mut state = OwnState::new(Value::Null);
        for n in 1..3u32 {
            state.set(json!(n));
            assert!(state.send(MIN_INTERVAL * n).is_some());
        }
        state.refuse();
        assert_eq!((state.known(), state.deadline()), (Some(&json!(1)), None));
        state.check(Some(&json!(2)));
        assert_eq!((state.known(), state.deadline()), (Some(&json!(2)), None), "the first one was refused");
        state.check(None);
        assert_eq!(state.known(), Some(&json!(2)), "it may be newer than the roster");
        state.set(json!(3));
        state.refuse();
        assert_eq!(state.send(MIN_INTERVAL * 9), Some(&json!(3)), "it was set later");
    }

    #[test]
    fn a_state_that_is_put_off_is_sent_later() {
        let mut state = OwnState::new(Value::Null);
        state.set(json!(1));
        assert_eq!(state.send(NOW), Some(&json!(1)));
        state.postpone(MIN_INTERVAL * 5);
        assert_eq!(state.deadline(), Some(MIN_INTERVAL * 5));
        assert_eq!(state.send(MIN_INTERVAL * 5), Some(&json!(1)));
    }

    #[test]
    fn a_new_member_has_the_state_of_its_enter() {
        let mut state = OwnState::new(json!("a"));
        assert_eq!(state.enter(), Some(&json!("a")));
        state.set(json!("b"));
        state.on_entered();
        assert_eq!(state.send(NOW), Some(&json!("b")));
        state.on_lost();
        assert_eq!(state.deadline(), Some(NOW), "it may not have arrived");
        state.learn(json!("b"));
        assert_eq!(state.deadline(), None);
        state.on_lost();
        assert_eq!(state.known(), Some(&json!("b")));
    }
}

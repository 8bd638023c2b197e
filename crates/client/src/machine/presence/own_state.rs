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
    /// When the last change was sent on this connection.
    sent_at: Option<Now>,
    /// The application has given a state to the member at some time.
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
            sent_at: None,
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
    }

    /// The server has this state.
    pub(super) fn learn(&mut self, state: Value) {
        self.known = Some(state);
    }

    /// The client is in the room as another member than before.
    pub(super) fn forget(&mut self) {
        if self.is_used {
            self.known = None;
        }
    }

    /// The connection is lost, and perhaps the last change with it.
    pub(super) fn on_lost(&mut self) {
        if self.sent_at.take().is_some() {
            self.known = None;
        }
    }

    /// When the state is to be sent.
    pub(super) fn deadline(&self) -> Option<Now> {
        let is_known = self.known.as_ref() == Some(&self.wanted);
        let next = self.sent_at.map_or(Now::ZERO, |at| at.saturating_add(MIN_INTERVAL));
        (!is_known).then_some(next)
    }

    /// The state that is to be sent by now counts as sent.
    pub(super) fn send(&mut self, now: Now) -> Option<&Value> {
        self.deadline().filter(|at| *at <= now)?;
        self.sent_at = Some(now);
        self.before = self.known.replace(self.wanted.clone()).unwrap_or_default();
        self.known.as_ref()
    }

    /// Whether the server may refuse a change.
    pub(super) fn may_be_refused(&self) -> bool {
        self.sent_at.is_some()
    }

    /// The server has refused the last change.
    pub(super) fn refuse(&mut self) {
        self.wanted = self.before.clone();
        self.known = Some(self.before.clone());
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

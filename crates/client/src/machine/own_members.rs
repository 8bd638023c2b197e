//! The member ids by which a client recognizes its own frames.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

/// How many member ids are remembered, to recognize the client's own frames in a replay.
const MAX_MEMBERS: usize = 16;

/// The latest member ids of this client in the current epoch of a room. The last one is its current id.
#[derive(Debug, Default)]
pub(super) struct OwnMembers(VecDeque<Arc<str>>);

impl OwnMembers {
    pub(super) fn current(&self) -> Option<&Arc<str>> {
        self.0.back()
    }

    /// In another epoch, the ids are those of others.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn add(&mut self, member: &str) {
        self.0.retain(|known| **known != *member);
        self.0.push_back(member.into());
        if self.0.len() > MAX_MEMBERS {
            self.0.pop_front();
        }
    }

    /// Whether a frame of this member is the client's own. In a replay, it may be of an earlier membership.
    pub(super) fn is_own(&self, member: Option<&Value>, is_replayed: bool) -> bool {
        let Some(member) = member.and_then(Value::as_str).filter(|member| !member.is_empty()) else {
            return false;
        };
        let mut latest_first = self.0.iter().rev();
        if is_replayed {
            latest_first.any(|own| **own == *member)
        } else {
            latest_first.next().is_some_and(|own| **own == *member)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept() {
        let mut members = OwnMembers::default();
        for n in 0..20 {
            members.add(&n.to_string());
        }
        members.add("10");
        assert_eq!(members.current().map(|member| &**member), Some("10"));
        let is_own = |member: &str, is_replayed| members.is_own(Some(&member.into()), is_replayed);
        assert!(is_own("10", false) && is_own("4", true) && !is_own("19", false) && !is_own("3", true));
        assert!(!members.is_own(None, true) && !is_own("", true));
        assert_eq!(members.0.len(), MAX_MEMBERS);
    }
}

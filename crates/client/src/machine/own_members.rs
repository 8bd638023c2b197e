//! The member ids by which a client recognizes its own frames.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

/// How many member ids are remembered, to recognize the client's own frames in a replay.
const MAX_MEMBERS: usize = 16;

/// The latest member ids of this client in a room. The last one is its current id.
#[derive(Debug, Default)]
pub(super) struct OwnMembers {
    /// Those of the current epoch.
    current: VecDeque<Arc<str>>,
    /// Those of all epochs.
    all: VecDeque<Arc<str>>,
}

impl OwnMembers {
    pub(super) fn current(&self) -> Option<&Arc<str>> {
        self.current.back()
    }

    /// In another epoch, the ids are those of others.
    pub(super) fn clear(&mut self) {
        self.current.clear();
    }

    pub(super) fn add(&mut self, member: &str) {
        for members in [&mut self.current, &mut self.all] {
            members.retain(|known| **known != *member);
            members.push_back(member.into());
            if members.len() > MAX_MEMBERS {
                members.pop_front();
            }
        }
    }

    /// Whether a frame of this member is the client's own. In a replay, it may be of an earlier membership.
    pub(super) fn is_own(&self, member: Option<&Value>, is_replayed: bool) -> bool {
        let Some(member) = member_of(member) else { return false };
        match is_replayed {
            true => self.current.iter().any(|own| **own == *member),
            false => self.current.back().is_some_and(|own| **own == *member),
        }
    }

    /// As [`OwnMembers::is_own`], for a message from a store. A server with a store uses no id again.
    pub(super) fn was_own(&self, member: Option<&Value>) -> bool {
        member_of(member).is_some_and(|member| self.all.iter().any(|own| **own == *member))
    }
}

fn member_of(member: Option<&Value>) -> Option<&str> {
    member.and_then(Value::as_str).filter(|member| !member.is_empty())
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
        assert_eq!(members.current.len(), MAX_MEMBERS);
    }
}

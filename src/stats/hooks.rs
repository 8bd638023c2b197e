//! How long the host's hooks take.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::stats::histogram::{Histogram, LiveHistogram};

/// A method that the host implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    OnUpgrade,
    OnToken,
    MayEnter,
    MayRead,
    MaySend,
    MaySendDirect,
    SlowConsumer,
    Presence,
    Online,
    Entered,
    Message,
    Direct,
    Left,
    Offline,
    Ended,
}

impl Hook {
    const ALL: [Hook; 15] = [
        Hook::OnUpgrade,
        Hook::OnToken,
        Hook::MayEnter,
        Hook::MayRead,
        Hook::MaySend,
        Hook::MaySendDirect,
        Hook::SlowConsumer,
        Hook::Presence,
        Hook::Online,
        Hook::Entered,
        Hook::Message,
        Hook::Direct,
        Hook::Left,
        Hook::Offline,
        Hook::Ended,
    ];

    /// The name of the method.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Hook::OnUpgrade => "on_upgrade",
            Hook::OnToken => "on_token",
            Hook::MayEnter => "may_enter",
            Hook::MayRead => "may_read",
            Hook::MaySend => "may_send",
            Hook::MaySendDirect => "may_send_direct",
            Hook::SlowConsumer => "slow_consumer",
            Hook::Presence => "presence",
            Hook::Online => "online",
            Hook::Entered => "entered",
            Hook::Message => "message",
            Hook::Direct => "direct",
            Hook::Left => "left",
            Hook::Offline => "offline",
            Hook::Ended => "ended",
        }
    }
}

/// How long each hook has taken.
#[derive(Debug, Default)]
pub(crate) struct HookTimes([LiveHistogram; Hook::ALL.len()]);

impl HookTimes {
    pub(crate) fn add(&self, hook: Hook, time: Duration) {
        self.0[hook as usize].add(time);
    }

    /// The hooks that were called, by their names.
    pub(crate) fn read(&self) -> BTreeMap<&'static str, Histogram> {
        let times = Hook::ALL.into_iter().map(|hook| (hook.name(), self.0[hook as usize].read()));
        times.filter(|(_, times)| times.count() > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hook_has_times_of_its_own() {
        let times = HookTimes::default();
        for hook in Hook::ALL {
            times.add(hook, Duration::from_millis(hook as u64));
        }
        let read = times.read();
        for hook in Hook::ALL {
            assert_eq!(read[hook.name()].sum(), Duration::from_millis(hook as u64), "{hook:?}");
        }
    }
}

//! Why a connection has to end.

use crate::hooks::guard::Panicked;
use crate::protocol::close::LeaveReason;
use crate::session::Superseded;
use crate::stats::Counters;

/// The connection has to end.
pub(super) struct End(pub(super) LeaveReason);

impl From<Panicked> for End {
    fn from(_: Panicked) -> End {
        End(LeaveReason::HookFailed)
    }
}

impl From<Superseded> for End {
    fn from(_: Superseded) -> End {
        End(LeaveReason::Replaced)
    }
}

impl From<LeaveReason> for End {
    fn from(reason: LeaveReason) -> End {
        End(reason)
    }
}

/// Counts the connections that end for these reasons.
pub(super) fn count(counters: &Counters, reason: LeaveReason) {
    match reason {
        LeaveReason::HeartbeatMissed => counters.heartbeats_missed.add(1),
        LeaveReason::Slow => counters.slow.add(1),
        LeaveReason::Flooded => counters.flooded.add(1),
        LeaveReason::AuthFailed => counters.auth_failed.add(1),
        LeaveReason::Unavailable => counters.unavailable.add(1),
        LeaveReason::LifetimeOver => counters.lifetime_over.add(1),
        _ => {}
    }
}

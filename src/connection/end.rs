//! Why a connection has to end.

use crate::hooks::guard::Panicked;
use crate::protocol::close::LeaveReason;
use crate::session::Superseded;

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

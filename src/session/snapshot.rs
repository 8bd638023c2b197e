//! What an operator sees of a session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::delivery::Recipient;
use crate::hooks::user::User;
use crate::protocol::subprotocol::Subprotocol;
use crate::session::session::{Membership, Phase, Session};
use crate::socket::Size;

/// A session at one moment.
pub(crate) struct SessionSnapshot {
    pub(crate) subprotocol: Subprotocol,
    pub(crate) state: SessionState,
    /// When it began on this node, to the second.
    pub(crate) began: Duration,
    pub(crate) user: Option<Arc<User>>,
    /// Whether the session counts as one of its user: not while the user's authentication has expired.
    pub(crate) is_of_user: bool,
    pub(crate) peer: Option<SocketAddr>,
    /// The frames that wait for the socket.
    pub(crate) waiting: Size,
    /// Bytes of replays and rosters that wait for the socket.
    pub(crate) replay_bytes: usize,
    /// At most as many as were asked for. Each says whether its client has resumed and has yet to enter again.
    pub(crate) memberships: Vec<(Arc<Membership>, bool)>,
    /// The number of all memberships.
    pub(crate) rooms: usize,
}

/// The state of a session's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionState {
    Connected,
    /// The connection was told to end.
    Ending,
    /// The connection is lost, and the session is kept until this time.
    Absent(Duration),
    Ended,
}

impl Session {
    /// The session, with at most this many memberships.
    pub(crate) fn snapshot(&self, max: usize) -> SessionSnapshot {
        let state = self.state();
        let socket =
            self.with_socket(|socket| (socket.is_told_to_end() || socket.is_mute(), socket.waiting()));
        let (is_ending, (waiting, replay_bytes)) = socket.unwrap_or((true, (Size::default(), 0)));
        let all = state.memberships.all();
        let is_inactive = |room: &str| state.memberships.is_inactive(room);
        SessionSnapshot {
            subprotocol: Recipient::subprotocol(self),
            state: match &state.phase {
                Phase::Attached if is_ending => SessionState::Ending,
                Phase::Attached => SessionState::Connected,
                Phase::Detached(absence) => SessionState::Absent(absence.deadline),
                Phase::Ended { .. } => SessionState::Ended,
            },
            began: self.began(),
            user: state.user.clone(),
            is_of_user: state.is_of_user,
            peer: state.peer,
            waiting,
            replay_bytes,
            memberships: all
                .iter()
                .take(max)
                .map(|membership| (membership.clone(), is_inactive(membership.room.id().as_str())))
                .collect(),
            rooms: all.len(),
        }
    }
}

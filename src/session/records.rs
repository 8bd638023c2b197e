//! What a broker that several nodes share keeps of sessions, so that any node can take them over.
//!
//! A session is kept there from before its first enter until it ends. Only the hash of its token leaves the process.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Cx, Poll, Waker};
use std::time::Duration;

use tokio::time::timeout;

use crate::broker::commands::{Command, Message};
use crate::broker::{BoxFuture, KeptSession, MemberSession, NewSession, Unavailable};
use crate::context::Context;
use crate::delivery::Rooms;
use crate::ids::ConnectionId;
use crate::protocol::close::LeaveReason;
use crate::protocol::resume::ResumeToken;
use crate::session::attachment::Attachment;
use crate::session::callbacks::Callbacks;
use crate::session::session::{self, Absence, Session, State};
use crate::session::sessions::Sessions;

/// During a shutdown, the end of a session waits about this long for the broker.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// A session that has ended, until the broker has answered whether it was this node's.
pub(super) struct Closing {
    pub(super) is_own: BoxFuture<'static, bool>,
    /// What the host is told then.
    pub(super) callbacks: Option<Box<Callbacks>>,
    pub(super) reason: LeaveReason,
}

/// Has the broker keep a session, if it can be resumed. Returns what its members belong to.
pub(super) fn open(
    rooms: &Rooms,
    context: &Context,
    id: ConnectionId,
    state: &mut State,
) -> Option<MemberSession> {
    let (broker, token) = (rooms.broker()?, state.token?);
    let window = context.config.recovery.resume_window;
    let record = match &mut state.record {
        Some(record) => record,
        record @ None => {
            let token = broker.hash(&token);
            let user = state.user.as_ref().map(|user| user.id().into());
            broker.open_session(NewSession { id, token: token.clone(), user, window });
            record.insert(Box::new(KeptSession { id, token, generation: 1 }))
        }
    };
    Some(MemberSession { token: record.token.clone(), window, generation: record.generation })
}

/// Tells the broker the user of a session.
pub(super) fn set_user(rooms: &Rooms, state: &State) {
    if let (Some(broker), Some(record)) = (rooms.broker(), &state.record) {
        broker.set_user(record, state.user.as_ref().map(|user| user.id()));
    }
}

/// Has the broker forget a session. The answer tells whether it was this node's until now.
pub(super) fn close(rooms: &Rooms, record: &KeptSession) -> BoxFuture<'static, bool> {
    match rooms.broker() {
        Some(broker) => broker.close_session(record),
        None => Box::pin(std::future::ready(true)),
    }
}

impl Attachment {
    /// Has the broker keep a session of this node, which this connection is about to resume, under the token of this
    /// connection, so that no other node can take it over any more. Fails if one has done so before. Returns `None` if the
    /// broker does not keep the session, or if this connection may not resume it.
    pub(crate) fn claim(&self, token: ResumeToken) -> Option<BoxFuture<'static, Result<(), Unavailable>>> {
        let (broker, target) = (self.sessions().rooms().broker()?, self.sessions().by_token(&token)?);
        if Arc::ptr_eq(&target, self.session()) {
            return None;
        }
        let (own, mut state) = session::states_of(self.session(), &target);
        own.check(self.generation()).ok()?;
        if !state.may_be_resumed_by(&own, token) {
            return None;
        }
        let new = broker.hash(&own.token?);
        let record = state.record.as_mut()?;
        let renamed = broker.rename_session(record, &new);
        record.token = new;
        Some(renamed)
    }

    /// Has the broker keep the session under the token of this connection, if it keeps it under another one.
    pub(crate) fn rename_record(&self) -> Option<BoxFuture<'static, Result<(), Unavailable>>> {
        let rooms = self.sessions().rooms();
        let mut state = self.session().state_of(self.generation()).ok()?;
        let (broker, token) = (rooms.broker()?, state.token?);
        let record = state.record.as_mut()?;
        let new = broker.hash(&token);
        if record.token == new {
            return None;
        }
        let renamed = broker.rename_session(record, &new);
        record.token = new;
        Some(renamed)
    }
}

impl Sessions {
    /// Tells the host of the end of a session: not that its members have left, if another node has taken it over.
    pub(super) fn conclude(
        &self,
        session: &Arc<Session>,
        mut closing: Box<Closing>,
        absence: Option<Box<Absence>>,
    ) {
        let _ = self.run_callbacks(session);
        if let Poll::Ready(is_own) = poll_once(closing.is_own.as_mut()) {
            return self.conclude_as(session, *closing, is_own, absence);
        }
        let (Some(sessions), session) = (self.this(), session.clone()) else { return };
        self.tasks().spawn(async move {
            let is_own = loop {
                match timeout(CLOSE_WAIT, closing.is_own.as_mut()).await {
                    Ok(is_own) => break is_own,
                    // If the broker cannot be reached, most likely no other node can reach it either.
                    Err(_) if sessions.admission().is_closing() => break true,
                    Err(_) => {}
                }
            };
            sessions.conclude_as(&session, *closing, is_own, absence);
        });
    }

    fn conclude_as(
        &self,
        session: &Arc<Session>,
        closing: Closing,
        is_own: bool,
        absence: Option<Box<Absence>>,
    ) {
        let Closing { callbacks, reason, .. } = closing;
        if let Some(mut callbacks) = callbacks {
            if !is_own {
                callbacks.remove_left();
            }
            session.state().callbacks.get_or_insert_default().append(*callbacks);
        }
        // It was kicked from the node that it has come from.
        if !is_own
            && reason == LeaveReason::Kicked
            && let Some(broker) = self.rooms().broker()
        {
            let command = Command::Kick(session.id());
            broker.send_to_all(Message { node: broker.node(), question: 0, command }.encode());
        }
        // A panic in a callback could only end what is ending anyway.
        let _ = self.run_callbacks(session);
        drop(absence);
    }
}

fn poll_once<T>(future: Pin<&mut (dyn Future<Output = T> + Send)>) -> Poll<T> {
    future.poll(&mut Cx::from_waker(Waker::noop()))
}

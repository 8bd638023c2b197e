//! Direct messages: frames for all sessions of a user. A session of `chat-rooms.v1` keeps the latest ones for a client
//! that resumes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::Config;
use crate::delivery::MessageIds;
use crate::delivery::Recipient;
use crate::protocol::direct::{DirectFrame, LastDirect};
use crate::protocol::subprotocol::Subprotocol;
use crate::protocol::{frame, outbound};
use crate::session::direct_frames::DirectFrames;
use crate::session::session::{Generation, Phase, Resume, Session, State, Superseded};
use crate::session::sessions::Sessions;

/// A session's direct messages.
#[derive(Debug, Default)]
pub(super) struct DirectMessages {
    /// The direct frames for the client.
    received: DirectFrames,
    /// The ids of the latest messages that the client has sent, each with the number of connections reached.
    sent: MessageIds<u64>,
}

impl DirectMessages {
    /// Those of a session that was on another node.
    pub(super) fn of_other_node() -> DirectMessages {
        DirectMessages { received: DirectFrames::of_other_node(), sent: MessageIds::default() }
    }
}

/// What happened to a direct message in one session.
enum Delivery {
    /// It goes to an open connection.
    Reached,
    /// The session keeps it, has it already, or does not get it.
    NotReached,
    /// The client continues this session instead.
    Moved(Arc<Session>),
}

/// A direct message that a client has sent.
pub(crate) struct DirectSent {
    /// How many open connections it has reached.
    pub(crate) reached: u64,
    /// Whether it was sent before, under the same id.
    pub(crate) is_repeated: bool,
}

impl Sessions {
    /// Sends a frame to all sessions of a user. Returns the number of open connections.
    pub(crate) fn send_direct(&self, user: &str, frame: &Arc<DirectFrame>) -> usize {
        let mut reached = 0;
        for session in self.users().sessions_of(user) {
            let mut next = Some(session);
            while let Some(session) = next.take() {
                let delivery = self.deliver_direct(&session, &mut session.state(), frame);
                match delivery {
                    Delivery::Reached => reached += 1,
                    Delivery::NotReached => {}
                    // `sessions_of` may not have returned it, if it was not a session of the user yet.
                    Delivery::Moved(to) => next = Some(to),
                }
            }
        }
        reached
    }

    /// The number of open connections of a user.
    pub(crate) fn connections_of(&self, user: &str) -> usize {
        self.users().sessions_of(user).iter().filter(|session| session.is_connected()).count()
    }

    /// Numbers a frame and writes it under the lock of the state, so that the numbers are in order.
    fn deliver_direct(&self, session: &Session, state: &mut State, frame: &Arc<DirectFrame>) -> Delivery {
        match &state.phase {
            Phase::Ended { successor: Some(successor) } => return Delivery::Moved(successor.clone()),
            Phase::Ended { successor: None } => return Delivery::NotReached,
            Phase::Attached | Phase::Detached(_) if !state.is_of_user => return Delivery::NotReached,
            Phase::Attached | Phase::Detached(_) => {}
        }
        let is_reached = match session.subprotocol() {
            Subprotocol::Plain => session.send(None, frame.plain()),
            Subprotocol::V1 => {
                let (now, age) = (self.context().clock.now(), max_age(&self.context().config));
                let received = &mut state.direct.get_or_insert_default().received;
                let Some(number) = received.add(frame, now) else { return Delivery::NotReached };
                match age {
                    Some(age) => received.trim(now, age),
                    None => received.clear(),
                }
                if matches!(state.resume, Resume::Unanswered) {
                    session.is_connected()
                } else {
                    let mut numbered = Vec::with_capacity(frame.len() + 40);
                    frame.push_numbered(&mut numbered, number);
                    session.send(None, &numbered.into())
                }
            }
        };
        if is_reached { Delivery::Reached } else { Delivery::NotReached }
    }

    /// Adds the frames of a session that has ended because its client continues this one.
    pub(super) fn take_over_direct(&self, session: &Session, state: &mut State, direct: &DirectMessages) {
        for (_, frame) in direct.received.after(0).1 {
            self.deliver_direct(session, state, frame);
        }
    }

    /// Drops frames that are too old for any client to need them.
    pub(crate) fn trim_direct(&self, session: &Session) {
        let Some(age) = max_age(&self.context().config) else { return };
        if let Some(direct) = &mut session.state().direct {
            direct.received.trim(self.context().clock.now(), age);
        }
    }
}

/// Answers a resume, and sends the client the direct frames that it has missed, including those that were sent since
/// the connection attached. If no session was resumed, these are all frames of the connection's own session, because
/// the client has ignored those that arrived. They are sent only once, so that a client can't request them again and
/// again.
pub(super) fn answer_resume(
    session: &Session,
    generation: Generation,
    has_resumed: bool,
    last: LastDirect,
) -> Result<(), Superseded> {
    let mut state = session.state_of(generation)?;
    let last = match std::mem::replace(&mut state.resume, Resume::Answered) {
        Resume::Answered => None,
        Resume::NotDone | Resume::Unanswered if has_resumed => Some(last.in_session(session.id())),
        Resume::NotDone | Resume::Unanswered => Some(0),
    };
    let mut missed = Vec::new();
    let mut start = 0;
    if let Some(direct) = &mut state.direct {
        direct.received.continue_after(last.unwrap_or_default());
        let (before, frames) = direct.received.after(last.unwrap_or(direct.received.last()));
        frames.for_each(|(number, frame)| frame.push_numbered(&mut missed, number));
        start = before;
    }
    let memberships = state.memberships.all().iter();
    let rooms = memberships.map(|own| (own.room.id().as_str(), own.name.as_str()));
    let resumed = outbound::resumed(has_resumed.then_some(session.id()), rooms, start);
    session.with_socket_of(generation, |socket| {
        socket.answer_resume(&frame::text(resumed.as_bytes()), &Bytes::from(missed));
    })
}

/// The number of connections reached by the direct message that was sent before under this id, if there is one.
pub(super) fn reached_by(
    session: &Session,
    generation: Generation,
    cid: &str,
) -> Result<Option<u64>, Superseded> {
    let state = session.state_of(generation)?;
    Ok(state.direct.as_ref().and_then(|direct| direct.sent.answer_to(cid)))
}

/// Sends a client's message to all sessions of a user, unless it was sent before. If `frame` is `None`, it only looks
/// to the sender as if the message had been sent.
pub(super) fn send(
    sessions: &Sessions,
    session: &Session,
    generation: Generation,
    to: &str,
    frame: Option<&Arc<DirectFrame>>,
    cid: Option<&str>,
) -> Result<DirectSent, Superseded> {
    let connections = sessions.connections_of(to) as u64;
    let mut state = session.state_of(generation)?;
    if let Some(cid) = cid {
        let sent = &mut state.direct.get_or_insert_default().sent;
        if let Some(reached) = sent.answer_to(cid) {
            return Ok(DirectSent { reached, is_repeated: true });
        }
        // Noted before it is sent, so that a newer connection of the client does not send it again.
        sent.add(cid, connections);
    }
    // No lock of another session may be taken under this one.
    drop(state);
    let reached = frame.map_or(connections, |frame| sessions.send_direct(to, frame) as u64);
    Ok(DirectSent { reached, is_repeated: false })
}

/// Notes that a message was sent to the sessions on all nodes, so that it is not sent again.
pub(super) fn note_sent(
    session: &Session,
    generation: Generation,
    cid: Option<&str>,
    reached: u64,
) -> Result<(), Superseded> {
    let mut state = session.state_of(generation)?;
    if let Some(cid) = cid {
        state.direct.get_or_insert_default().sent.add(cid, reached);
    }
    Ok(())
}

/// How long a client may take to resume its session after a frame was lost: the time until the server notices that the
/// connection is lost, plus the resume window. `None` if sessions are not kept.
fn max_age(config: &Config) -> Option<Duration> {
    let (heartbeat, window) = (&config.v1_heartbeat, config.recovery.resume_window);
    let until_noticed = heartbeat.interval().saturating_add(heartbeat.timeout());
    (!window.is_zero()).then(|| until_noticed.saturating_add(window))
}

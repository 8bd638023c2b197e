//! The answer to an enter.

use bytes::Bytes;

use crate::config::SlowConsumer;
use crate::delivery::{EnterOutcome, ReplayRequest, RosterPage};
use crate::protocol::inbound::Body;
use crate::protocol::outbound::{self, EnteredFrame};
use crate::protocol::{frame, history};
use crate::session::session::{Generation, Membership, Session};
use crate::socket::Answer;

/// The answer to an enter in `chat-rooms.v1`. Reduces the history to the requested messages.
pub(super) fn entered_frame(
    session: &Session,
    outcome: &mut EnterOutcome,
    membership: &Membership,
    replay_request: Option<ReplayRequest>,
    is_resumed: bool,
) -> Bytes {
    let history = match replay_request {
        Some(ReplayRequest::Last(n)) => Some(outcome.replay.as_mut().map_or(0, |replay| {
            let (messages, len) = history::last_messages(&replay.history, n);
            replay.history = if len > 0 { vec![messages] } else { Vec::new() };
            len
        })),
        _ => None,
    };
    let replay = outcome.replay.as_ref();
    let roster = outcome.roster.as_ref().map_or("", RosterPage::text);
    let frame = EnteredFrame {
        room: membership.room.id().as_str(),
        name: membership.name.as_str(),
        member: session.id(),
        epoch: outcome.epoch,
        seq: outcome.seq,
        num: outcome.num,
        resumed: is_resumed,
        recovered: replay.is_some_and(|replay| replay.is_complete),
        replayed: replay.map_or(0, |replay| outcome.seq - replay.start),
        history,
        mode: outcome.mode,
        users: outcome.users,
        is_read_only: membership.is_read_only(),
        is_hidden: membership.is_hidden,
        roster,
    };
    frame::text(frame.encode().as_bytes())
}

/// A plain client's own enter with a heartbeat, as it gets it as a frame of the room.
pub(super) fn own_enter(body: &Body<'_>, membership: &Membership, num: u64) -> Bytes {
    let text = format!("{}{}{num}}}", body.as_str(), membership.tail);
    let mut frames = Vec::new();
    for text in [text, outbound::heartbeat(num as usize)] {
        frame::push_text(&mut frames, &[text.as_bytes()]);
    }
    frames.into()
}

/// Sends a client the answer to its enter and the missed frames. The room's next frames follow. The caller holds the
/// state's lock, so the notice of a removal from the room always follows the answer.
pub(super) fn answer(
    session: &Session,
    generation: Generation,
    outcome: EnterOutcome,
    frame: Option<Bytes>,
    slow: SlowConsumer,
) {
    let (start, is_new, slow) = (outcome.start(), outcome.is_announced, Some(slow));
    let EnterOutcome { room, before, replay, .. } = outcome;
    let _ = session.with_socket_of(generation, |socket| {
        socket.answer_enter(&room, Answer { before, frame, replay, start, is_new, slow });
    });
}

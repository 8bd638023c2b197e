//! The answer to an enter.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::config::SlowConsumer;
use crate::delivery::{EnterOutcome, ReadAhead, ReplayRequest, Rooms, RosterPage};
use crate::ids::MessageId;
use crate::protocol::inbound::Body;
use crate::protocol::outbound::{self, EnteredFrame, Recovered};
use crate::protocol::{frame, history};
use crate::session::session::{Generation, Membership, Session};
use crate::socket::Answer;

/// How far the clocks of the nodes and the broker may be apart.
const CLOCK_MARGIN: Duration = Duration::from_secs(60);

/// What the store contributes to the answer to an enter.
#[derive(Clone, Copy, Default)]
pub(crate) struct FromStore<'a> {
    /// Messages that were read before.
    messages: Option<&'a ReadAhead>,
    /// Later messages have ids of this time of day or later. Present if there is a store.
    now: Option<SystemTime>,
}

impl<'a> FromStore<'a> {
    /// To be called before the enter.
    pub(crate) fn new(rooms: &Rooms, messages: Option<&'a ReadAhead>) -> FromStore<'a> {
        // With several nodes, ids come from the broker's clock, and some time before their messages.
        let margin = if rooms.is_remote() { CLOCK_MARGIN } else { Duration::ZERO };
        FromStore { messages, now: rooms.has_store().then(|| SystemTime::now() - margin) }
    }

    /// Replaces the messages that were read before, if there are later ones.
    pub(crate) fn or(self, later: Option<&'a ReadAhead>) -> FromStore<'a> {
        FromStore { messages: later.or(self.messages), ..self }
    }
}

/// The answer to an enter in `chat-rooms.v1`. Reduces the history to the requested messages.
pub(super) fn entered_frame(
    session: &Session,
    outcome: &mut EnterOutcome,
    membership: &Membership,
    replay_request: Option<ReplayRequest>,
    from_store: FromStore<'_>,
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
    let is_complete = replay.is_some_and(|replay| replay.is_complete);
    let read = from_store.messages.filter(|read| !is_complete && outcome.follows(read.at));
    let messages = read.map_or(String::new(), |read| messages(read, outcome, history, replay_request));
    let recovered = match (is_complete, replay_request, read) {
        (true, ..) => Recovered::Fully,
        (false, Some(ReplayRequest::Since(_)), Some(read)) if !read.page.has_more => Recovered::FromStore,
        _ => Recovered::No,
    };
    let roster = outcome.roster.as_ref().map_or("", RosterPage::text);
    let frame = EnteredFrame {
        room: membership.room.id().as_str(),
        name: membership.name.as_str(),
        member: session.id(),
        epoch: outcome.epoch,
        seq: outcome.seq,
        num: outcome.num,
        resumed: is_resumed,
        recovered,
        replayed: replay.map_or(0, |replay| outcome.seq - replay.start),
        history,
        messages: &messages,
        id: from_store.now.map(|now| match outcome.first_to_come {
            Some(first) => first.previous(),
            None => outcome.last_id.max(MessageId::last_before(now)),
        }),
        mode: outcome.mode,
        users: outcome.users,
        is_read_only: membership.is_read_only(),
        is_hidden: membership.is_hidden,
        roster,
    };
    frame::text(frame.encode().as_bytes())
}

/// The messages that come before those that follow, and whether there are still others before them.
fn messages(
    ReadAhead { page, .. }: &ReadAhead,
    outcome: &EnterOutcome,
    history: Option<usize>,
    replay_request: Option<ReplayRequest>,
) -> String {
    // Messages that the client has missed may also be in the replay. Otherwise, it could lose its connection before it has
    // got those, but after it has got later ones, and would not ask for them again. After a crash, messages with earlier
    // ids may be published again, so the order of ids says nothing.
    let replay = outcome.replay.as_ref();
    let follow: HashSet<MessageId> =
        replay.map(|replay| history::ids(&replay.history).collect()).unwrap_or_default();
    let is_to_come = |id: MessageId| outcome.first_to_come.is_some_and(|first| id >= first);
    let wanted = page.messages.iter().filter(|(id, _)| !follow.contains(id) && !is_to_come(*id));
    let texts: Vec<&str> = wanted.map(|(_, text)| &**text).collect();
    let max = match replay_request {
        Some(ReplayRequest::Last(n)) => n.saturating_sub(history.unwrap_or(0)),
        _ => usize::MAX,
    };
    let skipped = texts.len().saturating_sub(max);
    let list = history::list(texts[skipped..].iter().copied());
    format!(r#"{list},"more":{}"#, page.has_more || skipped > 0)
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

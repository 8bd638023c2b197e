//! Direct frames: what the host and other users send to this client's session.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Machine;
use super::link::{Link, Resumption};
use crate::event::{ChatEvent, RoomFrame};
use crate::outgoing::Recipient;

/// The session's place among its numbered direct frames.
#[derive(Debug, Default)]
pub(super) struct Directs {
    /// How many sessions there have been. The server remembers message ids per session.
    sessions: u64,
    /// The member id of the session; `None` if there is no session.
    member: Option<String>,
    /// The number of the last frame that has arrived.
    last: u64,
    /// The latest messages of users, of all sessions.
    known: VecDeque<MessageId>,
}

/// The sender of a message and its `cid`. No other message of the sender has the same.
#[derive(Debug, PartialEq, Eq)]
struct MessageId {
    user: String,
    cid: String,
}

/// So many ids of received messages are kept.
const MAX_KNOWN: usize = 256;

/// What a resumption means for direct frames.
#[derive(Debug, PartialEq, Eq)]
enum Missed {
    Nothing,
    Frames(u64),
    /// The session is not the previous one.
    Unknown,
}

impl Directs {
    /// The member id of the session and the number of the last frame that has arrived, if any has.
    pub(super) fn last(&self) -> Option<(&str, u64)> {
        Some((self.member.as_deref()?, self.last)).filter(|(_, last)| *last > 0)
    }

    /// Identifies the session.
    fn session(&self) -> Arc<str> {
        self.sessions.to_string().into()
    }

    /// A session with this member id begins, or has begun on a connection whose answers were lost. Its latest frames
    /// after this number follow.
    fn begin(&mut self, member: Option<&str>, last: u64) -> Missed {
        self.sessions += 1;
        self.last = last;
        let before = std::mem::replace(&mut self.member, member.map(str::to_owned));
        match (before, last) {
            (Some(_), _) => Missed::Unknown,
            (None, 0) => Missed::Nothing,
            (None, lost) => Missed::Frames(lost),
        }
    }

    /// The previous session continues if it has this member id. Otherwise another session does.
    fn resume(&mut self, member: &str, last: Option<u64>) -> Missed {
        if self.member.as_deref() != Some(member) {
            return self.begin(Some(member), last.unwrap_or(0));
        }
        match last.unwrap_or(0).checked_sub(self.last) {
            None | Some(0) => Missed::Nothing,
            Some(missed) => {
                self.last += missed;
                Missed::Frames(missed)
            }
        }
    }

    /// The session has ended, and nobody could send anything to it.
    pub(super) fn end(&mut self) {
        self.member = None;
    }

    /// A numbered frame arrives. Returns how many are missing before it; `None` if it has arrived before.
    fn receive(&mut self, number: u64) -> Option<u64> {
        let missing = number.checked_sub(self.last)?.checked_sub(1)?;
        self.last = number;
        Some(missing)
    }

    /// Whether a message has arrived before, perhaps in another session. Its sender sends it again if the acknowledgement
    /// was lost together with its own session, in which the server remembered the `cid`.
    fn is_known(&mut self, object: &Map<String, Value>) -> bool {
        let Some(id) = MessageId::of(object) else { return false };
        if self.known.contains(&id) {
            return true;
        }
        self.known.truncate(MAX_KNOWN - 1);
        self.known.push_front(id);
        false
    }
}

impl MessageId {
    /// `None` for the frames of the host, and for a message without an id.
    fn of(object: &Map<String, Value>) -> Option<MessageId> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let user = object.get("from")?.get("user").and_then(text)?;
        Some(MessageId { user, cid: object.get("cid").and_then(text)? })
    }
}

impl<T> Machine<T> {
    /// The connection begins a session of its own, because no earlier session continues.
    pub(super) fn begin_session(&mut self) {
        let connection = self.link.as_ref().and_then(Link::welcome).map(|welcome| &*welcome.connection);
        let missed = self.directs.begin(connection, 0);
        self.tell_missed(missed);
    }

    /// An earlier session continues.
    pub(super) fn continue_session(&mut self, member: &str, last: Option<u64>) {
        let missed = self.directs.resume(member, last);
        self.tell_missed(missed);
    }

    fn tell_missed(&mut self, missed: Missed) {
        match missed {
            Missed::Nothing => {}
            Missed::Frames(missed) => self.emit_unrecoverable(ChatEvent::DirectGap { missed: Some(missed) }),
            Missed::Unknown => self.emit_unrecoverable(ChatEvent::DirectGap { missed: None }),
        }
    }

    /// A frame to this session.
    pub(super) fn on_direct(&mut self, number: u64, object: Map<String, Value>) {
        // Frames that arrive before the answer to the resume are sent again after it.
        if self.link.as_ref().is_some_and(|link| link.resumption != Resumption::Done) {
            return;
        }
        let Some(missing) = self.directs.receive(number) else { return };
        if missing > 0 {
            self.emit_unrecoverable(ChatEvent::DirectGap { missed: Some(missing) });
        }
        if !self.directs.is_known(&object) {
            self.emit_unrecoverable(ChatEvent::Direct(RoomFrame::new(object, false)));
        }
    }

    /// Starts to send direct messages, if there are any and the server knows the session.
    pub(super) fn start_directs(&mut self) {
        let Some(link) = &self.link else { return };
        let is_ready = link.resumption == Resumption::Done && !link.auth.is_needed();
        if is_ready && self.cx.outgoing.is_waiting(Recipient::Users) {
            self.use_limits();
            self.cx.outgoing.start(Recipient::Users, self.directs.session());
            self.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(last: u64) -> Directs {
        let mut directs = Directs::default();
        assert_eq!(directs.begin(Some("1"), 0), Missed::Nothing);
        directs.last = last;
        directs
    }

    #[test]
    fn each_frame_arrives_once_and_missing_ones_are_counted() {
        let mut directs = after(0);
        assert_eq!(directs.last(), None);
        let received = [1, 2, 2, 1, 5, 6, 0].map(|number| directs.receive(number));
        assert_eq!(received, [Some(0), Some(0), None, None, Some(2), Some(0), None]);
        assert_eq!(directs.last(), Some(("1", 6)));
    }

    #[test]
    fn a_message_is_known_by_its_sender_and_id() {
        let mut directs = after(0);
        let message = |user: &str, cid: &str| match serde_json::json!({"from": {"user": user}, "cid": cid}) {
            Value::Object(object) => object,
            _ => unreachable!(),
        };
        for (user, cid, is_known) in
            [("a", "1", false), ("a", "1", true), ("b", "1", false), ("a", "2", false), ("b", "1", true)]
        {
            assert_eq!(directs.is_known(&message(user, cid)), is_known, "{user} {cid}");
        }
        directs.begin(Some("2"), 0);
        assert!(directs.is_known(&message("a", "1")), "in another session too");
        for n in 0..MAX_KNOWN {
            assert!(!directs.is_known(&message("c", &n.to_string())));
        }
        assert!(!directs.is_known(&message("a", "1")), "the number is bounded");
        assert_eq!(directs.known.len(), MAX_KNOWN);
        for object in [Map::new(), Map::from_iter([("cid".into(), "1".into())])] {
            assert!(!directs.is_known(&object) && !directs.is_known(&object), "not of a user");
        }
    }

    #[test]
    fn a_session_that_continues_tells_what_is_lost() {
        for (last, missed) in
            [(None, Missed::Nothing), (Some(2), Missed::Nothing), (Some(3), Missed::Nothing)]
        {
            assert_eq!(after(3).resume("1", last), missed);
        }
        let mut directs = after(3);
        assert_eq!(directs.resume("1", Some(7)), Missed::Frames(4));
        assert_eq!(directs.receive(8), Some(0));
        assert_eq!(directs.begin(Some("2"), 0), Missed::Unknown);
        directs.end();
        assert_eq!(directs.begin(Some("3"), 0), Missed::Nothing);
    }

    #[test]
    fn the_session_of_a_lost_answer_is_another_one() {
        let mut directs = after(3);
        let session = directs.session();
        assert_eq!(directs.resume("2", Some(1)), Missed::Unknown);
        assert_eq!(directs.last(), Some(("2", 1)));
        assert_eq!(directs.receive(2), Some(0));
        assert_ne!(directs.session(), session);
    }
}

//! The messages for one recipient in order, until they are acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{FIRST_WINDOW, Message, Now};

/// `T` waits for the acknowledgement of a message.
#[derive(Debug)]
pub(super) struct MessageQueue<T> {
    /// Those that were sent before come first.
    items: VecDeque<Item<T>>,
    /// The session that sends; for a room, its member id. `None` while nothing may be sent.
    session: Option<Arc<str>>,
    /// Nothing is to be sent for the moment.
    is_held: bool,
    in_flight: usize,
    /// The server has refused a message, and accepts it from this time on.
    not_before: Now,
    /// The maximum number of messages in flight. After a refusal, only the refused message is in flight, so that no other
    /// overtakes it. Each acknowledgement raises the number by one.
    window: usize,
}

#[derive(Debug)]
struct Item<T> {
    message: Message,
    waiting: T,
    /// Its place among the messages for all recipients.
    order: u64,
    /// While it is sent on this connection and not answered: its place among the connection's frames.
    in_flight: Option<u64>,
    /// When it was sent first in the latest session that it was sent in.
    sent: Option<Sent>,
}

/// When a message was sent.
#[derive(Debug)]
struct Sent {
    session: Arc<str>,
    /// How many message ids were used before this one; `None` if the session need not remember it, because the message
    /// was not published.
    number: Option<u64>,
}

impl Sent {
    /// Whether this session knows the message if it remembers the ids from this number on.
    fn is_known_to(&self, session: &str, since: u64) -> bool {
        *self.session == *session && self.number.is_some_and(|number| number >= since)
    }
}

/// A message that may be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// Its place in the queue.
    at: usize,
    /// Its place among the messages for all recipients.
    pub(super) order: u64,
    pub(super) bytes: usize,
    /// Whether the session does not remember its id.
    pub(super) is_new: bool,
}

impl<T> MessageQueue<T> {
    pub(super) fn new() -> MessageQueue<T> {
        let (items, not_before) = (VecDeque::new(), Now::ZERO);
        MessageQueue { items, session: None, is_held: false, in_flight: 0, not_before, window: FIRST_WINDOW }
    }

    pub(super) fn push(&mut self, order: u64, message: Message, waiting: T) {
        self.items.push_back(Item { message, waiting, order, in_flight: None, sent: None });
    }

    /// Whether a message is to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        self.items.iter().any(|item| item.in_flight.is_none())
    }

    /// How many messages were never sent.
    pub(super) fn unsent(&self) -> usize {
        self.items.iter().rev().take_while(|item| item.sent.is_none()).count()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether a server that remembers the message ids from this number on, in this session, knows all messages that were
    /// ever sent.
    pub(super) fn are_known_to(&self, session: &str, since: u64) -> bool {
        self.sent().all(|(_, sent)| sent.is_known_to(session, since))
    }

    /// Messages may be sent in this session. It remembers the message ids from number `since` on. If it does not know all
    /// messages that were sent, none of them was published.
    pub(super) fn start(&mut self, session: Arc<str>, since: u64) {
        if self.session.is_none() {
            self.window = self.window.min(FIRST_WINDOW);
            if !self.are_known_to(&session, since) {
                self.items
                    .iter_mut()
                    .filter_map(|item| item.sent.as_mut())
                    .for_each(|sent| sent.number = None);
            }
        }
        self.session = Some(session);
    }

    pub(super) fn stop(&mut self) {
        self.session = None;
        self.is_held = false;
        self.in_flight = 0;
        self.items.iter_mut().for_each(|item| item.in_flight = None);
    }

    /// Whether the present session must still remember the message id with this number.
    pub(super) fn needs(&self, number: u64) -> bool {
        let Some(session) = &self.session else { return false };
        self.sent().any(|(_, sent)| sent.session == *session && sent.number == Some(number))
    }

    /// The next message to be sent, no matter when. The session remembers the message ids from number `since` on.
    pub(super) fn candidate(&self, since: u64) -> Option<Candidate> {
        let session = self.session.as_ref()?;
        let at = self.items.iter().position(|item| item.in_flight.is_none())?;
        let item = &self.items[at];
        let is_new = !item.sent.as_ref().is_some_and(|sent| sent.is_known_to(session, since));
        Some(Candidate { at, order: item.order, bytes: item.message.text.len(), is_new })
    }

    pub(super) fn set_held(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// Whether another message may be in flight.
    pub(super) fn has_room(&self) -> bool {
        !self.is_held && self.in_flight < self.window
    }

    /// The time from which the server accepts messages for this recipient.
    pub(super) fn not_before(&self) -> Now {
        self.not_before
    }

    /// Notes that a message is sent as the connection's frame with this place, and returns its text. If its id is new,
    /// it gets this number.
    pub(super) fn send(&mut self, candidate: Candidate, frame: u64, number: u64) -> Option<String> {
        let session = self.session.clone()?;
        let item = self.items.get_mut(candidate.at)?;
        if candidate.is_new {
            item.sent = Some(Sent { session, number: Some(number) });
        }
        item.in_flight = Some(frame);
        self.in_flight += 1;
        Some(item.message.text.clone())
    }

    pub(super) fn acknowledge(&mut self, cid: &str) -> Option<T> {
        let waiting = self.take(cid)?;
        self.window = self.window.saturating_add(1);
        Some(waiting)
    }

    /// Whether a message with this id was sent.
    pub(super) fn contains(&self, cid: &str) -> bool {
        self.place_of(cid).is_some()
    }

    /// Whether a message with this id and this event was sent.
    pub(super) fn has_event(&self, cid: &str, event: &str) -> bool {
        self.place_of(cid).is_some_and(|at| self.items[at].message.event == event)
    }

    /// Removes the message with this id.
    pub(super) fn take(&mut self, cid: &str) -> Option<T> {
        let at = self.place_of(cid)?;
        self.remove(at).map(|(_, waiting)| waiting)
    }

    pub(super) fn event(&self, candidate: Candidate) -> Option<&str> {
        self.items.get(candidate.at).map(|item| &*item.message.event)
    }

    pub(super) fn remove_candidate(&mut self, candidate: Candidate) -> Option<(Message, T)> {
        self.remove(candidate.at)
    }

    /// The place of the oldest message in flight among the connection's frames.
    pub(super) fn oldest_in_flight(&self) -> Option<u64> {
        self.items.iter().filter_map(|item| item.in_flight).min()
    }

    /// Removes the message in flight with this place among the connection's frames.
    pub(super) fn take_in_flight(&mut self, frame: u64) -> Option<T> {
        let at = self.items.iter().position(|item| item.in_flight == Some(frame))?;
        self.remove(at).map(|(_, waiting)| waiting)
    }

    /// The server has refused a message. Returns `false` if it is not in this queue.
    pub(super) fn postpone(&mut self, cid: &str, until: Now) -> bool {
        let Some(at) = self.place_of(cid) else { return false };
        self.in_flight -= usize::from(self.items[at].in_flight.take().is_some());
        self.not_before = self.not_before.max(until);
        self.window = 1;
        true
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.stop();
        self.items.drain(..).map(|item| item.waiting)
    }

    /// What was ever sent. It comes first, because messages keep their order.
    fn sent(&self) -> impl Iterator<Item = (&Item<T>, &Sent)> {
        self.items.iter().map_while(|item| Some((item, item.sent.as_ref()?)))
    }

    fn place_of(&self, cid: &str) -> Option<usize> {
        self.sent().position(|(item, _)| item.message.cid == cid)
    }

    fn remove(&mut self, at: usize) -> Option<(Message, T)> {
        let item = self.items.remove(at)?;
        self.in_flight -= usize::from(item.in_flight.is_some());
        Some((item.message, item.waiting))
    }
}

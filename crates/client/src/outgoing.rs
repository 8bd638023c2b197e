//! The application's messages to rooms and users, until they are acknowledged. They are sent within the server's limits, in
//! the order in which the application has sent them, each once on a connection.

mod message_queue;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::message_queue::{Candidate, MessageQueue};
use crate::incoming::{Rates, Welcome};
use crate::machine::RoomKey;
use crate::token_bucket::TokenBucket;

/// Message ids that may be unacknowledged if the server sets no limit.
const MAX_IN_FLIGHT: usize = 1024;

/// Messages in flight on a connection that has not yet shown that the server accepts more.
const FIRST_WINDOW: usize = 16;

/// Time since the client was created.
type Now = Duration;

/// The recipient of messages. Messages to the same recipient are sent in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Recipient {
    Room(RoomKey),
    /// Direct messages to any users.
    Users,
}

/// `T` waits for the acknowledgement of a message.
#[derive(Debug)]
pub(crate) struct Outgoing<T> {
    queues: BTreeMap<Recipient, MessageQueue<T>>,
    /// How many messages there were.
    pushed: u64,
    /// How many message ids were used.
    used: u64,
    max_bytes: usize,
    /// The server acknowledges no messages with these events.
    transient_events: Arc<[String]>,
    /// How many of the latest message ids the server remembers.
    max_ids: usize,
    messages: Option<TokenBucket>,
    bytes: Option<TokenBucket>,
    /// The maximum number of messages in flight. It is small at first: a server that knows better must not have to refuse
    /// many at the same time. Each acknowledgement raises the number by one.
    window: usize,
    /// When [`next`](Outgoing::next) has something again, if nothing else happens.
    deadline: Option<Now>,
}

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Message {
    event: String,
    cid: String,
    text: String,
}

impl Message {
    pub(crate) fn new(event: &str, cid: String, text: String) -> Message {
        Message { event: event.into(), cid, text }
    }
}

/// What is to be done with the next message.
#[derive(Debug, PartialEq)]
pub(crate) enum Next<T> {
    Send(String),
    /// It has more bytes than the server accepts, and was removed.
    TooBig {
        waiting: T,
        bytes: usize,
        max: usize,
    },
    /// Its event is transient, and it was removed.
    Transient {
        waiting: T,
        event: String,
    },
}

impl From<RoomKey> for Recipient {
    fn from(room: RoomKey) -> Recipient {
        Recipient::Room(room)
    }
}

impl<T> Outgoing<T> {
    pub(crate) fn new() -> Outgoing<T> {
        Outgoing {
            queues: BTreeMap::new(),
            pushed: 0,
            used: 0,
            max_bytes: usize::MAX,
            transient_events: Arc::default(),
            max_ids: MAX_IN_FLIGHT,
            messages: None,
            bytes: None,
            window: FIRST_WINDOW,
            deadline: None,
        }
    }

    pub(crate) fn push(&mut self, to: Recipient, message: Message, waiting: T) {
        let order = self.pushed;
        self.pushed += 1;
        self.queue(to).push(order, message, waiting);
    }

    /// Whether a message for this recipient is to be sent.
    pub(crate) fn is_waiting(&self, to: Recipient) -> bool {
        self.queues.get(&to).is_some_and(MessageQueue::is_waiting)
    }

    /// How many messages for this recipient were never sent.
    pub(crate) fn unsent(&self, to: Recipient) -> usize {
        self.queues.get(&to).map_or(0, MessageQueue::unsent)
    }

    /// How many messages are sent and not answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.queues.values().map(MessageQueue::in_flight).sum()
    }

    /// How many messages for this recipient are sent and not answered.
    pub(crate) fn in_flight_to(&self, to: Recipient) -> usize {
        self.queues.get(&to).map_or(0, MessageQueue::in_flight)
    }

    /// Whether the server remembers all messages for this recipient that were ever sent, in this session.
    pub(crate) fn are_known_to(&self, to: Recipient, session: &str) -> bool {
        self.queues.get(&to).is_none_or(|queue| queue.are_known_to(session, self.remembered_since()))
    }

    /// A connection has entered for the first time: sets the limits of its server.
    pub(crate) fn set_limits(&mut self, welcome: &Welcome, now: Now) {
        self.max_bytes = welcome.message_bytes;
        self.transient_events = welcome.transient_events.clone();
        // A limit of 0 would stop the client from ever sending.
        self.max_ids = welcome.cids.clamp(1, MAX_IN_FLIGHT);
        self.window = self.window.min(FIRST_WINDOW);
        let Rates { messages, bytes, burst, is_empty, .. } = welcome.rates;
        let bucket = |rate: f64| TokenBucket::new(rate, rate * burst, now);
        self.messages = messages.map(bucket);
        self.bytes = bytes.map(bucket);
        if is_empty {
            self.drain_buckets(now);
        }
    }

    fn drain_buckets(&mut self, now: Now) {
        self.messages.iter_mut().chain(&mut self.bytes).for_each(|bucket| bucket.drain(now));
    }

    /// Something that is not a message was sent. It counts for the rates as well.
    pub(crate) fn charge(&mut self, bytes: usize) {
        self.messages.iter_mut().for_each(|bucket| bucket.take(1.0));
        self.bytes.iter_mut().for_each(|bucket| bucket.take(bytes as f64));
    }

    /// The time until a short frame that is not a message may be sent.
    pub(crate) fn wait_for_frame(&mut self, now: Now) -> Duration {
        let wait = |bucket: &mut TokenBucket| bucket.wait(1.0, now);
        self.messages.iter_mut().chain(&mut self.bytes).map(wait).max().unwrap_or_default()
    }

    /// From now on, messages for this recipient may be sent in this session.
    pub(crate) fn start(&mut self, to: Recipient, session: Arc<str>) {
        let since = self.remembered_since();
        self.queue(to).start(session, since);
    }

    /// Nothing is to be sent to this recipient for the moment. What is in flight will be answered.
    pub(crate) fn hold(&mut self, to: Recipient) {
        self.queues.get_mut(&to).into_iter().for_each(|queue| queue.set_held(true));
    }

    /// Ends a [`hold`](Outgoing::hold).
    pub(crate) fn release(&mut self, to: Recipient) {
        self.queues.get_mut(&to).into_iter().for_each(|queue| queue.set_held(false));
    }

    /// Nothing may be sent to this recipient any more. What was not answered is sent again later.
    pub(crate) fn stop(&mut self, to: Recipient) {
        self.queues.get_mut(&to).into_iter().for_each(MessageQueue::stop);
    }

    /// The connection is lost.
    pub(crate) fn stop_all(&mut self) {
        self.deadline = None;
        self.messages = None;
        self.bytes = None;
        self.queues.values_mut().for_each(MessageQueue::stop);
    }

    /// The next message that may be sent at this time, as the connection's frame with this number.
    pub(crate) fn next(&mut self, now: Now, frame: u64) -> Option<Next<T>> {
        self.deadline = None;
        let (key, candidate) = self.candidate(now)?;
        let (bytes, max) = (candidate.bytes, self.max_bytes);
        if self.is_unsendable(self.queues.get(&key)?, candidate) {
            let (message, waiting) = self.queues.get_mut(&key)?.remove_candidate(candidate)?;
            return Some(if bytes > max {
                Next::TooBig { waiting, bytes, max }
            } else {
                Next::Transient { waiting, event: message.event }
            });
        }
        if self.in_flight() >= self.window || (candidate.is_new && self.is_memory_full()) {
            return None;
        }
        let costs = [(&mut self.messages, 1.0), (&mut self.bytes, bytes as f64)];
        let waits = costs.map(|(bucket, cost)| bucket.as_mut().map(|bucket| bucket.wait(cost, now)));
        let wait = waits.into_iter().flatten().max().unwrap_or_default();
        if !wait.is_zero() {
            self.deadline = Some(now.saturating_add(wait));
            return None;
        }
        let text = self.queues.get_mut(&key)?.send(candidate, frame, self.used)?;
        self.used += u64::from(candidate.is_new);
        self.charge(bytes);
        Some(Next::Send(text))
    }

    /// The first message to a recipient to which something may be sent.
    fn candidate(&mut self, now: Now) -> Option<(Recipient, Candidate)> {
        let (mut first, since) = (None::<(Recipient, Candidate)>, self.remembered_since());
        for (key, queue) in &self.queues {
            let Some(candidate) = queue.candidate(since) else { continue };
            let is_unsendable = self.is_unsendable(queue, candidate);
            if !is_unsendable && !queue.has_room() {
                continue;
            }
            if !is_unsendable && queue.not_before() > now {
                let at = queue.not_before();
                self.deadline = Some(self.deadline.map_or(at, |other| other.min(at)));
                continue;
            }
            if first.is_none_or(|(_, other)| candidate.order < other.order) {
                first = Some((*key, candidate));
            }
        }
        first
    }

    /// Whether the server would not publish and acknowledge a message.
    fn is_unsendable(&self, queue: &MessageQueue<T>, candidate: Candidate) -> bool {
        candidate.bytes > self.max_bytes
            || queue.event(candidate).is_some_and(|event| self.transient_events.iter().any(|e| e == event))
    }

    /// The number of the oldest message id that the server remembers.
    fn remembered_since(&self) -> u64 {
        self.used.saturating_sub(self.max_ids as u64)
    }

    /// Whether another message id would make the server forget one that is not acknowledged.
    fn is_memory_full(&self) -> bool {
        let oldest = self.used.checked_sub(self.max_ids as u64);
        oldest.is_some_and(|oldest| self.queues.values().any(|queue| queue.needs(oldest)))
    }

    /// When to ask for the [`next`](Outgoing::next) message, if nothing else happens.
    pub(crate) fn deadline(&self) -> Option<Now> {
        self.deadline
    }

    /// The server has accepted a message. `None` if it is unknown.
    pub(crate) fn acknowledge(&mut self, cid: &str) -> Option<T> {
        let waiting = self.queues.values_mut().find_map(|queue| queue.acknowledge(cid))?;
        self.window = self.window.saturating_add(1);
        Some(waiting)
    }

    /// Whether a message with this id and this event was sent.
    pub(crate) fn has_event(&self, cid: &str, event: &str) -> bool {
        self.queues.values().any(|queue| queue.has_event(cid, event))
    }

    /// The recipient of the message with this id.
    pub(crate) fn recipient_of(&self, cid: &str) -> Option<Recipient> {
        self.queues.iter().find(|(_, queue)| queue.contains(cid)).map(|(key, _)| *key)
    }

    /// Removes the message with this id.
    pub(crate) fn take(&mut self, cid: &str) -> Option<T> {
        self.queues.values_mut().find_map(|queue| queue.take(cid))
    }

    /// The place of the oldest message in flight among the connection's frames.
    pub(crate) fn oldest_in_flight(&self) -> Option<u64> {
        self.queues.values().filter_map(MessageQueue::oldest_in_flight).min()
    }

    /// Removes the oldest message in flight.
    pub(crate) fn take_oldest(&mut self) -> Option<T> {
        let frame = self.oldest_in_flight()?;
        self.queues.values_mut().find_map(|queue| queue.take_in_flight(frame))
    }

    /// The server has refused a message until this time has passed. It is sent again before all others to its
    /// recipient.
    pub(crate) fn postpone(&mut self, cid: &str, wait: Duration, now: Now) {
        let until = now.saturating_add(wait);
        if self.queues.values_mut().any(|queue| queue.postpone(cid, until)) {
            self.drain_buckets(now);
        }
    }

    /// Removes all messages for a recipient.
    pub(crate) fn drain(&mut self, to: Recipient) -> impl Iterator<Item = T> {
        self.queues.remove(&to).into_iter().flat_map(|mut queue| queue.drain().collect::<Vec<_>>())
    }

    fn queue(&mut self, to: Recipient) -> &mut MessageQueue<T> {
        self.queues.entry(to).or_insert_with(MessageQueue::new)
    }
}

//! The application's messages in order, until they are acknowledged. They are sent within the server's
//! limits, each once on a connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::incoming::{Rates, Welcome};
use crate::token_bucket::TokenBucket;

/// Unacknowledged messages if the server sets no limit.
const MAX_IN_FLIGHT: usize = 1024;

/// Messages in flight on a connection that has not yet shown that the server accepts more.
const FIRST_WINDOW: usize = 16;

/// Time since the client was created.
type Now = Duration;

/// `T` waits for the acknowledgement of a message.
#[derive(Debug)]
pub(crate) struct Outgoing<T> {
    items: VecDeque<Item<T>>,
    /// The member that sends; `None` while nothing may be sent.
    member: Option<Arc<str>>,
    max_bytes: usize,
    max_in_flight: usize,
    in_flight: usize,
    messages: Option<TokenBucket>,
    bytes: Option<TokenBucket>,
    /// The server has refused a message, and accepts it from this time on.
    not_before: Now,
    /// The maximum number of messages in flight. It is small at first: a server that knows better must not have to refuse
    /// many at the same time. After a refusal, only the refused message is in flight, so that no other overtakes it. Each
    /// acknowledgement raises the number by one.
    window: usize,
    /// When [`next`](Outgoing::next) has something again, if nothing else happens.
    deadline: Option<Now>,
}

#[derive(Debug)]
struct Item<T> {
    cid: String,
    text: String,
    waiting: T,
    /// It was sent on this connection and not answered.
    is_in_flight: bool,
    /// The member that sent it last.
    member: Option<Arc<str>>,
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
}

impl<T> Outgoing<T> {
    pub(crate) fn new() -> Outgoing<T> {
        Outgoing {
            items: VecDeque::new(),
            member: None,
            max_bytes: usize::MAX,
            max_in_flight: MAX_IN_FLIGHT,
            in_flight: 0,
            messages: None,
            bytes: None,
            not_before: Now::ZERO,
            window: FIRST_WINDOW,
            deadline: None,
        }
    }

    pub(crate) fn push(&mut self, cid: String, text: String, waiting: T) {
        self.items.push_back(Item { cid, text, waiting, is_in_flight: false, member: None });
    }

    /// How many messages were never sent.
    pub(crate) fn unsent(&self) -> usize {
        self.items.iter().rev().take_while(|item| item.member.is_none()).count()
    }

    /// How many messages are sent and not answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether the server remembers all messages that were ever sent, in the session of this member.
    pub(crate) fn are_known_to(&self, member: Option<&str>) -> bool {
        self.items.iter().filter_map(|item| item.member.as_deref()).all(|sender| Some(sender) == member)
    }

    /// A connection has entered for the first time: sets the limits of its server.
    pub(crate) fn set_limits(&mut self, welcome: &Welcome, now: Now) {
        self.max_bytes = welcome.message_bytes;
        // A limit of 0 would stop the client from ever sending.
        self.max_in_flight = welcome.cids.clamp(1, MAX_IN_FLIGHT);
        let Rates { messages, bytes, burst, is_empty } = welcome.rates;
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

    /// From now on, messages may be sent by this member.
    pub(crate) fn start(&mut self, member: Arc<str>) {
        if self.member.is_none() {
            self.window = self.window.min(FIRST_WINDOW);
        }
        self.member = Some(member);
    }

    /// Nothing may be sent. What was not answered is sent again later.
    pub(crate) fn stop(&mut self) {
        self.member = None;
        self.deadline = None;
        self.in_flight = 0;
        self.items.iter_mut().for_each(|item| item.is_in_flight = false);
    }

    /// The next message that may be sent at this time.
    pub(crate) fn next(&mut self, now: Now) -> Option<Next<T>> {
        self.deadline = None;
        let member = self.member.as_ref()?;
        let at = self.items.iter().position(|item| !item.is_in_flight)?;
        let (item, max) = (&mut self.items[at], self.max_bytes);
        let bytes = item.text.len();
        if bytes > max {
            let waiting = self.items.remove(at)?.waiting;
            return Some(Next::TooBig { waiting, bytes, max });
        }
        if self.in_flight >= self.window.min(self.max_in_flight) {
            return None;
        }
        let costs = [(&mut self.messages, 1.0), (&mut self.bytes, bytes as f64)];
        let waits = costs.map(|(bucket, cost)| bucket.as_mut().map(|bucket| bucket.wait(cost, now)));
        let wait = waits.into_iter().flatten().fold(self.not_before.saturating_sub(now), Duration::max);
        if !wait.is_zero() {
            self.deadline = Some(now.saturating_add(wait));
            return None;
        }
        self.messages.iter_mut().for_each(|bucket| bucket.take(1.0));
        self.bytes.iter_mut().for_each(|bucket| bucket.take(bytes as f64));
        item.is_in_flight = true;
        item.member = Some(member.clone());
        self.in_flight += 1;
        Some(Next::Send(item.text.clone()))
    }

    /// When to ask for the [`next`](Outgoing::next) message, if nothing else happens.
    pub(crate) fn deadline(&self) -> Option<Now> {
        self.deadline
    }

    /// The server has accepted a message. `None` if it is unknown.
    pub(crate) fn acknowledge(&mut self, cid: &str) -> Option<T> {
        let waiting = self.take(cid)?;
        self.window = self.window.saturating_add(1);
        Some(waiting)
    }

    /// Removes the message with this id.
    pub(crate) fn take(&mut self, cid: &str) -> Option<T> {
        let at = self.items.iter().position(|item| item.cid == cid)?;
        self.remove(at)
    }

    /// Removes the oldest message in flight.
    pub(crate) fn take_oldest(&mut self) -> Option<T> {
        let at = self.items.iter().position(|item| item.is_in_flight)?;
        self.remove(at)
    }

    /// The server has refused a message, and accepts it after this time. It is sent before all others.
    pub(crate) fn postpone(&mut self, cid: &str, wait: Duration, now: Now) {
        let Some(item) = self.items.iter_mut().find(|item| item.cid == cid) else { return };
        self.in_flight -= usize::from(std::mem::take(&mut item.is_in_flight));
        self.not_before = self.not_before.max(now.saturating_add(wait));
        self.window = 1;
        self.drain_buckets(now);
    }

    /// Removes all messages.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.stop();
        self.items.drain(..).map(|item| item.waiting)
    }

    fn remove(&mut self, at: usize) -> Option<T> {
        let item = self.items.remove(at)?;
        self.in_flight -= usize::from(item.is_in_flight);
        Some(item.waiting)
    }
}

//! The application's messages in order, until they are acknowledged.

use std::collections::VecDeque;

/// `T` waits for the acknowledgement of a message.
#[derive(Debug)]
pub(crate) struct Outgoing<T> {
    items: VecDeque<Item<T>>,
    /// How many items, from the front, were sent on the current connection.
    sent: usize,
}

#[derive(Debug)]
struct Item<T> {
    cid: String,
    text: String,
    waiting: T,
    /// Sent on this connection or an earlier one.
    was_sent: bool,
}

impl<T> Outgoing<T> {
    pub(crate) fn new() -> Outgoing<T> {
        Outgoing { items: VecDeque::new(), sent: 0 }
    }

    pub(crate) fn push(&mut self, cid: String, text: String, waiting: T) {
        self.items.push_back(Item { cid, text, waiting, was_sent: false });
    }

    /// How many messages were never sent.
    pub(crate) fn unsent(&self) -> usize {
        self.items.iter().rev().take_while(|item| !item.was_sent).count()
    }

    /// The next message to send, if fewer than `window` are unacknowledged.
    pub(crate) fn next(&self, window: usize) -> Option<&str> {
        let item = self.items.get(self.sent)?;
        (self.sent < window).then_some(&item.text)
    }

    /// Marks the next message as sent.
    pub(crate) fn advance(&mut self) {
        if let Some(item) = self.items.get_mut(self.sent) {
            item.was_sent = true;
            self.sent += 1;
        }
    }

    /// Removes the next message without sending it.
    pub(crate) fn take_next(&mut self) -> Option<T> {
        self.items.remove(self.sent).map(|item| item.waiting)
    }

    /// Prepares to send all messages again, after the connection was lost.
    pub(crate) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// Removes the message with this id.
    pub(crate) fn take(&mut self, cid: &str) -> Option<T> {
        let at = self.items.iter().position(|item| item.cid == cid)?;
        self.sent -= usize::from(at < self.sent);
        self.items.remove(at).map(|item| item.waiting)
    }

    /// Removes the oldest message that was sent on the current connection.
    pub(crate) fn take_oldest(&mut self) -> Option<T> {
        self.sent = self.sent.checked_sub(1)?;
        self.items.pop_front().map(|item| item.waiting)
    }

    /// Removes all messages.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.sent = 0;
        self.items.drain(..).map(|item| item.waiting)
    }
}

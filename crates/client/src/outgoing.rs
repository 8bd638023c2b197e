//! The application's messages until they are acknowledged, in order.

use std::collections::VecDeque;

/// How many acknowledged messages are remembered until they come back from the room.
const RECENT: usize = 256;

/// `T` is what waits for the acknowledgement.
#[derive(Debug)]
pub(crate) struct Outgoing<T> {
    items: VecDeque<Item<T>>,
    /// So many of them, the first ones, have been sent on the present connection.
    on_wire: usize,
    /// The cids of messages that were acknowledged, and not yet seen in the room.
    recent: VecDeque<String>,
}

#[derive(Debug)]
struct Item<T> {
    cid: String,
    text: String,
    waiting: T,
    /// Sent on this connection or another.
    sent: bool,
}

impl<T> Outgoing<T> {
    pub(crate) fn new() -> Outgoing<T> {
        Outgoing { items: VecDeque::new(), on_wire: 0, recent: VecDeque::new() }
    }

    pub(crate) fn push(&mut self, cid: String, text: String, waiting: T) {
        self.items.push_back(Item { cid, text, waiting, sent: false });
    }

    /// How many have never been sent.
    pub(crate) fn unsent(&self) -> usize {
        self.items.iter().rev().take_while(|item| !item.sent).count()
    }

    /// The next to be sent, where at most `window` may be under way.
    pub(crate) fn next(&self, window: usize) -> Option<&str> {
        let item = self.items.get(self.on_wire)?;
        (self.on_wire < window).then_some(&item.text)
    }

    /// The next one has been sent.
    pub(crate) fn advance(&mut self) {
        if let Some(item) = self.items.get_mut(self.on_wire) {
            item.sent = true;
            self.on_wire += 1;
        }
    }

    /// Takes the next one out, unsent.
    pub(crate) fn refuse(&mut self) -> Option<T> {
        self.items.remove(self.on_wire).map(|item| item.waiting)
    }

    /// The connection is gone: all that is here has to be sent again.
    pub(crate) fn rewind(&mut self) {
        self.on_wire = 0;
    }

    /// Takes out a message that the server has answered.
    pub(crate) fn settle(&mut self, cid: &str) -> Option<T> {
        let at = self.items.iter().position(|item| item.cid == cid)?;
        self.on_wire -= usize::from(at < self.on_wire);
        self.items.remove(at).map(|item| item.waiting)
    }

    /// Takes out the one that the server answers next.
    pub(crate) fn settle_oldest(&mut self) -> Option<T> {
        self.on_wire = self.on_wire.checked_sub(1)?;
        self.items.pop_front().map(|item| item.waiting)
    }

    /// An acknowledged message will come back from the room.
    pub(crate) fn expect(&mut self, cid: String) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(cid);
    }

    /// Whether a frame with this cid is an acknowledged message that comes back.
    pub(crate) fn recognize(&mut self, cid: &str) -> bool {
        let at = self.recent.iter().position(|recent| recent == cid);
        at.is_some_and(|at| self.recent.remove(at).is_some())
    }

    /// Everything that still waits.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.on_wire = 0;
        self.items.drain(..).map(|item| item.waiting)
    }
}

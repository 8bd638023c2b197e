//! The callbacks as a bounded channel, for hosts that want a stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::hooks::events::{Entered, Left, Message, RoomEvents};
use crate::ids::{ConnectionId, Name, RoomId};

/// A pair of a [`RoomEvents`] hook and a receiver of what it hears.
///
/// At most `capacity` events wait. What comes while it is full is dropped and counted; the
/// receiver is told by [`ChannelEvent::Lost`] before the next event, and can take stock with
/// [`ChatRooms::members`](crate::ChatRooms::members).
///
/// ```
/// use tower_chat_rooms::{ChannelEvent, ChatRooms, event_channel};
///
/// # async fn run() {
/// let (events, mut receiver) = event_channel(1024);
/// let rooms = ChatRooms::builder().events(events).build().unwrap();
/// tokio::spawn(async move {
///     while let Some(event) = receiver.recv().await {
///         if let ChannelEvent::Entered(e) = event {
///             println!("{} is in {}, {} online", e.name, e.room, e.online);
///         }
///     }
/// });
/// # drop(rooms);
/// # }
/// ```
///
/// # Panics
/// If `capacity` is 0.
pub fn event_channel(capacity: usize) -> (EventSender, EventReceiver) {
    let (tx, rx) = mpsc::channel(capacity);
    let lost = Arc::new(AtomicU64::new(0));
    (EventSender { tx, lost: lost.clone() }, EventReceiver { rx, lost })
}

/// The hook side of an [`event_channel`].
#[derive(Debug)]
pub struct EventSender {
    tx: Sender<ChannelEvent>,
    lost: Arc<AtomicU64>,
}

/// The receiving side of an [`event_channel`].
#[derive(Debug)]
pub struct EventReceiver {
    rx: Receiver<ChannelEvent>,
    lost: Arc<AtomicU64>,
}

/// What an [`EventReceiver`] yields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ChannelEvent {
    /// A connection is now a member of a room.
    Entered(Entered),
    /// A connection is no longer a member of a room.
    Left(Left),
    /// A message has gone out to a room.
    Message {
        /// The sender's connection.
        connection: ConnectionId,
        /// The room.
        room: RoomId,
        /// The sender's name there.
        name: Name,
        /// The event's name, mostly `message`.
        event: String,
        /// The frame as the sender wrote it, a JSON object.
        body: String,
    },
    /// So many events were dropped because the channel was full.
    Lost(u64),
}

impl EventSender {
    fn push(&self, event: ChannelEvent) {
        if self.tx.try_send(event).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl RoomEvents for EventSender {
    fn entered(&self, event: &Entered) {
        self.push(ChannelEvent::Entered(event.clone()));
    }

    fn left(&self, event: &Left) {
        self.push(ChannelEvent::Left(event.clone()));
    }

    fn message(&self, event: &Message<'_>) {
        self.push(ChannelEvent::Message {
            connection: event.connection,
            room: event.room.clone(),
            name: event.name.clone(),
            event: event.event.into(),
            body: event.body.into(),
        });
    }
}

impl EventReceiver {
    /// The next event; `None` once the engine is gone and all were received.
    pub async fn recv(&mut self) -> Option<ChannelEvent> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next event, for use in a hand-written stream.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<ChannelEvent>> {
        match self.lost.swap(0, Ordering::Relaxed) {
            0 => self.rx.poll_recv(cx),
            lost => Poll::Ready(Some(ChannelEvent::Lost(lost))),
        }
    }
}

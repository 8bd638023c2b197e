//! The callbacks as a bounded channel, for hosts that want a stream.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::hooks::events::{Entered, Left, Message, RoomEvents};
use crate::hooks::user::User;
use crate::ids::{ConnectionId, Name, RoomId};

/// A pair of a [`RoomEvents`] hook and a receiver of what it hears.
///
/// At most `capacity` events wait. What comes while it is full is dropped and counted; the
/// receiver is told by [`ChannelEvent::Lost`] in its place among the others, and can take stock
/// with [`ChatRooms::members`](crate::ChatRooms::members).
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
    let shared = Arc::new(Mutex::new(Shared { tx: Some(tx), lost: 0 }));
    (EventSender { shared: shared.clone(), messages: true }, EventReceiver { rx, shared })
}

/// The hook side of an [`event_channel`].
#[derive(Debug)]
pub struct EventSender {
    shared: Arc<Mutex<Shared>>,
    messages: bool,
}

/// The receiving side of an [`event_channel`].
#[derive(Debug)]
pub struct EventReceiver {
    rx: Receiver<ChannelEvent>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    /// Gone once nothing more will come.
    tx: Option<Sender<ChannelEvent>>,
    /// How many were dropped since the last one that was not.
    lost: u64,
}

/// What an [`EventReceiver`] yields.
#[derive(Clone)]
#[non_exhaustive]
pub enum ChannelEvent {
    /// A connection is now a member of a room.
    Entered(Entered),
    /// A connection is no longer a member of a room.
    Left(Left),
    /// A message has gone out to a room.
    #[non_exhaustive]
    Message {
        /// The sender's connection.
        connection: ConnectionId,
        /// The room.
        room: RoomId,
        /// The sender's name there.
        name: Name,
        /// The user, where one is authenticated.
        user: Option<Arc<User>>,
        /// The event's name, mostly `message`.
        event: String,
        /// The frame as the sender wrote it, a JSON object.
        body: String,
    },
    /// So many events were dropped because the channel was full.
    Lost(u64),
}

/// What was said may be secret, so it is not shown.
impl fmt::Debug for ChannelEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelEvent::Entered(event) => event.fmt(f),
            ChannelEvent::Left(event) => event.fmt(f),
            ChannelEvent::Message { connection, room, name, user, event, body: _ } => f
                .debug_struct("Message")
                .field("connection", connection)
                .field("room", room)
                .field("name", name)
                .field("user", user)
                .field("event", event)
                .finish_non_exhaustive(),
            ChannelEvent::Lost(n) => f.debug_tuple("Lost").field(n).finish(),
        }
    }
}

impl EventSender {
    /// Leaves the messages out, so that a chatty room doesn't crowd out who comes and goes.
    #[must_use]
    pub fn without_messages(mut self) -> EventSender {
        self.messages = false;
        self
    }

    fn push(&self, event: ChannelEvent) {
        let mut shared = lock(&self.shared);
        let Shared { tx: Some(tx), lost } = &mut *shared else { return };
        if *lost > 0 && tx.try_send(ChannelEvent::Lost(*lost)).is_ok() {
            *lost = 0;
        }
        if *lost > 0 || tx.try_send(event).is_err() {
            *lost += 1;
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RoomEvents for EventSender {
    fn entered(&self, event: &Entered) {
        self.push(ChannelEvent::Entered(event.clone()));
    }

    fn left(&self, event: &Left) {
        self.push(ChannelEvent::Left(event.clone()));
    }

    fn message(&self, event: &Message<'_>) {
        if !self.messages {
            return;
        }
        self.push(ChannelEvent::Message {
            connection: event.connection,
            room: event.room.clone(),
            name: event.name.clone(),
            user: event.user.cloned(),
            event: event.event.into(),
            body: event.body.into(),
        });
    }

    fn ended(&self) {
        lock(&self.shared).tx = None;
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        lock(&self.shared).tx = None;
    }
}

impl EventReceiver {
    /// The next event; `None` once the engine was shut down, or dropped, and all were received.
    pub async fn recv(&mut self) -> Option<ChannelEvent> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next event, for use in a hand-written stream.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<ChannelEvent>> {
        match self.rx.poll_recv(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(Some(event)),
            over => match std::mem::take(&mut lock(&self.shared).lost) {
                0 => over,
                lost => Poll::Ready(Some(ChannelEvent::Lost(lost))),
            },
        }
    }
}

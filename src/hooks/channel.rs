//! The callbacks through a bounded channel.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::hooks::events::{DirectMessage, Entered, Left, RoomEvents, UserOffline, UserOnline};
use crate::hooks::message::Message;
use crate::hooks::user::User;
use crate::ids::ConnectionId;

/// Creates a [`RoomEvents`] hook and the receiver of its events.
///
/// At most `capacity` events are queued. Events that do not fit are dropped and counted. The receiver gets a
/// [`ChannelEvent::Lost`] in their place, and can call [`ChatRooms::members`](crate::ChatRooms::members) and
/// [`ChatRooms::is_online`](crate::ChatRooms::is_online) to find out who is there.
///
/// ```
/// use tower_chat_rooms::{ChannelEvent, ChatRooms, event_channel};
///
/// # async fn run() {
/// let (events, mut receiver) = event_channel(1024);
/// let rooms = ChatRooms::builder().events(events).build().unwrap();
/// tokio::spawn(async move {
///     while let Some(event) = receiver.recv().await {
///         if let ChannelEvent::Entered(event) = event {
///             println!("{} entered {}, {} online", event.name, event.room, event.online);
///         }
///     }
/// });
/// # drop(rooms);
/// # }
/// ```
///
/// # Panics
///
/// If `capacity` is 0.
pub fn event_channel(capacity: usize) -> (EventSender, EventReceiver) {
    assert!(capacity > 0, "an event channel needs a capacity of at least 1");
    let queue = Arc::new(Mutex::new(Queue::default()));
    let receiver = EventReceiver { queue: queue.clone() };
    (EventSender { queue, capacity, messages: true }, receiver)
}

/// The sending half of an [`event_channel`], a hook.
#[derive(Debug)]
pub struct EventSender {
    queue: Arc<Mutex<Queue>>,
    capacity: usize,
    messages: bool,
}

/// The receiving half of an [`event_channel`].
#[derive(Debug)]
pub struct EventReceiver {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    /// At most the capacity, and one [`ChannelEvent::Lost`] at the end.
    events: VecDeque<ChannelEvent>,
    /// The other half is gone: nothing more is added, or nothing more is received.
    is_closed: bool,
    /// Wakes the receiver when there is an event.
    waker: Option<Waker>,
}

/// An event from an [`EventReceiver`].
#[derive(Clone)]
#[non_exhaustive]
pub enum ChannelEvent {
    /// A connection has entered a room.
    Entered(Entered),
    /// A connection has left a room.
    Left(Left),
    /// A message was sent to a room.
    Message(Message),
    /// A client has sent a direct message to a user.
    #[non_exhaustive]
    Direct {
        /// The sender's connection.
        connection: ConnectionId,
        /// The sender.
        user: Arc<User>,
        /// The id of the user that the message was sent to.
        to: String,
        /// The frame, a JSON object. See [`DirectMessage::body`].
        body: String,
        /// The number of open connections that the message has reached.
        reached: usize,
    },
    /// A user has come online.
    Online(UserOnline),
    /// A user has gone offline.
    Offline(UserOffline),
    /// The number of events that were dropped here, because the channel was full.
    Lost(u64),
}

/// Messages may be confidential, so their bodies are not shown.
impl fmt::Debug for ChannelEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelEvent::Entered(event) => event.fmt(f),
            ChannelEvent::Left(event) => event.fmt(f),
            ChannelEvent::Message(event) => event.fmt(f),
            ChannelEvent::Direct { connection, user, to, body: _, reached } => f
                .debug_struct("Direct")
                .field("connection", connection)
                .field("user", user)
                .field("to", to)
                .field("reached", reached)
                .finish_non_exhaustive(),
            ChannelEvent::Online(event) => event.fmt(f),
            ChannelEvent::Offline(event) => event.fmt(f),
            ChannelEvent::Lost(n) => f.debug_tuple("Lost").field(n).finish(),
        }
    }
}

impl EventSender {
    /// Leaves out messages to rooms, so that a busy room does not displace other events.
    #[must_use]
    pub fn without_messages(mut self) -> EventSender {
        self.messages = false;
        self
    }

    fn push(&self, event: ChannelEvent) {
        let mut queue = lock(&self.queue);
        if queue.is_closed {
            return;
        }
        // A dropped event is dropped outside of the lock, because it may hold host values that implement `Drop`.
        let _dropped = if queue.events.len() < self.capacity {
            queue.events.push_back(event);
            None
        } else {
            if let Some(ChannelEvent::Lost(lost)) = queue.events.back_mut() {
                *lost += 1;
            } else {
                queue.events.push_back(ChannelEvent::Lost(1));
            }
            Some(event)
        };
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.is_closed = true;
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
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

    fn message(&self, event: &Message) {
        if self.messages {
            self.push(ChannelEvent::Message(event.clone()));
        }
    }

    fn direct(&self, event: &DirectMessage<'_>) {
        self.push(ChannelEvent::Direct {
            connection: event.connection,
            user: event.user.clone(),
            to: event.to.into(),
            body: event.body.into(),
            reached: event.reached,
        });
    }

    fn online(&self, event: &UserOnline) {
        self.push(ChannelEvent::Online(event.clone()));
    }

    fn offline(&self, event: &UserOffline) {
        self.push(ChannelEvent::Offline(event.clone()));
    }

    fn ended(&self) {
        self.close();
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        self.close();
    }
}

impl EventReceiver {
    /// Receives the next event. Returns `None` once the engine has been shut down or dropped and all events have
    /// been received.
    pub async fn recv(&mut self) -> Option<ChannelEvent> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the next event, as [`recv`](EventReceiver::recv) does.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<ChannelEvent>> {
        let mut queue = lock(&self.queue);
        if let Some(event) = queue.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if queue.is_closed {
            return Poll::Ready(None);
        }
        queue.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for EventReceiver {
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        queue.is_closed = true;
        let _dropped = std::mem::take(&mut queue.events);
        drop(queue);
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::ids::MessageId;
    use crate::protocol::position::{Epoch, Position};

    fn numbered(n: u64) -> ChannelEvent {
        ChannelEvent::Message(Message {
            room: "r".into(),
            id: MessageId::ZERO,
            position: Position { epoch: Epoch(1), seq: n },
            time: SystemTime::UNIX_EPOCH,
            cid: None,
            sender: None,
            event: "message".into(),
            body: String::new(),
        })
    }

    #[test]
    fn lost_events_are_reported_in_their_place() {
        const EVENTS: u64 = 200_000;
        let (sender, mut receiver) = event_channel(4);
        let sending = std::thread::spawn(move || (0..EVENTS).for_each(|n| sender.push(numbered(n))));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut next = 0;
        while let Some(event) = runtime.block_on(receiver.recv()) {
            next += match event {
                ChannelEvent::Lost(n) => n,
                ChannelEvent::Message(message) => {
                    assert_eq!(message.position.seq(), next);
                    1
                }
                other => panic!("{other:?}"),
            };
        }
        assert_eq!(next, EVENTS);
        sending.join().unwrap();
    }
}

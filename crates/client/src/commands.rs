//! What the application's handles tell the client's task.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::body::Body;
use crate::client::task_ended;
use crate::error::ClientError;
use crate::event::{ClientEvent, ClientState};
use crate::events::EventSender;
use crate::history::HistoryPage;
use crate::machine::{RoomKey, RoomSettings, RoomStatus};

/// Resolves the answer to something that was sent.
#[derive(Debug)]
pub(crate) enum Ack {
    /// The acknowledgement of a message.
    Message(oneshot::Sender<Result<u64, ClientError>>),
    /// Messages that were asked for.
    History(oneshot::Sender<Result<HistoryPage, ClientError>>),
}

impl Ack {
    /// Fails silently if the application has dropped its future.
    pub(crate) fn resolve(self, result: Result<u64, ClientError>) {
        match self {
            Ack::Message(ack) => drop(ack.send(result)),
            Ack::History(ack) => drop(ack.send(Err(result.err().unwrap_or_else(wrong_answer)))),
        }
    }

    /// As [`Ack::resolve`].
    pub(crate) fn resolve_history(self, page: HistoryPage) {
        match self {
            Ack::Message(ack) => drop(ack.send(Err(wrong_answer()))),
            Ack::History(ack) => drop(ack.send(Ok(page))),
        }
    }
}

fn wrong_answer() -> ClientError {
    ClientError::BadFrame("the server has given the answer to something else".into())
}

/// A command from the application.
pub(crate) enum Command {
    Join(Box<Join>),
    /// Publish an object in a room.
    Publish {
        room: RoomKey,
        body: Body,
        ack: Ack,
        /// Limits how many of a room's messages wait for the task.
        permit: OwnedSemaphorePermit,
    },
    /// Ask for messages of a room.
    ReadHistory {
        room: RoomKey,
        /// The keys of the frame that select the messages.
        keys: Value,
        ack: Ack,
        /// One of the permits for the room's messages.
        permit: OwnedSemaphorePermit,
    },
    /// Send a direct message to a user.
    SendToUser {
        user: String,
        body: Body,
        ack: Ack,
        /// Limits how many direct messages wait for the task.
        permit: OwnedSemaphorePermit,
    },
    /// Set this client's state in a room to the one that waits in the room's [`StateSlot`].
    SetState(RoomKey),
    /// Send a transient frame to a room, if the client is there.
    SendTransient {
        room: RoomKey,
        body: Body,
        /// Limits how many of a room's transient frames wait for the task.
        permit: OwnedSemaphorePermit,
    },
    /// Enter a room again.
    Enter(RoomKey),
    /// Ask for another token and send it.
    Authenticate,
    Leave {
        room: RoomKey,
        done: oneshot::Sender<()>,
    },
    Close {
        done: oneshot::Sender<()>,
    },
}

/// A room that the application wants to be in.
pub(crate) struct Join {
    pub(crate) key: RoomKey,
    pub(crate) room: RoomSettings,
    pub(crate) outlet: Outlet,
}

/// The task's half of a room.
pub(crate) struct Outlet {
    pub(crate) events: EventSender<ClientEvent>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) state: StateSlot,
    /// Resolved once, with the result of entering for the first time.
    pub(crate) entered: Option<oneshot::Sender<Result<(), ClientError>>>,
}

/// The newest state that the application has set in a room, until the task takes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct StateSlot(Arc<Mutex<Option<Value>>>);

impl StateSlot {
    /// Returns whether the task must be told.
    pub(crate) fn put(&self, state: Value) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(state).is_none()
    }

    pub(crate) fn take(&self) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What a handle can tell about its room.
#[derive(Debug, Default)]
pub(crate) struct Status {
    /// `None` before the room was entered for the first time.
    pub(crate) state: Option<ClientState>,
    pub(crate) room_status: RoomStatus,
    /// Those of the server on which a room was entered last.
    pub(crate) transient_events: Arc<[String]>,
}

/// Where commands are sent. Clones don't keep the client alive.
#[derive(Debug, Clone)]
pub(crate) struct Commands {
    sender: mpsc::UnboundedSender<Command>,
    next_room: Arc<AtomicU64>,
    /// For direct messages that wait for the task.
    direct_permits: Arc<Semaphore>,
}

impl Commands {
    pub(crate) fn new(max_unsent: usize) -> (Commands, mpsc::UnboundedReceiver<Command>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let direct_permits = Arc::new(Semaphore::new(max_unsent.min(Semaphore::MAX_PERMITS)));
        (Commands { sender, next_room: Arc::default(), direct_permits }, receiver)
    }

    /// Sends a direct message to a user. Returns the receiver of its acknowledgement.
    pub(crate) fn send_to_user(
        &self,
        user: String,
        body: Body,
    ) -> Result<oneshot::Receiver<Result<u64, ClientError>>, ClientError> {
        let permit = self.direct_permits.clone().try_acquire_owned().map_err(|_| ClientError::QueueFull)?;
        let (ack, acknowledged) = oneshot::channel();
        let command = Command::SendToUser { user, body, ack: Ack::Message(ack), permit };
        if self.send(command) { Ok(acknowledged) } else { Err(task_ended()) }
    }

    /// A key for a room that is joined.
    pub(crate) fn next_key(&self) -> RoomKey {
        RoomKey(self.next_room.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns `false` if the task has ended.
    pub(crate) fn send(&self, command: Command) -> bool {
        self.sender.send(command).is_ok()
    }
}

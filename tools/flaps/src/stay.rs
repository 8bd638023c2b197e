//! A client's stay in a room, and what it receives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;
use tower_chat_rooms_client::{Client, ClientEvent, ClientSender, Presence};

/// What was received in a room since the last check.
#[derive(Default)]
pub(crate) struct Received {
    /// The frames by `seq`, as text.
    pub(crate) frames: BTreeMap<u64, String>,
    /// The `seq` of the latest frame, if there was one.
    pub(crate) last: Option<u64>,
    pub(crate) presence: Option<Presence>,
    /// How often the presence mode has changed.
    pub(crate) mode_changes: u64,
    pub(crate) faults: Vec<String>,
}

pub(crate) struct Stay {
    pub(crate) room: usize,
    pub(crate) sender: ClientSender,
    received: Arc<Mutex<Received>>,
    task: JoinHandle<()>,
}

impl Stay {
    pub(crate) fn new(room: usize, client: Client) -> Stay {
        let received = Arc::new(Mutex::new(Received::default()));
        let sender = client.sender();
        let task = tokio::spawn(collect(client, received.clone()));
        Stay { room, sender, received, task }
    }

    pub(crate) fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the room, and returns what was received there.
    pub(crate) async fn leave(self) -> Received {
        self.sender.leave().await;
        let _ = self.task.await;
        std::mem::take(&mut *self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes all events of a client until it has left. No frame may be missing or come twice.
async fn collect(mut client: Client, received: Arc<Mutex<Received>>) {
    while let Some(event) = client.recv().await {
        let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            ClientEvent::Enter(frame) | ClientEvent::Out(frame) | ClientEvent::Message(frame) => {
                let text =
                    format!("{} {} {}", frame.event(), frame.name().unwrap_or_default(), frame.message());
                let Some(seq) = frame.seq() else {
                    received.faults.push(format!("no seq: {text}"));
                    continue;
                };
                if received.last.is_some_and(|last| seq != last + 1) {
                    let fault = format!("{seq} after {:?}: {text}", received.last);
                    received.faults.push(fault);
                }
                received.last = Some(seq);
                received.frames.insert(seq, text);
            }
            ClientEvent::Presence(presence) => {
                let mode = received.presence.as_ref().map(Presence::mode);
                received.mode_changes += u64::from(mode.is_some_and(|mode| mode != presence.mode()));
                received.presence = Some(presence);
            }
            ClientEvent::Gap { .. } | ClientEvent::Overflow { .. } | ClientEvent::Error(_) => {
                received.faults.push(format!("{event:?}"));
            }
            _ => {}
        }
    }
}

//! One client, and what it notices.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tower_chat_rooms_client::{Client, ClientError, ClientEvent, ClientSender, ClientState, RoomFrame};

/// A room, in which one member sends the numbers from 1 on.
#[derive(Default)]
pub(crate) struct Room {
    /// The last number that was acknowledged.
    sent: AtomicU64,
    /// Messages that were not acknowledged in the end.
    pub(crate) unacknowledged: AtomicU64,
    has_ended: AtomicBool,
    /// Whether no message is on its way.
    is_quiet: AtomicBool,
}

/// What one client has noticed since the beginning.
pub(crate) struct Watched {
    room: Arc<Room>,
    has_begun: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Default)]
pub(crate) struct Seen {
    /// The close codes of lost connections.
    pub(crate) codes: Vec<u16>,
    /// Why attempts to reconnect failed.
    pub(crate) failed: Vec<String>,
    lost_at: Option<Instant>,
    /// How long it was not in its room, and when it was back.
    pub(crate) away: Vec<(Duration, Instant)>,
    /// Enters of which the session was not the one before.
    pub(crate) not_resumed: usize,
    pub(crate) gaps: usize,
    /// Enters and leaves of other members.
    pub(crate) moves: usize,
    /// The latest number.
    number: Option<u64>,
    /// Numbers that did not follow the one before.
    pub(crate) out_of_order: usize,
    pub(crate) other: Vec<String>,
}

impl Room {
    /// No further message is sent.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    async fn send(&self, sender: ClientSender, pause: Duration) {
        let mut number = 0;
        while !self.has_ended.load(Ordering::SeqCst) {
            number += 1;
            match sender.send(&number).await {
                Ok(_) => self.sent.store(number, Ordering::SeqCst),
                Err(_) => drop(self.unacknowledged.fetch_add(1, Ordering::SeqCst)),
            }
            sleep(pause).await;
        }
        self.is_quiet.store(true, Ordering::SeqCst);
    }
}

impl Watched {
    pub(crate) fn new(room: Arc<Room>) -> Watched {
        Watched { room, has_begun: AtomicBool::new(false), seen: Mutex::default() }
    }

    /// From now on, others must not enter or leave.
    pub(crate) fn begin(&self) {
        self.has_begun.store(true, Ordering::SeqCst);
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is in its room and has all messages.
    pub(crate) fn is_done(&self) -> bool {
        let seen = self.seen();
        seen.lost_at.is_none()
            && self.room.is_quiet.load(Ordering::SeqCst)
            && seen.number >= Some(self.room.sent())
    }

    fn take(&self, event: ClientEvent) {
        let (now, has_begun) = (Instant::now(), self.has_begun.load(Ordering::SeqCst));
        let mut seen = self.seen();
        match event {
            ClientEvent::State(ClientState::Reconnecting { reason, .. }) => {
                seen.lost_at.get_or_insert(now);
                match reason {
                    ClientError::Lost { code, .. } => seen.codes.push(code),
                    other => seen.failed.push(other.to_string()),
                }
            }
            ClientEvent::State(ClientState::Online) => {
                if let Some(lost_at) = seen.lost_at.take() {
                    seen.away.push((now - lost_at, now));
                }
            }
            ClientEvent::Entered { resumed, .. } => {
                seen.not_resumed += usize::from(has_begun && !resumed);
            }
            ClientEvent::Gap { .. } => seen.gaps += 1,
            ClientEvent::Enter(_) | ClientEvent::Out(_) => seen.moves += usize::from(has_begun),
            ClientEvent::Message(frame) => seen.take_number(&frame),
            ClientEvent::Presence(_) => {}
            other => seen.other.push(format!("{other:?}")),
        }
    }
}

impl Seen {
    fn take_number(&mut self, frame: &RoomFrame) {
        let number = frame.message().as_u64();
        let follows = self.number.is_none_or(|before| number == Some(before + 1));
        self.out_of_order += usize::from(!follows);
        self.number = number;
    }
}

/// Runs a client until its task is aborted. If it is the one that sends, it does so with these pauses.
pub(crate) async fn watch(mut client: Client, watched: Arc<Watched>, sends: Option<Duration>) {
    let (room, sender) = (watched.room.clone(), client.sender());
    let sending = async move {
        if let Some(pause) = sends {
            room.send(sender, pause).await;
        }
        std::future::pending::<()>().await;
    };
    let receiving = async {
        while let Some(event) = client.recv().await {
            watched.take(event);
        }
        watched.seen().other.push("closed for good".to_owned());
    };
    tokio::select! {
        () = sending => {}
        () = receiving => {}
    }
}

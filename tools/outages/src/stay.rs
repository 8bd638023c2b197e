//! A client's stay in a room, and what it receives.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower_chat_rooms_client::{Client, ClientEvent, ClientSender, ClientState, Presence, RoomFrame};

/// A frame of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    /// Unknown to plain clients.
    pub(crate) member: Option<String>,
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) num: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Enter,
    Out,
    Message,
}

/// Frames of one epoch.
#[derive(Debug)]
pub(crate) struct Run {
    /// Those of one run that were taken at different times have the same one.
    pub(crate) id: u64,
    pub(crate) frames: Vec<(u64, Frame)>,
    /// How often the client was at a frame in this epoch. It does not say in which epoch a frame is, and may be further
    /// already, but rarely at the same `seq` in another epoch.
    pub(crate) epochs: BTreeMap<String, usize>,
}

/// What a client could not recover from.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Changes {
    /// How often frames were missed for good.
    pub(crate) gaps: u64,
    /// How often the client has entered as a new member.
    pub(crate) enters: u64,
}

/// A client has come back, and has lost something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Return {
    /// When it had entered before.
    pub(crate) entered: Instant,
    /// When it noticed that its connection was lost.
    pub(crate) lost: Instant,
    pub(crate) at: Instant,
    /// Whether it is another member than before.
    pub(crate) is_new: bool,
    /// Whether frames were missed for good.
    pub(crate) has_gap: bool,
}

/// What was received in a room.
#[derive(Debug)]
pub(crate) struct Received {
    /// Since the last check.
    pub(crate) runs: Vec<Run>,
    /// The `seq` of the latest frame, if there was one.
    pub(crate) last: Option<u64>,
    pub(crate) changes: Changes,
    /// At the last check.
    pub(crate) checked: Changes,
    pub(crate) is_online: bool,
    pub(crate) has_left: bool,
    pub(crate) presence: Option<Presence>,
    pub(crate) faults: Vec<String>,
    /// Since the last check.
    pub(crate) returns: Vec<Return>,
    entered: Option<Instant>,
    lost: Option<Instant>,
    /// The id of the member.
    member: String,
}

pub(crate) struct Stay {
    pub(crate) room: usize,
    pub(crate) sender: ClientSender,
    received: Shared,
    task: JoinHandle<()>,
}

/// What was received, while more is received.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Received>>);

impl Stay {
    pub(crate) fn new(room: usize, client: Client) -> Stay {
        let received = Shared(Arc::new(Mutex::new(Received::new())));
        let sender = client.sender();
        let task = tokio::spawn(collect(client, received.clone()));
        Stay { room, sender, received, task }
    }

    pub(crate) fn received(&self) -> &Shared {
        &self.received
    }

    /// Leaves the room, and returns what was received there.
    pub(crate) async fn leave(self) -> Shared {
        self.received.lock().has_left = true;
        self.sender.leave().await;
        let _ = self.task.await;
        self.received
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Received> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    fn new(id: u64) -> Run {
        Run { id, frames: Vec::new(), epochs: BTreeMap::new() }
    }

    fn next() -> Run {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Run::new(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Received {
    fn new() -> Received {
        Received {
            runs: vec![Run::next()],
            last: None,
            changes: Changes::default(),
            checked: Changes::default(),
            is_online: true,
            has_left: false,
            presence: None,
            faults: Vec::new(),
            returns: Vec::new(),
            entered: None,
            lost: None,
            member: String::new(),
        }
    }

    /// The client is in the room, perhaps again.
    fn enter(&mut self, member: String) {
        let is_new = self.member != member;
        self.member = member;
        self.changes.enters += u64::from(is_new);
        let at = Instant::now();
        if let (Some(entered), Some(lost), true) = (self.entered, self.lost.take(), is_new) {
            self.returns.push(Return { entered, lost, at, is_new, has_gap: false });
        }
        self.entered = Some(at);
    }

    /// Takes what was received since the last call.
    pub(crate) fn take(&mut self) -> (Vec<Run>, Vec<String>) {
        let rest = self.runs.last().map(|run| Run::new(run.id));
        let runs = std::mem::replace(&mut self.runs, rest.into_iter().collect());
        (runs, std::mem::take(&mut self.faults))
    }

    fn receive(&mut self, kind: Kind, frame: &RoomFrame, epoch: Option<&str>) {
        let (Some(seq), Some(num)) = (frame.seq(), frame.num()) else {
            self.faults.push(format!("a frame without its place: {frame:?}"));
            return;
        };
        if let Some(last) = self.last
            && seq != last + 1
        {
            self.faults.push(format!("{seq} after {last}: {frame:?}"));
        }
        self.last = Some(seq);
        let text = frame.message().as_str().unwrap_or_default().to_owned();
        let name = frame.name().unwrap_or_default().to_owned();
        let member = frame.member().map(str::to_owned);
        if let Some(run) = self.runs.last_mut() {
            run.frames.push((seq, Frame { kind, member, name, text, num }));
            if let Some(epoch) = epoch {
                *run.epochs.entry(epoch.to_owned()).or_default() += 1;
            }
        }
    }

    fn miss(&mut self, missed: Option<u64>) {
        self.changes.gaps += 1;
        match (missed, self.last) {
            (Some(missed), Some(last)) => self.last = Some(last + missed),
            _ => {
                self.last = None;
                self.runs.push(Run::next());
            }
        }
    }
}

/// Takes all events of a client until it has left.
async fn collect(mut client: Client, shared: Shared) {
    // When it had entered before the last time.
    let mut before = None;
    while let Some(event) = client.recv().await {
        let position = client.position();
        let mut received = shared.lock();
        let mut receive = |kind, frame: &RoomFrame| {
            let position = position.as_ref().filter(|position| Some(position.seq()) == frame.seq());
            received.receive(kind, frame, position.map(|position| position.epoch()));
        };
        match event {
            ClientEvent::Enter(frame) => receive(Kind::Enter, &frame),
            ClientEvent::Out(frame) => receive(Kind::Out, &frame),
            ClientEvent::Message(frame) => receive(Kind::Message, &frame),
            ClientEvent::Entered { member, .. } => {
                before = received.entered;
                received.enter(member);
            }
            ClientEvent::Gap { missed, .. } => {
                let at = Instant::now();
                let entered = before.or(received.entered).unwrap_or(at);
                received.returns.push(Return { entered, lost: at, at, is_new: false, has_gap: true });
                received.miss(missed);
            }
            ClientEvent::State(state) => {
                received.is_online = state == ClientState::Online;
                match state {
                    ClientState::Reconnecting { .. } => drop(received.lost.get_or_insert_with(Instant::now)),
                    // It was removed from the room.
                    ClientState::Outside { .. } => received.lost = None,
                    _ => {}
                }
            }
            ClientEvent::Presence(presence) => received.presence = Some(presence),
            ClientEvent::Overflow { .. } => received.faults.push(format!("{event:?}")),
            // What the server can't do while Redis is away.
            ClientEvent::Error(_) => {}
            _ => {}
        }
    }
}

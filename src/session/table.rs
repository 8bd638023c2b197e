//! All sessions: by id, in the slots over which their heartbeats are spread, for each subprotocol; by resume
//! token; and those without a connection by their deadline.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crate::delivery::Recipient;
use crate::ids::ConnectionId;
use crate::protocol::resume::ResumeToken;
use crate::protocol::subprotocol::Subprotocol;
use crate::session::session::Session;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, lock};

/// The heartbeat's interval is divided into this many parts. All heartbeats in one tick would delay messages by
/// the time that it takes to write to every connection.
pub(crate) const SLOTS: usize = if cfg!(all(test, shuttle)) { 2 } else { 50 };

type Slot = HashMap<ConnectionId, Arc<Session>>;

type Tokens = HashMap<ResumeToken, Arc<Session>>;

/// The tokens are divided into this many parts. With a single hash map, all clients would wait while it grows.
const TOKEN_PARTS: usize = if cfg!(all(test, shuttle)) { 2 } else { 64 };

pub(crate) struct Table {
    /// The id of the first connection.
    first_id: ConnectionId,
    /// The number of further ones.
    ids: AtomicU64,
    plain: Wheel,
    v1: Wheel,
    tokens: Box<[Mutex<Tokens>]>,
    deadlines: Mutex<BTreeSet<(Duration, ConnectionId)>>,
}

/// The sessions that share a heartbeat.
struct Wheel(Box<[Padded]>);

/// Slots are locked from many cores, so each has its own cache line.
#[derive(Default)]
#[repr(align(64))]
struct Padded(Mutex<Slot>);

impl Table {
    pub(crate) fn new(first_id: ConnectionId) -> Table {
        Table {
            first_id,
            ids: AtomicU64::new(0),
            plain: Wheel::new(),
            v1: Wheel::new(),
            tokens: (0..TOKEN_PARTS).map(|_| Mutex::default()).collect(),
            deadlines: Mutex::default(),
        }
    }

    /// An id that no connection has had.
    pub(crate) fn new_id(&self) -> ConnectionId {
        self.first_id.nth(self.ids.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn insert(&self, session: &Arc<Session>) {
        self.wheel(session.subprotocol()).slot(session.id()).insert(session.id(), session.clone());
    }

    pub(super) fn remove(&self, session: &Session) {
        let mut slot = self.wheel(session.subprotocol()).slot(session.id());
        slot.remove(&session.id());
        if slot.is_empty() {
            slot.shrink_to_fit();
        }
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<Arc<Session>> {
        // The first lock is released before the second is taken.
        let plain = self.plain.slot(id).get(&id).cloned();
        plain.or_else(|| self.v1.slot(id).get(&id).cloned())
    }

    /// The sessions of one slot.
    pub(crate) fn in_slot(&self, subprotocol: Subprotocol, at: usize, into: &mut Vec<Arc<Session>>) {
        into.extend(lock(&self.wheel(subprotocol).0[at % SLOTS].0).values().cloned());
    }

    /// The number of sessions.
    pub(crate) fn len(&self) -> usize {
        let slots = self.plain.0.iter().chain(&self.v1.0);
        slots.map(|slot| lock(&slot.0).len()).sum()
    }

    /// All sessions. Each slot is read when the iterator gets there.
    pub(crate) fn all(&self) -> impl Iterator<Item = Arc<Session>> {
        self.in_slots(slots())
    }

    /// The same in random order: the slots are in random order, and the order in each slot is the random one of its hash map.
    pub(crate) fn all_in_random_order(&self) -> impl Iterator<Item = Arc<Session>> {
        let (mut slots, random) = (Vec::from_iter(slots()), RandomState::new());
        slots.sort_by_cached_key(|slot| random.hash_one(slot));
        self.in_slots(slots)
    }

    fn in_slots(
        &self,
        slots: impl IntoIterator<Item = (Subprotocol, usize)>,
    ) -> impl Iterator<Item = Arc<Session>> {
        slots.into_iter().flat_map(|(subprotocol, at)| {
            let mut sessions = Vec::new();
            self.in_slot(subprotocol, at, &mut sessions);
            sessions
        })
    }

    pub(crate) fn is_empty(&self, subprotocol: Subprotocol) -> bool {
        self.wheel(subprotocol).0.iter().all(|slot| lock(&slot.0).is_empty())
    }

    /// Whether the session is the one that its id stands for, for the consistency check.
    #[cfg(feature = "test-util")]
    pub(crate) fn holds(&self, session: &Arc<Session>) -> bool {
        self.get(session.id()).is_some_and(|other| Arc::ptr_eq(&other, session))
    }

    pub(super) fn add_token(&self, token: ResumeToken, session: &Arc<Session>) {
        self.tokens_like(&token).insert(token, session.clone());
    }

    /// Removes the token of a session, unless it has become that of another one.
    pub(super) fn remove_token(&self, token: &ResumeToken, session: &Arc<Session>) {
        let mut tokens = self.tokens_like(token);
        if let Entry::Occupied(known) = tokens.entry(*token)
            && Arc::ptr_eq(known.get(), session)
        {
            known.remove();
        }
        // The smallest table stays, so that few sessions that come back do not allocate it again and again.
        if tokens.is_empty() && tokens.capacity() > 3 {
            tokens.shrink_to_fit();
        }
    }

    pub(super) fn by_token(&self, token: &ResumeToken) -> Option<Arc<Session>> {
        self.tokens_like(token).get(token).cloned()
    }

    /// The part to which a token belongs.
    fn tokens_like(&self, token: &ResumeToken) -> MutexGuard<'_, Tokens> {
        lock(&self.tokens[token.random_byte() as usize % TOKEN_PARTS])
    }

    /// The sessions that tokens belong to.
    #[cfg(feature = "test-util")]
    pub(crate) fn with_tokens(&self) -> Vec<Arc<Session>> {
        self.tokens.iter().flat_map(|tokens| Vec::from_iter(lock(tokens).values().cloned())).collect()
    }

    /// Keeps a session until this time. Returns whether no other one ends before it.
    pub(super) fn add_deadline(&self, at: Duration, id: ConnectionId) -> bool {
        let mut deadlines = lock(&self.deadlines);
        deadlines.insert((at, id));
        deadlines.first() == Some(&(at, id))
    }

    pub(super) fn remove_deadline(&self, at: Duration, id: ConnectionId) {
        lock(&self.deadlines).remove(&(at, id));
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        lock(&self.deadlines).first().map(|(at, _)| *at)
    }

    /// One session whose deadline has passed.
    pub(super) fn pop_due(&self, now: Duration) -> Option<ConnectionId> {
        let mut deadlines = lock(&self.deadlines);
        deadlines.first().filter(|(at, _)| *at <= now)?;
        deadlines.pop_first().map(|(_, id)| id)
    }

    fn wheel(&self, subprotocol: Subprotocol) -> &Wheel {
        match subprotocol {
            Subprotocol::Plain => &self.plain,
            Subprotocol::V1 => &self.v1,
        }
    }
}

/// All slots.
fn slots() -> impl Iterator<Item = (Subprotocol, usize)> {
    [Subprotocol::Plain, Subprotocol::V1].into_iter().flat_map(|of| (0..SLOTS).map(move |at| (of, at)))
}

impl Wheel {
    fn new() -> Wheel {
        Wheel((0..SLOTS).map(|_| Padded::default()).collect())
    }

    fn slot(&self, id: ConnectionId) -> MutexGuard<'_, Slot> {
        lock(&self.0[id.0 as usize % SLOTS].0)
    }
}

//! The secrets by which lost seats are taken over, and who waits for one to be handed over.

use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::engine::handover::Handover;
use crate::engine::standing::Standing;
use crate::ids::ConnectionId;
use crate::protocol::resume::Secret;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Whoever owns a [`Standing`] looks here when it is asked to end, and hands it over.
///
/// The seeker registers before it looks for the owner; an owner looks here after it has let
/// itself be found no more. So one of the two always finds the other.
#[derive(Default)]
pub(crate) struct Tickets(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    by_secret: HashMap<Secret, Ticket>,
    seekers: HashMap<ConnectionId, oneshot::Sender<Handover>>,
}

/// A secret has been redeemed, and its owner is to hand over.
pub(crate) struct Claim {
    pub(crate) id: ConnectionId,
    /// An error if there is nothing to be had.
    pub(crate) handover: oneshot::Receiver<Handover>,
}

impl Inner {
    fn issue(&mut self, standing: &Standing) {
        let Some(secret) = standing.secret else { return };
        let user = standing.user.as_ref().map(|user| user.id().into());
        self.by_secret.insert(secret, Ticket { id: standing.id, user });
    }
}

struct Ticket {
    /// The standing that it is for.
    id: ConnectionId,
    /// The user who may use it; `None` if only nobody in particular may.
    user: Option<Box<str>>,
}

impl Tickets {
    /// From now on the standing can be taken over with its secret, by its user.
    pub(crate) fn issue(&self, standing: &Standing) {
        self.lock().issue(standing);
    }

    /// Its secret is for its present user alone, unless it has been used.
    pub(crate) fn bind(&self, standing: &Standing) {
        let mut inner = self.lock();
        if standing.secret.is_some_and(|secret| inner.by_secret.contains_key(&secret)) {
            inner.issue(standing);
        }
    }

    /// Uses a secret up, if it is known and this user's, and waits for what it stands for. Whoever
    /// has that must be asked to end afterwards.
    pub(crate) fn redeem(&self, secret: &Secret, user: Option<&str>) -> Option<Claim> {
        let mut inner = self.lock();
        if inner.by_secret.get(secret)?.user.as_deref() != user {
            return None;
        }
        let id = inner.by_secret.remove(secret)?.id;
        let (tx, handover) = oneshot::channel();
        inner.seekers.insert(id, tx);
        Some(Claim { id, handover })
    }

    /// Nobody was found who could be asked. False if somebody has been asked all the same.
    pub(crate) fn give_up(&self, id: ConnectionId) -> bool {
        self.lock().seekers.remove(&id).is_some()
    }

    /// A standing has passed to the connection that had this id, whose secret is for it from now
    /// on. Returns whether that was used meanwhile, and the standing has to be passed on.
    pub(crate) fn adopt(&self, id: ConnectionId, standing: &Standing) -> bool {
        let mut inner = self.lock();
        let seeker = inner.seekers.remove(&id);
        let is_sought = seeker.is_some();
        match seeker {
            Some(seeker) => drop(inner.seekers.insert(standing.id, seeker)),
            None => inner.issue(standing),
        }
        is_sought
    }

    /// Nobody has that standing any more, and its secret is void.
    pub(crate) fn void(&self, id: ConnectionId, secret: Option<Secret>) {
        let Some(secret) = secret else { return };
        let mut inner = self.lock();
        inner.seekers.remove(&id);
        inner.by_secret.remove(&secret);
        if inner.by_secret.is_empty() {
            inner.by_secret.shrink_to_fit();
        }
    }

    /// The standings that somebody could come back to, or waits for.
    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        let inner = self.lock();
        inner.by_secret.values().map(|ticket| ticket.id).chain(inner.seekers.keys().copied()).collect()
    }

    /// Whether somebody waits for the standing of that id.
    pub(crate) fn is_sought(&self, id: ConnectionId) -> bool {
        self.lock().seekers.contains_key(&id)
    }

    /// Hands a standing over to who waits for it. If nobody does any more, it goes back.
    pub(crate) fn hand_over(&self, id: ConnectionId, handover: Handover) {
        let seeker = self.lock().seekers.remove(&id);
        // Without the lock: what can't be handed over is dropped here.
        match seeker {
            Some(seeker) => drop(seeker.send(handover)),
            None => drop(handover),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

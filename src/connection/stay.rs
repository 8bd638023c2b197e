//! A client's stay, from its first connection to its last: it ends in good order on every way
//! out, is kept for a while when its connection is lost, and passes to the one that comes next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::time::timeout;

use crate::engine::absent::Absent;
use crate::engine::engine::{Absence, Engine};
use crate::engine::handover::Handover;
use crate::engine::recipient::Recipient;
use crate::engine::standing::{Membership, Standing};
use crate::hooks::events::{Entered, Left};
use crate::hooks::guard::{self, Panicked};
use crate::hooks::user::User;
use crate::protocol::close::LeaveReason;

/// Whoever has it is responsible for the membership in it. When dropped, that ends.
pub(crate) struct Stay {
    engine: Arc<Engine>,
    pub(crate) standing: Standing,
    /// What the table and the room know it by.
    link: Arc<dyn Recipient>,
}

impl Stay {
    pub(crate) fn begin(engine: Arc<Engine>, standing: Standing, link: Arc<dyn Recipient>) -> Stay {
        engine.table.insert(standing.id, link.clone());
        engine.tickets.issue(&standing);
        Stay { engine, standing, link }
    }

    /// The client is this user from now on, and his secret is for him alone.
    pub(crate) fn authenticate(&mut self, user: User) {
        self.standing.user = Some(Arc::new(user));
        self.engine.tickets.bind(&self.standing);
    }

    /// Tells the host that the membership has begun.
    pub(crate) fn tell_entered(&mut self, online: usize) -> Result<(), Panicked> {
        let Standing { id, peer, user, membership, announced, .. } = &mut self.standing;
        let (Some(events), Some(m)) = (&self.engine.hooks.events, membership) else { return Ok(()) };
        // Even a callback that panics has been told.
        *announced = true;
        let event = Entered {
            connection: *id,
            peer: *peer,
            room: m.room.id().clone(),
            name: m.name.clone(),
            user: user.clone(),
            online,
        };
        guard::call("entered", || events.entered(&event))
    }

    /// Tells the host that a membership has ended, if it was told of its beginning.
    pub(crate) fn tell_left(
        &mut self,
        membership: &Membership,
        reason: LeaveReason,
        online: usize,
    ) -> Result<(), Panicked> {
        if !std::mem::take(&mut self.standing.announced) {
            return Ok(());
        }
        let Some(events) = &self.engine.hooks.events else { return Ok(()) };
        let event = Left {
            connection: self.standing.id,
            peer: self.standing.peer,
            room: membership.room.id().clone(),
            name: membership.name.clone(),
            user: self.standing.user.clone(),
            online,
            reason,
        };
        guard::call("left", || events.left(&event))
    }

    /// Ends the membership alone; the client is still here.
    pub(crate) fn leave_room(&mut self, reason: LeaveReason) -> Result<(), Panicked> {
        let Some(membership) = self.standing.membership.take() else { return Ok(()) };
        let id = self.standing.id;
        let online = self.engine.leave(&membership, id, &*self.link);
        tracing::debug!(connection = %id, %reason, "left its room");
        self.tell_left(&membership, reason, online)
    }

    /// Ends the stay.
    pub(crate) fn leave(&mut self, reason: LeaveReason) {
        let Standing { id, secret, .. } = self.standing;
        self.engine.table.remove(id, &self.link);
        self.engine.tickets.void(id, secret);
        let Some(membership) = self.standing.membership.take() else { return };
        let online = self.engine.leave(&membership, id, &*self.link);
        // What a panic would end is ending anyway.
        let _ = self.tell_left(&membership, reason, online);
        tracing::debug!(connection = %id, %reason, "left");
    }

    /// The connection is lost: the seat is kept for a while, or, if there is none or it may not
    /// be, this is the end of the stay.
    pub(crate) fn suspend(&mut self, reason: LeaveReason) {
        let Standing { id, peer, secret: Some(_), membership: Some(membership), user, .. } = &self.standing
        else {
            return self.leave(reason);
        };
        let address = peer.map(|peer| peer.ip());
        let Some(absence) = self.engine.keep_absent(address) else { return self.leave(reason) };
        let absent = Arc::new(Absent::default());
        self.engine.table.insert(*id, absent.clone());
        self.engine.suspend(membership, *id, user.clone(), absent.clone());
        self.link.detach();
        // It may have been given after the connection's end had begun.
        if let Some(verdict) = self.link.verdict() {
            absent.close(verdict);
        }
        tracing::debug!(connection = %id, "connection lost; its seat is kept");
        let standing = std::mem::replace(&mut self.standing, Standing::nobody());
        Stay { engine: self.engine.clone(), standing, link: absent.clone() }.keep(absent, absence);
    }

    /// Takes over what another connection has left. The present secret is the one that counts.
    pub(crate) fn adopt(&mut self, handover: Handover) {
        let Some((standing, absent)) = handover.take() else { return };
        let own = std::mem::replace(&mut self.standing, standing);
        let new = &mut self.standing;
        new.secret = own.secret;
        new.peer = own.peer.or(new.peer);
        new.user = own.user.or(new.user.take());
        self.engine.table.insert(new.id, self.link.clone());
        if self.engine.tickets.adopt(own.id, new) {
            self.link.close(LeaveReason::Replaced);
        }
        // Only now: who seeks him by the old id, and finds nobody, has been passed on.
        self.engine.table.remove(own.id, &self.link);
        if let Some(reason) = absent.verdict() {
            self.link.close(reason);
        }
        self.engine.counters.resumed.add(1);
        tracing::debug!(connection = %own.id, resumed = %new.id, "came back");
    }

    fn keep(self, absent: Arc<Absent>, absence: Absence) {
        let engine = self.engine.clone();
        engine.spawn(self.linger(absent, absence));
    }

    /// Waits until the client has come back, or has been away for too long, or has to leave.
    async fn linger(mut self, absent: Arc<Absent>, absence: Absence) {
        let engine = self.engine.clone();
        let comes_back = async {
            loop {
                if engine.is_closing() {
                    return Some(LeaveReason::Shutdown);
                }
                if let Some(reason) = absent.verdict() {
                    return Some(reason);
                }
                if engine.tickets.is_sought(self.standing.id) {
                    return None;
                }
                absent.until_told().await;
            }
        };
        let grace = absence.left();
        // No seat outlives its user's time.
        let time_left = self.standing.user.as_ref().and_then(|user| user.time_left());
        let (limit, over) = match time_left {
            Some(left) if left < grace => (left, LeaveReason::AuthExpired),
            _ => (grace, LeaveReason::Lost),
        };
        match timeout(limit, comes_back).await {
            Ok(None) => self.hand_over(absent, absence),
            Ok(Some(reason)) => self.leave(reason),
            Err(_) => self.leave(over),
        }
    }

    fn hand_over(mut self, absent: Arc<Absent>, absence: Absence) {
        let standing = std::mem::replace(&mut self.standing, Standing::nobody());
        let (engine, link) = (self.engine.clone(), absent.clone());
        let back = move |standing| {
            engine.tickets.issue(&standing);
            Stay { engine: engine.clone(), standing, link: link.clone() }.keep(link, absence);
        };
        let id = standing.id;
        self.engine.tickets.hand_over(id, Handover::new(standing, absent, back));
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.leave(LeaveReason::Dropped)));
    }
}

//! The sessions of this node. A node tells Redis the whole of a session each time, so that calls that overlap, come late or
//! are repeated end with what the session is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::cmd;

use crate::error::Unavailable;
use crate::event::Event;
use crate::inner::Inner;
use crate::lease::process_of;
use crate::link::{Command, Link};
use crate::reply::Reply;
use crate::session::{Resumed, ResumedMembership, Session};
use crate::sync::{Mutex, lock};

/// For how long it is known who has closed a session, in addition to its window: a node that does not hear of that may
/// find Redis started again.
pub(crate) const CLOSED_FOR: Duration = Duration::from_secs(60);

/// Sessions that are written at a time.
const AT_ONCE: usize = 64;

/// How a node tells Redis about its sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// With their tokens, so that they can be resumed.
    Whole,
    /// The same, without their tokens: Redis may have to learn of their members first. A session that was resumed without
    /// them would lose its rooms.
    BeforeMembers,
    /// As before, and Redis has lost its data.
    Lost,
}

/// The sessions of this node.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// By their ids.
    open: HashMap<Box<str>, Kept>,
    /// Calls of `resume` that are under way.
    resuming: usize,
    /// The generations of sessions that were taken over during these calls: a node may hear of the next take-over before
    /// it gets the answer to its own.
    taken: HashMap<Box<str>, u64>,
    /// Members that were taken over before the host was told of their enters, until it gets their sessions.
    unannounced: HashSet<Box<str>>,
}

/// A session of this node.
#[derive(Debug, Clone)]
struct Kept {
    session: Session,
    /// Whether the host knows of it.
    has_arrived: bool,
    /// The run of the server that has the session for certain. Another run may have lost it.
    run: Option<Arc<str>>,
}

impl Kept {
    fn may_be_lost(&self, link: &Link) -> bool {
        self.run.as_ref().is_none_or(|run| run != link.run())
    }
}

impl Sessions {
    /// A session, if this node has taken it over no more often than the caller knows.
    pub(crate) fn known(&mut self, id: &str, generation: u64) -> Option<&mut Session> {
        self.open
            .get_mut(id)
            .map(|kept| &mut kept.session)
            .filter(|session| session.generation() == generation)
    }

    /// A run of the server has a session as it was. Returns whether it is still the same.
    fn note_put(&mut self, session: &Session, run: Arc<str>) -> bool {
        match self.open.get_mut(session.id()) {
            Some(kept) if kept.session == *session => {
                kept.run = Some(run);
                true
            }
            _ => false,
        }
    }

    /// This node has taken over a session. Returns whether it is still the latest one to do so.
    pub(crate) fn add_taken(&mut self, session: &Session, run: Arc<str>) -> bool {
        let taken = self.taken.get(session.id()).copied();
        let known = self.open.get(session.id()).map(|kept| kept.session.generation());
        let is_latest = taken.max(known).is_none_or(|latest| latest <= session.generation());
        if is_latest && known != Some(session.generation()) {
            let kept = Kept { session: session.clone(), has_arrived: false, run: Some(run) };
            self.open.insert(session.id().into(), kept);
        }
        is_latest
    }
}

/// A call of `resume` that is under way.
pub(crate) struct Resuming(Arc<Inner>);

impl Resuming {
    pub(crate) fn begin(inner: &Arc<Inner>) -> Resuming {
        lock(&inner.sessions).resuming += 1;
        Resuming(inner.clone())
    }
}

impl Drop for Resuming {
    fn drop(&mut self) {
        let mut sessions = lock(&self.0.sessions);
        sessions.resuming -= 1;
        if sessions.resuming == 0 {
            sessions.taken = HashMap::new();
            sessions.unannounced = HashSet::new();
        }
    }
}

impl Inner {
    /// Keeps a session in Redis, as soon as it can be reached. The caller must not drop the future.
    pub(crate) async fn open_session(self: Arc<Inner>, session: Session) -> Result<(), Unavailable> {
        let id: Box<str> = session.id().into();
        lock(&self.sessions).open.insert(id.clone(), Kept { session, has_arrived: true, run: None });
        self.keep_session(&id).await
    }

    /// Changes a session, if this node still has it. Otherwise, it fails. The caller must not drop the future.
    pub(crate) async fn change_session(
        self: Arc<Inner>,
        id: Box<str>,
        generation: u64,
        change: impl FnOnce(&mut Session),
    ) -> Result<(), Unavailable> {
        match lock(&self.sessions).known(&id, generation) {
            Some(session) => change(session),
            None => return Err(Unavailable),
        }
        self.keep_session(&id).await?;
        lock(&self.sessions).known(&id, generation).map(|_| ()).ok_or(Unavailable)
    }

    /// Has a session be in Redis as it is here.
    pub(crate) async fn keep_session(&self, id: &str) -> Result<(), Unavailable> {
        loop {
            let node = self.registration.active().await;
            if self.put_session(&node, id, Put::Whole).await? {
                return Ok(());
            }
            self.registration.set_fenced(&node);
        }
    }

    /// As [`Inner::keep_session`], as an incarnation that need not be valid yet for the others. Returns false if it is fenced.
    ///
    /// Calls may overlap: each one ends only when Redis has what the session is then.
    async fn put_session(&self, node: &str, id: &str, how: Put) -> Result<bool, Unavailable> {
        loop {
            let Some(kept) = lock(&self.sessions).open.get(id).cloned() else { return Ok(true) };
            let session = &kept.session;
            let token = if how == Put::Whole { session.token() } else { "" };
            let ran = Mutex::new(None);
            let prepare = |link: &Link| {
                let may_be_lost = how == Put::Lost || kept.may_be_lost(link);
                *lock(&ran) = Some(link.run().clone());
                let mut put = self.scripts.put_session.prepare_invoke();
                put.key(self.keys.nodes());
                put.arg(node).arg(self.keys.tag()).arg(session.id()).arg(token).arg(session.user_id());
                put.arg(session.window().as_millis() as u64)
                    .arg(session.generation())
                    .arg(u8::from(may_be_lost));
                Command::Script(put)
            };
            let reply: Reply = self.commands.run(None, prepare).await?;
            match reply.status() {
                b"FENCED" => return Ok(false),
                // Its message has yet to arrive, or was lost.
                b"TAKEN" => {
                    self.session_taken(session.id(), u64::try_from(reply.number(0)).unwrap_or(u64::MAX));
                    return Ok(true);
                }
                b"GONE" => {
                    self.session_gone(session.id(), session.generation() + 1);
                    return Ok(true);
                }
                // The answer to that is on its way.
                b"OLDER" => return Ok(true),
                _ => {}
            }
            let run = lock(&ran).take();
            if run.is_some_and(|run| lock(&self.sessions).note_put(session, run)) {
                return Ok(true);
            }
            if !lock(&self.sessions).open.contains_key(id) {
                // It has ended meanwhile, and its end may have come before.
                self.remove_session(&kept).await?;
            }
        }
    }

    /// Has all sessions of this node be in Redis, with their members, as an incarnation that need not be valid yet for the
    /// others. Those that are gone were taken over or have ended, unless Redis has lost its data.
    pub(crate) async fn put_sessions(&self, node: &str, how: Put) -> Result<(), Unavailable> {
        let ids: Vec<Box<str>> = lock(&self.sessions).open.keys().cloned().collect();
        for batch in ids.chunks(AT_ONCE) {
            let put = batch.iter().map(|id| self.put_session(node, id, how));
            join_all(put).await.into_iter().collect::<Result<Vec<bool>, Unavailable>>()?;
        }
        Ok(())
    }

    /// Makes Redis's sessions of this node those that it has, before their members. [`Inner::put_sessions`] must follow.
    pub(crate) async fn reconcile_sessions(&self, node: &str) -> Result<(), Unavailable> {
        self.put_sessions(node, Put::BeforeMembers).await?;
        let key = self.keys.node_sessions(node);
        let ids: Vec<String> =
            self.commands.run(None, |_| Command::Plain(cmd("SMEMBERS").arg(&key).take())).await?;
        for id in ids {
            let key = self.keys.session(&id);
            let read = |_: &Link| Command::Plain(cmd("HGET").arg(&key).arg("generation").take());
            let Some(generation) = self.commands.run::<Option<u64>>(None, read).await? else { continue };
            // One that is being taken over has another generation then.
            if self.generation_of(&id) == 0 {
                let session = Session::new("", id, Duration::ZERO).taken_over(generation);
                self.remove_session(&Kept { session, has_arrived: true, run: None }).await?;
            }
        }
        Ok(())
    }

    /// The generation of a session of this node. If it is none, any generation may be (0), or none while it may just be
    /// taken over.
    pub(crate) fn generation_of(&self, id: &str) -> u64 {
        let sessions = lock(&self.sessions);
        let if_unknown = if sessions.resuming == 0 { 0 } else { u64::MAX };
        sessions.open.get(id).map_or(if_unknown, |kept| kept.session.generation())
    }

    /// Forgets a session, which cannot be resumed any more. Returns whether this node had it.
    pub(crate) async fn close_session(
        self: Arc<Inner>,
        id: Box<str>,
        generation: u64,
    ) -> Result<bool, Unavailable> {
        let closed = {
            let mut sessions = lock(&self.sessions);
            match sessions.known(&id, generation) {
                Some(_) => sessions.open.remove(&id),
                None => None,
            }
        };
        match closed {
            Some(kept) => self.remove_session(&kept).await,
            None => Ok(false),
        }
    }

    async fn remove_session(&self, kept: &Kept) -> Result<bool, Unavailable> {
        let session = &kept.session;
        let closed_for = session.window().saturating_add(CLOSED_FOR).as_millis() as u64;
        let node = self.registration.node();
        let prepare = |link: &Link| {
            let mut close = self.scripts.close_session.prepare_invoke();
            close
                .key(self.keys.nodes())
                .arg(process_of(&node))
                .arg(self.keys.tag())
                .arg(session.id())
                .arg(session.generation());
            close.arg(closed_for).arg(u8::from(kept.may_be_lost(link)));
            Command::Script(close)
        };
        let reply: Reply = self.commands.run(None, prepare).await?;
        Ok(reply.status() == b"OK")
    }

    /// Another node has taken over a session. Its members are not this node's any more.
    pub(crate) fn session_taken(&self, id: &str, generation: u64) {
        if let Some(session) = self.forget_session(id, generation) {
            self.hub.queue().push(Event::SessionTaken { session, generation });
        }
    }

    /// This node does not have a session any more. Its members are not this node's either.
    fn session_gone(&self, id: &str, generation: u64) {
        if let Some(session) = self.forget_session(id, generation) {
            self.hub.queue().push(Event::SessionGone { session, generation });
        }
    }

    /// Returns the id, if the node had the session.
    fn forget_session(&self, id: &str, generation: u64) -> Option<Box<str>> {
        let taken = {
            let mut sessions = lock(&self.sessions);
            if sessions.resuming > 0 {
                sessions.taken.insert(id.into(), generation);
            }
            match sessions.open.get(id) {
                // It may have come back since.
                Some(kept) if kept.session.generation() < generation => sessions.open.remove(id),
                _ => None,
            }
        };
        let id: Box<str> = taken?.session.id().into();
        self.users.forget(&id);
        self.hub.remove_session(&id);
        Some(id)
    }

    /// Tells the host of a session that was taken over.
    pub(crate) fn deliver_resumed(&self, resumed: &Resumed) {
        let mut sessions = lock(&self.sessions);
        if let Some(kept) = sessions.open.get_mut(resumed.session.id()) {
            kept.has_arrived = true;
        }
        self.hub.queue().push(Event::SessionResumed(resumed.clone()));
        for ResumedMembership { room, member, .. } in &resumed.memberships {
            if sessions.unannounced.remove(member) {
                self.hub.queue().push(Event::EnteredAgain { room: room.clone(), member: member.clone() });
            }
        }
    }

    /// The node that had a session could not tell its host of the enter of this member.
    pub(crate) fn announce(&self, session: &str, member: Box<str>, room: Arc<str>) {
        let mut sessions = lock(&self.sessions);
        if sessions.open.get(session).is_some_and(|kept| kept.has_arrived) {
            self.hub.queue().push(Event::EnteredAgain { room, member });
        } else if sessions.resuming > 0 {
            sessions.unannounced.insert(member);
        }
    }
}

//! Resumable sessions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::error::{ResumeError, Unavailable};
use crate::event::Event;
use crate::hub::Gate;
use crate::inner::Inner;
use crate::link::{Command, Link};
use crate::member::{NewMember, Profile};
use crate::scripts::{Reply, TakenMember, TakenOver};
use crate::stamp::Stamp;
use crate::sync::lock;

const TIMEOUT: Duration = Duration::from_secs(5);

/// A session that can be resumed on any node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Session {
    token: Box<str>,
    id: Box<str>,
    user: Box<str>,
    window: Duration,
    generation: u64,
}

impl Session {
    /// A session that whoever knows the token can resume: `token` is a hash of it. No other session of any node may ever
    /// have the same id. If the node that has the session is gone, its members stay in their rooms for the window.
    pub fn new(token: impl Into<Box<str>>, id: impl Into<Box<str>>, window: Duration) -> Session {
        Session { token: token.into(), id: id.into(), user: Box::default(), window, generation: 1 }
    }

    /// The user, who alone can resume it.
    pub fn user(self, user: impl Into<Box<str>>) -> Session {
        Session { user: user.into(), ..self }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The hash of its token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Sets how many times nodes have taken it over, plus one: [`Resumed::generation`]. Default: 1.
    pub fn taken_over(self, generation: u64) -> Session {
        Session { generation, ..self }
    }

    /// The user, who alone can resume it; empty if it has none.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn window(&self) -> Duration {
        self.window
    }
}

/// A session that was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resumed {
    /// The session, with its new token.
    pub session: Session,
    /// How many times nodes have taken it over, plus one.
    pub generation: u64,
    /// Its members.
    pub memberships: Vec<ResumedMembership>,
}

/// A member that was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResumedMembership {
    /// The room.
    pub room: Arc<str>,
    /// The member.
    pub member: Box<str>,
    /// What the others may know of it.
    pub profile: Profile,
    /// Whether it is not in the roster.
    pub is_hidden: bool,
    /// The body of its enter.
    pub body: Bytes,
    /// That of its enter.
    pub entered: Stamp,
    /// Where the room was when the session was taken over. The node hears what follows.
    pub stamp: Stamp,
}

/// What a node does when it opens a session.
#[derive(Debug, Clone, Copy)]
enum Open {
    /// It is new.
    New,
    /// It is changed, or was open in an earlier incarnation of the node.
    Again,
    /// Redis has lost its data.
    Lost,
}

/// How a session is taken over.
#[derive(Debug, Clone, Copy)]
enum Take {
    /// Within a few seconds.
    Now,
    /// Only if it has been taken over before, without an answer.
    Repeat,
}

/// The sessions of this node.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// By their ids.
    open: HashMap<Box<str>, Session>,
    /// Those that are getting another token, so that Redis need not know the one that they have here.
    renaming: HashSet<Box<str>>,
    /// Calls of `resume` that are under way.
    resuming: usize,
    /// The generations of sessions that were taken over during these calls: a node may hear of the next take-over before
    /// it gets the answer to its own.
    taken: HashMap<Box<str>, u64>,
}

impl Sessions {
    /// A session, if this node has taken it over no more often than the caller knows.
    fn known(&mut self, id: &str, generation: u64) -> Option<&mut Session> {
        self.open.get_mut(id).filter(|session| session.generation == generation)
    }

    /// Whether a session is as it was, and stays so for now.
    fn is_unchanged(&self, session: &Session) -> bool {
        self.open.get(&session.id) == Some(session) && !self.renaming.contains(&session.id)
    }

    /// A call of `resume` is over.
    fn end_resuming(&mut self) {
        self.resuming -= 1;
        if self.resuming == 0 {
            self.taken = HashMap::new();
        }
    }
}

impl Inner {
    /// Keeps a session in Redis, as soon as it can be reached.
    pub(crate) async fn open_session(self: Arc<Inner>, session: Session) -> Result<(), Unavailable> {
        lock(&self.sessions).open.insert(session.id.clone(), session.clone());
        self.keep_session(&session, Open::New).await.map(|_| ())
    }

    /// Changes the user of a session, if this node still has it.
    pub(crate) async fn set_user(
        self: Arc<Inner>,
        id: Box<str>,
        generation: u64,
        user: Box<str>,
    ) -> Result<(), Unavailable> {
        let session = match lock(&self.sessions).known(&id, generation) {
            Some(session) => {
                session.user = user;
                session.clone()
            }
            None => return Ok(()),
        };
        if self.keep_session(&session, Open::Again).await?.status() == b"GONE" {
            self.session_gone(&id, session.generation + 1);
        }
        Ok(())
    }

    /// Writes a session as the current incarnation.
    async fn keep_session(&self, session: &Session, how: Open) -> Result<Reply, Unavailable> {
        loop {
            let node = self.registration.active().await;
            let reply = self.open_session_as(&node, session, how).await?;
            if !reply.is_fenced() {
                return Ok(reply);
            }
            self.registration.set_fenced(&node);
        }
    }

    async fn open_session_as(&self, node: &str, session: &Session, how: Open) -> Result<Reply, Unavailable> {
        let how = match how {
            Open::New => "new",
            Open::Again => "again",
            Open::Lost => "lost",
        };
        let prepare = |_: &Link| {
            let mut open = self.scripts.open_session.prepare_invoke();
            open.key(self.keys.nodes())
                .key(self.keys.node_sessions(node))
                .key(self.keys.session(&session.token))
                .key(self.keys.claim(&session.id));
            open.arg(node).arg(self.keys.tag()).arg(&*session.token).arg(&*session.id).arg(&*session.user);
            open.arg(session.window.as_millis() as u64).arg(how).arg(session.generation);
            Command::Script(open)
        };
        self.commands.run(None, prepare).await
    }

    /// Keeps the sessions of the last incarnation. If Redis has lost its data, they are written again; otherwise, those
    /// that are gone were taken over.
    pub(crate) async fn open_sessions_again(&self, has_lost_data: bool) -> Result<(), Unavailable> {
        let node = self.registration.node();
        let sessions: Vec<Session> = lock(&self.sessions).open.values().cloned().collect();
        let how = if has_lost_data { Open::Lost } else { Open::Again };
        for session in sessions {
            let mut reply = self.open_session_as(&node, &session, how).await?;
            let claimed = (reply.status() == b"CLAIMED").then(|| reply.texts().next()).flatten();
            if let Some(token) = claimed {
                // Another node did not know that this one has taken the session over.
                self.run_take_over(&node, (&token, &session.token), &session.user, "", None).await?;
                reply = self.open_session_as(&node, &session, how).await?;
            }
            if reply.status() == b"GONE" && lock(&self.sessions).is_unchanged(&session) {
                self.session_gone(&session.id, session.generation + 1);
            }
            // It has ended meanwhile, and its end may have come before.
            let has_ended = !lock(&self.sessions).open.contains_key(&session.id);
            if has_ended && reply.status() == b"OK" {
                self.remove_session(&session.token, &session.id).await?;
            }
        }
        Ok(())
    }

    /// Gives a session of this node another token.
    pub(crate) async fn rename_session(
        self: Arc<Inner>,
        id: Box<str>,
        generation: u64,
        new: Box<str>,
    ) -> Result<(), Unavailable> {
        let Session { token, .. } = {
            let mut sessions = lock(&self.sessions);
            let Some(session) = sessions.known(&id, generation).cloned() else { return Ok(()) };
            sessions.renaming.insert(id.clone());
            session
        };
        let renamed = self.rename_token(&token, &new).await;
        {
            let mut sessions = lock(&self.sessions);
            sessions.renaming.remove(&id);
            if let (Ok(true), Some(session)) = (renamed, sessions.known(&id, generation)) {
                session.token = new.clone();
            }
        }
        match renamed? {
            true => self.hub.rename_session(&token, &new),
            false => self.session_gone(&id, generation + 1),
        }
        Ok(())
    }

    /// Returns false if another node has taken the session over.
    async fn rename_token(&self, token: &str, new: &str) -> Result<bool, Unavailable> {
        loop {
            let node = self.registration.active().await;
            let prepare = |_: &Link| {
                let mut rename = self.scripts.rename_session.prepare_invoke();
                rename.key(self.keys.nodes()).key(self.keys.session(token)).key(self.keys.session(new));
                rename.key(self.keys.node_sessions(&node)).arg(&*node).arg(self.keys.tag());
                rename.arg(token).arg(new);
                Command::Script(rename)
            };
            let reply: Reply = self.commands.run(None, prepare).await?;
            if !reply.is_fenced() {
                return Ok(reply.status() == b"OK");
            }
            self.registration.set_fenced(&node);
        }
    }

    /// Forgets a session, which cannot be resumed any more. Returns whether this node had it.
    pub(crate) async fn close_session(
        self: Arc<Inner>,
        id: Box<str>,
        generation: u64,
    ) -> Result<bool, Unavailable> {
        let token = {
            let mut sessions = lock(&self.sessions);
            let Some(Session { token, .. }) = sessions.known(&id, generation).cloned() else {
                return Ok(false);
            };
            sessions.open.remove(&id);
            token
        };
        self.remove_session(&token, &id).await
    }

    async fn remove_session(&self, token: &str, id: &str) -> Result<bool, Unavailable> {
        let node = self.registration.node();
        let prepare = |_: &Link| {
            let mut close = self.scripts.close_session.prepare_invoke();
            close.key(self.keys.node_sessions(&node)).key(self.keys.session(token));
            close.key(self.keys.closed_session(token)).arg(token).arg(id);
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
                Some(session) if session.generation < generation => sessions.open.remove(id),
                _ => None,
            }
        };
        let Session { id, token, .. } = taken?;
        self.users.forget(&id);
        self.hub.remove_session(&token);
        Some(id)
    }

    /// Takes a session over. The caller must not drop the future.
    pub(crate) async fn resume(
        self: Arc<Inner>,
        token: Box<str>,
        new_token: Box<str>,
        user: Box<str>,
    ) -> Result<Resumed, ResumeError> {
        let resumed = self.resume_as(&token, &new_token, &user, Take::Now).await;
        if resumed == Err(ResumeError::Unavailable) {
            // This node may have the session. The client finds it here.
            let inner = self.clone();
            self.spawn(async move { inner.resume_as(&token, &new_token, &user, Take::Repeat).await });
        }
        resumed
    }

    async fn resume_as(
        &self,
        token: &str,
        new_token: &str,
        user: &str,
        take: Take,
    ) -> Result<Resumed, ResumeError> {
        lock(&self.sessions).resuming += 1;
        let answer = self.take_over(token, new_token, user, take).await;
        let (taken, node) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                lock(&self.sessions).end_resuming();
                return Err(error);
            }
        };
        let TakenOver { id, generation, window, mut members } = taken;
        for taken in &mut members {
            Arc::make_mut(&mut taken.member).set_generation(generation);
        }
        let (token_now, user) = (new_token.into(), user.into());
        let session = Session { token: token_now, id, user, window, generation };
        let was_taken = {
            let mut sessions = lock(&self.sessions);
            let taken = sessions.taken.get(&session.id).copied();
            sessions.end_resuming();
            if taken.is_none_or(|taken| taken < generation) {
                sessions.open.insert(session.id.clone(), session.clone());
            }
            taken.is_some_and(|taken| taken > generation)
        };
        if was_taken {
            return Err(ResumeError::Unknown);
        }
        let membership = |taken: &TakenMember| ResumedMembership {
            room: taken.room.clone(),
            member: taken.member.id().into(),
            profile: taken.member.known_profile().clone(),
            is_hidden: taken.member.is_hidden(),
            body: taken.member.enter_body().clone(),
            entered: taken.entered,
            stamp: taken.stamp,
        };
        let memberships = members.iter().map(membership).collect();
        let resumed = Resumed { session, generation, memberships };
        // If this node had the session itself, it keeps its rooms.
        self.hub.rename_session(token, resumed.session.token());
        // The host may have the members leave as soon as it gets the event, which comes before the events of rooms that
        // the node hears only from here on.
        let gates: Vec<Gate> =
            members.iter().map(|taken| self.hub.add_taken(&taken.room, &taken.member)).collect();
        self.hub.queue().push(Event::SessionResumed(resumed.clone()));
        for (TakenMember { room, member, stamp, .. }, gate) in members.into_iter().zip(gates) {
            self.join_resumed(&room, &member, stamp, &gate).await;
            self.check_entered(&node, &room, &member).await?;
        }
        Ok(resumed)
    }

    /// Returns what this incarnation of the node has taken over.
    async fn take_over(
        &self,
        token: &str,
        new_token: &str,
        user: &str,
        take: Take,
    ) -> Result<(TakenOver, Arc<str>), ResumeError> {
        let (mode, deadline) = match take {
            Take::Now => ("", Some(Instant::now() + TIMEOUT)),
            Take::Repeat => ("repeat", None),
        };
        let (reply, node) = loop {
            let active = self.registration.active();
            let node = match deadline {
                Some(deadline) => timeout_at(deadline, active).await.map_err(|_| ResumeError::Unavailable)?,
                None => active.await,
            };
            let reply = self.run_take_over(&node, (token, new_token), user, mode, deadline).await?;
            if !reply.is_fenced() {
                break (reply, node);
            }
            self.registration.set_fenced(&node);
        };
        match reply.status() {
            b"OK" => Ok((reply.taken_over().ok_or(ResumeError::Unavailable)?, node)),
            b"UNKNOWN" => Err(ResumeError::Unknown),
            b"OTHER_USER" => Err(ResumeError::OtherUser),
            _ => Err(ResumeError::Unavailable),
        }
    }

    /// `tokens` are the one that the session has, and its new one.
    async fn run_take_over(
        &self,
        node: &str,
        tokens: (&str, &str),
        user: &str,
        mode: &str,
        deadline: Option<Instant>,
    ) -> Result<Reply, Unavailable> {
        let (token, new_token) = tokens;
        let prepare = |_: &Link| {
            let mut take = self.scripts.take_over.prepare_invoke();
            take.key(self.keys.nodes()).key(self.keys.session(token)).key(self.keys.session(new_token));
            take.key(self.keys.node_sessions(node)).arg(node).arg(self.keys.tag());
            take.arg(token).arg(new_token).arg(user).arg(mode);
            Command::Script(take)
        };
        self.commands.run(deadline, prepare).await
    }

    /// Hears a room from a place on.
    async fn join_resumed(&self, room: &Arc<str>, member: &NewMember, stamp: Stamp, gate: &Gate) {
        if self.hub.is_live(room) {
            return;
        }
        let mut is_subscribed = gate.lock().await;
        if !self.hub.is_live(room) && self.hub.has_member(room, member.id()) {
            if !*is_subscribed {
                *is_subscribed = self.hub.subscribe(room).await.is_ok();
            }
            self.hub.resumed(room, stamp);
        }
    }
}

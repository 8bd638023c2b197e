//! Resumable sessions.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::error::{ResumeError, Unavailable};
use crate::event::Event;
use crate::inner::Inner;
use crate::link::{Command, Link};
use crate::member::{NewMember, Profile};
use crate::scripts::Reply;
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
}

impl Session {
    /// A session that whoever knows the token can resume: `token` is a hash of it. If the node that has the session is
    /// gone, its members stay in their rooms for the window.
    pub fn new(token: impl Into<Box<str>>, id: impl Into<Box<str>>, window: Duration) -> Session {
        Session { token: token.into(), id: id.into(), user: Box::default(), window }
    }

    /// The user, who alone can resume it.
    pub fn user(self, user: impl Into<Box<str>>) -> Session {
        Session { user: user.into(), ..self }
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
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
    /// How many nodes have had it.
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
    /// Where the room was when the session was taken over. The node hears what follows.
    pub stamp: Stamp,
}

/// What a node does when it opens a session.
#[derive(Debug, Clone, Copy)]
enum Open {
    /// It is new.
    New,
    /// It was open in an earlier incarnation of the node.
    Again,
}

impl Inner {
    /// Keeps a session in Redis.
    pub(crate) async fn open_session(&self, session: Session) -> Result<(), Unavailable> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let node = self.registration.active().await;
            let open = self.open_session_as(&node, &session, Open::New);
            let reply = timeout_at(deadline, open).await.unwrap_or(Err(Unavailable))?;
            if !reply.is_fenced() {
                lock(&self.sessions).insert(session.token.clone(), session);
                return Ok(());
            }
            self.registration.set_fenced(&node);
        }
    }

    async fn open_session_as(&self, node: &str, session: &Session, how: Open) -> Result<Reply, Unavailable> {
        let how = match how {
            Open::New => "new",
            Open::Again => "again",
        };
        let prepare = |_: &Link| {
            let mut open = self.scripts.open_session.prepare_invoke();
            open.key(self.keys.nodes())
                .key(self.keys.node_sessions(node))
                .key(self.keys.session(&session.token));
            open.arg(node).arg(&*session.token).arg(&*session.id).arg(&*session.user);
            open.arg(session.window.as_millis() as u64).arg(how);
            Command::Script(open)
        };
        self.commands.run(None, prepare).await
    }

    /// Keeps the sessions of the last incarnation. If Redis has lost its data, they are written again; otherwise, those
    /// that are gone were taken over.
    pub(crate) async fn open_sessions_again(&self, has_lost_data: bool) -> Result<(), Unavailable> {
        let node = self.registration.node();
        let sessions: Vec<Session> = lock(&self.sessions).values().cloned().collect();
        let how = if has_lost_data { Open::New } else { Open::Again };
        for session in sessions {
            if self.open_session_as(&node, &session, how).await?.status() == b"GONE" {
                self.session_taken(&session.token);
            }
        }
        Ok(())
    }

    /// Forgets a session, which cannot be resumed any more.
    pub(crate) async fn close_session(&self, token: &str) -> Result<(), Unavailable> {
        lock(&self.sessions).remove(token);
        let node = self.registration.node();
        let prepare = |_: &Link| {
            let mut close = self.scripts.close_session.prepare_invoke();
            close.key(self.keys.node_sessions(&node)).key(self.keys.session(token)).arg(token);
            Command::Script(close)
        };
        let reply: Reply = self.commands.run(Some(Instant::now() + TIMEOUT), prepare).await?;
        debug_assert_eq!(reply.status(), b"OK");
        Ok(())
    }

    /// Another node has taken over a session. Its members are not this node's any more.
    pub(crate) fn session_taken(&self, token: &str) {
        let removed = lock(&self.sessions).remove(token);
        if let Some(session) = removed {
            self.users.forget(&session.id);
            self.hub.remove_session(token);
            self.hub.queue().push(Event::SessionTaken { token: token.into() });
        }
    }

    /// Takes a session over. The caller must not drop the future.
    pub(crate) async fn resume(
        self: Arc<Inner>,
        token: Box<str>,
        new_token: Box<str>,
        user: Box<str>,
    ) -> Result<Resumed, ResumeError> {
        let deadline = Instant::now() + TIMEOUT;
        let (reply, node) = loop {
            let node = self.registration.active().await;
            let prepare = |_: &Link| {
                let mut take = self.scripts.take_over.prepare_invoke();
                take.key(self.keys.nodes()).key(self.keys.session(&token)).key(self.keys.session(&new_token));
                take.key(self.keys.node_sessions(&node)).arg(&*node).arg(self.keys.tag());
                take.arg(&*token).arg(&*new_token).arg(&*user);
                Command::Script(take)
            };
            let reply: Reply = self.commands.run(Some(deadline), prepare).await?;
            if !reply.is_fenced() {
                break (reply, node);
            }
            self.registration.set_fenced(&node);
        };
        match reply.status() {
            b"OK" => {}
            b"UNKNOWN" => return Err(ResumeError::Unknown),
            b"OTHER_USER" => return Err(ResumeError::OtherUser),
            _ => return Err(ResumeError::Unavailable),
        }
        let taken = reply.taken_over().ok_or(ResumeError::Unavailable)?;
        let session = Session { token: new_token, id: taken.id, user, window: taken.window };
        {
            let mut sessions = lock(&self.sessions);
            sessions.remove(&token);
            sessions.insert(session.token.clone(), session.clone());
        }
        // If this node had the session itself, it keeps its rooms.
        self.hub.remove_session(&token);
        let mut memberships = Vec::new();
        for (room, member, stamp) in taken.members {
            self.join_resumed(&room, &member, stamp).await?;
            self.check_entered(&node, &room, &member).await?;
            let id = member.id().into();
            let profile = NewMember::clone(&member).into_profile();
            memberships.push(ResumedMembership { room, member: id, profile, stamp });
        }
        Ok(Resumed { session, generation: taken.generation, memberships })
    }

    /// Hears a room from a place on.
    async fn join_resumed(
        &self,
        room: &Arc<str>,
        member: &Arc<NewMember>,
        stamp: Stamp,
    ) -> Result<(), Unavailable> {
        let gate = self.hub.add_pending(room, member);
        if !self.hub.is_live(room) {
            let mut is_subscribed = gate.lock().await;
            if !self.hub.is_live(room) {
                if !*is_subscribed {
                    *is_subscribed = self.hub.subscribe(room).await.is_ok();
                }
                self.hub.resumed(room, stamp);
            }
        }
        self.hub.remove_pending(room, member, true);
        Ok(())
    }
}

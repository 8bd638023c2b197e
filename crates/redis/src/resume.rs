//! Taking sessions over.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::ResumeError;
use crate::hub::Gate;
use crate::inner::Inner;
use crate::link::{Command, Link};
use crate::member::NewMember;
use crate::reply::{Reply, TakenMember, TakenOver};
use crate::session::{Resumed, ResumedMembership, Session};
use crate::sessions::Resuming;
use crate::stamp::Stamp;
use crate::sync::{Mutex, lock};

const TIMEOUT: Duration = Duration::from_secs(5);

/// How a session is taken over.
#[derive(Debug, Clone, Copy)]
enum Take {
    /// Within a few seconds.
    Now,
    /// Only if it has been taken over before, without an answer.
    Repeat,
}

impl Inner {
    /// Takes a session over. The caller must not drop the future.
    pub(crate) async fn resume(
        self: Arc<Inner>,
        token: Box<str>,
        new_token: Box<str>,
        user: Box<str>,
    ) -> Result<Resumed, ResumeError> {
        let resuming = Resuming::begin(&self);
        let resumed = self.resume_as(&token, &new_token, &user, Take::Now).await;
        if resumed == Err(ResumeError::Unavailable) {
            // This node may have the session. The client finds it here.
            let inner = self.clone();
            self.spawn(async move {
                let _resuming = resuming;
                inner.resume_as(&token, &new_token, &user, Take::Repeat).await
            });
        }
        resumed
    }

    async fn resume_as(
        self: &Arc<Inner>,
        token: &str,
        new_token: &str,
        user: &str,
        take: Take,
    ) -> Result<Resumed, ResumeError> {
        let (taken, node, run) = self.take_over(token, new_token, user, take).await?;
        let TakenOver { id, generation, window, mut members } = taken;
        for taken in &mut members {
            Arc::make_mut(&mut taken.member).set_generation(generation);
        }
        let session = Session::new(new_token, id, window).user(user).taken_over(generation);
        let gates: Vec<Gate> = {
            let mut sessions = lock(&self.sessions);
            if !sessions.add_taken(&session, run) {
                return Err(ResumeError::Unknown);
            }
            // Under the same lock: the members of a session that the node knows are no strangers.
            members.iter().map(|taken| self.hub.add_taken(&taken.room, &taken.member)).collect()
        };
        if !self.registration.is_current(&node) {
            // The node may not have known of it when it came back.
            self.keep_session(session.id()).await?;
            if lock(&self.sessions).known(session.id(), generation).is_none() {
                return Err(ResumeError::Unknown);
            }
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
        // The host gets the session after the events of its rooms up to that moment, and before those that follow: it may
        // have the members leave at once, and its client is there already.
        let heard = members.iter().zip(&gates).map(|(taken, gate)| async {
            // Another member may be the first one in the room just now.
            drop(gate.lock().await);
            self.hub.until_delivered(&taken.room, taken.stamp).await;
        });
        let _ = timeout(TIMEOUT, join_all(heard)).await;
        self.deliver_resumed(&resumed);
        for (TakenMember { room, member, stamp, .. }, gate) in members.into_iter().zip(gates) {
            self.join_resumed(&room, &member, stamp, &gate).await;
        }
        Ok(resumed)
    }

    /// Returns what this incarnation of the node has taken over, and in which run of the server.
    async fn take_over(
        &self,
        token: &str,
        new_token: &str,
        user: &str,
        take: Take,
    ) -> Result<(TakenOver, Arc<str>, Arc<str>), ResumeError> {
        let (mode, deadline) = match take {
            Take::Now => ("", Some(Instant::now() + TIMEOUT)),
            Take::Repeat => ("repeat", None),
        };
        loop {
            let active = self.registration.active();
            let node = match deadline {
                Some(deadline) => timeout_at(deadline, active).await.map_err(|_| ResumeError::Unavailable)?,
                None => active.await,
            };
            let ran = Mutex::new(None);
            let prepare = |link: &Link| {
                *lock(&ran) = Some(link.run().clone());
                let mut take = self.scripts.take_over.prepare_invoke();
                take.key(self.keys.nodes()).arg(&*node).arg(self.keys.tag());
                take.arg(token).arg(new_token).arg(user).arg(mode);
                Command::Script(take)
            };
            let reply: Reply = self.commands.run(deadline, prepare).await?;
            let run = lock(&ran).take().ok_or(ResumeError::Unavailable)?;
            return match reply.status() {
                b"FENCED" => {
                    self.registration.set_fenced(&node);
                    continue;
                }
                b"OK" => Ok((reply.taken_over().ok_or(ResumeError::Unavailable)?, node, run)),
                b"UNKNOWN" => Err(ResumeError::Unknown),
                b"OTHER_USER" => Err(ResumeError::OtherUser),
                _ => Err(ResumeError::Unavailable),
            };
        }
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

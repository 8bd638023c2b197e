//! Entering, leaving and publishing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::answers::Published;
use crate::error::{EnterError, PublishError, Unavailable};
use crate::inner::Inner;
use crate::member::NewMember;
use crate::reply::Reply;
use crate::scripts::{Leave, Request};
use crate::stamp::Stamp;

const ENTER_TIMEOUT: Duration = Duration::from_secs(5);
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(1);

impl Inner {
    /// Enters a member. The caller must not drop the future.
    pub(crate) async fn enter(
        self: Arc<Inner>,
        room: Arc<str>,
        member: Arc<NewMember>,
        max_members: u64,
    ) -> Result<Stamp, EnterError> {
        if !member.fits() {
            return Err(EnterError::InvalidMember);
        }
        let deadline = Instant::now() + ENTER_TIMEOUT;
        let node = self.registration.node();
        let entered = self.enter_pending(&room, &member, max_members, deadline).await;
        self.hub.remove_pending(&room, &member, entered.is_ok());
        if entered.is_ok() && self.check_entered(&node, &room, &member).await.is_err() {
            self.clone().leave(room, member.id().into(), member.generation(), None, "".into()).await;
            return Err(EnterError::Unavailable);
        }
        if entered == Err(EnterError::Unavailable) {
            // It may be in the room, and may stay there if its session was taken over meanwhile. Nobody waits for this.
            let inner = self.clone();
            self.spawn(async move {
                inner.remove(&room, member.id(), member.generation(), Leave::Unknown, "").await
            });
        }
        entered
    }

    async fn enter_pending(
        &self,
        room: &Arc<str>,
        member: &Arc<NewMember>,
        max_members: u64,
        deadline: Instant,
    ) -> Result<Stamp, EnterError> {
        let enter = || self.scripts.enter(member, max_members);
        let gate = self.hub.add_pending(room, member);
        if self.hub.is_live(room) {
            return enter_answer(self.call(room, deadline, enter()).await?);
        }
        let mut is_subscribed = timeout_at(deadline, gate.lock()).await.map_err(|_| Unavailable)?;
        if self.hub.is_live(room) {
            drop(is_subscribed);
            return enter_answer(self.call(room, deadline, enter()).await?);
        }
        // The first one: subscribes before it enters, so that nothing after its enter is missed.
        if !*is_subscribed {
            let confirmed = timeout_at(deadline, self.hub.subscribe(room)).await;
            confirmed.ok().and_then(Result::ok).ok_or(Unavailable)?;
            *is_subscribed = true;
        }
        self.hub.begin_enter(room);
        let entered =
            self.call(room, deadline, enter()).await.map_err(EnterError::from).and_then(enter_answer);
        match entered {
            Ok(stamp) => self.hub.entered(room, stamp),
            Err(_) => self.hub.enter_failed(room),
        }
        entered
    }

    /// Removes a member, now or as soon as Redis can be reached. `unannounced` is the id of its session if the host does not
    /// know of its enter; otherwise, it is empty. The caller must not drop the future.
    pub(crate) async fn leave(
        self: Arc<Inner>,
        room: Arc<str>,
        member: Box<str>,
        generation: u64,
        body: Option<Bytes>,
        unannounced: Box<str>,
    ) -> Option<Stamp> {
        if !self.hub.remove_member(&room, &member, generation) {
            // Its enter may have failed without an answer, or its session may have been taken over.
            if !self.hub.knows(&room, &member) || !unannounced.is_empty() {
                self.remove(&room, &member, generation, Leave::Unknown, &unannounced).await;
            }
            return None;
        }
        let how = body.as_ref().map_or(Leave::Silent, |body| Leave::Frame(body));
        let stamp = self.remove(&room, &member, generation, how, &unannounced).await;
        self.hub.left(&room, stamp);
        // It may just be entered again, and is removed once more then.
        drop(self.reentry.lock().await);
        stamp
    }

    async fn remove(
        &self,
        room: &str,
        member: &str,
        generation: u64,
        how: Leave<'_>,
        unannounced: &str,
    ) -> Option<Stamp> {
        let node = self.registration.node();
        let leave = self.scripts.leave(member, generation, how, unannounced);
        let reply = self.call_as(&node, room, &leave).await.ok()?;
        // If the node was fenced, the member is removed with all others of this incarnation, and not entered again.
        if reply.is_fenced() {
            self.registration.set_fenced(&node);
        }
        reply.stamp()
    }

    pub(crate) async fn publish(
        &self,
        room: &str,
        member: Option<&str>,
        key: Option<&str>,
        body: &[u8],
    ) -> Result<Published, PublishError> {
        let own_key;
        let key = match key {
            Some(key) => key,
            None => {
                own_key = self.message_ids.next();
                &own_key
            }
        };
        let reply = self.waiting_call(room, self.scripts.publish(member, key, body)).await?;
        publish_answer(&reply)
    }

    /// Notes whose members may share the name of a member, now or as soon as Redis can be reached. The caller must not drop
    /// the future.
    pub(crate) async fn set_owner(self: Arc<Inner>, room: Arc<str>, member: Box<str>, owner: Box<str>) {
        self.hub.set_owner(&room, &member, &owner);
        loop {
            let node = self.registration.active().await;
            let set = self.scripts.set_owner(&member, &owner);
            match self.call_as(&node, &room, &set).await {
                Ok(reply) if reply.is_fenced() => self.registration.set_fenced(&node),
                Ok(_) | Err(Unavailable) => return,
            }
        }
    }

    pub(crate) async fn send_transient(&self, room: &str, body: &[u8]) -> Result<(), Unavailable> {
        self.waiting_call(room, self.scripts.transient(body)).await.map(|_| ())
    }

    /// Runs a script of a publisher, which waits only a short time, and only with so many others.
    async fn waiting_call(&self, room: &str, request: Request<'_>) -> Result<Reply, Unavailable> {
        let _waiting = self.publishers.begin(self.commands.is_connected())?;
        self.call(room, Instant::now() + PUBLISH_TIMEOUT, request).await
    }
}

fn enter_answer(reply: Reply) -> Result<Stamp, EnterError> {
    match reply.status() {
        b"OK" => reply.stamp().ok_or(EnterError::Unavailable),
        b"NAME_TAKEN" => Err(EnterError::NameTaken { without_owner: reply.holder() }),
        b"NO_SESSION" => Err(EnterError::NoSession),
        b"ROOM_FULL" => Err(EnterError::RoomFull),
        _ => Err(EnterError::Unavailable),
    }
}

fn publish_answer(reply: &Reply) -> Result<Published, PublishError> {
    match reply.status() {
        b"OK" => reply.published().ok_or(PublishError::Unavailable),
        b"NO_ROOM" => Err(PublishError::NoRoom),
        b"NOT_MEMBER" => Err(PublishError::NotMember),
        _ => Err(PublishError::Unavailable),
    }
}

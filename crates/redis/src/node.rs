//! The public handle.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::cmd;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::answers::{NodeStats, Published, RoomCount, Roster};
use crate::codec;
use crate::error::{ConnectError, EnterError, PublishError, ResumeError, Unavailable};
use crate::event::{Event, LoggedEvent, RoomEvent};
use crate::inner::Inner;
use crate::link::{Command, Link};
use crate::member::{NewMember, Profile};
use crate::queue::Queue;
use crate::scripts::NO_LIMIT;
use crate::session::{Resumed, Session};
use crate::settings::{LogNeeds, Settings};
use crate::stamp::{Epoch, Stamp};
use crate::start::{Started, start};
use crate::status::Outage;
use crate::sync::{Mutex, lock};

/// How long [`Node::leave`] and [`Node::send_to_all`] wait for Redis.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long [`Node::rooms`] waits for Redis.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// One of several processes that share rooms. See the [crate docs](crate).
///
/// If you drop it, its tasks end, and the other nodes remove its members when its lease has expired. Call
/// [`Node::close`] to remove them immediately.
#[derive(Debug)]
pub struct Node {
    inner: Arc<Inner>,
    /// Until the node is closed.
    lease: Mutex<Option<JoinHandle<Option<()>>>>,
}

/// The events that a node receives.
#[derive(Debug)]
pub struct Events {
    queue: Arc<Queue>,
}

impl Node {
    /// Connects to Redis.
    ///
    /// # Errors
    ///
    /// Fails if the settings cannot work, or if Redis refuses the connection. If Redis cannot be reached,
    /// [`Settings::wait_for_redis`] decides whether it waits or fails.
    pub async fn connect(settings: Settings) -> Result<(Node, Events), ConnectError> {
        let Started { inner, lease } = start(settings).await?;
        let events = Events { queue: inner.hub.queue().clone() };
        Ok((Node { inner, lease: Mutex::new(Some(lease)) }, events))
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// A number that no other node has.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.inner.registration.number()
    }

    /// Since when the node cannot reach Redis, or has no valid lease; `None` if it can work.
    #[must_use]
    pub fn degraded_since(&self) -> Option<Instant> {
        self.outage().map(|outage| outage.since)
    }

    /// Why the node cannot work; `None` if it can.
    #[must_use]
    pub fn outage(&self) -> Option<Outage> {
        self.inner.status.outage()
    }

    /// What the node has done so far.
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        NodeStats {
            reconnects: self.inner.status.reconnects(),
            events: self.inner.hub.heard(),
            dropped_messages: self.inner.hub.dropped(),
            lost_members: self.inner.hub.lost_members(),
            waiting_calls: self.inner.publishers.count(),
        }
    }

    /// How many messages arrived that this node could not read, because a node of a later version or another program
    /// wrote them. If such a message is an event of a room, the room is reset.
    #[must_use]
    pub fn dropped_messages(&self) -> u64 {
        self.inner.hub.dropped()
    }

    /// Enters a member. The node receives the room's events from this event on. The event itself also arrives in
    /// [`Events`]. `max_members` limits the members of the room on all nodes, including this one.
    ///
    /// Waits up to 5 s for Redis. If you drop the future, the member still enters.
    ///
    /// # Errors
    ///
    /// After [`EnterError::Unavailable`], enter the member again under a new id.
    pub async fn enter(
        &self,
        room: &str,
        member: NewMember,
        max_members: Option<u64>,
    ) -> Result<Stamp, EnterError> {
        // More than fit into a number of Lua are no limit.
        let max_members = max_members.unwrap_or(NO_LIMIT).min(NO_LIMIT);
        let enter = self.inner.clone().enter(room.into(), Arc::new(member), max_members);
        self.inner.spawn(enter).await.ok().flatten().unwrap_or(Err(EnterError::Unavailable))
    }

    /// Removes a member of this node. `body` is for all nodes. Without a `body`, the other members get no frame.
    ///
    /// Waits for Redis for as long as it takes. If you drop the future, the member still leaves. After
    /// [`EnterError::Unavailable`], this waits until the member is certainly not in the room. If the node has been
    /// fenced in between, the leave has the body that the member was entered with.
    ///
    /// Returns the stamp of the leave, or `None` if the member is not in the room.
    pub async fn leave(&self, room: &str, member: &str, body: Option<Bytes>) -> Option<Stamp> {
        self.leave_in_session(room, member, 0, body).await
    }

    /// As [`Node::leave`], unless the member's session has been taken over and therefore has another generation.
    pub async fn leave_in_session(
        &self,
        room: &str,
        member: &str,
        generation: u64,
        body: Option<Bytes>,
    ) -> Option<Stamp> {
        let leave = self.inner.clone().leave(room.into(), member.into(), generation, body, "".into());
        self.inner.spawn(leave).await.ok().flatten().flatten()
    }

    /// As [`Node::leave_in_session`], for a member whose host does not know yet that it has entered. If its session has
    /// been taken over, the member stays, and the node that has the session gets [`Event::EnteredAgain`].
    pub async fn undo_enter(
        &self,
        room: &str,
        member: &str,
        session: &str,
        generation: u64,
        body: Option<Bytes>,
    ) -> Option<Stamp> {
        let (room, member) = (room.into(), member.into());
        let leave = self.inner.clone().leave(room, member, generation, body, session.into());
        self.inner.spawn(leave).await.ok().flatten().flatten()
    }

    /// Publishes a body to a room, as a member of this node or as the host. It arrives in [`Events`] of every node that
    /// has members in the room, including this one. If a message with this `key` was published to the room before,
    /// nothing is published. The key must differ from the keys of all other senders.
    ///
    /// # Errors
    ///
    /// Fails if the room has no members, if `member` is not in the room, or if Redis cannot be reached within 1 s.
    /// While Redis cannot be reached, up to 1,000 calls wait for it.
    pub async fn publish(
        &self,
        room: &str,
        member: Option<&str>,
        key: Option<&str>,
        body: &[u8],
    ) -> Result<Published, PublishError> {
        self.inner.publish(room, member, key, body).await
    }

    /// Sends a body to a room without adding it to the room's log. Nodes may miss it.
    ///
    /// # Errors
    ///
    /// As [`Node::publish`].
    pub async fn send_transient(&self, room: &str, body: &[u8]) -> Result<(), Unavailable> {
        self.inner.send_transient(room, body).await
    }

    /// Replaces the profile of a member of this node. All nodes get it with
    /// [`RoomEvent::profile`](crate::RoomEvent::profile). The event has a place in the order, but no frame
    /// ([`EventKind::Profile`](crate::EventKind::Profile)).
    ///
    /// Does nothing if the member is not in the room. If Redis cannot be reached, the node publishes the change as soon
    /// as it can, unless there is a newer change by then. If another node takes over the member's session before, the
    /// change is void. If the node enters the member again after a fence or a loss of data, the enter has the body that
    /// the member was entered with, and an event with the current profile follows it immediately.
    pub fn set_profile(&self, room: &str, member: &str, profile: Profile) {
        self.inner.set_profile(room, member, profile);
    }

    /// Allows the members of this user to have the same [unique text](NewMember::unique_as) as a member of this node,
    /// now or as soon as Redis can be reached.
    pub async fn set_owner(&self, room: &str, member: &str, owner: &str) {
        let set = self.inner.clone().set_owner(room.into(), member.into(), owner.into());
        let _ = self.inner.spawn(set).await;
    }

    /// Tells all nodes to remove their members from a room: they get [`Event::CloseRoom`].
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached within 1 s. Nodes that are not connected at the moment do not get the event.
    pub async fn close_room(&self, room: &str) -> Result<(), Unavailable> {
        self.send_control(self.inner.keys.control(), codec::encode_close_room(room)).await
    }

    /// Sends a body to all nodes, including this one: they get [`Event::Command`].
    ///
    /// # Errors
    ///
    /// As [`Node::close_room`].
    pub async fn send_to_all(&self, body: &[u8]) -> Result<(), Unavailable> {
        self.send_control(self.inner.keys.control(), codec::encode_command(body)).await
    }

    /// Sends a body to the node with this name: it gets [`Event::Command`].
    ///
    /// # Errors
    ///
    /// As [`Node::close_room`].
    pub async fn send_to_node(&self, node: &str, body: &[u8]) -> Result<(), Unavailable> {
        self.send_control(self.inner.keys.node_channel(node), codec::encode_command(body)).await
    }

    /// Sends a body to the node with this [`number`](Node::number): it gets [`Event::Command`].
    ///
    /// # Errors
    ///
    /// As [`Node::close_room`].
    pub async fn send_to_number(&self, number: u32, body: &[u8]) -> Result<(), Unavailable> {
        self.send_control(self.inner.keys.numbered_channel(number), codec::encode_command(body)).await
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    async fn send_control(&self, channel: String, payload: Vec<u8>) -> Result<(), Unavailable> {
        let deadline = tokio::time::Instant::now() + SHORT_TIMEOUT;
        let prepare = |_: &Link| Command::Plain(cmd("PUBLISH").arg(&channel).arg(&payload).take());
        let listeners = self.inner.commands.run::<u64>(Some(deadline), prepare).await;
        listeners.map(|_| ())
    }

    /// Returns up to `max` members of a room, including hidden ones, in the order in which they entered. The page
    /// begins after the member at the place `after`; use 0 for the first page.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached within 1 s.
    pub async fn roster(&self, room: &str, after: u64, max: usize) -> Result<Roster, Unavailable> {
        let deadline = tokio::time::Instant::now() + SHORT_TIMEOUT;
        let read = self.inner.scripts.roster(room, after, max);
        let reply = self.inner.call(room, deadline, read).await?;
        let stamp = reply.stamp();
        Ok(Roster { stamp, members: reply.roster() })
    }

    /// Returns all rooms that have members on any node, in no particular order. The counts may be from different
    /// moments.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached within 5 s.
    pub async fn rooms(&self) -> Result<Vec<RoomCount>, Unavailable> {
        timeout(LIST_TIMEOUT, self.inner.rooms()).await.unwrap_or(Err(Unavailable))
    }

    /// Returns up to `max` events with a frame that follow `seq` in a room's log. Returns `None` if some of them are
    /// not available, because the room has begun a new epoch or its log was trimmed.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached within 1 s.
    pub async fn log_after(
        &self,
        room: &str,
        epoch: Epoch,
        seq: u64,
        max: usize,
    ) -> Result<Option<Vec<RoomEvent>>, Unavailable> {
        let room = room.into();
        let read = self.inner.log_after(&room, epoch, seq, max);
        timeout(SHORT_TIMEOUT, read).await.unwrap_or(Err(Unavailable))
    }

    /// Returns the latest events with a frame up to a stamp, in their order, each with its age. There are no gaps
    /// between them. `needs` limits their number, their age and their bytes. There are fewer if the log does not have
    /// them.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached within 1 s.
    pub async fn history(
        &self,
        room: &str,
        until: Stamp,
        needs: LogNeeds,
    ) -> Result<Vec<LoggedEvent>, Unavailable> {
        let deadline = tokio::time::Instant::now() + SHORT_TIMEOUT;
        let read = self.inner.scripts.history(until, needs);
        Ok(self.inner.call(room, deadline, read).await?.history(&room.into()))
    }

    /// Sets what the logs keep from now on, in addition to what nodes need that have missed events. The [`Settings`]
    /// take precedence.
    pub fn keep_logs(&self, needs: LogNeeds) {
        self.inner.scripts.keep_logs(needs);
    }

    /// Makes a session resumable on any node. Open it before its first member enters. If you opened it only after the
    /// client is gone, a client that comes back fast would not find it. Waits until Redis can be reached. If you drop
    /// the future, the session is still opened.
    ///
    /// # Errors
    ///
    /// Fails if the node is closed first.
    pub async fn open_session(&self, session: Session) -> Result<(), Unavailable> {
        let open = self.inner.spawn(self.inner.clone().open_session(session));
        open.await.ok().flatten().unwrap_or(Err(Unavailable))
    }

    /// Changes the user of a session of this node.
    ///
    /// # Errors
    ///
    /// Fails if the session has ended, if it has been taken over and therefore has another generation, or if the node
    /// is closed.
    pub async fn set_user(&self, session: &str, generation: u64, user: &str) -> Result<(), Unavailable> {
        let user = user.into();
        self.change_session(session, generation, |session| session.set_user(user)).await
    }

    /// Gives a session of this node another token. `new_token` is a hash of the token that the client presents next
    /// time.
    ///
    /// # Errors
    ///
    /// As [`Node::set_user`].
    pub async fn rename_session(
        &self,
        session: &str,
        generation: u64,
        new_token: &str,
    ) -> Result<(), Unavailable> {
        let token = new_token.into();
        self.change_session(session, generation, |session| session.set_token(token)).await
    }

    async fn change_session(
        &self,
        session: &str,
        generation: u64,
        change: impl FnOnce(&mut Session) + Send + 'static,
    ) -> Result<(), Unavailable> {
        let change = self.inner.clone().change_session(session.into(), generation, change);
        self.inner.spawn(change).await.ok().flatten().unwrap_or(Err(Unavailable))
    }

    /// Takes over a session from another node or from this one. Its members belong to this node from now on, without a
    /// leave or an enter, and the node receives the events of their rooms. `new_token` is a hash of the token that the
    /// client presents next time. This node gets [`Event::SessionResumed`]. The node that had the session gets
    /// [`Event::SessionTaken`]. What that node still does for these members has no effect.
    ///
    /// # Errors
    ///
    /// Fails if there is no such session, if it belongs to another user, or if Redis cannot be reached within 5 s.
    pub async fn resume(&self, token: &str, new_token: &str, user: &str) -> Result<Resumed, ResumeError> {
        let resume = self.inner.clone().resume(token.into(), new_token.into(), user.into());
        self.inner.spawn(resume).await.ok().flatten().unwrap_or(Err(ResumeError::Unavailable))
    }

    /// Ends a session of this node. Its members must leave as well. Returns whether the session belonged to this node.
    /// It does not if it has been taken over and therefore has another generation. Waits until Redis can be reached. If
    /// you drop the future, the session still ends.
    ///
    /// # Errors
    ///
    /// Fails if the node is closed first.
    pub async fn close_session(&self, session: &str, generation: u64) -> Result<bool, Unavailable> {
        let close = self.inner.spawn(self.inner.clone().close_session(session.into(), generation));
        close.await.ok().flatten().unwrap_or(Err(Unavailable))
    }

    /// Ends the node's tasks, and removes its members with the leave bodies that they were entered with.
    /// Members of sessions stay for the resume window, so that their clients can resume them on other nodes.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached within 5 s. Other nodes then remove the members when the lease has expired.
    pub async fn close(&self) -> Result<(), Unavailable> {
        self.inner.close();
        let lease = lock(&self.lease).take();
        if let Some(lease) = lease {
            // Otherwise it would take the removal for a fence, and enter the members again.
            let _ = lease.await;
        }
        let remove = self.inner.remove_node();
        timeout(Duration::from_secs(5), remove).await.unwrap_or(Err(Unavailable))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.inner.close();
    }
}

impl Events {
    /// Returns the next event, or `None` after the node was closed or dropped.
    ///
    /// Call it again soon. If more bytes wait than [`Settings::max_queued_bytes`], the node reads the rest from the
    /// rooms' logs later, if the logs still have them.
    pub async fn recv(&mut self) -> Option<Event> {
        self.queue.pop().await
    }
}

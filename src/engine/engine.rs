//! Who is connected and who is where. What happens in rooms happens at once: no hook is called
//! here, and no peer is waited for.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::unconstrained;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::config::{Heartbeat, Limits};
use crate::engine::delivery::flush;
use crate::engine::pulse::Pulse;
use crate::engine::recipient::Recipient;
use crate::engine::stats::{Counters, Stats};
use crate::engine::table::{SLOTS, Table};
use crate::hooks::auth::ErasedAuth;
use crate::hooks::events::RoomEvents;
use crate::hooks::policy::ErasedPolicy;
use crate::hooks::user::User;
use crate::ids::{ConnectionId, Name, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::outbound;
use crate::room::registry::{Registry, SharedRoom};
use crate::room::room::{JoinError, Member, Room};

/// What the host has supplied.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) auth: Option<Box<dyn ErasedAuth>>,
    pub(crate) policy: Option<Box<dyn ErasedPolicy>>,
    pub(crate) events: Option<Box<dyn RoomEvents>>,
}

pub(crate) struct Engine {
    pub(crate) heartbeat: Heartbeat,
    pub(crate) limits: Limits,
    pub(crate) hooks: Hooks,
    pub(crate) table: Table,
    pub(crate) counters: Counters,
    pub(crate) tasks: TaskTracker,
    pulse: Pulse,
    born: Instant,
    registry: Registry<Arc<dyn Recipient>>,
    connections: AtomicUsize,
    closing: AtomicBool,
    /// Told when the engine begins to shut down.
    closed: Notify,
    runtime: OnceLock<Handle>,
}

/// A connection's place under `max_connections`, given back when dropped.
///
/// A shutdown waits for it.
pub(crate) struct Permit {
    engine: Arc<Engine>,
    _task: TaskTrackerToken,
}

/// Why no further connection is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPermit {
    Full,
    ShuttingDown,
}

/// A member's place in a room. It has to be given back with [`Engine::leave`].
pub(crate) struct Membership {
    pub(crate) room: Arc<SharedRoom<Arc<dyn Recipient>>>,
    pub(crate) name: Name,
    /// What each of his frames gets appended.
    tail: Box<str>,
}

/// A connection on its way into a room.
pub(crate) struct Newcomer {
    pub(crate) id: ConnectionId,
    pub(crate) name: Name,
    pub(crate) user: Option<Arc<User>>,
    pub(crate) link: Arc<dyn Recipient>,
}

/// A room has as much queued as its members' queues may hold: it has to catch up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crowded;

impl Engine {
    pub(crate) fn new(heartbeat: Heartbeat, limits: Limits, hooks: Hooks) -> Engine {
        Engine {
            heartbeat,
            limits,
            hooks,
            table: Table::new(),
            counters: Counters::default(),
            tasks: TaskTracker::new(),
            pulse: Pulse::default(),
            born: Instant::now(),
            registry: Registry::new(),
            connections: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            closed: Notify::new(),
            runtime: OnceLock::new(),
        }
    }

    /// Takes a place for one connection.
    pub(crate) fn admit(self: &Arc<Engine>) -> Result<Permit, NoPermit> {
        // In this order: whoever finds the engine open is waited for.
        let task = self.tasks.token();
        if self.is_closing() {
            return Err(NoPermit::ShuttingDown);
        }
        let max = self.limits.max_connections;
        self.connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then_some(n + 1))
            .map_err(|_| NoPermit::Full)?;
        Ok(Permit { engine: self.clone(), _task: task })
    }

    /// The sweep is at work.
    pub(crate) fn beat(&self, tick: Duration) {
        self.pulse.beat(self.born.elapsed(), tick);
    }

    /// The sweep has ended.
    pub(crate) fn rest(&self) {
        self.pulse.rest();
        self.table.release_sweep();
    }

    /// Whether the whole process stands still, or did a moment ago.
    pub(crate) fn has_stalled(&self) -> bool {
        self.pulse.has_stalled(self.born.elapsed(), self.heartbeat.interval() / SLOTS as u32)
    }

    /// Whether [`Engine::shutdown`] has begun.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Done when the engine begins to shut down.
    pub(crate) async fn until_closing(&self) {
        let told = self.closed.notified();
        if !self.is_closing() {
            told.await;
        }
    }

    /// Waits for something, unless a shutdown begins first.
    pub(crate) async fn unless_closing<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let (mut future, mut closing) = (pin!(future), pin!(self.until_closing()));
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => closing.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    /// Takes a newcomer in, out of the room he was in. If he can't come in, he stays where he is.
    ///
    /// `body` is his frame without its closing brace. Where there was an old membership, it has
    /// ended with this, and the caller only has to tell the host.
    pub(crate) fn enter(
        &self,
        new: Newcomer,
        id: &RoomId,
        body: &str,
        old: Option<&Membership>,
    ) -> Result<(Membership, Entry), PeerError> {
        let tail = outbound::name_and_num(new.name.as_str());
        let name = new.name.clone();
        let frame: [&[u8]; 2] = [body.as_bytes(), tail.as_bytes()];
        let (room, entry) = match old {
            Some(old) if old.room.id() == id => self.rename(new, old, &frame)?,
            Some(old) => self.change(new, id, old, &frame)?,
            None => self.join(new, id, &frame)?,
        };
        self.counters.entered.add(1);
        Ok((Membership { room, name, tail }, entry))
    }

    fn join(&self, new: Newcomer, id: &RoomId, frame: &[&[u8]; 2]) -> Result<(EngineRoom, Entry), PeerError> {
        let Limits { max_rooms, max_room_members, .. } = self.limits;
        self.registry
            .open(id, max_rooms, |shared, room| {
                let link = new.link.clone();
                let position = room.join(new.into_member(), max_room_members, frame)?;
                link.attach(shared, position);
                self.start_flush(shared, room);
                Ok((shared.clone(), Entry { online: room.online(), left_online: 0 }))
            })
            .map_err(|_| too_many_rooms())?
            .map_err(|e: JoinError| refused(e, max_room_members))
    }

    /// Out of the room and in again under another name, in one step.
    fn rename(
        &self,
        new: Newcomer,
        old: &Membership,
        frame: &[&[u8]; 2],
    ) -> Result<(EngineRoom, Entry), PeerError> {
        let out = outbound::out(old.name.as_str());
        self.registry
            .visit(&old.room, |shared, room| {
                room.reserve(usize::MAX)?;
                catch_up(room, shared, &*new.link);
                room.leave(new.id, &out);
                let left_online = room.online();
                self.counters.left.add(1);
                Ok(self.take_place(new, shared, room, frame, left_online))
            })
            .map_err(|e: JoinError| refused(e, self.limits.max_room_members))
    }

    /// A place is kept in the new room before the old one is left.
    fn change(
        &self,
        new: Newcomer,
        id: &RoomId,
        old: &Membership,
        frame: &[&[u8]; 2],
    ) -> Result<(EngineRoom, Entry), PeerError> {
        let Limits { max_rooms, max_room_members, .. } = self.limits;
        let kept = self
            .registry
            .open(id, max_rooms, |shared, room| {
                room.reserve(max_room_members)?;
                Ok(shared.clone())
            })
            .map_err(|_| too_many_rooms())?
            .map_err(|e: JoinError| refused(e, max_room_members))?;
        let left_online = self.depart(old, new.id, &*new.link);
        Ok(self.registry.visit(&kept, |shared, room| self.take_place(new, shared, room, frame, left_online)))
    }

    fn take_place(
        &self,
        new: Newcomer,
        shared: &EngineRoom,
        room: &mut Room<Arc<dyn Recipient>>,
        frame: &[&[u8]; 2],
        left_online: usize,
    ) -> (EngineRoom, Entry) {
        let link = new.link.clone();
        let position = room.join_reserved(new.into_member(), frame);
        link.attach(shared, position);
        if room.is_closed() {
            // It was closed while he was on the way, so nobody else will tell him.
            link.close(LeaveReason::RoomClosed);
        }
        self.start_flush(shared, room);
        (shared.clone(), Entry { online: room.online(), left_online })
    }

    /// Ends a membership and returns how many remain. What was said before still reaches him.
    pub(crate) fn leave(&self, membership: &Membership, id: ConnectionId, link: &dyn Recipient) -> usize {
        let online = self.depart(membership, id, link);
        link.detach();
        online
    }

    fn depart(&self, membership: &Membership, id: ConnectionId, link: &dyn Recipient) -> usize {
        let out = outbound::out(membership.name.as_str());
        let (unfinished, online) = self.registry.visit(&membership.room, |shared, room| {
            let unfinished = if link.is_reachable() { room.stream().unfinished() } else { Vec::new() };
            room.leave(id, &out);
            self.start_flush(shared, room);
            (unfinished, room.online())
        });
        for batch in &unfinished {
            link.deliver(&membership.room, batch);
        }
        self.counters.left.add(1);
        online
    }

    /// Sends a member's frame to the room, unless the room is crowded.
    pub(crate) fn publish(&self, membership: &Membership, body: &str) -> Result<(), Crowded> {
        let shared = &membership.room;
        let mut room = shared.lock();
        self.check_crowd(&mut room, body.len() + membership.tail.len())?;
        room.say(&[body.as_bytes(), membership.tail.as_bytes()]);
        self.start_flush(shared, &mut room);
        Ok(())
    }

    /// Sends a frame of the host's, an object without its closing brace, to the room.
    pub(crate) fn announce(&self, shared: &EngineRoom, body: &str) -> Result<(), Crowded> {
        let mut room = shared.lock();
        self.check_crowd(&mut room, body.len())?;
        let num: &[u8] = if body == "{" { br#""num":"# } else { br#","num":"# };
        room.say(&[body.as_bytes(), num]);
        if shared.claim_flush(&mut room) {
            // The host may be in a runtime of its own, which is not driven for long.
            let home = self.runtime.get().cloned().or_else(|| Handle::try_current().ok());
            if let Some(home) = home {
                self.tasks.spawn_on(unconstrained(flush(shared.clone())), &home);
            }
        }
        Ok(())
    }

    /// What is gathered for one write must fit the queue of a member that had nothing to wait for.
    fn check_crowd(&self, room: &mut Room<Arc<dyn Recipient>>, more: usize) -> Result<(), Crowded> {
        let pending = room.stream().pending();
        let max = self.limits.max_queue_bytes;
        if pending > 0 && pending.saturating_add(more).saturating_add(64) > max {
            Err(Crowded)
        } else {
            Ok(())
        }
    }

    /// Repeats his own enter to a member, in its place among the room's frames.
    pub(crate) fn repeat(&self, membership: &Membership, body: &str, link: &dyn Recipient) {
        let mut room = membership.room.lock();
        catch_up(&mut room, &membership.room, link);
        let frame = format!("{body}{}{}}}", membership.tail, room.online());
        link.send(crate::protocol::frame::text(frame.as_bytes()));
    }

    pub(crate) fn room(&self, id: &str) -> Option<EngineRoom> {
        self.registry.get(id)
    }

    pub(crate) fn rooms(&self) -> Vec<EngineRoom> {
        self.registry.all()
    }

    /// Closes a room: it is silent from now on and its members' connections end. Returns how
    /// many those are.
    pub(crate) fn close_room(&self, id: &str) -> Option<usize> {
        let shared = self.registry.close(id)?;
        let members = shared.lock().members().clone();
        for member in members.iter() {
            member.link.close(LeaveReason::RoomClosed);
        }
        Some(members.len())
    }

    /// Asks every connection to end. Those that come later find the engine closing.
    pub(crate) fn shutdown(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.closed.notify_waiters();
        self.tasks.close();
        for room in self.registry.all() {
            room.lock().close();
        }
        for recipient in self.table.all() {
            recipient.close(LeaveReason::Shutdown);
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.counters.read(self.connections.load(Ordering::Relaxed), self.registry.len())
    }

    /// Spawns a task of the engine's, which a shutdown waits for: in this runtime, or where the
    /// first connection ran.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match (Handle::try_current(), self.runtime.get()) {
            (Ok(runtime), _) => self.tasks.spawn_on(task, &runtime),
            (Err(_), Some(runtime)) => self.tasks.spawn_on(task, runtime),
            // Without a connection there has been nothing to do.
            (Err(_), None) => return,
        };
    }

    /// Remembers the runtime in which a connection runs.
    pub(crate) fn keep_runtime(&self) {
        self.runtime.get_or_init(Handle::current);
    }

    fn start_flush(&self, shared: &EngineRoom, room: &mut Room<Arc<dyn Recipient>>) {
        if shared.claim_flush(room) {
            // It yields by itself. Out of tokio's budget, which is 128 writes, sockets would seem
            // full, and each member's task be woken to write what is left.
            self.spawn(unconstrained(flush(shared.clone())));
        }
    }
}

type EngineRoom = Arc<SharedRoom<Arc<dyn Recipient>>>;

/// Counts at the moment of an enter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// In the room that was entered.
    pub(crate) online: usize,
    /// In the room that was left for it.
    pub(crate) left_online: usize,
}

impl Newcomer {
    fn into_member(self) -> Member<Arc<dyn Recipient>> {
        Member { id: self.id, name: self.name, user: self.user, link: self.link }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.engine.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Writes everything the room has queued so far to one member.
fn catch_up(room: &mut Room<Arc<dyn Recipient>>, shared: &EngineRoom, link: &dyn Recipient) {
    for batch in room.stream().unfinished() {
        link.deliver(shared, &batch);
    }
}

fn too_many_rooms() -> PeerError {
    PeerError::new(ErrorCode::TooManyRooms, "no further room can be opened; enter one that exists")
}

fn refused(error: JoinError, max: usize) -> PeerError {
    match error {
        JoinError::Full => PeerError::new(ErrorCode::RoomFull, format!("the room is full ({max} members)")),
        JoinError::Closed => PeerError::new(ErrorCode::Denied, "the room is closed"),
    }
}

/// A frame for one connection.
pub(crate) fn single(text: &str) -> Bytes {
    crate::protocol::frame::text(text.as_bytes())
}

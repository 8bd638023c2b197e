//! A broker within one process, for tests of several nodes.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;

use crate::broker::{
    BoxFuture, BrokerNode, EntryId, EventKind, NewMember, NotEntered, RemoteBroker, RemoteEvent,
    RemoteEvents, RemoteMember, RoomEvent, Stamp, Submitted, Unavailable,
};
use crate::ids::{Name, RoomId};
use crate::protocol::position::Epoch;
use crate::room::Profile;
use crate::sync::{Mutex, MutexGuard, lock};

/// What a node wants from the broker.
type Call = Box<dyn FnOnce(&mut Shared) + Send>;

/// A broker in memory, for tests in which several [`ChatRooms`](crate::ChatRooms) of one process share their rooms.
///
/// ```
/// use tower_chat_rooms::{ChatRooms, SharedBroker};
///
/// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// let broker = SharedBroker::new();
/// let one = ChatRooms::builder().broker(broker.node()).build()?;
/// let other = ChatRooms::builder().broker(broker.node()).build()?;
/// # drop((one, other));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct SharedBroker(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    rooms: HashMap<RoomId, SharedRoom>,
    nodes: HashMap<u32, Hearer>,
    last_node: u32,
    epochs: u64,
    is_away: bool,
    /// What was called while the broker was away.
    waiting: Vec<Call>,
}

struct SharedRoom {
    latest: Stamp,
    members: Vec<(RemoteMember, Bytes)>,
    published: HashMap<String, u64>,
}

/// What a node has yet to hear.
#[derive(Default)]
struct Hearer {
    events: VecDeque<RemoteEvent>,
    waker: Option<Waker>,
    /// Nothing arrives, although calls are answered.
    is_deaf: bool,
}

struct SharedNode {
    number: u32,
    shared: SharedBroker,
}

impl SharedBroker {
    /// A broker without rooms.
    pub fn new() -> SharedBroker {
        SharedBroker::default()
    }

    /// Another node.
    pub fn node(&self) -> BrokerNode {
        let mut shared = self.lock();
        shared.last_node += 1;
        let number = shared.last_node;
        shared.nodes.insert(number, Hearer::default());
        let node = || SharedNode { number, shared: self.clone() };
        BrokerNode { broker: Arc::new(node()), events: Box::new(node()) }
    }

    /// The members of all rooms.
    pub fn members(&self) -> usize {
        self.lock().rooms.values().map(|room| room.members.len()).sum()
    }

    /// Whether the broker can be reached. While it cannot, calls wait.
    pub fn set_available(&self, is_available: bool) {
        let mut shared = self.lock();
        shared.is_away = !is_available;
        if is_available {
            for call in std::mem::take(&mut shared.waiting) {
                call(&mut shared);
            }
        }
    }

    /// Whether events arrive at the nodes. While they do not, calls are answered, and the events wait.
    pub fn set_delivering(&self, is_delivering: bool) {
        for hearer in self.lock().nodes.values_mut() {
            hearer.is_deaf = !is_delivering;
            hearer.wake();
        }
    }

    /// Begins a new epoch in all rooms, as if the broker was started again.
    pub fn restart(&self) {
        let mut shared = self.lock();
        let rooms: Vec<RoomId> = shared.rooms.keys().cloned().collect();
        for id in rooms {
            let epoch = shared.next_epoch();
            let Some(room) = shared.rooms.get_mut(&id) else { continue };
            room.latest = Stamp { num: room.latest.num, ..Stamp::start(epoch) };
            let stamp = room.latest;
            shared.tell(&id, |room| RemoteEvent::Reset { room, stamp });
        }
    }

    /// Removes a node that has crashed, with its members.
    pub fn remove_node(&self, node: u32) {
        let mut shared = self.lock();
        shared.nodes.remove(&node);
        shared.remove_members(node);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.0)
    }
}

impl BrokerNode {
    /// The number of a node of a [`SharedBroker`].
    pub fn number(&self) -> u32 {
        self.broker.node()
    }
}

impl fmt::Debug for SharedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBroker").finish_non_exhaustive()
    }
}

impl Shared {
    fn next_epoch(&mut self) -> Epoch {
        self.epochs += 1;
        Epoch(self.epochs)
    }

    fn append(&mut self, id: &RoomId, kind: EventKind, entry: Option<EntryId>, body: Bytes) -> Option<Stamp> {
        let room = self.rooms.get_mut(id)?;
        room.latest = room.latest.next(kind);
        let stamp = room.latest;
        self.tell(id, |room| RemoteEvent::Room(RoomEvent { room, stamp, kind, entry, body: body.clone() }));
        Some(stamp)
    }

    /// Tells the nodes that have members in a room.
    fn tell(&mut self, id: &RoomId, event: impl Fn(RoomId) -> RemoteEvent) {
        let Some(room) = self.rooms.get(id) else { return };
        for (node, hearer) in &mut self.nodes {
            if room.members.iter().any(|(member, _)| member.entry.member.node() == *node) {
                hearer.push(event(id.clone()));
            }
        }
    }

    fn enter(&mut self, id: &RoomId, new: NewMember, max: u64) -> Result<(), NotEntered> {
        if !self.nodes.contains_key(&new.entry.member.node()) {
            return Err(NotEntered::Unavailable);
        }
        let epoch = self.next_epoch();
        let room = self.rooms.entry(id.clone()).or_insert_with(|| SharedRoom {
            latest: Stamp::start(epoch),
            members: Vec::new(),
            published: HashMap::new(),
        });
        if room.latest.num >= max {
            return Err(NotEntered::RoomFull);
        }
        let NewMember { entry, name, profile, is_silent, body, leave_body } = new;
        let entered = (room.latest.epoch, room.latest.event + 1);
        let leave_body = if is_silent { Bytes::new() } else { leave_body };
        room.members.push((RemoteMember { entry, name, profile, entered }, leave_body));
        let kind = if is_silent { EventKind::SilentEnter } else { EventKind::Enter };
        self.append(id, kind, Some(entry), body);
        Ok(())
    }

    fn leave(&mut self, id: &RoomId, entry: EntryId, body: Option<Bytes>) {
        let Some(room) = self.rooms.get(id) else { return };
        let Some(at) = room.members.iter().position(|(member, _)| member.entry == entry) else { return };
        let kind = if body.is_some() { EventKind::Leave } else { EventKind::SilentLeave };
        // The leaving member's node still hears it.
        self.append(id, kind, Some(entry), body.unwrap_or_default());
        let Some(room) = self.rooms.get_mut(id) else { return };
        room.members.remove(at);
        if room.members.is_empty() {
            self.rooms.remove(id);
        }
    }

    fn publish(
        &mut self,
        id: &RoomId,
        entry: Option<EntryId>,
        message_id: Option<String>,
        body: Bytes,
    ) -> Result<Submitted, Unavailable> {
        let room = self.rooms.get(id).ok_or(Unavailable)?;
        if let Some(seq) = message_id.as_ref().and_then(|message_id| room.published.get(message_id)) {
            return Ok(Submitted { seq: *seq, is_repeat: true });
        }
        if entry.is_some_and(|entry| room.members.iter().all(|(member, _)| member.entry != entry)) {
            return Err(Unavailable);
        }
        let stamp = self.append(id, EventKind::Publish, entry, body).ok_or(Unavailable)?;
        if let (Some(room), Some(message_id)) = (self.rooms.get_mut(id), message_id) {
            room.published.insert(message_id, stamp.seq);
        }
        Ok(Submitted { seq: stamp.seq, is_repeat: false })
    }

    fn set_profile(&mut self, id: &RoomId, entry: EntryId, profile: Profile, body: Bytes) {
        let Some(room) = self.rooms.get_mut(id) else { return };
        let Some((member, _)) = room.members.iter_mut().find(|(member, _)| member.entry == entry) else {
            return;
        };
        member.profile = profile;
        self.append(id, EventKind::Profile, Some(entry), body);
    }

    fn remove_members(&mut self, node: u32) {
        let rooms: Vec<RoomId> = self.rooms.keys().cloned().collect();
        for id in rooms {
            let Some(room) = self.rooms.get(&id) else { continue };
            let lost: Vec<_> = room
                .members
                .iter()
                .filter(|(member, _)| member.entry.member.node() == node)
                .map(|(member, body)| (member.entry, body.clone()))
                .collect();
            for (entry, body) in lost {
                self.leave(&id, entry, (!body.is_empty()).then_some(body));
            }
        }
    }
}

impl Hearer {
    fn push(&mut self, event: RemoteEvent) {
        self.events.push_back(event);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl SharedNode {
    /// Calls the broker: now, or when it can be reached again.
    fn call(&self, call: impl FnOnce(&mut Shared) + Send + 'static) {
        let mut shared = self.shared.lock();
        match shared.is_away {
            true => shared.waiting.push(Box::new(call)),
            false => call(&mut shared),
        }
    }

    /// As [`SharedNode::call`]. The future is ready when the broker has answered.
    fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Shared) -> T + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let reply: Arc<Mutex<(Option<T>, Option<Waker>)>> = Arc::new(Mutex::new((None, None)));
        let answered = reply.clone();
        self.call(move |shared| {
            let answer = call(shared);
            let mut reply = lock(&answered);
            reply.0 = Some(answer);
            if let Some(waker) = reply.1.take() {
                waker.wake();
            }
        });
        Box::pin(poll_fn(move |cx| {
            let mut reply = lock(&reply);
            match reply.0.take() {
                Some(answer) => Poll::Ready(answer),
                None => {
                    reply.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}

impl RemoteBroker for SharedNode {
    fn node(&self) -> u32 {
        self.number
    }

    fn enter(
        &self,
        room: &RoomId,
        member: NewMember,
        max_members: u64,
    ) -> BoxFuture<'static, Result<(), NotEntered>> {
        let room = room.clone();
        self.ask(move |shared| shared.enter(&room, member, max_members))
    }

    fn leave(&self, room: &RoomId, entry: EntryId, body: Option<Bytes>) {
        let room = room.clone();
        self.call(move |shared| shared.leave(&room, entry, body));
    }

    fn publish(
        &self,
        room: &RoomId,
        entry: Option<EntryId>,
        id: Option<&str>,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Submitted, Unavailable>> {
        let (room, id) = (room.clone(), id.map(str::to_owned));
        self.ask(move |shared| shared.publish(&room, entry, id, body))
    }

    fn send_transient(&self, room: &RoomId, body: Bytes) {
        let room = room.clone();
        self.call(move |shared| {
            shared.tell(&room, |room| RemoteEvent::Transient { room, body: body.clone() });
        });
    }

    fn set_profile(&self, room: &RoomId, entry: EntryId, _: &Name, profile: &Profile, body: Bytes) {
        let (room, profile) = (room.clone(), profile.clone());
        self.call(move |shared| shared.set_profile(&room, entry, profile, body));
    }

    fn members(&self, room: &RoomId) -> BoxFuture<'static, Option<Vec<RemoteMember>>> {
        let room = room.clone();
        self.ask(move |shared| {
            let members = shared.rooms.get(&room).map(|room| &room.members[..]).unwrap_or_default();
            Some(members.iter().map(|(member, _)| member.clone()).collect())
        })
    }

    fn send_to_all(&self, body: Bytes) {
        self.call(move |shared| {
            for hearer in shared.nodes.values_mut() {
                hearer.push(RemoteEvent::Command { body: body.clone() });
            }
        });
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let number = self.number;
        self.ask(move |shared| {
            if let Some(mut hearer) = shared.nodes.remove(&number) {
                hearer.wake();
            }
            shared.remove_members(number);
        })
    }
}

impl RemoteEvents for SharedNode {
    fn next(&mut self) -> BoxFuture<'_, Option<RemoteEvent>> {
        Box::pin(poll_fn(|cx| {
            let mut shared = self.shared.lock();
            let Some(hearer) = shared.nodes.get_mut(&self.number) else { return Poll::Ready(None) };
            let event = if hearer.is_deaf { None } else { hearer.events.pop_front() };
            match event {
                Some(event) => Poll::Ready(Some(event)),
                None => {
                    hearer.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}

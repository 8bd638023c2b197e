//! The rooms and nodes of a broker within one process.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::batches::Batches;
use super::sessions::SharedSession;
use super::users::Users;
use crate::broker::wire;
use crate::broker::{
    EntryId, EventKind, LoggedEvent, LostMember, MemberSession, NewMember, NotEntered, RemoteEvent,
    RemoteMember, RoomEvent, Stamp, Submitted, TokenHash, Unavailable, UniqueName,
};
use crate::clock::Clock;
use crate::config::{History, Recovery};
use crate::health::Health;
use crate::ids::{ConnectionId, MessageId, RoomId};
use crate::protocol::position::Epoch;
use crate::protocol::receipt::Receipt;
use crate::room::Profile;

/// The events with frames that a room keeps at least.
const LOG_LENGTH: usize = 1000;

/// What a node wants from the broker.
type Call = Box<dyn FnOnce(&mut Shared) + Send>;

#[derive(Default)]
pub(super) struct Shared {
    pub(super) rooms: HashMap<RoomId, SharedRoom>,
    pub(super) batches: HashMap<RoomId, Batches>,
    pub(super) sessions: HashMap<TokenHash, SharedSession>,
    pub(super) nodes: HashMap<u32, Hearer>,
    pub(super) users: Users,
    pub(super) last_node: u32,
    epochs: u64,
    /// The id of the latest message of any room.
    pub(super) last_id: Option<MessageId>,
    /// Present while the broker cannot be reached.
    pub(super) outage: Option<Health>,
    /// What was called while the broker was away.
    pub(super) waiting: Vec<Call>,
    pub(super) clock: Clock,
    /// The frames that nodes want to be kept.
    log_length: usize,
}

pub(super) struct SharedRoom {
    pub(super) latest: Stamp,
    pub(super) members: Vec<SharedMember>,
    pub(super) published: HashMap<String, Receipt>,
    /// The latest events with frames, and when they were published.
    pub(super) log: VecDeque<(RoomEvent, Duration)>,
}

/// A member and what the broker knows of it.
pub(super) struct SharedMember {
    pub(super) member: RemoteMember,
    /// The node that it is on.
    pub(super) node: u32,
    pub(super) session: Option<TokenHash>,
    unique: Option<UniqueName>,
    pub(super) body: Bytes,
    /// What other nodes get with its leave if its node is gone, or if it is replaced.
    leave_body: Bytes,
    /// Whether its leave has no frame if its node is gone.
    is_silent: bool,
    /// That of its enter.
    pub(super) entered: Stamp,
}

/// What a node has yet to hear.
#[derive(Default)]
pub(super) struct Hearer {
    pub(super) events: VecDeque<RemoteEvent>,
    pub(super) waker: Option<Waker>,
    /// Nothing arrives, although calls are answered.
    pub(super) is_deaf: bool,
    pub(super) loses_next: bool,
}

impl Shared {
    pub(super) fn next_epoch(&mut self) -> Epoch {
        self.epochs += 1;
        Epoch(self.epochs)
    }

    fn append(&mut self, id: &RoomId, kind: EventKind, entry: Option<EntryId>, body: Bytes) {
        self.append_as(id, kind, entry, None, body, false);
    }

    pub(super) fn append_as(
        &mut self,
        id: &RoomId,
        kind: EventKind,
        entry: Option<EntryId>,
        message: Option<MessageId>,
        body: Bytes,
        is_replaced: bool,
    ) -> Option<Stamp> {
        let room = self.rooms.get_mut(id)?;
        room.latest = room.latest.next(kind);
        let stamp = room.latest;
        let event = RoomEvent { room: id.clone(), stamp, kind, entry, id: message, body, is_replaced };
        if !kind.is_silent() {
            room.log.push_back((event.clone(), self.clock.now()));
            if room.log.len() > self.log_length.max(LOG_LENGTH) {
                room.log.pop_front();
            }
        }
        self.tell(id, |_| RemoteEvent::Room(event.clone()));
        Some(stamp)
    }

    pub(super) fn keep_logs(&mut self, recovery: &Recovery) {
        let frames = recovery.history.map_or(0, |history| history.frames());
        self.log_length = self.log_length.max(frames);
    }

    pub(super) fn log(&self, id: &RoomId, until: Stamp, history: History) -> Vec<LoggedEvent> {
        let log = self.rooms.get(id).into_iter().flat_map(|room| room.log.iter().rev());
        let now = self.clock.now();
        let log = log.map(|(event, at)| LoggedEvent { event: event.clone(), age: now.saturating_sub(*at) });
        let is_wanted = |logged: &LoggedEvent| {
            let stamp = logged.event.stamp;
            stamp.epoch == until.epoch && stamp.event <= until.event
        };
        let mut latest: Vec<_> = log
            .filter(is_wanted)
            .take_while(|logged| logged.age <= history.age())
            .take(history.frames())
            .collect();
        latest.reverse();
        latest
    }

    /// Tells the nodes that have members in a room.
    pub(super) fn tell(&mut self, id: &RoomId, event: impl Fn(RoomId) -> RemoteEvent) {
        let Some(room) = self.rooms.get(id) else { return };
        for (node, hearer) in &mut self.nodes {
            if room.members.iter().any(|member| member.node == *node) {
                hearer.push(event(id.clone()));
            }
        }
    }

    pub(super) fn send_to(&mut self, node: u32, body: Bytes) {
        if let Some(hearer) = self.nodes.get_mut(&node) {
            hearer.push(RemoteEvent::Command { body });
        }
    }

    pub(super) fn enter(
        &mut self,
        node: u32,
        id: &RoomId,
        new: NewMember,
        max: u64,
    ) -> Result<(), NotEntered> {
        let NewMember { entry, name, unique, profile, replaces, is_silent, session, body, leave_body } = new;
        let session = session.map(|MemberSession { token, .. }| token);
        let is_taken = session.as_ref().is_some_and(|token| !self.sessions.contains_key(token));
        if !self.nodes.contains_key(&node) || is_taken {
            return Err(NotEntered::Unavailable);
        }
        let epoch = self.next_epoch();
        let room = self.rooms.entry(id.clone()).or_insert_with(|| SharedRoom {
            latest: Stamp::start(epoch),
            members: Vec::new(),
            published: HashMap::new(),
            log: VecDeque::new(),
        });
        let replaced = replaces.filter(|entry| room.position_on(node, *entry).is_some());
        if let Some(anonymous) = unique.as_ref().and_then(|unique| room.holder(unique, replaced)) {
            return Err(NotEntered::NameTaken { anonymous });
        }
        if replaced.is_none() && room.members.len() as u64 >= max {
            return Err(NotEntered::RoomFull);
        }
        let kind = match (profile.is_hidden, is_silent) {
            (true, _) => EventKind::HiddenEnter,
            (false, true) => EventKind::SilentEnter,
            (false, false) => EventKind::Enter,
        };
        if let Some(replaced) = replaced {
            self.remove(id, replaced, is_silent, None, true);
        }
        let Some(room) = self.rooms.get_mut(id) else { return Err(NotEntered::Unavailable) };
        let entered = room.latest.next(kind);
        let member = RemoteMember { entry, name, profile, entered: (entered.epoch, entered.event) };
        room.members.push(SharedMember {
            member,
            node,
            session,
            unique,
            body: body.clone(),
            leave_body,
            is_silent,
            entered,
        });
        self.append(id, kind, Some(entry), body);
        Ok(())
    }

    pub(super) fn leave(
        &mut self,
        node: u32,
        id: &RoomId,
        entry: EntryId,
        generation: u64,
        body: Option<Bytes>,
    ) {
        let Some(room) = self.rooms.get(id).filter(|_| self.nodes.contains_key(&node)) else { return };
        // What a node says of a member that another one has taken over has no effect.
        let Some(at) = room.position_on(node, entry) else { return };
        if self.is_current(room.members[at].session.as_ref(), generation) {
            self.remove_member(id, entry, body.is_none(), body);
        }
    }

    fn remove_member(&mut self, id: &RoomId, entry: EntryId, is_silent: bool, body: Option<Bytes>) {
        self.remove(id, entry, is_silent, body, false);
        if self.rooms.get(id).is_some_and(|room| room.members.is_empty()) {
            self.rooms.remove(id);
        }
    }

    /// Removes a member. Without a body, its leave has the one that it was entered with.
    fn remove(
        &mut self,
        id: &RoomId,
        entry: EntryId,
        is_silent: bool,
        body: Option<Bytes>,
        is_replaced: bool,
    ) {
        let Some(room) = self.rooms.get(id) else { return };
        let Some(at) = room.position(entry) else { return };
        let (kind, body) = match (room.members[at].member.profile.is_hidden, is_silent) {
            (true, _) => (EventKind::HiddenLeave, Bytes::new()),
            (false, true) => (EventKind::SilentLeave, Bytes::new()),
            (false, false) => (EventKind::Leave, body.unwrap_or_else(|| room.members[at].leave_body.clone())),
        };
        // The leaving member's node still hears it.
        self.append_as(id, kind, Some(entry), None, body, is_replaced);
        if let Some(room) = self.rooms.get_mut(id) {
            room.members.remove(at);
        }
    }

    pub(super) fn publish(
        &mut self,
        node: u32,
        id: &RoomId,
        entry: Option<EntryId>,
        key: Option<String>,
        body: Bytes,
    ) -> Result<Submitted, Unavailable> {
        let room = self.rooms.get(id).ok_or(Unavailable)?;
        if let Some(Receipt { position, id }) = key.as_ref().and_then(|key| room.published.get(key)).copied()
        {
            return Ok(Submitted { position, id, is_repeat: true });
        }
        if !self.nodes.contains_key(&node)
            || entry.is_some_and(|entry| room.position_on(node, entry).is_none())
        {
            return Err(Unavailable);
        }
        let message = MessageId::next(self.last_id, SystemTime::now());
        self.last_id = Some(message);
        let stamp =
            self.append_as(id, EventKind::Publish, entry, Some(message), body, false).ok_or(Unavailable)?;
        let position = stamp.position();
        if let (Some(room), Some(key)) = (self.rooms.get_mut(id), key) {
            room.published.insert(key, Receipt { position, id: message });
        }
        Ok(Submitted { position, id: message, is_repeat: false })
    }

    pub(super) fn set_profile(&mut self, node: u32, id: &RoomId, entry: EntryId, profile: Profile) {
        let Some(room) = self.rooms.get_mut(id).filter(|_| self.nodes.contains_key(&node)) else { return };
        let Some(at) = room.position_on(node, entry) else { return };
        let member = &mut room.members[at].member;
        let body = wire::encode_profile(&member.name, &profile);
        member.profile = profile;
        self.append(id, EventKind::Profile, Some(entry), body);
    }

    pub(super) fn set_owner(&mut self, node: u32, id: &RoomId, entry: EntryId, owner: Arc<str>) {
        let Some(room) = self.rooms.get_mut(id) else { return };
        let Some(at) = room.position_on(node, entry) else { return };
        if let Some(unique) = &mut room.members[at].unique {
            unique.owner = Some(owner);
        }
    }

    /// Removes members of a node, and returns them.
    pub(super) fn remove_members(
        &mut self,
        node: u32,
        which: impl Fn(&SharedMember) -> bool,
    ) -> Vec<(EntryId, LostMember)> {
        let mut removed = Vec::new();
        let rooms: Vec<RoomId> = self.rooms.keys().cloned().collect();
        for id in rooms {
            let Some(room) = self.rooms.get(&id) else { continue };
            let lost: Vec<_> = room
                .members
                .iter()
                .filter(|shared| shared.node == node && which(shared))
                .map(|shared| (shared.member.clone(), shared.is_silent))
                .collect();
            for (RemoteMember { entry, name, profile, .. }, is_silent) in lost {
                self.remove_member(&id, entry, is_silent, None);
                let num = self.rooms.get(&id).map_or(0, |room| room.latest.num);
                let (room, connection) = (id.clone(), entry.member);
                let Profile { user, is_hidden, .. } = profile;
                removed.push((entry, LostMember { room, connection, name, user, is_hidden, num }));
            }
        }
        removed
    }
}

impl SharedRoom {
    fn position(&self, entry: EntryId) -> Option<usize> {
        self.members.iter().position(|shared| shared.member.entry == entry)
    }

    /// As above, if the member is on this node.
    fn position_on(&self, node: u32, entry: EntryId) -> Option<usize> {
        self.position(entry).filter(|at| self.members[*at].node == node)
    }

    /// The member that has a name, unless it is `except` or they may share it. The inner one is `None` if it has an owner.
    fn holder(&self, name: &UniqueName, except: Option<EntryId>) -> Option<Option<ConnectionId>> {
        self.members.iter().filter(|shared| Some(shared.member.entry) != except).find_map(|shared| {
            let other = shared.unique.as_ref().filter(|other| other.key == name.key)?;
            let is_shared = name.owner.is_some() && name.owner == other.owner;
            (!is_shared).then(|| other.owner.is_none().then_some(shared.member.entry.member))
        })
    }
}

impl Hearer {
    pub(super) fn push(&mut self, event: RemoteEvent) {
        if !std::mem::take(&mut self.loses_next) {
            self.events.push_back(event);
            self.wake();
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

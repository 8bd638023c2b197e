//! The rooms and nodes of a broker within one process.

use std::collections::{HashMap, VecDeque};
use std::task::Waker;

use bytes::Bytes;

use super::sessions::SharedSession;
use crate::broker::{
    EntryId, EventKind, MemberSession, NewMember, NotEntered, RemoteEvent, RemoteMember, RoomEvent, Stamp,
    Submitted, TokenHash, Unavailable,
};
use crate::ids::RoomId;
use crate::protocol::position::Epoch;
use crate::room::Profile;

/// What a node wants from the broker.
type Call = Box<dyn FnOnce(&mut Shared) + Send>;

#[derive(Default)]
pub(super) struct Shared {
    pub(super) rooms: HashMap<RoomId, SharedRoom>,
    pub(super) sessions: HashMap<TokenHash, SharedSession>,
    pub(super) nodes: HashMap<u32, Hearer>,
    pub(super) last_node: u32,
    epochs: u64,
    pub(super) is_away: bool,
    /// What was called while the broker was away.
    pub(super) waiting: Vec<Call>,
}

pub(super) struct SharedRoom {
    pub(super) latest: Stamp,
    pub(super) members: Vec<SharedMember>,
    published: HashMap<String, u64>,
}

/// A member and what the broker knows of it.
pub(super) struct SharedMember {
    pub(super) member: RemoteMember,
    /// The node that it is on.
    pub(super) node: u32,
    pub(super) session: Option<TokenHash>,
    pub(super) body: Bytes,
    /// Empty if its leave is silent.
    pub(super) leave_body: Bytes,
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
}

impl Shared {
    pub(super) fn next_epoch(&mut self) -> Epoch {
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
    pub(super) fn tell(&mut self, id: &RoomId, event: impl Fn(RoomId) -> RemoteEvent) {
        let Some(room) = self.rooms.get(id) else { return };
        for (node, hearer) in &mut self.nodes {
            if room.members.iter().any(|member| member.node == *node) {
                hearer.push(event(id.clone()));
            }
        }
    }

    pub(super) fn enter(
        &mut self,
        node: u32,
        id: &RoomId,
        new: NewMember,
        max: u64,
    ) -> Result<(), NotEntered> {
        let NewMember { entry, name, profile, is_silent, session, body, leave_body } = new;
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
        });
        if room.latest.num >= max {
            return Err(NotEntered::RoomFull);
        }
        let kind = if is_silent { EventKind::SilentEnter } else { EventKind::Enter };
        let entered = room.latest.next(kind);
        let leave_body = if is_silent { Bytes::new() } else { leave_body };
        let member = RemoteMember { entry, name, profile, entered: (entered.epoch, entered.event) };
        room.members.push(SharedMember { member, node, session, body: body.clone(), leave_body, entered });
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
        let members = self.rooms.get(id).map(|room| &room.members[..]).unwrap_or_default();
        let session = members.iter().find(|member| member.member.entry == entry);
        let session = session.and_then(|member| member.session.as_ref());
        if self.nodes.contains_key(&node) && self.is_current(session, generation) {
            self.remove_member(node, id, entry, body);
        }
    }

    fn remove_member(&mut self, node: u32, id: &RoomId, entry: EntryId, body: Option<Bytes>) {
        let Some(room) = self.rooms.get(id) else { return };
        // What a node says of a member that another one has taken over has no effect.
        let is_it = |member: &SharedMember| member.member.entry == entry && member.node == node;
        let Some(at) = room.members.iter().position(is_it) else { return };
        let kind = if body.is_some() { EventKind::Leave } else { EventKind::SilentLeave };
        // The leaving member's node still hears it.
        self.append(id, kind, Some(entry), body.unwrap_or_default());
        let Some(room) = self.rooms.get_mut(id) else { return };
        room.members.remove(at);
        if room.members.is_empty() {
            self.rooms.remove(id);
        }
    }

    pub(super) fn publish(
        &mut self,
        node: u32,
        id: &RoomId,
        entry: Option<EntryId>,
        message_id: Option<String>,
        body: Bytes,
    ) -> Result<Submitted, Unavailable> {
        let room = self.rooms.get(id).ok_or(Unavailable)?;
        if let Some(seq) = message_id.as_ref().and_then(|message_id| room.published.get(message_id)) {
            return Ok(Submitted { seq: *seq, is_repeat: true });
        }
        let is_it = |member: &SharedMember, entry| member.member.entry == entry && member.node == node;
        if !self.nodes.contains_key(&node)
            || entry.is_some_and(|entry| !room.members.iter().any(|member| is_it(member, entry)))
        {
            return Err(Unavailable);
        }
        let stamp = self.append(id, EventKind::Publish, entry, body).ok_or(Unavailable)?;
        if let (Some(room), Some(message_id)) = (self.rooms.get_mut(id), message_id) {
            room.published.insert(message_id, stamp.seq);
        }
        Ok(Submitted { seq: stamp.seq, is_repeat: false })
    }

    pub(super) fn set_profile(
        &mut self,
        node: u32,
        id: &RoomId,
        entry: EntryId,
        profile: Profile,
        body: Bytes,
    ) {
        let Some(room) = self.rooms.get_mut(id).filter(|_| self.nodes.contains_key(&node)) else { return };
        let is_it = |member: &&mut SharedMember| member.member.entry == entry && member.node == node;
        let Some(member) = room.members.iter_mut().find(is_it) else { return };
        member.member.profile = profile;
        self.append(id, EventKind::Profile, Some(entry), body);
    }

    /// Removes members of a node.
    pub(super) fn remove_members(&mut self, node: u32, which: impl Fn(&SharedMember) -> bool) {
        let rooms: Vec<RoomId> = self.rooms.keys().cloned().collect();
        for id in rooms {
            let Some(room) = self.rooms.get(&id) else { continue };
            let lost: Vec<_> = room
                .members
                .iter()
                .filter(|member| member.node == node && which(member))
                .map(|member| (member.member.entry, member.leave_body.clone()))
                .collect();
            for (entry, body) in lost {
                self.remove_member(node, &id, entry, (!body.is_empty()).then_some(body));
            }
        }
    }
}

impl Hearer {
    pub(super) fn push(&mut self, event: RemoteEvent) {
        self.events.push_back(event);
        self.wake();
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

//! The sessions of a broker within one process.

use super::order::Shared;
use crate::broker::{
    EntryId, KeptSession, NewSession, NotTaken, RemoteEvent, TakenMember, TakenSession, TokenHash,
    Unavailable,
};
use crate::ids::{ConnectionId, RoomId};

pub(super) struct SharedSession {
    id: ConnectionId,
    user: Option<Box<str>>,
    node: u32,
    generation: u64,
}

impl Shared {
    pub(super) fn open_session(&mut self, node: u32, session: NewSession) {
        if self.nodes.contains_key(&node) {
            let NewSession { id, token, user, .. } = session;
            self.sessions.insert(token, SharedSession { id, user, node, generation: 1 });
        }
    }

    pub(super) fn set_user(&mut self, node: u32, session: &KeptSession, user: Option<Box<str>>) {
        if self.has_session(node, session)
            && let Some(known) = self.sessions.get_mut(&session.token)
        {
            known.user = user;
        }
    }

    pub(super) fn rename_session(
        &mut self,
        node: u32,
        session: &KeptSession,
        new: TokenHash,
    ) -> Result<(), Unavailable> {
        if !self.has_session(node, session) {
            return Err(Unavailable);
        }
        if let Some(known) = self.sessions.remove(&session.token) {
            self.sessions.insert(new.clone(), known);
        }
        self.set_token(&session.token, &new, node);
        Ok(())
    }

    pub(super) fn close_session(&mut self, node: u32, session: &KeptSession) -> bool {
        self.has_session(node, session) && self.sessions.remove(&session.token).is_some()
    }

    pub(super) fn take_over(
        &mut self,
        node: u32,
        token: &TokenHash,
        new: TokenHash,
        user: Option<Box<str>>,
    ) -> Result<(), NotTaken> {
        if !self.nodes.contains_key(&node) {
            return Err(NotTaken::Unavailable);
        }
        let session = self.sessions.get(token).ok_or(NotTaken::Unknown)?;
        if session.user != user {
            return Err(NotTaken::OtherUser);
        }
        let Some(mut session) = self.sessions.remove(token) else { return Err(NotTaken::Unknown) };
        let before = std::mem::replace(&mut session.node, node);
        session.generation += 1;
        let (id, generation) = (session.id, session.generation);
        self.sessions.insert(new.clone(), session);
        if let Some(user) = &user {
            self.users.take_over(user, id, node);
        }
        self.set_token(token, &new, node);
        if let Some(hearer) = self.nodes.get_mut(&before).filter(|_| before != node) {
            hearer.push(RemoteEvent::SessionTaken { session: id, generation });
        }
        let members = self.members_of(&new);
        let taken = TakenSession { id, token: new, generation, user, members };
        if let Some(hearer) = self.nodes.get_mut(&node) {
            hearer.push(RemoteEvent::SessionMoved(Box::new(taken)));
        }
        Ok(())
    }

    /// A member stays whose enter was undone, because its session was taken over. The node that has it does not know that the
    /// host has yet to be told.
    pub(super) fn tell_new_node(&mut self, room: &RoomId, entry: EntryId) {
        let members = self.rooms.get(room).into_iter().flat_map(|room| &room.members);
        let node = members.filter(|shared| shared.member.entry == entry).map(|shared| shared.node).next();
        if let Some(hearer) = node.and_then(|node| self.nodes.get_mut(&node)) {
            hearer.push(RemoteEvent::EnteredAgain { room: room.clone(), connection: entry.member });
        }
    }

    /// Removes the sessions of a node that is still there.
    pub(super) fn remove_sessions(&mut self, node: u32) {
        let gone: Vec<_> = self.sessions.extract_if(|_, session| session.node == node).collect();
        for (token, session) in gone {
            self.remove_members(node, |member| member.session.as_ref() == Some(&token));
            let (session, generation) = (session.id, session.generation + 1);
            if let Some(hearer) = self.nodes.get_mut(&node) {
                hearer.push(RemoteEvent::SessionGone { session, generation });
            }
        }
    }

    /// Removes a node that has crashed, with its members and users that nobody can resume. Tells another one who was lost.
    pub(super) fn remove_node(&mut self, node: u32) {
        self.end_hearing(node);
        for (_, lost) in self.remove_members(node, |member| member.session.is_none()) {
            self.tell_first_but(node, RemoteEvent::MemberLost(lost));
        }
        self.remove_users(node, |registration| registration.window.is_zero());
    }

    /// Removes a node that has told its host of all leaves. The sessions that it has left behind can be resumed.
    pub(super) fn close_node(&mut self, node: u32) {
        self.end_hearing(node);
        let Shared { rooms, sessions, .. } = self;
        let is_kept =
            |session: &Option<TokenHash>| session.as_ref().is_some_and(|token| sessions.contains_key(token));
        let members = rooms.values().flat_map(|room| &room.members);
        let left: Vec<_> = members
            .filter(|member| member.node == node && !is_kept(&member.session))
            .map(|member| member.member.entry)
            .collect();
        self.remove_members(node, |member| left.contains(&member.member.entry));
        self.remove_users(node, |registration| registration.window.is_zero());
    }

    fn end_hearing(&mut self, node: u32) {
        if let Some(mut hearer) = self.nodes.remove(&node) {
            hearer.wake();
        }
    }

    /// Ends the resume windows of the nodes that were removed: their members leave.
    pub(super) fn end_lost_sessions(&mut self) {
        let mut lost: Vec<u32> = self.sessions.values().map(|session| session.node).collect();
        lost.extend(self.rooms.values().flat_map(|room| &room.members).map(|member| member.node));
        lost.extend(self.users.nodes());
        lost.sort_unstable();
        lost.dedup();
        lost.retain(|node| !self.nodes.contains_key(node));
        for node in lost {
            self.sessions.retain(|_, session| session.node != node);
            for (_, lost) in self.remove_members(node, |_| true) {
                self.tell_first_but(node, RemoteEvent::MemberLost(lost));
            }
            self.remove_users(node, |_| true);
        }
    }

    fn has_session(&self, node: u32, session: &KeptSession) -> bool {
        let KeptSession { id, token, generation } = session;
        let is_it =
            |known: &SharedSession| known.node == node && known.id == *id && known.generation == *generation;
        self.nodes.contains_key(&node) && self.sessions.get(token).is_some_and(is_it)
    }

    /// Whether a node that has heard of this generation of a session may speak for its members.
    pub(super) fn is_current(&self, session: Option<&TokenHash>, generation: u64) -> bool {
        let known = session.and_then(|token| self.sessions.get(token));
        known.is_none_or(|known| known.generation == generation)
    }

    fn members_of(&self, token: &TokenHash) -> Vec<TakenMember> {
        let rooms = self.rooms.iter();
        let all = rooms.flat_map(|(id, room)| room.members.iter().map(move |member| (id, room, member)));
        all.filter(|(.., member)| member.session.as_ref() == Some(token))
            .map(|(id, room, member)| TakenMember {
                room: id.clone(),
                member: member.member.clone(),
                body: member.body.clone(),
                entered: member.entered,
                stamp: room.latest,
            })
            .collect()
    }

    /// Members of a session have this token and this node from now on.
    fn set_token(&mut self, token: &TokenHash, new: &TokenHash, node: u32) {
        let members = self.rooms.values_mut().flat_map(|room| &mut room.members);
        for member in members.filter(|member| member.session.as_ref() == Some(token)) {
            (member.session, member.node) = (Some(new.clone()), node);
        }
    }
}

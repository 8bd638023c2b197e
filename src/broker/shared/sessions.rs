//! The sessions of a broker within one process.

use super::order::Shared;
use crate::broker::{NewSession, NotTaken, RemoteEvent, TakenMember, TakenSession, TokenHash};
use crate::ids::ConnectionId;

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

    pub(super) fn change_session(&mut self, node: u32, session: NewSession) {
        if self.has_session(node, session.id, &session.token)
            && let Some(known) = self.sessions.get_mut(&session.token)
        {
            known.user = session.user;
        }
    }

    pub(super) fn rename_session(&mut self, node: u32, id: ConnectionId, token: &TokenHash, new: TokenHash) {
        if !self.has_session(node, id, token) {
            return;
        }
        if let Some(session) = self.sessions.remove(token) {
            self.sessions.insert(new.clone(), session);
        }
        self.set_token(token, &new, node);
    }

    pub(super) fn close_session(&mut self, node: u32, id: ConnectionId, token: &TokenHash) -> bool {
        self.has_session(node, id, token) && self.sessions.remove(token).is_some()
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

    /// Removes a node, with its members that nobody can resume.
    pub(super) fn remove_node(&mut self, node: u32) {
        if let Some(mut hearer) = self.nodes.remove(&node) {
            hearer.wake();
        }
        self.remove_members(node, |member| member.session.is_none());
    }

    /// Ends the sessions of the nodes that were removed.
    pub(super) fn end_lost_sessions(&mut self) {
        let lost: Vec<u32> = self.sessions.values().map(|session| session.node).collect();
        for node in lost {
            if !self.nodes.contains_key(&node) {
                self.end_sessions(node);
            }
        }
    }

    /// Ends the sessions of a node. Their members leave.
    pub(super) fn end_sessions(&mut self, node: u32) {
        self.sessions.retain(|_, session| session.node != node);
        self.remove_members(node, |_| true);
    }

    fn has_session(&self, node: u32, id: ConnectionId, token: &TokenHash) -> bool {
        let is_it = |session: &SharedSession| session.node == node && session.id == id;
        self.nodes.contains_key(&node) && self.sessions.get(token).is_some_and(is_it)
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

//! Enters the node's members again after a fence, and after Redis was started again without its latest data.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use redis::cmd;
use tracing::debug;

use crate::error::Unavailable;
use crate::event::{Event, EvictionReason};
use crate::inner::Inner;
use crate::link::{Command, Link};
use crate::member::NewMember;
use crate::scripts::{Leave, NO_LIMIT};

/// A member with its room.
type Membership = (Arc<str>, Arc<NewMember>);

/// Members that are entered again at a time.
const AT_ONCE: usize = 64;

impl Inner {
    /// Enters members as the current incarnation, which need not be valid yet for the others. Returns those that were not
    /// there.
    pub(crate) async fn enter_members(
        self: &Arc<Inner>,
        members: Vec<Membership>,
    ) -> Result<Vec<Membership>, Unavailable> {
        let node = self.registration.node();
        let enter = |(room, member): &Membership| {
            let (node, room, member) = (node.clone(), room.clone(), member.clone());
            async move { self.enter_member_again(&node, &room, &member).await }
        };
        let mut missing = Vec::new();
        for batch in members.chunks(AT_ONCE) {
            let entered = join_all(batch.iter().map(enter)).await;
            for (membership, was_missing) in batch.iter().zip(entered) {
                missing.extend(was_missing?.then(|| membership.clone()));
            }
        }
        Ok(missing)
    }

    /// The node may have been fenced while a member entered as `node`, and may not have known of it when it entered the
    /// others again.
    pub(crate) async fn check_entered(
        self: &Arc<Inner>,
        node: &str,
        room: &Arc<str>,
        member: &Arc<NewMember>,
    ) -> Result<(), Unavailable> {
        if *self.registration.node() == *node {
            return Ok(());
        }
        self.registration.active().await;
        self.enter_members(vec![(room.clone(), member.clone())]).await.map(|_| ())
    }

    /// Returns whether it was not there.
    async fn enter_member_again(
        self: &Arc<Inner>,
        node: &str,
        room: &Arc<str>,
        member: &NewMember,
    ) -> Result<bool, Unavailable> {
        let enter = self.scripts.enter(member, NO_LIMIT);
        let reply = self.call_as(node, room, &enter).await?;
        match reply.status() {
            b"OK" => {
                // It has left meanwhile, and its leave may have come before this enter.
                if !self.hub.has_member(room, member.id()) {
                    self.remove_unknown(node, room, member.id(), member.generation()).await?;
                }
                if reply.has_other_profile() {
                    self.repeat_profile(room, member.id());
                }
                if !reply.is_repeat() {
                    self.status.repairs().note_entered_again();
                }
                return Ok(!reply.is_repeat());
            }
            status @ (b"NAME_TAKEN" | b"NO_SESSION") => {
                let reason = match status {
                    b"NAME_TAKEN" => EvictionReason::NameTaken,
                    _ => EvictionReason::SessionTaken,
                };
                debug!(%room, member = member.id(), "another member has its name, or another node its session");
                if self.hub.remove_member(room, member.id(), member.generation()) {
                    self.status.repairs().note_lost();
                    self.hub.left(room, None);
                    let (room, member) = (room.clone(), member.id().into());
                    self.hub.queue().push(Event::Evicted { room, member, reason });
                }
            }
            // Fenced once more: the caller comes back.
            _ => self.registration.set_fenced(node),
        }
        Ok(false)
    }

    async fn remove_unknown(
        &self,
        node: &str,
        room: &str,
        member: &str,
        generation: u64,
    ) -> Result<(), Unavailable> {
        let leave = self.scripts.leave(member, generation, Leave::Unknown, "");
        self.call_as(node, room, &leave).await.map(|_| ())
    }

    /// As [`Inner::reconcile_members`], as the valid incarnation.
    pub(crate) async fn reconcile(self: &Arc<Inner>) -> Result<(), Unavailable> {
        let _reentry = self.reentry.lock().await;
        self.reconcile_members().await.map(|_| ())
    }

    /// Makes Redis's members of this node those that it has. Returns those that were not there. The caller holds
    /// `reentry`.
    ///
    /// Redis may have others: the node was fenced while they left, and they have moved to this incarnation with their
    /// sessions. Or Redis was started again without their leaves.
    pub(crate) async fn reconcile_members(self: &Arc<Inner>) -> Result<Vec<Membership>, Unavailable> {
        let members = self.hub.members();
        let rooms = members.iter().map(|(room, _)| room.to_string());
        let node = self.registration.node();
        let rooms: HashSet<String> = rooms.chain(self.rooms_of(&node).await?).collect();
        // These come first, because others may have their names by now.
        for room in rooms {
            for member in self.members_of(&node, &room).await? {
                if !self.hub.knows(&room, member.id()) {
                    let generation = self.generation_of(member.session_id());
                    self.remove_unknown(&node, &room, member.id(), generation).await?;
                }
            }
        }
        self.enter_members(members).await
    }

    /// The members that Redis has of a node in a room.
    async fn members_of(&self, node: &str, room: &str) -> Result<Vec<NewMember>, Unavailable> {
        let key = self.keys.members(node, room);
        let prepare = |_: &Link| Command::Plain(cmd("HGETALL").arg(&key).take());
        let members: Vec<(String, Vec<u8>)> = self.commands.run(None, prepare).await?;
        let member = |(id, record): (String, Vec<u8>)| {
            NewMember::from_stored(&id, record.into()).map(|(_, member)| member)
        };
        Ok(members.into_iter().filter_map(member).collect())
    }
}

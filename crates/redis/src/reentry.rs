//! Enters the node's members again after a fence, and after Redis was started again without its latest data.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use redis::cmd;
use tokio::time::sleep;
use tracing::warn;

use crate::error::Unavailable;
use crate::event::{Event, EvictionReason};
use crate::inner::Inner;
use crate::link::{Command, Link};
use crate::member::NewMember;
use crate::scripts::{Leave, NO_LIMIT};

/// A member with its room.
type Membership = (Arc<str>, Arc<NewMember>);

/// How long to wait for the new token of a session, and how often.
const TOKEN_WAIT: Duration = Duration::from_millis(20);
const TOKEN_ATTEMPTS: usize = 10;

/// Members that are entered again at a time.
const AT_ONCE: usize = 64;

impl Inner {
    /// Enters members as the current incarnation, which need not be valid yet for the others.
    pub(crate) async fn enter_members(&self, members: Vec<Membership>) -> Result<(), Unavailable> {
        let node = self.registration.node();
        let enter = |(room, member): &Membership| {
            let (node, room, member) = (node.clone(), room.clone(), member.clone());
            async move { self.enter_member_again(&node, &room, &member).await }
        };
        for batch in members.chunks(AT_ONCE) {
            for result in futures_util::future::join_all(batch.iter().map(enter)).await {
                result?;
            }
        }
        Ok(())
    }

    /// The node may have been fenced while a member entered as `node`, and may not have known of it when it entered the
    /// others again.
    pub(crate) async fn check_entered(
        &self,
        node: &str,
        room: &Arc<str>,
        member: &Arc<NewMember>,
    ) -> Result<(), Unavailable> {
        if *self.registration.node() == *node {
            return Ok(());
        }
        self.registration.active().await;
        self.enter_members(vec![(room.clone(), member.clone())]).await
    }

    async fn enter_member_again(
        &self,
        node: &str,
        room: &Arc<str>,
        member: &NewMember,
    ) -> Result<(), Unavailable> {
        let enter = self.scripts.enter(member, NO_LIMIT);
        let mut reply = self.call_as(node, room, &enter).await?;
        // The session may just be getting another token.
        for _ in 0..TOKEN_ATTEMPTS {
            if reply.status() != b"NO_SESSION" {
                break;
            }
            sleep(TOKEN_WAIT).await;
            let Some(current) = self.hub.member(room, member.id()) else { break };
            if current.session_token() != member.session_token() {
                reply = self.call_as(node, room, &self.scripts.enter(&current, NO_LIMIT)).await?;
            }
        }
        match reply.status() {
            b"OK" => {
                // It has left meanwhile, and its leave may have come before this enter.
                if !self.hub.has_member(room, member.id()) {
                    self.remove_unknown(node, room, member.id()).await?;
                }
            }
            status @ (b"NAME_TAKEN" | b"NO_SESSION") => {
                let reason = match status {
                    b"NAME_TAKEN" => EvictionReason::NameTaken,
                    _ => EvictionReason::SessionTaken,
                };
                warn!(%room, member = member.id(), "another member has its name, or another node its session");
                if self.hub.remove_member(room, member.id(), 0) {
                    self.hub.left(room, None);
                    let (room, member) = (room.clone(), member.id().into());
                    self.hub.queue().push(Event::Evicted { room, member, reason });
                }
            }
            // Fenced once more: the caller comes back.
            _ => self.registration.set_fenced(node),
        }
        Ok(())
    }

    async fn remove_unknown(&self, node: &str, room: &str, member: &str) -> Result<(), Unavailable> {
        let leave = self.scripts.leave(member, 0, Leave::Unknown);
        self.call_as(node, room, &leave).await.map(|_| ())
    }

    /// Makes Redis's members of this node those that it has.
    pub(crate) async fn reconcile(&self) -> Result<(), Unavailable> {
        let _reentry = self.reentry.lock().await;
        let members = self.hub.members();
        let rooms = members.iter().map(|(room, _)| room.to_string());
        let node = self.registration.node();
        let rooms: HashSet<String> = rooms.chain(self.rooms_of(&node).await?).collect();
        // These come first, because others may have their names by now.
        for room in rooms {
            for member in self.members_of(&node, &room).await? {
                if !self.hub.knows(&room, &member) {
                    self.remove_unknown(&node, &room, &member).await?;
                }
            }
        }
        self.enter_members(members).await
    }

    /// The members that Redis has of a node in a room.
    async fn members_of(&self, node: &str, room: &str) -> Result<Vec<String>, Unavailable> {
        let key = self.keys.members(node, room);
        let prepare = |_: &Link| Command::Plain(cmd("HKEYS").arg(&key).take());
        self.commands.run(None, prepare).await
    }
}

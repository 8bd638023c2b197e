//! Removes the members of nodes that are gone. Every node does this; the scripts see to it that each member is removed
//! once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redis::cmd;
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use crate::error::Unavailable;
use crate::inner::Inner;
use crate::link::{Command, Link};
use crate::random;
use crate::reply::Reaped;
use crate::scripts::Reap;
use crate::sessions::CLOSED_FOR;

/// Members of a lost node that are removed from a room at once. All nodes together remove one batch for each room in half
/// a beat, so that the other members are not flooded.
pub(crate) const BATCH: usize = 100;

/// Until when the members that are left in a room of a lost node stay, because they can be resumed. Looking for one to
/// remove takes the server a while if there are many, so it is not done in vain.
#[derive(Debug, Default)]
struct Kept {
    until: HashMap<(String, String), Instant>,
    /// Until when that is so in all rooms of a node: even the list of its rooms may be long.
    rooms_until: HashMap<String, Instant>,
    /// The same, for the sessions of its users.
    users_until: HashMap<String, Instant>,
    /// How many members this node has removed. Each lost node has an entry.
    removed: HashMap<String, usize>,
}

impl Kept {
    /// Logs nodes that are newly lost, and nodes that have no members left. Forgets the latter.
    fn update(&mut self, lost: &[String]) {
        for node in lost {
            if !self.removed.contains_key(node) {
                info!(
                    node,
                    "a node is gone; removing its members; those with sessions stay for the resume window"
                );
                self.removed.insert(node.clone(), 0);
            }
        }
        self.removed.retain(|node, removed| {
            let is_left = lost.contains(node);
            if !is_left {
                info!(node, removed_here = *removed, "no members of the node are left");
            }
            is_left
        });
        self.until.retain(|(node, _), _| lost.contains(node));
        self.rooms_until.retain(|node, _| lost.contains(node));
        self.users_until.retain(|node, _| lost.contains(node));
    }
}

/// How to forget a node.
#[derive(Debug, Clone, Copy)]
enum Forget {
    /// If it is fenced.
    IfFenced,
    /// Fences it first.
    Fence,
}

impl Inner {
    /// Looks for lost nodes once a second.
    pub(crate) async fn reap_lost_nodes(self: Arc<Inner>) {
        let beat = self.beat();
        let mut kept = Kept::default();
        loop {
            sleep(beat / 2 + random::up_to(beat / 2)).await;
            let Ok(mut nodes) = self.fence().await else { continue };
            // `keep_lease` takes care of this node's own incarnations.
            nodes.retain(|node| *node != *self.registration.node());
            kept.update(&nodes);
            for node in nodes {
                if self.reap_node(&node, &mut kept).await.is_err() {
                    // The reason is in the log.
                    debug!(node, "cannot remove the members of a lost node; trying again");
                }
            }
        }
    }

    /// At most so long after a look for lost nodes, this node looks again.
    fn beat(&self) -> Duration {
        (self.lease / 10).min(Duration::from_secs(1))
    }

    /// Fences the nodes whose leases have run out, and returns all fenced nodes.
    async fn fence(&self) -> Result<Vec<String>, Unavailable> {
        let lease_ms = self.lease.as_millis() as u64;
        let prepare = |_: &Link| {
            let mut fence = self.scripts.fence.prepare_invoke();
            fence.key(self.keys.nodes()).key(self.keys.beat()).arg(lease_ms);
            Command::Script(fence)
        };
        self.commands.run(None, prepare).await
    }

    /// Removes a batch of each room, and tells the host.
    async fn reap_node(&self, node: &str, kept: &mut Kept) -> Result<(), Unavailable> {
        if kept.rooms_until.get(node).is_none_or(|until| Instant::now() >= *until)
            && !self.reap_rooms(node, kept).await?
        {
            return Ok(());
        }
        // Users go offline after their members have left.
        self.reap_lost_users(node, kept).await?;
        self.forget(node, Forget::IfFenced).await
    }

    /// Returns false if more members are to be removed.
    async fn reap_rooms(&self, node: &str, kept: &mut Kept) -> Result<bool, Unavailable> {
        let mut is_done = true;
        for room in self.rooms_of(node).await? {
            let place = (node.to_owned(), room.clone());
            if kept.until.get(&place).is_some_and(|until| Instant::now() < *until) {
                continue;
            }
            let (reaped, rest_kept) = self.reap_room(node, &room, Reap::Lost, self.beat() / 2).await?;
            is_done &= !rest_kept.is_zero();
            if let Some(until) = Instant::now().checked_add(rest_kept) {
                kept.until.insert(place, until);
            }
            *kept.removed.entry(node.to_owned()).or_default() += reaped.len();
            let room: Arc<str> = room.into();
            for Reaped { member, profile, is_hidden, stamp } in reaped {
                self.hub.member_lost(&room, member, profile, is_hidden, stamp);
            }
        }
        // Where the time is over, nobody of the node is left.
        let now = Instant::now();
        let kept_rooms = kept.until.iter().filter(|((of, _), until)| of == node && **until > now);
        if let Some(until) = kept_rooms.map(|(_, until)| *until).min().filter(|_| is_done) {
            kept.rooms_until.insert(node.to_owned(), until);
        }
        Ok(is_done)
    }

    /// Ends a batch of the sessions of users, and tells the host.
    async fn reap_lost_users(&self, node: &str, kept: &mut Kept) -> Result<(), Unavailable> {
        if kept.users_until.get(node).is_some_and(|until| Instant::now() < *until) {
            return Ok(());
        }
        let rest_kept = self.reap_users(node, Reap::Lost).await?;
        if let Some(until) = Instant::now().checked_add(rest_kept) {
            kept.users_until.insert(node.to_owned(), until);
        }
        Ok(())
    }

    /// Removes the members that an incarnation of this node has left, after its sessions have moved to the next one. Adds
    /// them, whose ids differ in all rooms, to `removed`.
    pub(crate) async fn remove_incarnation(
        &self,
        node: &str,
        removed: &mut HashSet<Box<str>>,
    ) -> Result<(), Unavailable> {
        self.forget(node, Forget::Fence).await?;
        for room in self.rooms_of(node).await? {
            let mut is_done = false;
            while !is_done {
                let (reaped, rest_kept) = self.reap_room(node, &room, Reap::Own, Duration::ZERO).await?;
                removed.extend(reaped.into_iter().map(|reaped| reaped.member));
                is_done = !rest_kept.is_zero();
            }
        }
        while self.reap_users(node, Reap::Own).await?.is_zero() {}
        self.forget(node, Forget::IfFenced).await
    }

    /// Removes this node and its members. Members of sessions stay for the resume window; then other nodes remove them.
    pub(crate) async fn remove_node(&self) -> Result<(), Unavailable> {
        let node = self.registration.node();
        self.forget(&node, Forget::Fence).await?;
        for room in self.rooms_of(&node).await? {
            while self.reap_room(&node, &room, Reap::Lost, Duration::ZERO).await?.1.is_zero() {}
        }
        while self.reap_users(&node, Reap::Lost).await?.is_zero() {}
        self.forget(&node, Forget::IfFenced).await
    }

    async fn reap_room(
        &self,
        node: &str,
        room: &str,
        which: Reap,
        pause: Duration,
    ) -> Result<(Vec<Reaped>, Duration), Unavailable> {
        let reap = self.scripts.reap(which, BATCH, pause);
        Ok(self.call_as(node, room, &reap).await?.reaped())
    }

    /// The rooms in which a node has members.
    pub(crate) async fn rooms_of(&self, node: &str) -> Result<Vec<String>, Unavailable> {
        let key = self.keys.node_rooms(node);
        let prepare = |_: &Link| Command::Plain(cmd("SMEMBERS").arg(&key).take());
        self.commands.run(None, prepare).await
    }

    /// Forgets a fenced node, unless it has members, sessions or users.
    async fn forget(&self, node: &str, how: Forget) -> Result<(), Unavailable> {
        let action = match how {
            Forget::IfFenced => "forget",
            Forget::Fence => "fence",
        };
        let prepare = |_: &Link| {
            let mut forget = self.scripts.forget.prepare_invoke();
            forget.key(self.keys.nodes()).key(self.keys.node_rooms(node)).key(self.keys.node_sessions(node));
            forget.key(self.keys.node_users(node));
            forget.arg(node).arg(self.keys.tag()).arg(action).arg(CLOSED_FOR.as_millis() as u64);
            Command::Script(forget)
        };
        self.commands.run(None, prepare).await
    }
}

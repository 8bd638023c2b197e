//! The node's lease. A node whose lease has run out is fenced: scripts do nothing for it. It then removes what is left
//! of its old incarnation, and enters its members again in a new one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use redis::{RedisError, cmd};
use tokio::select;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, error};

use crate::backoff::{Backoff, LONGEST};
use crate::error::Unavailable;
use crate::event::Event;
use crate::inner::Inner;
use crate::link::{Command, Link};
use crate::random;
use crate::reply::Reply;
use crate::sessions::Put;
use crate::status::Part;
use crate::sync::{Mutex, lock};

/// The node's incarnation, and whether it is valid. A node gets a new one at each start and after each fence.
#[derive(Debug)]
pub(crate) struct Registration {
    /// Part of each incarnation.
    number: u32,
    current: watch::Sender<Incarnation>,
    /// What identifies the data that Redis had when the incarnation began.
    data: Mutex<Option<Box<str>>>,
}

#[derive(Debug, Clone)]
struct Incarnation {
    node: Arc<str>,
    is_active: bool,
}

impl Registration {
    pub(crate) fn new(name: &str) -> Registration {
        let number = (random::number() as u32).max(1);
        let first = Incarnation { node: incarnation(name, number), is_active: false };
        Registration { number, current: watch::Sender::new(first), data: Mutex::default() }
    }

    /// The node's number, which no other node has.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The current incarnation, valid or not.
    pub(crate) fn node(&self) -> Arc<str> {
        self.current.borrow().node.clone()
    }

    /// Waits until there is a valid incarnation.
    pub(crate) async fn active(&self) -> Arc<str> {
        let mut current = self.current.subscribe();
        loop {
            {
                let current = current.borrow_and_update();
                if current.is_active {
                    return current.node.clone();
                }
            }
            // The sender is in `self`, so this cannot fail.
            let _ = current.changed().await;
        }
    }

    /// An incarnation is not valid any more.
    pub(crate) fn set_fenced(&self, node: &str) {
        self.current.send_if_modified(|current| {
            let is_news = current.is_active && *current.node == *node;
            current.is_active &= !is_news;
            is_news
        });
    }

    async fn fenced(&self) {
        let mut current = self.current.subscribe();
        // The sender is in `self`, so this cannot fail.
        let _ = current.wait_for(|current| !current.is_active).await;
    }

    /// Whether Redis has other data than before.
    fn is_other_data(&self, data: &str) -> bool {
        lock(&self.data).as_deref().is_some_and(|before| before != data)
    }

    /// Remembers what identifies the data.
    fn set_data(&self, data: Box<str>) {
        *lock(&self.data) = Some(data);
    }

    /// Whether this is the current incarnation, as far as is known a valid one.
    pub(crate) fn is_current(&self, node: &str) -> bool {
        let current = self.current.borrow();
        current.is_active && *current.node == *node
    }

    fn replace(&self, node: Arc<str>) {
        self.current.send_replace(Incarnation { node, is_active: false });
    }

    fn activate(&self) {
        self.current.send_modify(|current| current.is_active = true);
    }
}

fn incarnation(name: &str, number: u32) -> Arc<str> {
    format!("{name}@{number:08x}{:08x}", random::number() as u32).into()
}

/// The part of an incarnation that all incarnations of its node have, and no other node.
pub(crate) fn process_of(incarnation: &str) -> &str {
    incarnation
        .split_at_checked(incarnation.len().saturating_sub(8))
        .map_or(incarnation, |(process, _)| process)
}

/// The number of the node that an incarnation is of.
pub(crate) fn number_of(incarnation: &str) -> Option<u32> {
    let (_, numbers) = incarnation.rsplit_once('@')?;
    u32::from_str_radix(numbers.get(..8)?, 16).ok()
}

impl Inner {
    /// Begins the lease of the first incarnation.
    pub(crate) async fn register(&self) -> Result<(), Unavailable> {
        // Scripts publish last. If they may not, they change data that nobody hears of. No node has the number 0.
        let channel = self.keys.numbered_channel(0);
        let publish = |_: &Link| Command::Plain(cmd("PUBLISH").arg(&channel).arg("").take());
        self.commands.run::<u64>(None, publish).await?;
        if let Some(data) = self.renew(&self.registration.node(), "begin").await? {
            self.registration.set_data(data);
        }
        self.registration.activate();
        Ok(())
    }

    /// Renews the lease, and comes back after a fence.
    pub(crate) async fn keep_lease(self: Arc<Inner>) {
        let mut link = self.commands.watch();
        let mut run = link.borrow_and_update().as_ref().ok().map(|link| link.run().clone());
        loop {
            let wait = self.lease / 4 + random::up_to(self.lease / 12);
            select! {
                () = sleep(wait) => {
                    if let Ok(None) = self.renew(&self.registration.node(), "renew").await {
                        self.registration.set_fenced(&self.registration.node());
                    }
                }
                () = self.registration.fenced() => {}
                _ = link.changed() => {
                    let new = link.borrow_and_update().as_ref().ok().map(|link| link.run().clone());
                    if new.is_some() {
                        if new != run {
                            run = new;
                            self.after_restart().await;
                        }
                        // A node that has been fenced works again when its members are back.
                        if self.registration.is_current(&self.registration.node()) {
                            self.status.works(Part::Lease);
                        }
                    }
                }
            }
            let mut removed = HashSet::new();
            while !self.registration.current.borrow().is_active {
                if self.enter_again(&mut removed).await.is_err() {
                    // The reason is in the log.
                    debug!("cannot enter this node's members again; trying later");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Returns what identifies Redis's data; `None` if the node has been fenced.
    async fn renew(&self, node: &str, action: &'static str) -> Result<Option<Box<str>>, Unavailable> {
        let (lease_ms, new_id) = (self.lease.as_millis() as u64, format!("{:016x}", random::number()));
        let prepare = |_: &Link| {
            let mut renew = self.scripts.renew.prepare_invoke();
            renew.key(self.keys.nodes()).key(self.keys.data());
            renew.arg(node).arg(lease_ms).arg(action).arg(&new_id);
            Command::Script(renew)
        };
        let mut was_refused = false;
        // Other calls are refused, too, for example because the memory of the server is used up.
        let is_busy = |error: &RedisError| {
            was_refused = true;
            self.status.fails(Part::Lease, &format!("the server refuses to write: {error}"));
        };
        // If the server was busy for half a lease, the others extend this one. Otherwise, little of it may be left.
        let backoff = Backoff::new(LONGEST.min(self.lease / 8));
        let reply: Reply = self.commands.run_telling(None, backoff, prepare, is_busy).await?;
        if was_refused && !reply.is_fenced() {
            self.status.works(Part::Lease);
        }
        Ok(if reply.is_fenced() { None } else { reply.texts().next() })
    }

    /// Redis runs as another process: it may lack what this node was told last. As the node has its lease, the rest of the
    /// data is there, and other nodes may have taken over sessions of which this one has not heard.
    async fn after_restart(self: &Arc<Inner>) {
        let node = self.registration.node();
        match self.renew(&node, "renew").await {
            Ok(Some(_)) => {
                debug!("Redis was started again or has failed over; checking this node's members");
                if self.reconcile_sessions(&node).await.is_err()
                    || self.reconcile().await.is_err()
                    || self.put_sessions(&node, Put::Whole).await.is_err()
                    || self.reconcile_users(&node).await.is_err()
                {
                    error!("cannot check this node's members; some may be missing until the next restart");
                }
                self.hub.set_all_stale();
            }
            Ok(None) => self.registration.set_fenced(&node),
            Err(Unavailable) => {}
        }
    }

    /// After a fence: removes what is left of the old incarnation, and enters the members in a new one.
    ///
    /// `removed` are the members that it has removed so far. The others have been removed by other nodes.
    async fn enter_again(self: &Arc<Inner>, removed: &mut HashSet<Box<str>>) -> Result<(), Unavailable> {
        let old = self.registration.node();
        debug!(node = %old, "entering the members of this node again");
        self.status.fails(Part::Lease, "the lease of this node has run out, so it enters its members again");
        let new = incarnation(&self.name, self.registration.number());
        let data = self.renew(&new, "begin").await?.ok_or(Unavailable)?;
        let has_lost_data = self.registration.is_other_data(&data);
        // Before those of the old incarnation are removed, so that no user goes offline, and the members of sessions stay.
        self.begin_users_again(&new, has_lost_data).await?;
        let before_members = if has_lost_data { Put::Lost } else { Put::BeforeMembers };
        self.put_sessions(&new, before_members).await?;
        self.remove_incarnation(&old, removed).await?;
        self.renew(&new, "renew").await?.ok_or(Unavailable)?;
        self.registration.replace(new);
        let _reentry = self.reentry.lock().await;
        for (room, member) in self.reconcile_members().await? {
            if !has_lost_data && !removed.contains(member.id()) && self.hub.has_member(&room, member.id()) {
                self.hub.queue().push(Event::EnteredAgain { room, member: member.id().into() });
            }
        }
        self.put_sessions(&self.registration.node(), Put::Whole).await?;
        self.registration.set_data(data);
        self.registration.activate();
        self.status.works(Part::Lease);
        Ok(())
    }
}

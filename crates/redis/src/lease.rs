//! The node's lease. A node whose lease has run out is fenced: scripts do nothing for it. It then removes what is left
//! of its old incarnation, begins a new one, and enters its members again.

use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use crate::error::Unavailable;
use crate::inner::Inner;
use crate::link::{Command, Link};
use crate::random;
use crate::status::Part;
use crate::sync::{Mutex, lock};

/// The node's incarnation, and whether it is valid. A node gets a new one at each start and after each fence.
#[derive(Debug)]
pub(crate) struct Registration {
    current: watch::Sender<Incarnation>,
    /// The run of the server with which the incarnation began.
    run: Mutex<Option<Arc<str>>>,
}

#[derive(Debug, Clone)]
struct Incarnation {
    node: Arc<str>,
    is_active: bool,
}

impl Registration {
    pub(crate) fn new(name: &str) -> Registration {
        let first = Incarnation { node: Registration::incarnation(name), is_active: false };
        Registration { current: watch::Sender::new(first), run: Mutex::default() }
    }

    fn incarnation(name: &str) -> Arc<str> {
        format!("{name}@{:016x}", random::number()).into()
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

    /// Remembers the run of the server. Returns whether it was another one before.
    fn set_run(&self, run: Arc<str>) -> bool {
        lock(&self.run).replace(run.clone()).is_some_and(|before| before != run)
    }

    fn replace(&self, node: Arc<str>) {
        self.current.send_replace(Incarnation { node, is_active: false });
    }

    fn activate(&self) {
        self.current.send_modify(|current| current.is_active = true);
    }
}

impl Inner {
    /// Begins the lease of the first incarnation.
    pub(crate) async fn register(&self) -> Result<(), Unavailable> {
        self.renew("begin").await?;
        self.registration.set_run(self.commands.run_id().await);
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
                    if let Ok(false) = self.renew("renew").await {
                        self.registration.set_fenced(&self.registration.node());
                    }
                }
                () = self.registration.fenced() => {}
                _ = link.changed() => {
                    let new = link.borrow_and_update().as_ref().ok().map(|link| link.run().clone());
                    if new.is_some() && new != run {
                        run = new;
                        self.after_restart().await;
                    }
                }
            }
            while !self.registration.current.borrow().is_active {
                if self.enter_again().await.is_err() {
                    warn!("cannot enter this node's members again; trying later");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn renew(&self, action: &'static str) -> Result<bool, Unavailable> {
        let node = self.registration.node();
        let lease_ms = self.lease.as_millis() as u64;
        let prepare = |_: &Link| {
            let mut renew = self.scripts.renew.prepare_invoke();
            renew.key(self.keys.nodes()).arg(&*node).arg(lease_ms).arg(action);
            Command::Script(renew)
        };
        self.commands.run(None, prepare).await
    }

    /// Redis runs as another process: it may lack what this node was told last.
    async fn after_restart(&self) {
        match self.renew("renew").await {
            Ok(true) => {
                info!("Redis was started again or has failed over; checking this node's members");
                self.registration.set_run(self.commands.run_id().await);
                if self.open_sessions_again(true).await.is_err() || self.reconcile().await.is_err() {
                    error!("cannot check this node's members; some may be missing until the next restart");
                }
                self.hub.set_all_stale();
            }
            Ok(false) => self.registration.set_fenced(&self.registration.node()),
            Err(Unavailable) => {}
        }
    }

    /// After a fence: removes what is left of the old incarnation, and enters the members in a new one.
    async fn enter_again(&self) -> Result<(), Unavailable> {
        let old = self.registration.node();
        debug!(node = %old, "entering the members of this node again");
        self.status.fails(Part::Lease, "the lease of this node has run out, so it enters its members again");
        let run = self.commands.run_id().await;
        let has_lost_data = self.registration.set_run(run);
        self.remove_incarnation(&old).await?;
        self.registration.replace(Registration::incarnation(&self.name));
        self.renew("begin").await?;
        self.open_sessions_again(has_lost_data).await?;
        let _reentry = self.reentry.lock().await;
        self.enter_members(self.hub.members()).await?;
        self.registration.activate();
        self.status.works(Part::Lease);
        Ok(())
    }
}

//! The sessions of users: which user has one, and where.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::cmd;
use tokio::time::{Instant, timeout};

use crate::error::Unavailable;
use crate::event::Event;
use crate::inner::Inner;
use crate::lease::number_of;
use crate::link::{Command, Link};
use crate::node::Node;
use crate::random;
use crate::reaper::BATCH;
use crate::scripts::{Reap, Reply};
use crate::sync::{Mutex, lock};

/// How long reading waits for Redis.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Sessions that are begun again at a time.
const AT_ONCE: usize = 64;

/// A session of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserSession {
    /// The session.
    pub session: Box<str>,
    /// The number of its node.
    pub node: u32,
    /// Whether the node has a valid lease. If not, the session stays for its window, or until it is resumed.
    pub is_live: bool,
}

/// The sessions of users on this node.
#[derive(Debug, Default)]
pub(crate) struct Users(Mutex<HashMap<Box<str>, Begun>>);

#[derive(Debug, Clone)]
struct Begun {
    user: Box<str>,
    window: Duration,
    /// The run of the server that has the session, once the caller knows that it has begun.
    run: Option<Arc<str>>,
}

impl Users {
    /// The session is not this node's any more.
    pub(crate) fn forget(&self, session: &str) {
        self.take(session);
    }

    fn take(&self, session: &str) -> Option<Begun> {
        lock(&self.0).remove(session)
    }

    fn set_run(&self, session: &str, run: Arc<str>) {
        if let Some(begun) = lock(&self.0).get_mut(session) {
            begun.run = Some(run);
        }
    }

    fn has(&self, session: &str) -> bool {
        lock(&self.0).contains_key(session)
    }

    fn all(&self) -> Vec<(Box<str>, Begun)> {
        lock(&self.0).iter().map(|(session, begun)| (session.clone(), begun.clone())).collect()
    }
}

impl Node {
    /// Begins a session of a user: now, or as soon as Redis can be reached. If the node is gone, the session stays for the
    /// window. Returns whether it is the user's first one on any node. Sessions have different ids on all nodes.
    ///
    /// If you drop the future, the session begins nevertheless. Call [`Node::end_user`] after it has returned.
    ///
    /// # Errors
    ///
    /// Fails if the node is closed.
    pub async fn begin_user(&self, user: &str, session: &str, window: Duration) -> Result<bool, Unavailable> {
        let begin = self.inner().clone().begin_user(user.into(), session.into(), window);
        self.inner().spawn(begin).await.ok().flatten().unwrap_or(Err(Unavailable))
    }

    /// Ends a session of a user: now, or as soon as Redis can be reached. Returns whether it was the user's last one on any
    /// node. It has no effect on a session that another node has [resumed](Node::resume).
    ///
    /// If you drop the future, the session ends nevertheless.
    ///
    /// # Errors
    ///
    /// Fails if the node is closed.
    pub async fn end_user(&self, user: &str, session: &str) -> Result<bool, Unavailable> {
        let end = self.inner().clone().end_user(user.into(), session.into());
        self.inner().spawn(end).await.ok().flatten().unwrap_or(Err(Unavailable))
    }

    /// The sessions of a user on all nodes, in no order.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached within 1 s.
    pub async fn user_sessions(&self, user: &str) -> Result<Vec<UserSession>, Unavailable> {
        let inner = self.inner();
        let prepare = |_: &Link| {
            let mut read = inner.scripts.user.prepare_invoke();
            read.key(inner.keys.nodes()).key(inner.keys.user(user));
            Command::Script(read)
        };
        let reply: Reply = inner.commands.run(Some(Instant::now() + READ_TIMEOUT), prepare).await?;
        let session = |(session, node, is_live): (_, Box<str>, _)| {
            Some(UserSession { session, node: number_of(&node)?, is_live })
        };
        Ok(reply.user_sessions().filter_map(session).collect())
    }

    /// The numbers of all nodes that have a valid lease.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached within 1 s.
    pub async fn nodes(&self) -> Result<Vec<u32>, Unavailable> {
        let key = self.inner().keys.nodes();
        let prepare = |_: &Link| Command::Plain(cmd("ZRANGEBYSCORE").arg(&key).arg("(0").arg("+inf").take());
        let read = self.inner().commands.run::<Vec<String>>(None, prepare);
        let nodes = timeout(READ_TIMEOUT, read).await.unwrap_or(Err(Unavailable))?;
        let numbers: HashSet<u32> = nodes.iter().filter_map(|node| number_of(node)).collect();
        Ok(numbers.into_iter().collect())
    }
}

impl Inner {
    /// Begins a session of a user. The caller must not drop the future.
    async fn begin_user(
        self: Arc<Inner>,
        user: Box<str>,
        session: Box<str>,
        window: Duration,
    ) -> Result<bool, Unavailable> {
        // From now on, the session is begun again after a fence.
        let begun = Begun { user, window, run: None };
        lock(&self.users.0).insert(session.clone(), begun.clone());
        loop {
            let node = self.registration.active().await;
            let reply = self.begin_user_as(&node, &session, &begun).await?;
            if !reply.is_fenced() {
                self.users.set_run(&session, self.commands.run_id().await);
                return Ok(reply.number(0) == 1);
            }
            self.registration.set_fenced(&node);
        }
    }

    async fn begin_user_as(&self, node: &str, session: &str, begun: &Begun) -> Result<Reply, Unavailable> {
        let keys = &self.keys;
        let prepare = |_: &Link| {
            let mut begin = self.scripts.begin_user.prepare_invoke();
            begin.key(keys.nodes()).key(keys.node_users(node)).key(keys.user(&begun.user));
            begin.key(keys.user_ended(session)).arg(node).arg(keys.tag()).arg(session);
            begin.arg(&*begun.user).arg(begun.window.as_millis() as u64);
            Command::Script(begin)
        };
        self.commands.run(None, prepare).await
    }

    /// Ends a session of a user. The caller must not drop the future.
    async fn end_user(self: Arc<Inner>, user: Box<str>, session: Box<str>) -> Result<bool, Unavailable> {
        let run = self.users.take(&session).and_then(|begun| begun.run);
        self.remove_user(&user, &session, run).await
    }

    /// `run` is the run of the server that had the session.
    async fn remove_user(
        &self,
        user: &str,
        session: &str,
        run: Option<Arc<str>>,
    ) -> Result<bool, Unavailable> {
        let prepare = |link: &Link| {
            let may_be_lost = run.as_ref().is_some_and(|run| run != link.run());
            let mut end = self.scripts.end_user.prepare_invoke();
            end.key(self.keys.user(user)).key(self.keys.user_ended(session));
            end.arg(&self.name).arg(self.keys.tag()).arg(session).arg(u8::from(may_be_lost));
            Command::Script(end)
        };
        let reply: Reply = self.commands.run(None, prepare).await?;
        Ok(reply.number(0) == 1)
    }

    /// Begins the sessions of all users of this node again, as an incarnation that need not be valid yet for the others.
    /// If Redis has lost its data, the users have not been offline.
    pub(crate) async fn begin_users_again(&self, node: &str, has_lost_data: bool) -> Result<(), Unavailable> {
        let begin = |(session, begun): &(Box<str>, Begun)| {
            let (session, begun) = (session.clone(), begun.clone());
            async move {
                let reply = self.begin_user_as(node, &session, &begun).await?;
                let (is_first, was_there) = (reply.number(0) == 1, reply.number(1) == 1);
                if !self.users.has(&session) {
                    // It has ended meanwhile, and its end may have come before this begin.
                    if self.remove_user(&begun.user, &session, None).await? {
                        self.hub.queue().push(Event::UserOffline { user: begun.user });
                    }
                    return Ok(());
                }
                if begun.run.is_some() {
                    self.users.set_run(&session, self.commands.run_id().await);
                    if is_first && !was_there && !has_lost_data {
                        self.hub.queue().push(Event::UserOnline { user: begun.user });
                    }
                }
                Ok(())
            }
        };
        for batch in self.users.all().chunks(AT_ONCE) {
            join_all(batch.iter().map(begin)).await.into_iter().collect::<Result<(), Unavailable>>()?;
        }
        Ok(())
    }

    /// Makes Redis's sessions of users on this node those that it has.
    pub(crate) async fn reconcile_users(&self, node: &str) -> Result<(), Unavailable> {
        self.begin_users_again(node, true).await?;
        let key = self.keys.node_users(node);
        let prepare = |_: &Link| Command::Plain(cmd("HGETALL").arg(&key).take());
        let kept: Vec<(String, String)> = self.commands.run(None, prepare).await?;
        for (session, value) in kept {
            let Some((_, user)) = value.split_once(' ') else { continue };
            if !self.users.has(&session) && self.remove_user(user, &session, None).await? {
                self.hub.queue().push(Event::UserOffline { user: user.into() });
            }
        }
        Ok(())
    }

    /// Ends sessions of the users of a fenced node, and tells the host. Returns for how long the others stay. It is zero if
    /// there are more to end.
    pub(crate) async fn reap_users(&self, node: &str, which: Reap) -> Result<Duration, Unavailable> {
        let call = random::number();
        let prepare = |_: &Link| {
            let mut reap = self.scripts.reap_users.prepare_invoke();
            reap.key(self.keys.nodes()).key(self.keys.node_users(node));
            reap.arg(node).arg(self.keys.tag()).arg(BATCH).arg(which.name()).arg(call);
            Command::Script(reap)
        };
        let reply: Reply = self.commands.run(None, prepare).await?;
        for user in reply.texts() {
            self.hub.queue().push(Event::UserOffline { user });
        }
        Ok(reply.rest_kept())
    }
}

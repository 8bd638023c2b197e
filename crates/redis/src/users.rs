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
use crate::lease::{number_of, process_of};
use crate::link::{Command, Link};
use crate::node::Node;
use crate::random;
use crate::reaper::BATCH;
use crate::reply::Reply;
use crate::scripts::Reap;
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
pub(crate) struct Users(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    begun: HashMap<Box<str>, Begun>,
    /// Those whose ends are under way.
    ending: HashSet<Box<str>>,
}

#[derive(Debug, Clone)]
struct Begun {
    user: Box<str>,
    window: Duration,
    /// The run of the server that has the session, once the caller knows that it has begun.
    run: Option<Arc<str>>,
}

/// Why a session is removed.
#[derive(Debug)]
enum End {
    /// It has ended: the caller tells so. `run` is the run of the server that had the session.
    Told { run: Option<Arc<str>> },
    /// Redis has it although it has ended before.
    Undo,
}

impl Users {
    /// The session is not this node's any more.
    pub(crate) fn forget(&self, session: &str) {
        lock(&self.0).begun.remove(session);
    }

    fn begin(&self, session: Box<str>, begun: Begun) {
        lock(&self.0).begun.insert(session, begun);
    }

    /// A session is about to end. [`Users::ended`] must follow.
    fn begin_to_end(&self, session: &str) -> Option<Begun> {
        let mut known = lock(&self.0);
        known.ending.insert(session.into());
        known.begun.remove(session)
    }

    fn ended(&self, session: &str) {
        lock(&self.0).ending.remove(session);
    }

    fn set_run(&self, session: &str, run: Arc<str>) {
        if let Some(begun) = lock(&self.0).begun.get_mut(session) {
            begun.run = Some(run);
        }
    }

    fn has(&self, session: &str) -> bool {
        lock(&self.0).begun.contains_key(session)
    }

    /// Whether the session is one of this node, or will have ended.
    fn has_or_ends(&self, session: &str) -> bool {
        let known = lock(&self.0);
        known.begun.contains_key(session) || known.ending.contains(session)
    }

    fn all(&self) -> Vec<(Box<str>, Begun)> {
        lock(&self.0).begun.iter().map(|(session, begun)| (session.clone(), begun.clone())).collect()
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
        self.users.begin(session.clone(), begun.clone());
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
        let run = self.users.begin_to_end(&session).and_then(|begun| begun.run);
        let ended = self.remove_user(&user, &session, End::Told { run }).await;
        self.users.ended(&session);
        ended
    }

    async fn remove_user(&self, user: &str, session: &str, end: End) -> Result<bool, Unavailable> {
        let node = self.registration.node();
        let prepare = |link: &Link| {
            let mode = match &end {
                End::Told { run } if run.as_ref().is_some_and(|run| run != link.run()) => "lost",
                End::Told { .. } => "",
                End::Undo => "undo",
            };
            let mut end = self.scripts.end_user.prepare_invoke();
            end.key(self.keys.user(user)).key(self.keys.user_ended(session));
            end.arg(process_of(&node)).arg(self.keys.tag()).arg(session).arg(mode);
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
                    // It has ended meanwhile, and its end may have come before this begin. If it was the only session then,
                    // that end has told so.
                    if self.remove_user(&begun.user, &session, End::Undo).await? && !is_first {
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
            if !self.users.has_or_ends(&session) && self.remove_user(user, &session, End::Undo).await? {
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

//! The sessions of each user, and whether the host was told that the user is online. Anonymous sessions are not here.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::ids::ConnectionId;
use crate::session::remote_users::{Change, RemoteUsers};
use crate::session::session::Session;
use crate::sync::{Mutex, MutexGuard, lock};

pub(crate) const SHARDS: usize = if cfg!(all(test, shuttle)) { 1 } else { 64 };

/// Lock order: session state, then a shard. No other lock is taken under that of a shard.
pub(crate) struct Users {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    /// Present if a broker is shared with other nodes.
    remote: Option<RemoteUsers>,
}

type Shard = HashMap<Box<str>, Presence>;

/// One user, from its first session until the host has been told of the end of the last one.
#[derive(Default)]
struct Presence {
    sessions: BTreeMap<ConnectionId, Arc<Session>>,
    /// The number of sessions whose begin was announced, but not their end. A session that has ended still counts until
    /// its `left` callbacks have been called.
    announced: usize,
    /// The number of sessions that other nodes keep. They announce the end of these sessions.
    left_behind: usize,
    /// Whether the last call was `online`.
    is_online: bool,
    /// Whether a task is calling `online` or `offline`.
    is_calling: bool,
    /// Sessions that began during that call. Their callbacks wait until it has returned.
    waiting: Vec<Arc<Session>>,
    /// The session whose begin or end the broker was told of, and whether it is the first or the last one.
    asked: Option<(ConnectionId, Option<bool>)>,
}

/// What to do when a session's begin or end is next in its queue of callbacks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Announcement {
    /// Call the callback, and then [`Users::called`].
    Call,
    /// Do not call the callback.
    Skip,
    /// Tell the broker with [`Users::ask`], and wait for its answer.
    Ask(Change),
    /// The broker has answered that this is not the first or last session. Do not call the callback, but call
    /// [`Users::called`].
    NotFirstOrLast,
    /// Wait for another callback of the user. [`Users::called`] returns the session when that callback has returned.
    Wait,
}

impl Users {
    /// With `remote`, the broker decides which session is the first and which the last one of a user.
    pub(super) fn new(remote: Option<RemoteUsers>) -> Users {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Users { hasher: RandomState::new(), shards, remote }
    }

    /// Tells the broker of the begin or end of a session, if the host need not be told.
    pub(super) fn tell_broker(&self, user: &str, session: &Session, change: Change) {
        if let Some(remote) = &self.remote {
            drop(remote.tell(session, user, change));
        }
    }

    /// Adds a session, when it begins or its client has authenticated.
    pub(super) fn add(&self, user: &str, session: &Arc<Session>) {
        let mut shard = self.shard(user);
        shard.entry(user.into()).or_default().sessions.insert(session.id(), session.clone());
    }

    /// Removes a session that has ended.
    pub(super) fn remove(&self, user: &str, session: ConnectionId) {
        let mut shard = self.shard(user);
        let Some(presence) = shard.get_mut(user) else { return };
        presence.sessions.remove(&session);
        forget_if_gone(&mut shard, user);
    }

    /// As [`Users::remove`], for a session whose beginning this node announces and whose end another node announces.
    pub(super) fn leave_behind(&self, user: &str, session: ConnectionId) {
        if let Some(presence) = self.shard(user).get_mut(user) {
            presence.left_behind += 1;
        }
        self.remove(user, session);
    }

    /// The user's sessions, with and without a connection, in the order in which they began.
    pub(crate) fn sessions_of(&self, user: &str) -> Vec<Arc<Session>> {
        let shard = self.shard(user);
        shard.get(user).map(|presence| presence.sessions.values().cloned().collect()).unwrap_or_default()
    }

    /// Calls a function for each user of a shard that has sessions, under the lock of the shard.
    pub(crate) fn visit(&self, at: usize, mut see: impl FnMut(&str, &BTreeMap<ConnectionId, Arc<Session>>)) {
        let shard = lock(&self.shards[at % SHARDS]);
        let present = shard.iter().filter(|(_, presence)| !presence.sessions.is_empty());
        present.for_each(|(user, presence)| see(user, &presence.sessions));
    }

    /// Whether the user has a session.
    pub(crate) fn has_sessions(&self, user: &str) -> bool {
        self.shard(user).get(user).is_some_and(|presence| !presence.sessions.is_empty())
    }

    /// Called before a session's first callback. Its next callbacks are not called before the host knows that the user
    /// is online.
    pub(super) fn announce_begin(&self, user: &str, session: &Arc<Session>) -> Announcement {
        if self.remote.is_some() {
            return self.announce(user, session, Change::Begin);
        }
        let mut shard = self.shard(user);
        let presence = shard.entry(user.into()).or_default();
        if presence.is_calling {
            presence.waiting.push(session.clone());
            return Announcement::Wait;
        }
        presence.announced += 1;
        if presence.is_online {
            return Announcement::Skip;
        }
        (presence.is_online, presence.is_calling) = (true, true);
        Announcement::Call
    }

    /// Called when all other callbacks of an ended session have been called. The user is offline if it has no other
    /// session.
    pub(super) fn announce_end(&self, user: &str, session: &Arc<Session>) -> Announcement {
        if self.remote.is_some() {
            return self.announce(user, session, Change::End);
        }
        let mut shard = self.shard(user);
        let Some(presence) = shard.get_mut(user) else { return Announcement::Skip };
        presence.announced -= 1;
        if presence.announced > 0 || !presence.sessions.is_empty() {
            return Announcement::Skip;
        }
        (presence.is_online, presence.is_calling) = (false, true);
        Announcement::Call
    }

    /// Asks the broker whether to call the callback. For each user, this node asks about one session after the other, and
    /// has called the callback before it asks again.
    fn announce(&self, user: &str, session: &Arc<Session>, change: Change) -> Announcement {
        let mut shard = self.shard(user);
        let presence = shard.entry(user.into()).or_default();
        match presence.asked {
            Some((asked, Some(is_first_or_last))) if asked == session.id() => {
                presence.asked = None;
                if change == Change::End {
                    presence.announced -= 1;
                }
                if is_first_or_last { Announcement::Call } else { Announcement::NotFirstOrLast }
            }
            _ if presence.is_calling => {
                presence.waiting.push(session.clone());
                Announcement::Wait
            }
            _ => {
                (presence.is_calling, presence.asked) = (true, Some((session.id(), None)));
                if change == Change::Begin {
                    presence.announced += 1;
                }
                Announcement::Ask(change)
            }
        }
    }

    /// Asks the broker after [`Announcement::Ask`].
    pub(super) fn ask(&self, user: &str, session: &Arc<Session>, change: Change) {
        if let Some(remote) = &self.remote {
            remote.ask(session, user, change);
        }
    }

    /// The broker has answered. The session's callbacks must be run now.
    pub(super) fn answered(&self, user: &str, session: ConnectionId, is_first_or_last: bool) {
        if let Some(presence) = self.shard(user).get_mut(user) {
            presence.asked = Some((session, Some(is_first_or_last)));
        }
    }

    /// Called when `online` or `offline` has returned. Returns the sessions that have waited for it.
    pub(super) fn called(&self, user: &str) -> Vec<Arc<Session>> {
        let mut shard = self.shard(user);
        let Some(presence) = shard.get_mut(user) else { return Vec::new() };
        presence.is_calling = false;
        let waiting = std::mem::take(&mut presence.waiting);
        forget_if_gone(&mut shard, user);
        waiting
    }

    /// All sessions of all users, for the consistency check.
    #[cfg(feature = "test-util")]
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        let in_shard = |shard: &Mutex<Shard>| -> Vec<_> {
            lock(shard).values().flat_map(|presence| presence.sessions.values().cloned()).collect()
        };
        self.shards.iter().flat_map(in_shard).collect()
    }

    /// The number of users in the table.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn shard(&self, user: &str) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.hasher.hash_one(user) as usize % SHARDS])
    }
}

/// Removes a user that has no session, once the host was told that it is offline.
fn forget_if_gone(shard: &mut Shard, user: &str) {
    let Some(presence) = shard.get(user) else { return };
    let Presence { sessions, announced, left_behind, is_online, is_calling, waiting: _, asked: _ } = presence;
    if sessions.is_empty() && announced == left_behind && !is_online && !is_calling {
        shard.remove(user);
        // Frees memory after many users were online at once.
        if shard.len() < shard.capacity() / 4 {
            let keep = shard.len() * 2;
            shard.shrink_to(keep);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::config::Config;
    use crate::context::Context;
    use crate::protocol::subprotocol::Subprotocol;
    use crate::socket::{Socket, Transport};

    fn sessions<const N: usize>() -> [Arc<Session>; N] {
        let context = Arc::new(Context::new(Config::default()));
        std::array::from_fn(|id| {
            let io = Transport::Other(Box::new(tokio::io::duplex(1).0));
            let socket = Socket::new(io, usize::MAX, context.clone(), Subprotocol::V1, Bytes::new());
            let id = ConnectionId(id as u64);
            Arc::new(Session::new(id, Subprotocol::V1, Some(Box::new(socket)), None, None, None))
        })
    }

    fn ids(sessions: &[Arc<Session>]) -> Vec<u64> {
        sessions.iter().map(|session| session.id().0).collect()
    }

    #[test]
    fn the_first_and_the_last_session_of_a_user_are_announced() {
        let (users, [first, second]) = (Users::new(None), sessions());
        users.add("u", &second);
        users.add("u", &first);
        assert_eq!(ids(&users.sessions_of("u")), [0, 1]);
        assert_eq!(users.announce_begin("u", &first), Announcement::Call);
        assert!(users.called("u").is_empty());
        assert_eq!(users.announce_begin("u", &second), Announcement::Skip);
        users.remove("u", first.id());
        assert_eq!(users.announce_end("u", &first), Announcement::Skip);
        assert!(users.has_sessions("u") && !users.has_sessions("U"));
        users.remove("u", second.id());
        assert!(!users.has_sessions("u"));
        assert_eq!(users.announce_end("u", &first), Announcement::Call);
        assert_eq!(users.len(), 1);
        assert!(users.called("u").is_empty());
        assert_eq!(users.len(), 0);
    }

    #[test]
    fn a_session_that_is_not_announced_yet_keeps_the_user_online() {
        let (users, [first, second]) = (Users::new(None), sessions());
        users.add("u", &first);
        assert_eq!(users.announce_begin("u", &first), Announcement::Call);
        users.add("u", &second);
        assert_eq!(users.announce_begin("u", &second), Announcement::Wait);
        assert_eq!(ids(&users.called("u")), [1]);
        users.remove("u", first.id());
        assert_eq!(users.announce_end("u", &first), Announcement::Skip);
        // The session ends before its begin is announced.
        users.remove("u", second.id());
        assert_eq!(users.announce_begin("u", &second), Announcement::Skip);
        assert_eq!(users.announce_end("u", &first), Announcement::Call);
        // The user has a new session while `offline` is being called.
        users.add("u", &first);
        assert_eq!(users.announce_begin("u", &first), Announcement::Wait);
        assert_eq!(ids(&users.called("u")), [0]);
        assert_eq!(users.announce_begin("u", &first), Announcement::Call);
    }

    #[test]
    fn memory_follows_the_users_that_are_there() {
        let (users, [session]) = (Users::new(None), sessions());
        let names: Vec<_> = (0..20_000).map(|n| n.to_string()).collect();
        names.iter().for_each(|user| users.add(user, &session));
        assert_eq!(users.len(), names.len());
        names.iter().for_each(|user| users.remove(user, session.id()));
        let capacity: usize = users.shards.iter().map(|shard| lock(shard).capacity()).sum();
        assert!(users.len() == 0 && capacity <= SHARDS * 8, "{capacity}");
        assert_eq!(Arc::strong_count(&session), 1);
    }
}

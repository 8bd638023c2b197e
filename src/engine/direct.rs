//! Direct messages of clients to users on all nodes.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::Unavailable;
use crate::broker::commands::Command;
use crate::engine::Engine;
use crate::ids::ConnectionId;
use crate::protocol::direct::DirectFrame;
use crate::sync::{Mutex, lock};

/// A message is known for this time. A client that got `unavailable` sends it again much earlier.
const MAX_AGE: Duration = Duration::from_secs(300);

/// At most this many messages are known.
const MAX_MESSAGES: usize = 16_384;

/// The latest direct messages that have arrived on this node, so that none is delivered twice.
#[derive(Default)]
pub(crate) struct RecentDirects {
    hasher: RandomState,
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    /// By the hash of sender and id, with keys that no client knows: how many connections it has reached.
    reached: HashMap<u64, u64>,
    /// From the oldest to the newest.
    arrivals: VecDeque<(Duration, u64)>,
}

/// A message of a client.
#[derive(Clone)]
pub(crate) struct DirectToSend {
    pub(crate) sender: ConnectionId,
    pub(crate) to: String,
    pub(crate) cid: Option<String>,
    /// Without one, the connections are counted that it would reach.
    pub(crate) frame: Option<Arc<DirectFrame>>,
}

impl RecentDirects {
    /// How many connections a message has reached. If it was not delivered yet, calls `deliver`.
    fn once(
        &self,
        sender: ConnectionId,
        cid: Option<&str>,
        now: Duration,
        deliver: impl FnOnce() -> usize,
    ) -> u64 {
        let Some(cid) = cid else { return deliver() as u64 };
        let key = self.hasher.hash_one((sender, cid));
        {
            let mut recent = lock(&self.recent);
            if let Some(reached) = recent.reached.get(&key) {
                return *reached;
            }
            recent.trim(now);
            recent.reached.insert(key, 0);
            recent.arrivals.push_back((now, key));
        }
        let reached = deliver() as u64;
        if let Some(known) = lock(&self.recent).reached.get_mut(&key) {
            *known = reached;
        }
        reached
    }
}

impl Recent {
    /// Makes space for one more.
    fn trim(&mut self, now: Duration) {
        while let Some((at, key)) = self.arrivals.front()
            && (now.saturating_sub(*at) > MAX_AGE || self.arrivals.len() >= MAX_MESSAGES)
        {
            self.reached.remove(key);
            self.arrivals.pop_front();
        }
    }
}

impl Engine {
    /// Sends a client's message to the sessions of a user on all nodes, once for each id. Returns the number of open
    /// connections that it has reached.
    ///
    /// # Errors
    /// If the broker cannot be reached, or a node has not answered. Some sessions may have got the message all the same. If
    /// it has an id, it can be sent again.
    pub(crate) async fn send_direct_everywhere(&self, message: DirectToSend) -> Result<u64, Unavailable> {
        let DirectToSend { sender, to, cid, frame } = message;
        let (user, cid) = (&*to, cid.as_deref());
        let Some(nodes) = self.nodes() else { return Err(Unavailable) };
        let others = nodes.other_nodes_of(user).await?;
        let here = self.receive_direct(sender, user, cid, frame.as_ref());
        let text = frame.as_deref().map(DirectFrame::text);
        let command = Command::SendDirect { user, frame: text, sender, cid };
        let elsewhere = nodes.ask(others, command).await.complete()?;
        Ok(here + elsewhere.number())
    }

    /// Sends a client's message to the sessions of a user on this node.
    pub(super) fn receive_direct(
        &self,
        sender: ConnectionId,
        user: &str,
        cid: Option<&str>,
        frame: Option<&Arc<DirectFrame>>,
    ) -> u64 {
        let Some(frame) = frame else { return self.sessions.connections_of(user) as u64 };
        let now = self.context.clock.now();
        self.recent_directs().once(sender, cid, now, || self.sessions.send_direct(user, frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_delivered_once() {
        let recent = RecentDirects::default();
        let (one, other) = (ConnectionId(1), ConnectionId(2));
        let send = |sender, cid: Option<&str>, now| {
            let mut delivered = 0;
            let reached = recent.once(sender, cid, Duration::from_secs(now), || {
                delivered += 1;
                7
            });
            assert_eq!(reached, 7);
            delivered
        };
        assert_eq!((send(one, Some("a"), 0), send(one, Some("a"), 1)), (1, 0));
        assert_eq!((send(other, Some("a"), 1), send(one, Some("b"), 1)), (1, 1));
        assert_eq!((send(one, None, 1), send(one, None, 1)), (1, 1));
        assert_eq!((send(one, Some("c"), 500), send(one, Some("a"), 500)), (1, 1));
        for n in 0..2 * MAX_MESSAGES {
            send(one, Some(&n.to_string()), 500);
        }
        let recent = lock(&recent.recent);
        assert_eq!((recent.reached.len(), recent.arrivals.len()), (MAX_MESSAGES, MAX_MESSAGES));
    }
}

//! What is known of a client beyond the connection that it has at the moment.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::engine::recipient::Recipient;
use crate::hooks::user::User;
use crate::ids::{ConnectionId, Name};
use crate::protocol::resume::{MAX_CIDS, Secret};
use crate::room::registry::SharedRoom;

/// A member's place in a room. It has to be given back.
pub(crate) struct Membership {
    pub(crate) room: Arc<SharedRoom<Arc<dyn Recipient>>>,
    pub(crate) name: Name,
    /// What each of his frames gets appended.
    pub(crate) tail: Box<str>,
}

/// Who somebody is and where. It passes from a connection that was lost to the one by which he
/// comes back.
pub(crate) struct Standing {
    /// The id of the connection with which it began.
    pub(crate) id: ConnectionId,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) user: Option<Arc<User>>,
    /// With which it can be taken over.
    pub(crate) secret: Option<Secret>,
    pub(crate) membership: Option<Membership>,
    /// The host has been told of the membership, and must be told of its end.
    pub(crate) announced: bool,
    pub(crate) cids: Option<Box<Cids>>,
}

impl Standing {
    /// Somebody who has just come.
    pub(crate) fn new(id: ConnectionId, peer: Option<SocketAddr>, user: Option<Arc<User>>) -> Standing {
        Standing { id, peer, user, secret: None, membership: None, announced: false, cids: None }
    }

    /// What is left where a standing was passed on. No connection has its id.
    pub(crate) fn nobody() -> Standing {
        Standing::new(ConnectionId(u64::MAX), None, None)
    }
}

/// A client's last messages by their ids, so that none goes out twice.
#[derive(Debug, Default)]
pub(crate) struct Cids {
    hasher: RandomState,
    /// A hash stands for each id: with keys that nobody else knows, of 64 bits.
    seen: VecDeque<(u64, u64)>,
}

impl Cids {
    /// The seq with which a message has gone out.
    pub(crate) fn seq_of(&self, cid: &str) -> Option<u64> {
        let hash = self.hasher.hash_one(cid);
        self.seen.iter().find(|(seen, _)| *seen == hash).map(|(_, seq)| *seq)
    }

    pub(crate) fn add(&mut self, cid: &str, seq: u64) {
        if self.seen.len() == MAX_CIDS {
            self.seen.pop_front();
        }
        self.seen.push_back((self.hasher.hash_one(cid), seq));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_messages_are_known() {
        let mut cids = Cids::default();
        for n in 0..MAX_CIDS as u64 + 1 {
            cids.add(&format!("c{n}"), n + 7);
        }
        assert_eq!(cids.seq_of("c0"), None);
        assert_eq!(cids.seq_of("c1"), Some(8));
        assert_eq!(cids.seq_of(&format!("c{MAX_CIDS}")), Some(MAX_CIDS as u64 + 7));
        assert_eq!(cids.seq_of("never"), None);
        assert_eq!(cids.seen.len(), MAX_CIDS);
    }
}

//! How many connections each network address has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What counts as one peer: an IPv4 address, or the 64-bit network prefix of an IPv6 address,
/// because one host usually has the whole network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    V4(u32),
    V6(u64),
}

/// The peers that have connections now.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    counts: Mutex<HashMap<Peer, usize>>,
}

impl Peer {
    pub(crate) fn of(address: IpAddr) -> Peer {
        match address.to_canonical() {
            IpAddr::V4(v4) => Peer::V4(v4.to_bits()),
            IpAddr::V6(v6) => Peer::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

impl Peers {
    /// Counts one more connection of this peer, unless it has as many as it may have.
    pub(crate) fn take(&self, peer: Peer, max: usize) -> bool {
        let mut counts = self.lock();
        let count = counts.entry(peer).or_insert(0);
        let is_free = *count < max;
        *count += usize::from(is_free);
        is_free
    }

    /// Removes a connection that was counted and has ended.
    pub(crate) fn give_back(&self, peer: Peer) {
        let mut counts = self.lock();
        let Some(count) = counts.get_mut(&peer) else { return };
        *count -= 1;
        if *count == 0 {
            counts.remove(&peer);
            // After a rush, the memory is given back as well.
            if counts.capacity() > 64 && counts.len() < counts.capacity() / 4 {
                let keep = counts.len() * 2;
                counts.shrink_to(keep);
            }
        }
    }

    /// How many connections are counted, and of how many peers.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn totals(&self) -> (usize, usize) {
        let counts = self.lock();
        (counts.values().sum(), counts.len())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Peer, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peer(text: &str) -> Peer {
        Peer::of(text.parse().unwrap())
    }

    #[test]
    fn a_peer_is_an_address_or_a_network_of_64_bits() {
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert_eq!(peer("192.0.2.1"), peer("::ffff:192.0.2.1"));
        assert_eq!(peer("2001:db8:0:1::1"), peer("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(peer("2001:db8:0:1::1"), peer("2001:db8:0:2::1"));
        assert_ne!(peer("::1"), peer("0.0.0.0"));
    }

    #[test]
    fn memory_follows_the_peers_that_are_there() {
        let peers = Peers::default();
        for n in 0..100_000 {
            assert!(peers.take(Peer::V4(n), 1));
            assert!(!peers.take(Peer::V4(n), 1));
        }
        for n in 0..100_000 {
            peers.give_back(Peer::V4(n));
        }
        assert_eq!(peers.totals(), (0, 0));
        assert!(peers.lock().capacity() <= 128, "{}", peers.lock().capacity());
    }

    proptest! {
        /// Compared with a plain list of the connections.
        #[test]
        fn counts_are_exact(steps in proptest::collection::vec((any::<bool>(), 0u32..4), 0..200), max in 1usize..5) {
            let (peers, mut there) = (Peers::default(), Vec::new());
            for (comes, who) in steps {
                let others = there.iter().filter(|other| **other == who).count();
                if comes {
                    prop_assert_eq!(peers.take(Peer::V4(who), max), others < max);
                    if others < max {
                        there.push(who);
                    }
                } else if let Some(at) = there.iter().position(|other| *other == who) {
                    there.swap_remove(at);
                    peers.give_back(Peer::V4(who));
                }
                let mut distinct = there.clone();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(peers.totals(), (there.len(), distinct.len()));
            }
        }
    }
}

//! A limit on the sockets of one address that carry no WebSocket yet. Those that do are limited by the chat rooms.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts the sockets of each address.
#[derive(Debug, Clone)]
pub(crate) struct Sockets {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    max: usize,
}

/// One counted socket.
#[derive(Debug)]
pub(crate) struct Permit {
    sockets: Sockets,
    network: IpAddr,
}

impl Sockets {
    pub(crate) fn new(max_per_address: usize) -> Sockets {
        Sockets { counts: Arc::default(), max: max_per_address }
    }

    /// Counts a socket of this address, unless there are too many.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<Permit> {
        let network = network(address);
        let mut counts = self.lock();
        let count = counts.entry(network).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Permit { sockets: self.clone(), network })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.sockets.lock();
        let Some(count) = counts.get_mut(&self.network) else { return };
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.network);
        }
    }
}

/// An IPv4 address, or the /64 network of an IPv6 address, which belongs to one customer as a whole.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_its_own_limit() {
        let sockets = Sockets::new(2);
        let admit = |address: &str| sockets.admit(address.parse().expect("an address"));
        for (same, other) in [
            (["192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"], "192.0.2.2"),
            (["2001:db8::1", "2001:db8::2", "2001:db8:0:0:8000::"], "2001:db8:0:1::1"),
        ] {
            let [first, second, third] = same.map(admit);
            assert!(first.is_some() && second.is_some() && third.is_none());
            assert!(admit(other).is_some());
            drop(first);
            assert!(admit(same[2]).is_some());
        }
        assert!(sockets.lock().is_empty());
    }
}

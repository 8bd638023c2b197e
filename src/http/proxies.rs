//! The client's address behind reverse proxies.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};

use crate::error::BuildError;
use crate::http::forwarded::{parse_forwarded, parse_node};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Reverse proxies whose forwarding headers are trusted.
///
/// When a request comes from one of these networks, the client is the last address in the header that is not in
/// any of them; everything before it may be forged. The header is ignored in requests from elsewhere. If the header
/// is missing, or ends in something that is not an address, the client is the proxy itself.
///
/// You have to insert a [`PeerAddr`](crate::PeerAddr) into the request; the client's address replaces it. Its port
/// is 0 if the header has none. Hooks and limits then see the client's address.
///
/// ```
/// use tower_chat_rooms::{ChatRooms, TrustedProxies};
///
/// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// // nginx on the same machine, and a load balancer in front of it:
/// let proxies = TrustedProxies::new(["127.0.0.1", "::1", "10.0.0.0/8"])?;
/// let rooms = ChatRooms::builder().trusted_proxies(proxies).build()?;
/// # drop(rooms);
///
/// let error = TrustedProxies::new(["10.0.0.0/33"]).unwrap_err();
/// assert!(error.to_string().contains("/32"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    header: Header,
}

/// Only one header is read, because a proxy that sets one may pass on the other as the client sent it.
#[derive(Debug, Clone, Copy, Default)]
enum Header {
    #[default]
    XForwardedFor,
    Forwarded,
}

/// Addresses that share their first `bits` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl TrustedProxies {
    /// No proxies: the client is the peer of the connection. The default.
    pub fn none() -> TrustedProxies {
        TrustedProxies::default()
    }

    /// Proxies at these addresses (`127.0.0.1`) and in these networks (`10.0.0.0/8`, `fd00::/8`), which set
    /// `X-Forwarded-For`, as most do.
    ///
    /// # Errors
    ///
    /// If one of them is neither an address nor a network.
    pub fn new(networks: impl IntoIterator<Item = impl AsRef<str>>) -> Result<TrustedProxies, BuildError> {
        let networks = networks.into_iter().map(|n| Network::parse(n.as_ref())).collect::<Result<_, _>>()?;
        Ok(TrustedProxies { networks, header: Header::default() })
    }

    /// Reads `Forwarded` (RFC 7239) instead of `X-Forwarded-For`.
    ///
    /// `X-Forwarded-For` is then ignored, because a proxy that sets `Forwarded` may pass it on as the client sent
    /// it.
    #[must_use]
    pub fn with_forwarded_header(self) -> TrustedProxies {
        TrustedProxies { header: Header::Forwarded, ..self }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// What is trusted, for the log.
    pub(crate) fn summary(&self) -> String {
        if self.is_empty() {
            return "none".to_owned();
        }
        let networks = self.networks.iter().map(|Network { address, bits }| match (address, bits) {
            (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => address.to_string(),
            _ => format!("{address}/{bits}"),
        });
        let header = match self.header {
            Header::XForwardedFor => "X-Forwarded-For",
            Header::Forwarded => "Forwarded",
        };
        format!("{} ({header})", networks.collect::<Vec<_>>().join(", "))
    }

    /// Returns the client's address for a request from this peer.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        let name = match self.header {
            Header::XForwardedFor => X_FORWARDED_FOR,
            Header::Forwarded => FORWARDED,
        };
        // Each line is parsed by itself: the proxies' lines are well-formed, no matter what the client has sent.
        let mut lines = headers.get_all(name).into_iter().rev();
        let mut named = Vec::new();
        let mut client = peer;
        while self.trust(client.ip()) {
            while named.is_empty()
                && let Some(line) = lines.next()
            {
                named = line.to_str().map_or_else(|_| vec![None], |line| self.read(line));
            }
            // Without an address here, the ones before it cannot be trusted either.
            let Some(Some(next)) = named.pop() else { break };
            client = next;
        }
        client
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// The addresses in a line, the client's first; `None` for a node that is not an address.
    fn read(&self, line: &str) -> Vec<Option<SocketAddr>> {
        match self.header {
            Header::XForwardedFor => line.split(',').map(parse_node).collect(),
            Header::Forwarded => parse_forwarded(line),
        }
    }
}

impl Network {
    fn parse(text: &str) -> Result<Network, BuildError> {
        let refuse = |why: String| BuildError::new(format!("the network {text:?} {why}"));
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| {
            refuse("is not an address or network; write it as 192.0.2.7, 10.0.0.0/8 or fd00::/8".into())
        })?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |b| b.trim().parse().ok().filter(|b| *b <= most));
        let bits = bits.ok_or_else(|| refuse(format!("must end in a number from /0 to /{most}")))?;
        // An IPv4 network, mapped to IPv6.
        Ok(match address.to_canonical() {
            IpAddr::V4(v4) if address.is_ipv6() && bits >= 96 => {
                Network { address: IpAddr::V4(v4), bits: bits - 96 }
            }
            _ => Network { address, bits },
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;

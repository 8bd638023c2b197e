//! Who the client is when proxies stand between (RFC 7239): pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};

use crate::error::BuildError;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The reverse proxies whose word on the client's address is taken.
///
/// When a request comes from one of these networks, the client is the last address in the header that
/// is none of them: what stands before it may be anybody's invention. The header of anybody else is not
/// looked at. Where the header is missing or ends in what is no address, the client is the proxy itself.
///
/// The request's [`PeerAddr`](crate::PeerAddr), which the host has to set, becomes the client's, with
/// port 0 where the header has none; hooks and limits see that one.
///
/// ```
/// use tower_chat_rooms::{ChatRooms, TrustedProxies};
///
/// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// // nginx on the same machine, and a load balancer before it:
/// let proxies = TrustedProxies::these(["127.0.0.1", "::1", "10.0.0.0/8"])?;
/// let rooms = ChatRooms::builder().trusted_proxies(proxies).build()?;
/// # drop(rooms);
///
/// let error = TrustedProxies::these(["10.0.0.0/33"]).unwrap_err();
/// assert!(error.to_string().contains("/32"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    header: Header,
}

/// Only one header is read: a proxy that sets the one may hand on the other as the client wrote it.
#[derive(Debug, Clone, Copy, Default)]
enum Header {
    #[default]
    XForwardedFor,
    Forwarded,
}

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl TrustedProxies {
    /// None: the client is whoever has connected. The default.
    pub fn none() -> TrustedProxies {
        TrustedProxies::default()
    }

    /// Proxies at these addresses, each alone (`127.0.0.1`) or a network (`10.0.0.0/8`, `fd00::/8`), which
    /// write `X-Forwarded-For`, as most do.
    ///
    /// # Errors
    /// If one of them is neither an address nor a network.
    pub fn these(networks: impl IntoIterator<Item = impl AsRef<str>>) -> Result<TrustedProxies, BuildError> {
        let networks = networks.into_iter().map(|n| Network::parse(n.as_ref())).collect::<Result<_, _>>()?;
        Ok(TrustedProxies { networks, header: Header::default() })
    }

    /// They write `Forwarded` (RFC 7239) instead. `X-Forwarded-For` is then not looked at: such a proxy
    /// may hand it on as the client wrote it.
    #[must_use]
    pub fn by_forwarded(self) -> TrustedProxies {
        TrustedProxies { header: Header::Forwarded, ..self }
    }

    /// Where a request from this peer comes from.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        let name = match self.header {
            Header::XForwardedFor => X_FORWARDED_FOR,
            Header::Forwarded => FORWARDED,
        };
        // Each line for itself: those of proxies are well-formed, whatever the client has written.
        let mut lines = headers.get_all(name).into_iter().rev();
        let mut named = Vec::new();
        let mut client = peer;
        while self.trust(client.ip()) {
            while named.is_empty()
                && let Some(line) = lines.next()
            {
                named = line.to_str().map_or_else(|_| vec![None], |line| self.read(line));
            }
            // What is no address can't be followed, nor can what stands before it.
            let Some(Some(next)) = named.pop() else { break };
            client = next;
        }
        client
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// The addresses in a line, from the client on; `None` for what is no address.
    fn read(&self, line: &str) -> Vec<Option<SocketAddr>> {
        match self.header {
            Header::XForwardedFor => line.split(',').map(node).collect(),
            Header::Forwarded => forwarded(line),
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
        let address: IpAddr = address
            .trim()
            .parse()
            .map_err(|_| refuse("is none: write it as 192.0.2.7, 10.0.0.0/8 or fd00::/8".into()))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |b| b.trim().parse().ok().filter(|b| *b <= most));
        let bits = bits.ok_or_else(|| refuse(format!("must end in a number from /0 to /{most}")))?;
        // An IPv4 network in IPv6 clothes.
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

/// An address, with or without port, IPv6 in brackets or bare.
fn node(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, 0));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address);
    }
    if let Some(inside) = text.strip_prefix('[') {
        let (address, port) = inside.split_once(']')?;
        let port = port.strip_prefix(':').map_or(port.is_empty(), is_obscure_port);
        return address.parse().ok().map(IpAddr::V6).filter(|_| port).map(|a| SocketAddr::new(a, 0));
    }
    let (address, port) = text.split_once(':')?;
    let address: Ipv4Addr = address.parse().ok()?;
    is_obscure_port(port).then(|| SocketAddr::new(address.into(), 0))
}

/// A name for a port that is not told (RFC 7239 §6.3).
fn is_obscure_port(port: &str) -> bool {
    port.strip_prefix('_').is_some_and(|name| !name.is_empty() && name.bytes().all(is_name))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// The `for` of each element of a line (RFC 7239 §4). Of a malformed line nothing can be believed.
fn forwarded(line: &str) -> Vec<Option<SocketAddr>> {
    let mut rest = line;
    let mut nodes = Vec::new();
    let mut current: Option<Option<SocketAddr>> = None;
    let mut is_empty = true;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        let Some(next) = rest.chars().next() else { break };
        match next {
            // An element without `for` is a hop of which nothing is known; an empty one is none.
            ',' => {
                if !std::mem::replace(&mut is_empty, true) {
                    nodes.push(current.take().flatten());
                }
                rest = &rest[1..];
            }
            ';' => rest = &rest[1..],
            _ => {
                let Some((key, value, after)) = pair(rest) else { return vec![None] };
                is_empty = false;
                if key.eq_ignore_ascii_case("for") {
                    if current.is_some() {
                        return vec![None];
                    }
                    current = Some(node(&value));
                }
                rest = after;
            }
        }
    }
    if !is_empty {
        nodes.push(current.flatten());
    }
    nodes
}

/// `token=token` or `token="quoted"`, up to a separator.
fn pair(text: &str) -> Option<(&str, String, &str)> {
    let (key, rest) = text.split_once('=')?;
    if key.is_empty() || !key.bytes().all(is_token) {
        return None;
    }
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => {
            let (mut value, mut chars) = (String::new(), quoted.char_indices());
            loop {
                match chars.next()? {
                    (at, '"') => break (value, &quoted[at + 1..]),
                    (_, '\\') => value.push(chars.next()?.1),
                    (_, c) => value.push(c),
                }
            }
        }
        None => {
            // Not only tokens: many write an IPv6 address or a port without quotes.
            let end = rest.find([',', ';', ' ', '\t', '"', '=']).unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        }
    };
    let rest = rest.trim_start_matches([' ', '\t']);
    (!value.is_empty() && (rest.is_empty() || rest.starts_with([',', ';']))).then_some((key, value, rest))
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;

//! Parsing of forwarding headers: `X-Forwarded-For` nodes and `Forwarded` (RFC 7239).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Parses an address with or without a port, IPv6 with or without brackets. Without a port, it is 0.
pub(super) fn parse_node(text: &str) -> Option<SocketAddr> {
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

/// A name that stands for a hidden port (RFC 7239 §6.3).
fn is_obscure_port(port: &str) -> bool {
    port.strip_prefix('_').is_some_and(|name| !name.is_empty() && name.bytes().all(is_name))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Parses a line of `Forwarded` into the `for` of each element (RFC 7239 §4). A malformed line becomes one node that
/// is not an address, because no part of it can be trusted.
pub(super) fn parse_forwarded(line: &str) -> Vec<Option<SocketAddr>> {
    let mut rest = line;
    let mut nodes = Vec::new();
    let mut current: Option<Option<SocketAddr>> = None;
    let mut is_empty = true;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        let Some(next) = rest.chars().next() else { break };
        match next {
            // An element without `for` is an unknown node; an empty element is not a node.
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
                    current = Some(parse_node(&value));
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

/// Parses `token=token` or `token="quoted"` up to a separator, and returns the rest.
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
            // Many proxies write IPv6 addresses and ports without quotes, so more than tokens is accepted.
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

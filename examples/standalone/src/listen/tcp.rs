//! TCP listeners on all addresses of a host.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, lookup_host};

use super::{BACKLOG, Listener};

/// All addresses of a host.
pub(super) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in lookup_host((host, port)).await? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Listens on the addresses of a host, except for those that this machine does not have, such as `::1` in a container
/// without IPv6. `all` are the addresses of all hosts.
pub(super) fn bind(addresses: &[SocketAddr], all: &[SocketAddr]) -> io::Result<Vec<Listener>> {
    let (mut listeners, mut missing) = (Vec::new(), None);
    for address in addresses {
        match bind_one(*address, all) {
            Ok(listener) => listeners.push(Listener::Tcp(listener)),
            Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
                return Err(error);
            }
            Err(error) => {
                tracing::warn!(%address, %error, "can't listen on one of the addresses");
                missing = Some(error);
            }
        }
    }
    match (listeners.is_empty(), missing) {
        (false, _) => Ok(listeners),
        (true, Some(error)) => Err(error),
        (true, None) => Err(io::Error::new(ErrorKind::NotFound, "the host has no address")),
    }
}

fn bind_one(address: SocketAddr, all: &[SocketAddr]) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server can bind the port while connections of the previous one are still in TIME_WAIT. On Windows
    // the option would allow others to take the port.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    if has_ipv4_beside_it(address, all) {
        SockRef::from(&socket).set_only_v6(true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Whether the address is `[::]`, which would include IPv4, and there is another listener for IPv4.
fn has_ipv4_beside_it(address: SocketAddr, all: &[SocketAddr]) -> bool {
    let is_all =
        |other: &SocketAddr| other.is_ipv4() && other.ip().is_unspecified() && other.port() == address.port();
    address.is_ipv6() && address.ip().is_unspecified() && all.iter().any(is_all)
}

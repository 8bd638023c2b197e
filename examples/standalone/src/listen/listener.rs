//! A listening socket of any kind, and what it accepts.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

#[cfg(unix)]
use super::unix::SocketFile;

/// The address of clients on unix sockets, which have none: they are on this machine.
#[cfg(unix)]
const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix {
        listener: UnixListener,
        /// Removed with the listener. None if systemd has created it.
        _file: Option<SocketFile>,
    },
}

/// An accepted connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Listener {
    /// Accepts a connection, and returns its client's address.
    pub(crate) async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        match self {
            Listener::Tcp(listener) => {
                listener.accept().await.map(|(stream, peer)| (Socket::Tcp(stream), peer))
            }
            #[cfg(unix)]
            Listener::Unix { listener, .. } => {
                listener.accept().await.map(|(stream, _)| (Socket::Unix(stream), LOCAL))
            }
        }
    }

    /// Whether only this machine can connect.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Listener::Tcp(listener) => listener.local_addr().is_ok_and(|address| address.ip().is_loopback()),
            #[cfg(unix)]
            Listener::Unix { .. } => true,
        }
    }

    /// The URL of a path on this listener, or the unix socket.
    pub(crate) fn url(&self, path: &str) -> String {
        match self {
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(address) => format!("http://{address}{path}"),
                Err(error) => error.to_string(),
            },
            #[cfg(unix)]
            Listener::Unix { listener, .. } => {
                let address = listener.local_addr().ok();
                let file = address.as_ref().and_then(|address| address.as_pathname());
                format!("unix:{}", file.map_or_else(|| "(unnamed)".into(), |file| file.display().to_string()))
            }
        }
    }
}

impl Socket {
    /// Sends a response, as far as the socket takes it immediately, and closes the connection.
    pub(crate) fn refuse(self, response: &[u8]) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => answer(stream.into_std()?, response),
            #[cfg(unix)]
            Socket::Unix(stream) => answer(stream.into_std()?, response),
        }
    }
}

/// The stream does not block.
fn answer(mut stream: impl Read + Write, response: &[u8]) -> io::Result<()> {
    // A connection that is closed with unread bytes is reset, and the client might not see the response.
    let _ = stream.read(&mut [0; 4096]);
    stream.write_all(response)
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url(""))
    }
}

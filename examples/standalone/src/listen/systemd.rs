//! Listening sockets from a systemd socket unit.

use std::io::{self, ErrorKind};

use listenfd::ListenFd;
use tokio::net::{TcpListener, UnixListener};

use super::Listener;

/// Takes all sockets that were passed to this process.
pub(super) fn take() -> io::Result<Vec<Listener>> {
    let mut sockets = ListenFd::from_env();
    if sockets.len() == 0 {
        let error =
            "no sockets were passed to this process (LISTEN_FDS); start it with a systemd socket unit";
        return Err(io::Error::new(ErrorKind::NotFound, error));
    }
    (0..sockets.len()).map(|n| listener(&mut sockets, n)).collect()
}

fn listener(sockets: &mut ListenFd, n: usize) -> io::Result<Listener> {
    // A socket of another kind is an error, and stays where it is.
    if let Ok(Some(listener)) = sockets.take_tcp_listener(n) {
        listener.set_nonblocking(true)?;
        return Ok(Listener::Tcp(TcpListener::from_std(listener)?));
    }
    if let Ok(Some(listener)) = sockets.take_unix_listener(n) {
        listener.set_nonblocking(true)?;
        return Ok(Listener::Unix { listener: UnixListener::from_std(listener)?, _file: None });
    }
    let error = format!("socket {n} is neither a TCP nor a unix stream socket (ListenStream=)");
    Err(io::Error::new(ErrorKind::InvalidInput, error))
}

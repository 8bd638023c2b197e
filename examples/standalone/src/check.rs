//! Asks whether a server answers, for health checks in a container that has no other program.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Time for each step. Those who want an answer sooner end this process.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Returns an error unless the server at this address answers a request. 404 is an answer, too, because the page may
/// have another path.
pub(crate) fn check(address: SocketAddr) -> Result<(), String> {
    match ask(address) {
        Ok(status) if status < 500 => Ok(()),
        Ok(status) => Err(format!("the server at {address} answers {status}")),
        Err(error) => Err(format!("no server answers at {address}: {error}")),
    }
}

/// Returns the status code.
fn ask(address: SocketAddr) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // In one piece, because a server may answer and close as soon as it has read a part of it.
    let request = format!("HEAD / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut start = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut start)?;
    let status = str::from_utf8(&start).ok().and_then(|start| start.strip_prefix("HTTP/1.1 "));
    let status = status.and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP/1.1"))
}

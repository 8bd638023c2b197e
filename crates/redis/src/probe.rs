//! Finds out what is at the address of a URL if Redis cannot be used there.

use std::time::Duration;

use redis::ConnectionAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::ConnectError;
use crate::servers::{Kind, Servers};

/// The time for one address.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Redis refuses this as a command, and HTTP servers refuse it as a request. It does not begin with an HTTP method such as
/// POST, because Redis then closes the connection and warns of an attack.
const QUESTION: &[u8] = b"PING / HTTP/1.0\r\n\r\n";

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Http,
    /// With the name of its master, if it has only one.
    Sentinel(Option<String>),
    /// Redis itself, or its mode is not known.
    Redis,
}

/// Returns a better error if an HTTP server or another kind of Redis is at one of the addresses.
pub(crate) async fn explain(servers: &Servers, error: ConnectError) -> ConnectError {
    for entry in servers.entries() {
        // With TLS, the error says what is wrong.
        let ConnectionAddr::Tcp(host, port) = entry.addr() else { continue };
        let Ok(Ok(found)) = timeout(TIMEOUT, look(host, *port)).await else { continue };
        // As in a URL.
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        match (found, servers.kind()) {
            (Found::Http, _) => {
                return ConnectError::settings(format!(
                    "{host}:{port} is an HTTP server, not Redis; check the port (6379 by default), and use a URL like \
                     `redis://{host}:6379`"
                ));
            }
            (Found::Sentinel(master), Kind::Single | Kind::Cluster) => {
                let master = master.unwrap_or_else(|| "master".to_owned());
                return ConnectError::settings(format!(
                    "{host}:{port} is a sentinel; use a URL like `redis+sentinel://{host}:{port}/{master}`, which \
                     ends with the name of the master"
                ));
            }
            (Found::Redis, Kind::Sentinel { .. }) if !error.is_temporary() => {
                return ConnectError::settings(format!(
                    "{host}:{port} is not a sentinel, but Redis itself; use a URL like `redis://{host}:{port}`, or the \
                     port of a sentinel (26379 by default)"
                ));
            }
            _ => {}
        }
    }
    error
}

async fn look(host: &str, port: u16) -> std::io::Result<Found> {
    let mut stream = TcpStream::connect((host, port)).await?;
    stream.write_all(QUESTION).await?;
    let answer = read(&mut stream).await?;
    if answer.starts_with("HTTP/") || answer.starts_with('<') {
        return Ok(Found::Http);
    }
    stream.write_all(b"INFO server\r\n").await?;
    if !read(&mut stream).await?.contains("redis_mode:sentinel") {
        return Ok(Found::Redis);
    }
    stream.write_all(b"SENTINEL MASTERS\r\n").await?;
    Ok(Found::Sentinel(only_master(&read(&mut stream).await?)))
}

/// Reads an answer, or the part of it that has arrived.
async fn read(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = vec![0; 16 * 1024];
    let length = stream.read(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

/// The name of the master, if a sentinel has listed only one.
fn only_master(answer: &str) -> Option<String> {
    let mut lines = answer.strip_prefix("*1\r\n")?.split("\r\n");
    let name = lines.by_ref().skip_while(|line| *line != "name").nth(2)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    Some(name.to_owned()).filter(|name| !name.is_empty() && name.chars().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_master_of_a_sentinel_is_named() {
        let fields = "*4\r\n$4\r\nname\r\n$4\r\nmain\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n";
        assert_eq!(only_master(&format!("*1\r\n{fields}")).as_deref(), Some("main"));
        for answer in
            [&format!("*2\r\n{fields}{fields}"), "*0\r\n", "-NOAUTH\r\n", "*1\r\n*2\r\n$4\r\nname\r\n$1\r\n"]
        {
            assert_eq!(only_master(answer), None, "{answer}");
        }
    }
}

//! The standalone from outside, over real sockets and signals.

#[cfg(all(unix, feature = "store"))]
#[path = "../support/load.rs"]
mod load;
#[cfg(all(unix, feature = "redis", feature = "store"))]
#[path = "../support/redis.rs"]
mod redis;
#[path = "../support/standalone.rs"]
mod standalone;

mod admin;
mod backlog;
mod check;
mod drain;
mod features;
#[cfg(unix)]
mod listening;
mod logs;
#[cfg(unix)]
mod open_files;
#[cfg(unix)]
mod probes;
mod shutdown;
mod sockets;
#[cfg(all(unix, feature = "store"))]
mod store;
#[cfg(all(unix, feature = "redis", feature = "store"))]
mod store_nodes;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::standalone::Standalone;

/// For what takes a moment, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a server says that does not start.
async fn fails(flags: &[&str]) -> String {
    let output = Standalone::command(flags).output().await.expect("it can be run");
    assert!(!output.status.success(), "{flags:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A connection that has sent these bytes.
async fn connect(server: &Standalone, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.expect("the server accepts");
    stream.write_all(bytes).await.expect("the server reads");
    stream
}

/// The head of a WebSocket handshake.
const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A connection whose handshake was answered, and the status of the answer; none if the server has closed it.
async fn try_upgrade(server: &Standalone) -> Option<(TcpStream, String)> {
    status(connect(server, UPGRADE).await).await
}

/// A connection that has sent a request, and the status of the answer; none if the server has closed it.
async fn status<S: AsyncRead + Unpin>(mut stream: S) -> Option<(S, String)> {
    let mut start = *b"HTTP/1.1 101";
    let answered = timeout(PATIENCE, stream.read_exact(&mut start)).await.expect("in time").is_ok();
    answered.then(|| (stream, String::from_utf8_lossy(&start["HTTP/1.1 ".len()..]).into_owned()))
}

/// A WebSocket whose client is silent. The server may still count a socket of this address that has just ended.
async fn upgrade(server: &Standalone) -> TcpStream {
    let answered = async {
        loop {
            if let Some(answered) = try_upgrade(server).await {
                return answered;
            }
        }
    };
    let (stream, status) = timeout(PATIENCE, answered).await.expect("the server accepts in time");
    assert_eq!(status, "101");
    stream
}

/// Reads until the server has closed the connection.
async fn until_closed(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    let closed = async { while let Ok(1..) = stream.read(&mut buffer).await {} };
    timeout(PATIENCE, closed).await.expect("the server closes the connection");
}

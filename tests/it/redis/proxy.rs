//! A proxy between a node and the server. It can hold or slow down one of the node's connections.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tower_chat_rooms::RedisSettings;

use super::Server;

/// The connections of a node, by the order in which it opens them.
pub(super) const COMMANDS: usize = 0;
pub(super) const SUBSCRIBER: usize = 1;

/// How many bytes pass a slow connection in each [`SLOW_TIME`], even on a machine with much other work.
const SLOW_BYTES: usize = 3072;
const SLOW_TIME: Duration = Duration::from_millis(10);

/// Passes the connections of a node on to the server.
pub(super) struct Proxy {
    socket: PathBuf,
    ways: Arc<Mutex<Vec<watch::Sender<Way>>>>,
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// What the server sends waits.
    Held,
    /// What the node sends passes slowly.
    Slow,
}

impl Proxy {
    pub(super) fn start(server: &Server, name: &str) -> Proxy {
        let (socket, target) = (server.directory.join(name), server.directory.join("socket"));
        let listener = UnixListener::bind(&socket).unwrap();
        let proxy = Proxy { socket, ways: Arc::default() };
        let ways = proxy.ways.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = UnixStream::connect(&target).await else { continue };
                let way = watch::Sender::new(Way::Open);
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pass_slowly(from_client, to_server, way.subscribe()));
                tokio::spawn(pass(from_server, to_client, way.subscribe()));
                ways.lock().unwrap().push(way);
            }
        });
        proxy
    }

    pub(super) fn settings(&self) -> RedisSettings {
        RedisSettings::new(format!("redis+unix://{}", self.socket.display()))
    }

    /// Whether what the server sends on a connection waits.
    pub(super) fn set_held(&self, connection: usize, is_held: bool) {
        self.set(connection, if is_held { Way::Held } else { Way::Open });
    }

    /// Slows down what the node sends on a connection from now on.
    pub(super) fn set_slow(&self, connection: usize) {
        self.set(connection, Way::Slow);
    }

    fn set(&self, connection: usize, way: Way) {
        self.ways.lock().unwrap()[connection].send_replace(way);
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut way: watch::Receiver<Way>,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        // An error says that it is not held any more, either.
        let _ = way.wait_for(|way| *way != Way::Held).await;
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

async fn pass_slowly(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    way: watch::Receiver<Way>,
) {
    let (mut buffer, mut slow_until) = ([0; SLOW_BYTES], Instant::now());
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        if *way.borrow() == Way::Slow {
            slow_until = slow_until.max(Instant::now() - 100 * SLOW_TIME) + SLOW_TIME;
            sleep_until(slow_until).await;
        }
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

//! A node's connections to the server, of which one can be held.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tower_chat_rooms::RedisSettings;

use super::Server;

/// The connections of a node, by the order in which it opens them.
pub(super) const COMMANDS: usize = 0;
pub(super) const SUBSCRIBER: usize = 1;

/// Passes the connections of a node on to the server.
pub(super) struct Proxy {
    socket: PathBuf,
    is_held: Arc<Mutex<Vec<watch::Sender<bool>>>>,
}

impl Proxy {
    pub(super) fn start(server: &Server, name: &str) -> Proxy {
        let (socket, target) = (server.directory.join(name), server.directory.join("socket"));
        let listener = UnixListener::bind(&socket).unwrap();
        let proxy = Proxy { socket, is_held: Arc::default() };
        let held = proxy.is_held.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = UnixStream::connect(&target).await else { continue };
                let is_held = watch::Sender::new(false);
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pass(from_client, to_server, watch::channel(false).1));
                tokio::spawn(pass(from_server, to_client, is_held.subscribe()));
                held.lock().unwrap().push(is_held);
            }
        });
        proxy
    }

    pub(super) fn settings(&self) -> RedisSettings {
        RedisSettings::new(format!("redis+unix://{}", self.socket.display()))
    }

    /// Whether what the server sends on a connection waits.
    pub(super) fn set_held(&self, connection: usize, is_held: bool) {
        self.is_held.lock().unwrap()[connection].send_replace(is_held);
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut is_held: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        // An error says that it is not held any more, either.
        let _ = is_held.wait_for(|is_held| !is_held).await;
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

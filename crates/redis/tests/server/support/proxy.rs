//! Connections that go wrong on their way.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Nothing arrives any more in either direction, but nobody is told.
    Dead,
    /// The same, but only for what the server sends.
    Mute,
    /// What arrives from now on is kept until the connection is open again, even if the client has gone.
    Held,
    /// The same, but only for what the server sends.
    Late,
    Closed,
}

/// Passes connections on to a server.
pub(crate) struct Proxy {
    socket: PathBuf,
    target: Arc<Mutex<PathBuf>>,
    connections: Arc<Mutex<Vec<watch::Sender<Way>>>>,
}

impl Proxy {
    /// A proxy with a socket in this directory.
    pub(crate) fn start(directory: &Path, target: PathBuf) -> Proxy {
        let socket = directory.join("proxy");
        let listener = UnixListener::bind(&socket).unwrap();
        let proxy = Proxy { socket, target: Arc::new(Mutex::new(target)), connections: Arc::default() };
        let (target, connections) = (proxy.target.clone(), proxy.connections.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let target = target.lock().unwrap().clone();
                let Ok(server) = UnixStream::connect(target).await else { continue };
                let way = watch::Sender::new(Way::Open);
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pass(
                    from_client,
                    to_server,
                    way.subscribe(),
                    &[Way::Open, Way::Mute, Way::Late],
                ));
                tokio::spawn(pass(from_server, to_client, way.subscribe(), &[Way::Open]));
                connections.lock().unwrap().push(way);
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }

    /// Leads new connections to another server.
    pub(crate) fn lead_to(&self, target: PathBuf) {
        *self.target.lock().unwrap() = target;
    }

    /// The number of connections that were opened so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// Changes what happens to a connection, by the order in which they were opened.
    pub(crate) fn set(&self, connection: usize, way: Way) {
        self.connections.lock().unwrap()[connection].send_replace(way);
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut way: watch::Receiver<Way>,
    open: &'static [Way],
) {
    let mut until_closed = way.clone();
    let pass = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(len @ 1..) = from.read(&mut buffer).await {
            let is_passing = |way: &Way| !matches!(way, Way::Held | Way::Late) || open.contains(way);
            let Ok(way) = way.wait_for(is_passing).await.map(|way| *way) else { return };
            let is_open = open.contains(&way);
            if is_open && to.write_all(&buffer[..len]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = pass => {}
        _ = until_closed.wait_for(|way| *way == Way::Closed) => {}
    }
}

//! Connections that go wrong on their way.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

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
    /// Everything passes, but slowly.
    Slow,
    Closed,
}

/// How many bytes pass a slow connection in each [`SLOW_TIME`], even on a machine with much other work.
const SLOW_BYTES: usize = 5120;
const SLOW_TIME: Duration = Duration::from_millis(10);

/// Passes connections on to a server.
pub(crate) struct Proxy {
    socket: PathBuf,
    target: Arc<Mutex<PathBuf>>,
    connections: Arc<Mutex<Vec<watch::Sender<Way>>>>,
    triggers: Triggers,
}

type Triggers = Arc<Mutex<Vec<Trigger>>>;

/// A text that a client may send, and what then happens to its connection.
struct Trigger {
    text: String,
    way: Way,
    /// Gets the number of the connection.
    sent: oneshot::Sender<usize>,
}

impl Proxy {
    /// A proxy with a socket in this directory.
    pub(crate) fn start(directory: &Path, target: PathBuf) -> Proxy {
        let socket = directory.join("proxy");
        let listener = UnixListener::bind(&socket).unwrap();
        let target = Arc::new(Mutex::new(target));
        let proxy = Proxy { socket, target, connections: Arc::default(), triggers: Triggers::default() };
        let (target, connections) = (proxy.target.clone(), proxy.connections.clone());
        let triggers = proxy.triggers.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let target = target.lock().unwrap().clone();
                let Ok(server) = UnixStream::connect(target).await else { continue };
                let way = watch::Sender::new(Way::Open);
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let mut connections = connections.lock().unwrap();
                let (number, from_here, triggers) = (connections.len(), way.clone(), triggers.clone());
                let look = move |sent: &[u8]| {
                    let is_sent = |trigger: &mut Trigger| contains(sent, trigger.text.as_bytes());
                    for trigger in triggers.lock().unwrap().extract_if(.., is_sent) {
                        from_here.send_replace(trigger.way);
                        let _ = trigger.sent.send(number);
                    }
                };
                let open = &[Way::Open, Way::Slow, Way::Mute, Way::Late];
                tokio::spawn(pass(from_client, to_server, way.subscribe(), open, look));
                tokio::spawn(pass(from_server, to_client, way.subscribe(), &[Way::Open, Way::Slow], |_| ()));
                connections.push(way);
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

    /// As soon as a client sends this text on a connection, changes what happens to this connection. The receiver gets its
    /// number.
    pub(crate) fn set_when_sent(&self, text: impl Into<String>, way: Way) -> oneshot::Receiver<usize> {
        let (sent, is_sent) = oneshot::channel();
        self.triggers.lock().unwrap().push(Trigger { text: text.into(), way, sent });
        is_sent
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
    mut look: impl FnMut(&[u8]),
) {
    let mut until_closed = way.clone();
    let pass = async {
        let (mut buffer, mut slow_until) = (vec![0; 1 << 16], Instant::now());
        while let Ok(len @ 1..) = from.read(&mut buffer).await {
            look(&buffer[..len]);
            let is_passing = |way: &Way| !matches!(way, Way::Held | Way::Late) || open.contains(way);
            let Ok(way) = way.wait_for(is_passing).await.map(|way| *way) else { return };
            if !open.contains(&way) {
                continue;
            }
            let at_once = if way == Way::Slow { SLOW_BYTES } else { buffer.len() };
            for part in buffer[..len].chunks(at_once) {
                if way == Way::Slow {
                    slow_until = slow_until.max(Instant::now() - 100 * SLOW_TIME) + SLOW_TIME;
                    sleep_until(slow_until).await;
                }
                if to.write_all(part).await.is_err() {
                    return;
                }
            }
        }
    };
    tokio::select! {
        () = pass => {}
        _ = until_closed.wait_for(|way| *way == Way::Closed) => {}
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

//! A network that breaks: each client has one of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::random::Random;

/// The maximum number of bytes in flight in each direction.
const CAPACITY: usize = 16 * 1024;

/// The longest time between two faults, and the longest fault. The second is longer than the server's resume window and
/// than the heartbeat's timeout.
const LONGEST_PAUSE: Duration = Duration::from_secs(6);
const LONGEST_FAULT: Duration = Duration::from_secs(14);

/// Most faults are shorter than this.
const USUAL_FAULT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Good,
    /// Nothing gets through, and neither end notices.
    Silent,
    /// Connections break, and new ones are refused.
    Down,
}

#[derive(Clone)]
pub(crate) struct Network {
    server: SocketAddr,
    condition: Arc<watch::Sender<Condition>>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Network {
    pub(crate) fn new(server: SocketAddr) -> Network {
        let condition = Arc::new(watch::Sender::new(Condition::Good));
        Network { server, condition, connections: Arc::default() }
    }

    /// Opens a connection to the server.
    pub(crate) async fn dial(self) -> io::Result<DuplexStream> {
        let mut condition = self.condition.subscribe();
        if *condition.borrow() == Condition::Down {
            return Err(io::Error::other("the network is down"));
        }
        // A silent network also swallows the beginning of a connection.
        let _ = condition.wait_for(|condition| *condition == Condition::Good).await;
        let far = TcpStream::connect(self.server).await?;
        let (near, ours) = duplex(CAPACITY);
        let relay = tokio::spawn(async move {
            let ((near_read, near_write), (far_read, far_write)) = (split(near), far.into_split());
            let other = condition.clone();
            tokio::select! {
                () = relay(near_read, far_write, condition) => {}
                () = relay(far_read, near_write, other) => {}
            }
        });
        let mut connections = lock(&self.connections);
        connections.retain(|connection| !connection.is_finished());
        connections.push(relay.abort_handle());
        Ok(ours)
    }

    /// Breaks from time to time, until it is dropped.
    pub(crate) async fn flap(&self, mut random: Random) {
        loop {
            sleep(random.time(LONGEST_PAUSE)).await;
            let longest = if random.below(8) == 0 { LONGEST_FAULT } else { USUAL_FAULT };
            match random.below(3) {
                0 => {
                    self.condition.send_replace(Condition::Silent);
                    sleep(random.time(longest)).await;
                    // Half of the connections survive the silence.
                    if random.below(2) == 0 {
                        self.cut();
                    }
                }
                1 => {
                    self.condition.send_replace(Condition::Down);
                    self.cut();
                    sleep(random.time(longest)).await;
                }
                _ => self.cut(),
            }
            self.mend();
        }
    }

    fn cut(&self) {
        lock(&self.connections).drain(..).for_each(|connection| connection.abort());
    }

    pub(crate) fn mend(&self) {
        self.condition.send_replace(Condition::Good);
    }
}

async fn relay(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut condition: watch::Receiver<Condition>,
) {
    let mut bytes = vec![0; CAPACITY];
    while let Ok(len @ 1..) = from.read(&mut bytes).await {
        // The guard of the condition must not be held while writing.
        let heard = condition.wait_for(|condition| *condition != Condition::Silent).await.is_ok();
        if !heard || to.write_all(&bytes[..len]).await.is_err() {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

//! A network that breaks.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::io::{copy_bidirectional, duplex, split};
use tokio::net::{TcpListener, TcpStream};
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

/// What happens to the connections of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Everything gets through.
    Good,
    /// Nothing gets through, and neither end notices.
    Silent,
    /// Connections break, and new ones are refused.
    Down,
}

/// The way to a server. Each client has one of its own.
#[derive(Debug, Clone)]
pub struct Network {
    server: SocketAddr,
    condition: Arc<watch::Sender<Condition>>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Network {
    /// A network that works.
    pub fn new(server: SocketAddr) -> Network {
        let condition = Arc::new(watch::Sender::new(Condition::Good));
        Network { server, condition, connections: Arc::default() }
    }

    /// Opens a connection to the server.
    pub async fn dial(self) -> io::Result<DuplexStream> {
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

    /// Listens on an address from which connections lead to the server through this network.
    ///
    /// # Errors
    ///
    /// If there is no free port.
    pub async fn listen(&self) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, network) = (listener.local_addr()?, self.clone());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let network = network.clone();
                tokio::spawn(async move {
                    let Ok(mut far) = network.dial().await else { return };
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Ok(address)
    }

    /// Breaks from time to time, until it is dropped.
    pub async fn flap(&self, mut random: Random) {
        loop {
            sleep(random.time(LONGEST_PAUSE)).await;
            let longest = if random.below(8) == 0 { LONGEST_FAULT } else { USUAL_FAULT };
            match random.below(3) {
                0 => {
                    self.set(Condition::Silent);
                    sleep(random.time(longest)).await;
                    // Half of the connections survive the silence.
                    if random.below(2) == 0 {
                        self.cut();
                    }
                }
                1 => {
                    self.set(Condition::Down);
                    sleep(random.time(longest)).await;
                }
                _ => self.cut(),
            }
            self.mend();
        }
    }

    /// Breaks all connections. New ones can be opened.
    pub fn cut(&self) {
        lock(&self.connections).drain(..).for_each(|connection| connection.abort());
    }

    /// Changes the condition.
    pub fn set(&self, condition: Condition) {
        self.condition.send_replace(condition);
        if condition == Condition::Down {
            self.cut();
        }
    }

    /// Lets it work again.
    pub fn mend(&self) {
        self.set(Condition::Good);
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

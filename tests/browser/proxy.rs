//! A bad network: a TCP proxy that cuts, delays, falls silent and is down when it is told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

/// Ends with its last handle; so do its connections.
pub(crate) struct Proxy {
    address: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
}

/// How the network is. Connections of an earlier generation are cut, or silent for good.
#[derive(Clone, Copy, Default)]
struct Weather {
    cut_before: u64,
    silent_before: u64,
    generation: u64,
    delay: Duration,
    is_down: bool,
}

impl Proxy {
    /// On a port of its own, in front of this server.
    pub(crate) async fn start(upstream: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let weather = Arc::new(watch::Sender::new(Weather::default()));
        tokio::spawn(accept(listener, upstream, weather.subscribe()));
        Proxy { address, weather }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection that there is.
    pub(crate) fn cut(&self) {
        self.change(|weather| weather.cut_before = weather.generation);
    }

    /// From now on every connection that there is swallows what it is given, both ways, and stays
    /// open: the ends are left to find out.
    pub(crate) fn silence(&self) {
        self.change(|weather| weather.silent_before = weather.generation);
    }

    /// From now on everything takes so much longer.
    pub(crate) fn delay(&self, delay: Duration) {
        self.change(|weather| weather.delay = delay);
    }

    /// Cuts every connection, and new ones too, until it is up again.
    pub(crate) fn down(&self) {
        self.change(|weather| {
            weather.cut_before = weather.generation;
            weather.is_down = true;
        });
    }

    pub(crate) fn up(&self) {
        self.change(|weather| weather.is_down = false);
    }

    fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.weather.send_modify(|weather| {
            weather.generation += 1;
            change(weather);
        });
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, mut weather: watch::Receiver<Weather>) {
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let now = *weather.borrow_and_update();
                if !now.is_down {
                    tokio::spawn(carry(client, upstream, weather.clone(), now.generation));
                }
            }
            // An error means that the last handle is gone.
            changed = weather.changed() => if changed.is_err() { return },
        }
    }
}

/// Carries both ways until either end closes, or the connection is cut.
async fn carry(client: TcpStream, upstream: SocketAddr, mut weather: watch::Receiver<Weather>, born: u64) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (there, back) = (weather.clone(), weather.clone());
    tokio::select! {
        _ = async {
            tokio::join!(
                pass_on(from_client, to_server, there, born),
                pass_on(from_server, to_client, back, born),
            )
        } => {}
        _ = weather.wait_for(|now| now.cut_before > born) => {}
    }
}

async fn pass_on(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    weather: watch::Receiver<Weather>,
    born: u64,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let arrived = Instant::now();
        let now = *weather.borrow();
        tokio::time::sleep_until(arrived + now.delay).await;
        let is_silent = weather.borrow().silent_before > born;
        if !is_silent && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    if weather.borrow().silent_before > born {
        // Not even the end is passed on.
        std::future::pending::<()>().await;
    }
}

//! A proxy that resets connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flaps::Random;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::Options;
use crate::event::{Event, What};

/// When connections are cut.
#[derive(Debug)]
pub(crate) struct Plan {
    random: Random,
    shortest: Duration,
    /// The difference between the longest and the shortest time.
    spread: Duration,
    cuts: usize,
    /// How long the server does not notice a cut.
    unnoticed: Duration,
}

/// The proxy of one client.
#[derive(Debug, Clone)]
pub(crate) struct Cutter {
    client: usize,
    server: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    started: watch::Receiver<bool>,
    report: mpsc::UnboundedSender<Event>,
}

impl Plan {
    pub(crate) fn new(options: &Options, client: usize) -> Plan {
        let seed = options.seed.wrapping_mul(1_000_003).wrapping_add(client as u64);
        Plan {
            random: Random::new(seed),
            shortest: options.shortest,
            spread: options.longest - options.shortest,
            cuts: options.cuts,
            unnoticed: options.unnoticed,
        }
    }

    /// The time after which the next connection is cut.
    fn time(&mut self) -> Duration {
        self.shortest + self.random.time(self.spread)
    }

    /// Takes the next cut, if there is another one. Returns how long the server does not notice it.
    fn take(&mut self) -> Option<Duration> {
        self.cuts = self.cuts.checked_sub(1)?;
        Some(self.unnoticed)
    }
}

impl Cutter {
    /// A proxy that cuts connections once it is started.
    pub(crate) fn new(
        client: usize,
        server: SocketAddr,
        plan: Plan,
        started: watch::Receiver<bool>,
        report: mpsc::UnboundedSender<Event>,
    ) -> Cutter {
        Cutter { client, server, plan: Arc::new(Mutex::new(plan)), started, report }
    }

    /// The address for the client.
    pub(crate) async fn listen(self) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (cutter, time) = (self.clone(), self.plan(Plan::time));
                tokio::spawn(cutter.relay(near, time));
            }
        });
        Ok(address)
    }

    async fn relay(self, mut near: TcpStream, time: Duration) -> io::Result<()> {
        let mut far = TcpStream::connect(self.server).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let mut started = self.started.clone();
        let due = async {
            let _ = started.wait_for(|started| *started).await;
            sleep(time).await;
            self.plan(Plan::take)
        };
        let cut = {
            let relaying = copy_bidirectional(&mut near, &mut far);
            tokio::pin!(relaying);
            tokio::select! {
                _ = &mut relaying => return Ok(()),
                cut = due => match cut {
                    Some(unnoticed) => unnoticed,
                    None => return relaying.await.map(drop),
                }
            }
        };
        // With this option, closing resets the connection, and data that was not delivered is lost.
        near.set_zero_linger()?;
        drop(near);
        let _ = self.report.send(Event::now(self.client, What::Cut));
        sleep(cut).await;
        far.set_zero_linger()
    }

    fn plan<T>(&self, take: impl FnOnce(&mut Plan) -> T) -> T {
        take(&mut self.plan.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    async fn cutter(arguments: &[&str]) -> (TcpListener, SocketAddr, mpsc::UnboundedReceiver<Event>) {
        let options = Options::parse_from([&["cuts"], arguments].concat());
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (report, events) = mpsc::unbounded_channel();
        let (_, started) = watch::channel(true);
        let plan = Plan::new(&options, 7);
        let cutter = Cutter::new(7, server.local_addr().unwrap(), plan, started, report);
        let address = cutter.listen().await.unwrap();
        (server, address, events)
    }

    #[tokio::test]
    async fn both_ends_of_a_cut_connection_are_reset() {
        let (server, address, mut events) = cutter(&["--cuts=1", "--shortest=1ms", "--longest=1ms"]).await;
        let mut near = TcpStream::connect(address).await.unwrap();
        let (mut far, _) = server.accept().await.unwrap();
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(far.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let event = events.recv().await.unwrap();
        assert_eq!((event.client, event.what), (7, What::Cut));
    }

    #[tokio::test]
    async fn after_the_last_cut_connections_stay() {
        let (server, address, mut events) = cutter(&["--cuts=0", "--shortest=1ms", "--longest=1ms"]).await;
        let mut near = TcpStream::connect(address).await.unwrap();
        let (mut far, _) = server.accept().await.unwrap();
        for byte in 0..5 {
            sleep(Duration::from_millis(2)).await;
            near.write_u8(byte).await.unwrap();
            assert_eq!(far.read_u8().await.unwrap(), byte);
        }
        assert!(events.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_server_may_notice_later() {
        let arguments = ["--cuts=1", "--shortest=1ms", "--longest=1ms", "--unnoticed=1h"];
        let (server, address, mut events) = cutter(&arguments).await;
        let mut near = TcpStream::connect(address).await.unwrap();
        let (mut far, _) = server.accept().await.unwrap();
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        events.recv().await.unwrap();
        timeout(Duration::from_millis(20), far.read_u8()).await.expect_err("the server's end is open");
    }

    #[test]
    fn a_seed_gives_the_same_times() {
        let times = |seed: &str, client| {
            let mut plan = Plan::new(&Options::parse_from(["cuts", "--seed", seed]), client);
            std::array::from_fn::<_, 20, _>(|_| plan.time())
        };
        assert_eq!(times("1", 3), times("1", 3));
        assert_ne!(times("1", 3), times("1", 4));
        assert_ne!(times("1", 3), times("2", 3));
        assert!(times("1", 3).iter().all(|time| (10..=20).contains(&time.as_secs())));
    }
}

//! Drains a server that has thousands of clients, and checks that each of them resumes its session on another one, that
//! no member sees another one leave, and that no message is lost:
//!
//! ```sh
//! cargo build --release -p standalone --features standalone/redis
//! cargo run --release -p drain
//! ```
//!
//! It starts Redis and two standalone servers. The clients are those of `tower-chat-rooms-client`. All of them connect to
//! the first server, which then gets SIGTERM. With `-- --url ws://127.0.0.1:8080/`, it instead watches servers that you
//! replace meanwhile, for example those of `examples/cluster/run`. If there is a fault, the exit code is 1.

mod client;
mod report;
mod servers;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tower_chat_rooms_client::{Client, ClientBuilder};

use crate::client::{Room, Watched, watch};
use crate::report::Report;
use crate::servers::Servers;

type Failure = Box<dyn Error + Send + Sync>;

/// Clients that connect at the same time in the beginning.
const CONNECTING: usize = 64;

/// How long messages, and clients that reconnect, may be on their way at the end.
const REST: Duration = Duration::from_secs(20);

/// Drains a server, and checks that its clients lose nothing.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Number of clients
    #[arg(long, default_value_t = 10_000)]
    clients: usize,

    /// Members of a room. One of them sends messages
    #[arg(long, default_value_t = 20)]
    members: usize,

    /// Time between two messages of a room
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pause: Duration,

    /// Time over which connections are closed
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    over: Duration,

    /// Time before the first of them is closed
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    ready_delay: Duration,

    /// Servers to watch, instead of starting some
    #[arg(long)]
    url: Option<String>,

    /// How long to watch them
    #[arg(long, default_value = "1m", value_parser = humantime::parse_duration)]
    watch: Duration,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let options = Options::parse();
    let faults = match options.url.clone() {
        Some(url) => {
            let clients = Clients::connect(&options, move || Client::connect(url.clone())).await?;
            println!("{} clients are connected; replace the servers now", options.clients);
            let begun = Instant::now();
            sleep(options.watch).await;
            clients.end(begun).await
        }
        None => drain(&options).await?,
    };
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn drain(options: &Options) -> Result<usize, Failure> {
    let mut servers = Servers::start(options).await?;
    let (addresses, current) = (servers.addresses(), Arc::new(AtomicUsize::new(0)));
    let balancer = current.clone();
    let builder = move || {
        let current = balancer.clone();
        Client::over("ws://127.0.0.1/", move || {
            TcpStream::connect(addresses[current.load(Ordering::Relaxed)])
        })
    };
    let clients = Clients::connect(options, builder).await?;
    println!("{} clients are connected to one server, which is drained now", options.clients);
    let begun = Instant::now();
    servers.stop_first().await?;
    // As a load balancer that learns of it during the delay.
    sleep(options.ready_delay / 2).await;
    current.store(1, Ordering::Relaxed);
    servers.first_has_ended().await?;
    println!("the server has ended after {:.1?}", begun.elapsed());
    let faults = clients.end(begun).await;
    servers.end().await?;
    Ok(faults)
}

/// A client that has entered its room.
struct Connected {
    client: Client,
    watched: Arc<Watched>,
    /// If it sends messages: the time between two of them.
    sends: Option<Duration>,
}

/// All clients, in their rooms.
struct Clients {
    rooms: Vec<Arc<Room>>,
    watched: Vec<Arc<Watched>>,
    tasks: JoinSet<()>,
}

impl Clients {
    async fn connect(options: &Options, builder: impl Fn() -> ClientBuilder) -> Result<Clients, Failure> {
        let begun = Instant::now();
        let (mut rooms, mut watched, mut tasks) = (Vec::new(), Vec::new(), JoinSet::new());
        let mut connecting = JoinSet::new();
        for n in 0..options.clients {
            if n % options.members == 0 {
                rooms.push(Arc::new(Room::default()));
            }
            if connecting.len() >= CONNECTING {
                Clients::add(&mut connecting, &mut tasks).await?;
            }
            let room = rooms.len() - 1;
            let (client, of_client) = (Arc::new(Watched::new(rooms[room].clone())), builder());
            watched.push(client.clone());
            let sends = (n % options.members == 0).then_some(options.pause);
            connecting.spawn(async move {
                let opened = of_client.room(format!("room {room}")).name(format!("n{n}")).open().await?;
                Ok(Connected { client: opened, watched: client, sends })
            });
        }
        while !connecting.is_empty() {
            Clients::add(&mut connecting, &mut tasks).await?;
        }
        println!("connected in {:.1?}", begun.elapsed());
        // The last enters are on their way.
        sleep(Duration::from_secs(2)).await;
        watched.iter().for_each(|client| client.begin());
        Ok(Clients { rooms, watched, tasks })
    }

    /// Adds a client that has entered its room.
    async fn add(
        connecting: &mut JoinSet<Result<Connected, Failure>>,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), Failure> {
        let Some(connected) = connecting.join_next().await else { return Ok(()) };
        let Connected { client, watched, sends } = connected??;
        tasks.spawn(watch(client, watched, sends));
        Ok(())
    }

    /// Waits until all are back and have all messages, and reports. Returns the number of faults.
    async fn end(mut self, begun: Instant) -> usize {
        self.rooms.iter().for_each(|room| room.end());
        let until = Instant::now() + REST;
        while Instant::now() < until && !self.watched.iter().all(|client| client.is_done()) {
            sleep(Duration::from_millis(100)).await;
        }
        let report = Report::of(&self.rooms, &self.watched, begun);
        println!("{report}");
        self.tasks.shutdown().await;
        report.faults()
    }
}

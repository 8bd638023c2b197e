//! Cuts the connections of clients again and again while messages are sent, and counts the messages that they miss, get
//! twice or get out of order:
//!
//! ```sh
//! cargo build --release -p standalone
//! cargo run --release -p cuts             # tower-chat-rooms-client
//! cargo run --release -p cuts -- --js     # the browser client, in Node 20 or later
//! ```
//!
//! All clients are in one room with another member, which sends the messages and whose connection is never cut. Each
//! client connects through a proxy of its own, which resets a connection after a random time. If a message is missing,
//! duplicated or out of order, the exit code is 1.
//!
//! You can measure other servers in the same way: `--server` starts another server, and `--program` starts a program with
//! its clients. The arguments of this program are the address for the sender, and one address for each of the other
//! clients. It sends a message for each line `send NUMBER` that it reads, and writes these lines:
//!
//! * `entered CLIENT resumed` or `entered CLIENT new` when a client has entered the room, for the first time or again;
//! * `got CLIENT NUMBER` when a client has received a message;
//! * any other line, which is printed.

mod clients;
mod cutter;
mod event;
mod report;
mod server;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use flaps::Random;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::clients::Clients;
use crate::cutter::{Cutter, Plan};
use crate::event::Event;
use crate::report::Report;
use crate::server::Server;

type Failure = Box<dyn Error + Send + Sync>;

/// The shortest and the longest time between two messages, in milliseconds.
const PAUSE: [u64; 2] = [20, 50];

/// How long anything may take, even on a machine with much other work.
const PATIENCE: Duration = Duration::from_secs(60);

/// Messages that are sent after the last client has come back.
const AFTERWARDS: u64 = 20;

/// Cuts the connections of clients again and again, and counts the messages that they miss.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Number of clients whose connections are cut
    #[arg(long, default_value_t = 20)]
    clients: usize,

    /// How often each of them is cut
    #[arg(long, default_value_t = 50)]
    cuts: usize,

    /// Shortest time after which a connection is cut
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    shortest: Duration,

    /// Longest time after which a connection is cut
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    longest: Duration,

    /// How long the server does not notice a cut
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    unnoticed: Duration,

    /// Seed of the times between two cuts
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Use the browser client in Node instead of tower-chat-rooms-client
    #[arg(long)]
    js: bool,

    /// Command that starts the server, with `{address}` for its address and `{port}` for its port [default: the standalone
    /// server with its default settings]
    #[arg(long, value_name = "COMMAND")]
    server: Option<String>,

    /// Command that starts other clients
    #[arg(long, value_name = "COMMAND", conflicts_with = "js")]
    program: Option<String>,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let options = Options::parse();
    if options.shortest > options.longest {
        return Err("--shortest is longer than --longest".into());
    }
    let server = Server::start(options.server.as_deref()).await?;
    let (report, events) = mpsc::unbounded_channel();
    let (start, started) = watch::channel(false);
    let mut addresses = Vec::new();
    for client in 0..options.clients {
        let plan = Plan::new(&options, client);
        let cutter = Cutter::new(client, server.address(), plan, started.clone(), report.clone());
        addresses.push(cutter.listen().await?);
    }
    let clients = match program(&options) {
        Some(program) => Clients::of_program(&program, server.address(), &addresses, report)?,
        None => Clients::of_crate(server.address(), addresses, report).await?,
    };
    let faults = Run { options, clients, events, report: Report::default(), start }.run().await?;
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The command that starts the clients, unless they are those of the crate.
fn program(options: &Options) -> Option<String> {
    let script = || {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients.mjs");
        // Node has a WebSocket without this flag since version 22.
        format!("node --experimental-websocket --no-warnings {}", script.display())
    };
    options.program.clone().or_else(|| options.js.then(script))
}

struct Run {
    options: Options,
    clients: Clients,
    events: mpsc::UnboundedReceiver<Event>,
    report: Report,
    start: watch::Sender<bool>,
}

impl Run {
    /// Returns the number of faults.
    async fn run(mut self) -> Result<usize, Failure> {
        let clients = self.options.clients;
        let entering = async {
            while self.report.in_room() < clients {
                self.report.note(self.events.recv().await.ok_or("all clients have ended")?);
            }
            Ok::<(), Failure>(())
        };
        timeout(PATIENCE, entering).await.map_err(|_| "not all clients have entered")??;
        let begun = Instant::now();
        self.start.send_replace(true);
        let cuts = clients * self.options.cuts;
        let mut random = Random::new(self.options.seed);
        // The number of the sender's last message, once it is known.
        let (mut sent, mut last) = (0, u64::MAX);
        while sent < last {
            sent += 1;
            self.clients.send(sent).await?;
            let pause = Duration::from_millis(PAUSE[0] + random.below(PAUSE[1] - PAUSE[0] + 1));
            let until = Instant::now() + pause;
            while let Ok(event) = timeout_at(until, self.events.recv()).await {
                self.report.note(event.ok_or("all clients have ended")?);
            }
            if last == u64::MAX && self.report.cuts() == cuts && self.report.in_room() == clients {
                last = sent + AFTERWARDS;
            }
            if sent % 500 == 0 {
                println!("after {:>4.0?}: {}", begun.elapsed(), self.report.progress(cuts));
            }
        }
        // Until everything has arrived, or nothing arrives for a while.
        while !self.report.is_complete(sent, clients) {
            let Ok(Some(event)) = timeout(PATIENCE / 4, self.events.recv()).await else { break };
            self.report.note(event);
        }
        // Duplicates would arrive now.
        sleep(Duration::from_secs(1)).await;
        while let Ok(event) = self.events.try_recv() {
            self.report.note(event);
        }
        Ok(self.report.print(sent, clients, begun.elapsed()))
    }
}

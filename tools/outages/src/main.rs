//! Breaks three nodes, their Redis and all networks at random, and checks that no message is lost, that all clients see
//! the same, and that nothing is left behind: `cargo run -p outages`. This takes ten minutes, or less with
//! `-- --duration 1m`. You need Redis and HAProxy.
//!
//! The nodes are processes, which are killed and stopped. So is Redis, which also loses its data sometimes. Clients of
//! both protocols connect through HAProxy, over networks that break. After each round, everything works for a while,
//! and everything is compared (see `check.rs`): what all clients have received, what was acknowledged to them, what they
//! and the nodes know of the members. At the end all clients leave, the nodes end, and Redis must be empty. If there is
//! a fault, the exit code is 1, and the folder with all logs is kept.
//!
//! A client that comes back soon after it has lost its connection must be the same member as before, unless Redis has lost
//! its data, or nodes were cut off for so long that the others have removed their members. Frames may be missed only with a
//! restart of Redis. Each direct message that was acknowledged arrives once, or the recipient learns that it may have missed
//! some. The callbacks of all nodes together balance, with the exceptions that `ChatRoomsBuilder::broker` names.

mod check;
mod cluster;
mod faults;
mod node;
mod plain;
mod process;
mod redis_server;
mod room_log;
mod stay;
mod wanderer;

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};
use flaps::Random;
use tokio::signal::ctrl_c;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::check::{Checker, Expected, Unbalanced};
use crate::cluster::Cluster;
use crate::faults::{Faults, Menu};
use crate::plain::PlainClient;
use crate::wanderer::{Results, Wanderer};

type Failure = Box<dyn Error + Send + Sync>;

/// The number of rooms.
const ROOMS: usize = 6;

/// The room that only counts its members.
const COUNT_ROOM: usize = 0;

/// What a node may use at most, in KiB.
const MAX_MEMORY: u64 = 400 * 1024;

/// How long the rest of a run may take until the nodes know that all clients have left: longer than a heartbeat and the
/// resume window together.
const EMPTY_WITHIN: Duration = Duration::from_secs(30);

/// Breaks three nodes, their Redis and all networks at random, and checks that nothing is lost.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    #[command(flatten)]
    run: Run,

    #[command(subcommand)]
    program: Option<Program>,
}

#[derive(Debug, Subcommand)]
enum Program {
    /// What the run starts: one node
    #[command(hide = true)]
    Node(node::NodeOptions),
}

#[derive(Debug, Args)]
struct Run {
    /// Duration of the run
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    duration: Duration,

    /// Time between two checks
    #[arg(long, default_value = "45s", value_parser = humantime::parse_duration)]
    round: Duration,

    /// Number of clients that speak chat-rooms.v1
    #[arg(long, default_value_t = 24)]
    clients: u64,

    /// Number of plain clients
    #[arg(long, default_value_t = 5)]
    plain: u64,

    /// What all random choices depend on [default: random]
    #[arg(long)]
    seed: Option<u64>,

    /// How long a node that is gone keeps its members
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    lease: Duration,

    /// The longest time for which a node is stopped
    #[arg(long, default_value = "15s", value_parser = humantime::parse_duration)]
    longest_freeze: Duration,

    /// The longest time for which Redis is stopped
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    longest_redis_freeze: Duration,

    /// The longest time between two faults of a node
    #[arg(long, default_value = "6s", value_parser = humantime::parse_duration)]
    longest_pause: Duration,

    /// Redis keeps its data when it is started again
    #[arg(long)]
    keep_data: bool,

    /// Nodes are stopped and cut off, but never killed
    #[arg(long)]
    no_kills: bool,

    /// Clients need not resume their sessions, and may miss frames
    #[arg(long)]
    lenient: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let options = Options::parse();
    if let Some(Program::Node(options)) = options.program {
        return node::run(options).await.map(|()| ExitCode::SUCCESS);
    }
    let run = options.run;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = run.seed.unwrap_or(now.as_millis() as u64 % 1_000_000);
    let folder = std::env::temp_dir().join(format!("outages-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    println!("seed {seed}, logs in {}", folder.display());
    let faults = tokio::select! {
        faults = run.run(seed, &folder) => faults?,
        _ = ctrl_c() => return Ok(ExitCode::FAILURE),
    };
    if faults > 0 {
        println!("{faults} faults with the seed {seed}; the logs are in {}", folder.display());
        return Ok(ExitCode::FAILURE);
    }
    std::fs::remove_dir_all(&folder)?;
    println!("nothing is lost");
    Ok(ExitCode::SUCCESS)
}

impl Run {
    /// Returns the number of faults.
    async fn run(&self, seed: u64, folder: &Path) -> Result<usize, Failure> {
        let mut random = Random::new(seed);
        let cluster = Arc::new(Cluster::start(folder, 3, self.lease).await?);
        let mut wanderers = Vec::new();
        for n in 0..self.clients {
            let seed = random.below(u64::MAX);
            wanderers.push(Wanderer::new(n, self.clients, cluster.address, seed).await?);
        }
        let plain: Vec<PlainClient> = (0..self.plain)
            .map(|n| {
                let room = COUNT_ROOM + 1 + n as usize % (ROOMS - 1);
                PlainClient::start(n, room, cluster.address, random.below(u64::MAX))
            })
            .collect();
        let menu = Menu {
            loses_data: !self.keep_data,
            kills_nodes: !self.no_kills,
            longest_freeze: self.longest_freeze,
            longest_redis_freeze: self.longest_redis_freeze,
            longest_pause: self.longest_pause,
            long_fault: (self.lease + node::RESUME_WINDOW).saturating_sub(check::MARGIN),
        };
        let faults = Arc::new(Faults::default());
        let mut checker = Checker::new(Expected { resume: !self.lenient });
        let begun = Instant::now();
        let mut found = 0;
        while begun.elapsed() < self.duration {
            let until = Instant::now() + self.round.min(self.duration.saturating_sub(begun.elapsed()));
            let (broken, results) = tokio::join!(
                faults::run(&cluster, &faults, &menu, until, &mut random),
                wander(&mut wanderers, &plain, until),
            );
            broken?;
            let round = checker.check(&cluster, &faults, &wanderers, &plain, results).await?;
            let (elapsed, frames) = (begun.elapsed().as_secs(), checker.frames());
            println!("after {elapsed:>4} s: {faults}; {}, {frames} different frames", checker.totals);
            found += report(&round);
        }
        let rest = self.end(&cluster, &faults, wanderers, plain).await?;
        Ok(found + report(&rest))
    }

    /// Lets all clients leave and the nodes end. Returns what is left behind.
    async fn end(
        &self,
        cluster: &Cluster,
        broken: &Faults,
        wanderers: Vec<Wanderer>,
        plain: Vec<PlainClient>,
    ) -> Result<Vec<String>, Failure> {
        let mut ending = JoinSet::new();
        wanderers.into_iter().for_each(|wanderer| drop(ending.spawn(wanderer.end())));
        plain.into_iter().for_each(|client| drop(ending.spawn(client.end())));
        ending.join_all().await;
        let begun = Instant::now();
        // The other nodes remove what a killed node has left, but no earlier than this. There must be nodes that do it.
        let removed_within = self.lease + node::RESUME_WINDOW + EMPTY_WITHIN;
        let mut faults = loop {
            let mut faults = Vec::new();
            for node in &cluster.nodes {
                let state = node.state().await?;
                if state.sessions > 0 || !state.rooms.is_empty() {
                    faults.push(format!("after all have left, node {} has {state:?}", node.number));
                }
            }
            let (mut left, _) = cluster.redis.lock().await.keys().await?;
            left.retain(|key| key != "{chat}:nodes");
            let nodes = cluster.redis.lock().await.nodes().await?;
            if !left.is_empty() || nodes.len() != cluster.nodes.len() {
                faults.push(format!("after all have left, Redis has {left:?} and the nodes {nodes:?}"));
            }
            if faults.is_empty() || begun.elapsed() > removed_within {
                break faults;
            }
            sleep(Duration::from_millis(100)).await;
        };
        let mut memory = String::new();
        for node in &cluster.nodes {
            node.end().await?;
            let used = node.running.lock().await.memory;
            let _ = write!(memory, " {} MiB", used / 1024);
            if used > MAX_MEMORY {
                faults.push(format!("node {} has used {} MiB", node.number, used / 1024));
            }
        }
        let (lasting, others) = cluster.redis.lock().await.keys().await?;
        println!(
            "at the end: memory of the nodes{memory}; in Redis {} keys that expire: {others:?}",
            others.values().sum::<usize>()
        );
        if !lasting.is_empty() {
            faults.push(format!("keys are left in Redis: {lasting:?}"));
        }
        let (found, Unbalanced { more_enters, more_leaves }) =
            check::check_journals(&cluster.journals().await?, broken);
        println!(
            "calls of the host that were missing or repeated because nodes were lost: more enters than leaves of \
             {more_enters} members and users, more leaves than enters of {more_leaves}"
        );
        faults.extend(found);
        Ok(faults)
    }
}

/// Lets all clients do things at random.
async fn wander(wanderers: &mut Vec<Wanderer>, plain: &[PlainClient], until: Instant) -> Vec<Results> {
    let mut wandering = JoinSet::new();
    for mut wanderer in wanderers.drain(..) {
        wandering.spawn(async move {
            let results = wanderer.wander(until).await;
            (wanderer, results)
        });
    }
    let mut cutting = JoinSet::new();
    for (n, client) in plain.iter().enumerate() {
        let network = client.network.clone();
        cutting.spawn(async move { network.flap(Random::new(n as u64)).await });
    }
    let mut all = Vec::new();
    while let Some(wandered) = wandering.join_next().await {
        // A panic is one of this tool.
        let (wanderer, results) = wandered.expect("no client panics");
        wanderers.push(wanderer);
        all.push(results);
    }
    cutting.shutdown().await;
    plain.iter().for_each(|client| client.network.mend());
    all
}

/// Prints the first faults, and returns how many there are.
fn report(faults: &[String]) -> usize {
    for fault in faults.iter().take(20) {
        println!("! {}", fault.chars().take(600).collect::<String>());
    }
    faults.len()
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        write!(
            f,
            "nodes: {} killed, {} stopped, {} cut off; Redis: {} restarts, {} without its data, {} stops",
            read(&self.kills),
            read(&self.freezes),
            read(&self.cuts),
            read(&self.redis_restarts),
            read(&self.redis_losses),
            read(&self.redis_freezes)
        )
    }
}

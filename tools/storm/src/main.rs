//! Lets all members of a large room lose their connections, come back at the same time, and leave for good:
//! `cargo run --release -p storm`. It measures how long the clients wait, and how long the server holds up
//! everything else that runs on its workers. With `-- --joins`, it instead measures what it costs when all of them
//! enter a room at the same time, depending on what members learn about each other.
//!
//! Clients and server share one runtime and talk through memory, so most of the work is the server's. With `-- --tcp`, the
//! server is a process of its own, the clients are in many rooms and connect over TCP, and the CPU time of the server's
//! process is measured, so you can compare it with other servers.

mod client;
mod frames;
mod joins;
mod probe;
mod serve;
mod tcp;

use std::error::Error;
use std::time::{Duration, Instant};

use clap::Parser;
use cpu_time::ProcessTime;
use serde_json::json;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, sleep_until};
use tower_chat_rooms::{ChatRooms, History, Limits, Presence, Recovery};

use crate::client::{Client, Connection, ROOM, Session};
use crate::probe::{Probes, take_longest_turn};

/// Lets all members of a large room, or of many rooms, come back at the same time.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Members of the room, or of all rooms
    #[arg(long, default_value_t = 10_000)]
    members: usize,

    /// Worker threads
    #[arg(long, default_value_t = 2)]
    workers: usize,

    /// Bytes of frames that the room keeps, all of which each member has missed
    #[arg(long, default_value_t = 64 * 1024)]
    history: usize,

    /// Bytes of a message
    #[arg(long, default_value_t = 512)]
    message: usize,

    /// Bytes that a connection accepts before its client reads
    #[arg(long, default_value_t = 16 * 1024)]
    buffer: usize,

    /// How long sessions are kept
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    resume_window: Duration,

    /// Measure what it costs when all members enter
    #[arg(long)]
    joins: bool,

    /// Measure only the server's process, with clients in several rooms that connect over TCP
    #[arg(long, conflicts_with = "joins")]
    tcp: bool,

    /// With --tcp: number of rooms
    #[arg(long, default_value_t = 500)]
    rooms: usize,

    /// With --tcp: messages that each client misses, at most 100
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100))]
    missed: u64,

    /// With --tcp: rooms with 1,000 members or more only count them
    #[arg(long)]
    auto_presence: bool,

    /// Run as the server of a run with --tcp
    #[arg(long, hide = true)]
    serve: bool,
}

/// How many tasks are spawned in one turn.
const SPAWNS_PER_TURN: usize = 32;

/// How long before the first session ends its end is waited for.
const SHORTLY: Duration = Duration::from_millis(20);

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let options = Options::parse();
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(options.workers).enable_all().build()?;
    runtime.block_on(async {
        if options.serve {
            return Ok(serve::serve(&options).await?);
        }
        if options.tcp {
            return tcp::measure(&options).await;
        }
        tokio::spawn(run(options)).await?;
        Ok(())
    })
}

async fn run(options: Options) {
    if options.joins {
        println!("{} clients enter a room", options.members);
        let auto = Presence::auto(1000, 500).expect("a gap");
        for (name, presence) in [("auto(1000, 500)", auto), ("full", Presence::Full)] {
            joins::measure(&options, name, presence).await;
        }
        return;
    }
    let rooms = build(&options);
    let lost = fill(&rooms, &options).await;
    let lost = publish(&rooms, &options, lost).await;

    let clients = come_back(&rooms, &options, lost).await;
    let phase = Phase::begin("all lose their connections", &options);
    let begun = phase.begun;
    lose(clients).await;
    phase.end().await;

    // The probes never rest, so they start only shortly before.
    sleep_until((begun + options.resume_window - SHORTLY).into()).await;
    assert_eq!(rooms.stats().absent, options.members, "no session has ended yet");
    let phase = Phase::begin("all sessions expire", &options);
    while rooms.stats().absent > 0 {
        yield_now().await;
    }
    phase.end().await;

    fill(&rooms, &options).await;
    let phase = Phase::begin("a shutdown while all are absent", &options);
    rooms.shutdown().await;
    phase.end().await;
}

fn build(options: &Options) -> ChatRooms {
    let frames = options.history / options.message + 1;
    let history = History::last(frames).max_bytes(options.history);
    let recovery = Recovery::default().resume_window(options.resume_window).history(history);
    let limits = Limits::default()
        .max_room_members(options.members)
        .max_connections(options.members)
        .max_pending(options.members)
        .max_queue_frames(1024.max(2 * frames))
        .max_queue_bytes((1024 * 1024).max(2 * options.history));
    ChatRooms::builder().recovery(recovery).limits(limits).build().expect("valid settings")
}

/// All enter, and lose their connections, one after the other.
async fn fill(rooms: &ChatRooms, options: &Options) -> Vec<Session> {
    let mut lost = Vec::new();
    for n in 0..options.members {
        let connection = Connection::open(rooms.clone(), options.buffer).await;
        lost.push(Client::enter(connection, format!("n{n}")).await.lose().await);
    }
    lost
}

/// Publishes as many frames as the room keeps, each delivered before the next. All members have missed them.
async fn publish(rooms: &ChatRooms, options: &Options, mut lost: Vec<Session>) -> Vec<Session> {
    let message = json!({"event": "message", "message": "x".repeat(options.message)});
    // What the server adds, at most.
    let frame = message.to_string().len() + r#","num":10000,"roomId":"r","seq":10000"#.len() + 4;
    let frames = options.history / frame;
    for _ in 0..frames {
        rooms.send(ROOM, &message).expect("the room takes it");
        sleep(Duration::from_millis(2)).await;
    }
    let seq = lost.last().expect("a member").seq;
    lost.iter_mut().for_each(|session| session.seq = seq);
    println!("{} members have missed {frames} frames of {frame} bytes each", lost.len());
    lost
}

/// All connect, and then come back at the same moment.
async fn come_back(rooms: &ChatRooms, options: &Options, lost: Vec<Session>) -> Vec<Client> {
    let connecting = lost.iter().map(|_| Connection::open(rooms.clone(), options.buffer));
    let connected = at_once(connecting).await;
    let (start, started) = watch::channel(None);
    let returning = connected
        .into_iter()
        .zip(lost)
        .map(|(connection, session)| Client::come_back(connection, session, started.clone()));
    let mut returning = spawn(returning).await;
    let phase = Phase::begin("all come back", options);
    start.send_replace(Some(Instant::now()));
    let clients = join(&mut returning).await;
    phase.end().await;
    report("up to the answer", clients.iter().map(|client| client.answered).collect());
    report("up to the last missed frame", clients.iter().map(|client| client.caught_up).collect());
    clients
}

async fn lose(clients: Vec<Client>) {
    at_once(clients.into_iter().map(Client::lose)).await;
}

async fn at_once<T: Send + 'static>(
    tasks: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    join(&mut spawn(tasks).await).await
}

async fn spawn<T: Send + 'static>(
    tasks: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> JoinSet<T> {
    let mut all = JoinSet::new();
    for (n, task) in tasks.enumerate() {
        if n % SPAWNS_PER_TURN == 0 {
            yield_now().await;
        }
        all.spawn(task);
    }
    all
}

async fn join<T: 'static>(all: &mut JoinSet<T>) -> Vec<T> {
    let mut done = Vec::new();
    while let Some(result) = all.join_next().await {
        done.push(result.expect("a client"));
    }
    done
}

/// A part of the run in which the workers are watched.
struct Phase {
    name: &'static str,
    begun: Instant,
    cpu: ProcessTime,
    probes: Probes,
}

impl Phase {
    fn begin(name: &'static str, options: &Options) -> Phase {
        take_longest_turn();
        Phase { name, begun: Instant::now(), cpu: ProcessTime::now(), probes: Probes::start(options.workers) }
    }

    async fn end(self) {
        let took = self.begun.elapsed();
        println!("\n{}: {took:.1?}, {:.1?} of CPU time", self.name, self.cpu.elapsed());
        let waits = self.probes.stop().await;
        println!("  longest wait of a task for its turn: {:.1?}", waits.turn);
        println!(
            "  longest time without a turn for a waiting task on a worker (CPU time): {:.1?}",
            waits.worker
        );
        println!("  longest turn of a connection's task (CPU time): {:.2?}", take_longest_turn());
    }
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!("  {what}: p50 {:.1?}, p99 {:.1?}, longest {:.1?}", at(0.5), at(0.99), at(1.0));
}

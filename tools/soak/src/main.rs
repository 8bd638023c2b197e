//! Lets clients of every kind connect and leave for a long time, and checks that nothing leaks:
//! `cargo run --release -p soak`, 20 minutes; `-- --duration 1m` for a shorter run.
//!
//! The server runs in this process, on a free port of 127.0.0.1 and a runtime of its own. At the end
//! there must be no rooms, members or connections, no more tasks or open files than at the beginning,
//! and at most 10 % more memory. Otherwise the exit code is 1.

mod clients;
mod server;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::clients::Clients;
use crate::server::{Leftovers, Server};

/// Lets clients connect and leave, and checks that nothing leaks.
#[derive(Debug, Parser)]
struct Options {
    /// Duration of the run
    #[arg(long, default_value = "20m", value_parser = humantime::parse_duration)]
    duration: Duration,

    /// Concurrent clients
    #[arg(long, default_value_t = 500)]
    clients: usize,

    /// Number of rooms
    #[arg(long, default_value_t = 50)]
    rooms: usize,
}

/// Duration of the warmup, after which everything is measured.
const WARMUP: Duration = Duration::from_secs(60);

/// After this time all clients leave, and the leftovers are checked.
const ROUND: Duration = Duration::from_secs(60);

/// How much more memory may be in use at the end, as allocators keep some.
const MEMORY_FACTOR: f64 = 1.10;

fn main() -> ExitCode {
    let options = Options::parse();
    let server = Server::start();
    let clients = Clients::new(server.address(), options.clients, options.rooms);
    // Memory that is allocated once and kept counts as used before.
    println!("warming up with {} clients ...", options.clients);
    clients.run(WARMUP.min(options.duration));
    let before = server.leftovers();
    println!("left: {before}");

    let begun = Instant::now();
    while begun.elapsed() < options.duration {
        clients.run(ROUND.min(options.duration.saturating_sub(begun.elapsed())));
        println!(
            "after {:>4} s: {}; left: {}",
            begun.elapsed().as_secs(),
            clients.counts(),
            server.leftovers()
        );
    }
    let after = server.leftovers();
    let leaks = leaks(&before, &after);
    for leak in &leaks {
        println!("! {leak}");
    }
    if leaks.is_empty() {
        println!("nothing leaks");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

fn leaks(before: &Leftovers, after: &Leftovers) -> Vec<String> {
    let mut all = after.findings.clone();
    let counts = [
        ("rooms", 0, after.rooms),
        ("members", 0, after.members),
        ("connections", 0, after.connections),
        ("sessions", 0, after.sessions),
        ("memberships without a `left`", 0, after.open),
        ("tasks", before.tasks, after.tasks),
        ("open files", before.files, after.files),
    ];
    for (what, want, got) in counts {
        if got > want {
            all.push(format!("{got} {what} instead of {want}"));
        }
    }
    if after.memory as f64 > before.memory as f64 * MEMORY_FACTOR {
        all.push(format!("{} KiB of memory instead of {}", after.memory / 1024, before.memory / 1024));
    }
    all
}

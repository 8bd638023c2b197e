//! Lets clients of every kind come and go for a long time, and looks whether anything stays behind:
//! `cargo run --release --example soak`, 20 minutes; `-- --duration 1m` for a shorter one.
//!
//! The server runs in this process, on a free port of 127.0.0.1 and a runtime of its own. At the
//! end there must be no room, no member and no connection, as many tasks and open files as at the
//! beginning, and no more than 10 % more memory. The exit code is 1 if not.

mod clients;
mod server;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::clients::Crowd;
use crate::server::{Rest, Server};

/// Lets clients come and go, and looks whether anything stays behind.
#[derive(Debug, Parser)]
struct Options {
    /// For how long
    #[arg(long, default_value = "20m", value_parser = humantime::parse_duration)]
    duration: Duration,

    /// Clients at once
    #[arg(long, default_value_t = 500)]
    clients: usize,

    /// Rooms that they are in
    #[arg(long, default_value_t = 50)]
    rooms: usize,
}

/// Time of the first wave, after which everything is measured.
const FIRST_WAVE: Duration = Duration::from_secs(60);

/// After so long all go, and what is left is looked at.
const WAVE: Duration = Duration::from_secs(60);

/// So much more memory may be in use at the end: what an allocator keeps is not exact.
const MEMORY: f64 = 1.10;

fn main() -> ExitCode {
    let options = Options::parse();
    let server = Server::start();
    let crowd = Crowd::new(server.address(), options.clients, options.rooms);
    // The first wave pays for what is allocated once and kept, by the allocator too.
    println!("a first wave of {} clients ...", options.clients);
    crowd.wave(FIRST_WAVE.min(options.duration));
    let before = server.at_rest();
    println!("at rest: {before}");

    let begun = Instant::now();
    while begun.elapsed() < options.duration {
        crowd.wave(WAVE.min(options.duration.saturating_sub(begun.elapsed())));
        println!(
            "after {:>4} s: {}; at rest: {}",
            begun.elapsed().as_secs(),
            crowd.tally(),
            server.at_rest()
        );
    }
    let after = server.at_rest();
    let complaints = complaints(&before, &after);
    for complaint in &complaints {
        println!("! {complaint}");
    }
    if complaints.is_empty() {
        println!("nothing stays behind");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

fn complaints(before: &Rest, after: &Rest) -> Vec<String> {
    let mut all = after.findings.clone();
    let counts = [
        ("rooms", 0, after.rooms),
        ("members", 0, after.members),
        ("connections", 0, after.connections),
        ("absent members", 0, after.absent),
        ("memberships that were not ended", 0, after.open),
        ("tasks", before.tasks, after.tasks),
        ("open files", before.files, after.files),
    ];
    for (what, want, got) in counts {
        if got > want {
            all.push(format!("{got} {what}, and not {want}"));
        }
    }
    if after.memory as f64 > before.memory as f64 * MEMORY {
        all.push(format!(
            "{} KiB of memory, and not {} as before",
            after.memory / 1024,
            before.memory / 1024
        ));
    }
    all
}

//! Lets clients in several rooms lose their connections at random for a long time, and checks that no message is lost,
//! duplicated or out of order, and that no member is left behind: `cargo run --release -p flaps`. This takes an hour,
//! or less with `-- --duration 5m`.
//!
//! Server and clients run in this process, over real sockets. After each round, the networks work for a while and
//! everything is compared: what each client has received and sent with what an observer has received, the members of
//! each room with the clients that are there and with what they know about each other, and the direct messages with
//! those that were acknowledged. If there is a fault, the exit code is 1.

mod check;
mod presence;
mod server;
mod stay;
mod wanderer;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use flaps::Network;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower_chat_rooms_client::{Chat, ClientError};

use crate::server::Server;
use crate::stay::Stay;
use crate::wanderer::Wanderer;

/// The number of rooms. An observer is in each of them.
const ROOMS: usize = 8;

/// Lets clients in several rooms lose their connections at random, and checks that nothing is lost.
#[derive(Debug, Parser)]
struct Options {
    /// Duration of the run
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    duration: Duration,

    /// Time between two checks
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    round: Duration,

    /// Number of clients
    #[arg(long, default_value_t = 40)]
    clients: u64,
}

#[tokio::main]
async fn main() -> Result<ExitCode, ClientError> {
    let options = Options::parse();
    let server = Server::start().await;
    let observer = Chat::connect(format!("ws://{}/", server.address)).token("observer").await?;
    let mut observers = Vec::new();
    for room in 0..ROOMS {
        observers.push(Stay::new(room, observer.join(room.to_string(), "observer").await?));
    }
    let mut wanderers = Vec::new();
    for n in 0..options.clients {
        wanderers.push(Wanderer::new(n, options.clients, Network::new(server.address)).await?);
    }

    let begun = Instant::now();
    let mut faults = 0;
    while begun.elapsed() < options.duration {
        let until = Instant::now() + options.round;
        let mut wandering = JoinSet::new();
        for mut wanderer in wanderers.drain(..) {
            wandering.spawn(async move {
                let results = wanderer.wander(until).await;
                (wanderer, results)
            });
        }
        let mut results = Vec::new();
        for (wanderer, result) in wandering.join_all().await {
            wanderers.push(wanderer);
            results.push(result);
        }
        let report = check::check(&server, &observers, &wanderers, results).await;
        println!("after {:>4} s: {report}", begun.elapsed().as_secs());
        report.faults.iter().take(20).for_each(|fault| println!("! {fault}"));
        faults += report.faults.len();
    }
    if faults > 0 {
        println!("{faults} faults");
        return Ok(ExitCode::FAILURE);
    }
    println!("nothing is lost");
    Ok(ExitCode::SUCCESS)
}

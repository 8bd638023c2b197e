//! Calculates what many nodes need from Redis, based on the costs of single calls:
//!
//! ```sh
//! cargo run --release -p scale
//! cargo run --release -p scale -- --measure   # the costs of single calls; needs redis-server
//! ```
//!
//! `--help` lists all inputs: what clients do, and the costs of single calls with their sources. A formula gives the load
//! (`load.rs`). A simulation shows what happens when all nodes call Redis at once, because it was away or because a node
//! is lost (`queue.rs`).
//!
//! If one Redis is not enough, the nodes are divided into groups as docs/redis.md describes, each with its own Redis and
//! its own rooms. `shards` is the number of Redis servers that would be needed if rooms were hashed over servers that all
//! nodes use.

mod costs;
mod load;
mod measure;
mod queue;

use std::process::ExitCode;

use clap::Parser;

use crate::costs::Costs;
use crate::load::{Habits, Limits, Size};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Calculates what many nodes need from Redis, and which resource is used up first.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Numbers of nodes, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "3,10,30,100,300,1000")]
    nodes: Vec<u32>,

    /// Connections of each node
    #[arg(long, default_value_t = 20_000)]
    connections: u32,

    /// Measure the costs of single calls instead
    #[arg(long)]
    measure: bool,

    #[command(flatten)]
    habits: Habits,

    #[command(flatten)]
    costs: Costs,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    if !options.measure {
        print(&options);
        return ExitCode::SUCCESS;
    }
    match measure::all().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(options: &Options) {
    let Options { habits, costs, .. } = options;
    let sizes = options.nodes.iter().map(|nodes| {
        let nodes = f64::from((*nodes).max(1));
        Size { nodes, connections: nodes * f64::from(options.connections) }
    });
    let sizes = Vec::from_iter(sizes);
    println!("One Redis for all nodes:\n");
    println!(
        "| nodes | connections | messages/s | CPU of Redis | from Redis, Gbit/s | memory, GB | subscriptions \
         | cores per node | used up first | groups | shards |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---|---:|---:|");
    for size in &sizes {
        let needs = size.needs(habits, costs);
        let (first, times) = Limits::default().first(&needs);
        println!(
            "| {} | {} | {:.0} | {:.0} % | {:.2} | {:.2} | {:.0} | {:.2} | {first} ({times:.1}) | {} | {} |",
            size.nodes,
            size.connections,
            needs.messages,
            100.0 * needs.redis,
            needs.network / 1e9,
            needs.memory / 1e9,
            needs.subscriptions,
            needs.node_cores,
            Limits::default().parts(|parts| size.group(parts), habits, costs),
            Limits::default().parts(|parts| size.shard(parts), habits, costs),
        );
    }
    println!("\nFailures:\n");
    println!(
        "| nodes | Redis was away: work, s | until all is read, s | longest answer, s | leases lost \
         | a node is lost: work, s | until its members are out, s | longest answer, s | its sessions: one call, s |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for size in &sizes {
        let (needs, outage, lost) = (
            size.needs(habits, costs),
            queue::outage(*size, habits, costs),
            queue::lost(*size, habits, costs),
        );
        println!(
            "| {} | {:.1} | {:.1} | {:.2} | {} | {:.1} | {:.1} | {:.3} | {:.2} |",
            size.nodes,
            needs.outage,
            outage.done,
            outage.longest_answer,
            outage.fenced,
            needs.lost,
            lost.done,
            lost.longest_answer,
            needs.longest_call,
        );
    }
}

//! Concurrency models: the crate's own code under many orders of its steps. Run them with `tests/models`.
//!
//! Shuttle's locks and atomics replace those of the standard library, and its scheduler replaces tokio's
//! runtime: it chooses another order at each of them. The models do not know how the code under test works. Each
//! one connects clients to an engine, lets them do several things at the same time, and checks the outcome.
#![allow(clippy::unwrap_used, reason = "a model that can't go on has failed")]

mod connections;
mod delivery;
mod direct;
mod recorder;
mod rooms;
mod sessions;
mod users;
mod wire;
mod world;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

/// How many orders of each model each scheduler tries.
const ORDERS: usize = 1_000;

/// The number of steps that must happen in a certain order to reveal a bug. Bugs that need more steps are found only
/// by chance.
const DEPTH: usize = 3;

/// Runs a model in many orders. An order in which it fails is printed, for `shuttle::replay`.
fn check(model: impl Fn() + Clone + Send + Sync + 'static) {
    // Timers need a runtime. Nothing drives this one, so time stands still and no timer ends.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _entered = runtime.enter();
    let mut config = Config::new();
    config.stack_size = 512 * 1024;
    config.silence_warnings = true;
    let orders = std::env::var("ORDERS").map_or(ORDERS, |orders| orders.parse().unwrap());
    Runner::new(RandomScheduler::new(orders), config.clone()).run(model.clone());
    Runner::new(PctScheduler::new(DEPTH, orders), config).run(model);
}

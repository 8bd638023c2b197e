//! Concurrency models: the crate's own code under many orders of its steps. Run them with `tests/models`.
//!
//! Shuttle's locks and atomics take the place of the standard library's, and its scheduler that of tokio's
//! runtime: it picks another order at each of them. Nothing here knows how the code under test works; each
//! model connects clients to an engine, lets them do several things at once, and checks what became of it.
#![allow(clippy::unwrap_used, reason = "a model that can't go on has failed")]

mod connections;
mod delivery;
mod rooms;
mod sessions;
mod world;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

/// So many orders of each model by each scheduler.
const ORDERS: usize = 1_000;

/// A bug shows in an order in which so many steps come as they must not. More are found by chance only.
const DEPTH: usize = 3;

/// Runs a model in many orders. An order in which it fails is printed, for `shuttle::replay`.
fn check(model: fn()) {
    // Timers need a runtime. Nothing drives this one, so time stands still and no timer ends.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _entered = runtime.enter();
    let mut config = Config::new();
    config.stack_size = 512 * 1024;
    config.silence_warnings = true;
    let orders = std::env::var("ORDERS").map_or(ORDERS, |orders| orders.parse().unwrap());
    Runner::new(RandomScheduler::new(orders), config.clone()).run(model);
    Runner::new(PctScheduler::new(DEPTH, orders), config).run(model);
}

//! What many tasks share, under many orders of events: rooms that come and go, the flusher's
//! duty, and seats that pass from one connection to another.
//!
//! The crate's own modules are compiled once more, with locks and atomics of shuttle, which picks
//! another interleaving each time. A failing one is printed, to be replayed.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod inside;
mod rooms;
mod seats;

use inside::*;

/// So many orders of each.
const ORDERS: usize = 3_000;

fn main() {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let cases = rooms::CASES.iter().chain(&seats::CASES).filter(|(name, _)| name.contains(&wanted));
    let mut passed = 0;
    for (name, case) in cases {
        // It panics, and prints the order, where the case does.
        shuttle::check_random(case, ORDERS);
        println!("test {name} ... ok");
        passed += 1;
    }
    println!("\ntest result: ok. {passed} passed; 0 failed");
}

/// A case, to be run in many orders.
type Case = (&'static str, fn());

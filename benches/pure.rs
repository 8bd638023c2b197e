//! Times what needs no I/O: what comes in, rooms, what goes out, leftovers, a resumed session.
//!
//! `cargo bench --features __bench --bench pure [-- FILTER]`

use divan::Bencher;
use tower_chat_rooms::bench_cases::{self, ENTER, FORGED, MESSAGE, PONG};

fn main() {
    divan::main();
}

fn frame(name: &str) -> String {
    match name {
        "message" => MESSAGE.into(),
        "enter" => ENTER.into(),
        "pong" => PONG.into(),
        "forged keys" => FORGED.into(),
        _ => bench_cases::long_message(),
    }
}

#[divan::bench(args = ["message", "enter", "pong", "forged keys", "4 KiB"])]
fn parse(bencher: Bencher<'_, '_>, name: &str) {
    bencher.bench_local(bench_cases::parse(&frame(name)));
}

#[divan::bench(args = ["message", "forged keys", "4 KiB"])]
fn parse_and_publish(bencher: Bencher<'_, '_>, name: &str) {
    bencher.bench_local(bench_cases::message(&frame(name)));
}

#[divan::bench(args = [10, 1_000, 10_000])]
fn join_and_leave(bencher: Bencher<'_, '_>, members: u64) {
    bencher.bench_local(bench_cases::join_leave(members));
}

#[divan::bench(args = [10, 1_000, 10_000])]
fn join_and_leave_while_delivering(bencher: Bencher<'_, '_>, members: u64) {
    bencher.bench_local(bench_cases::join_leave_while_delivering(members));
}

#[divan::bench(args = [64, 4096])]
fn encode(bencher: Bencher<'_, '_>, bytes: usize) {
    bencher.bench_local(bench_cases::encode(bytes));
}

#[divan::bench(args = [1, 10, 100])]
fn leftover_in_parts(bencher: Bencher<'_, '_>, messages: usize) {
    bencher.bench_local(bench_cases::leftover_in_parts(messages));
}

#[divan::bench(args = [0, 10_000])]
fn open_and_leave(bencher: Bencher<'_, '_>, others: u64) {
    bencher.bench_local(bench_cases::open_and_leave(others));
}

#[divan::bench(args = ["message", "4 KiB"])]
fn boundary(bencher: Bencher<'_, '_>, name: &str) {
    bencher.bench_local(bench_cases::boundary(&frame(name)));
}

#[divan::bench]
fn resume(bencher: Bencher<'_, '_>) {
    bencher.bench_local(bench_cases::resume());
}

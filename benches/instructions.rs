//! Runs one case many times, for `count-instructions` to see what one time costs.
//!
//! `cargo bench --features __bench --bench instructions -- [--list | CASE TIMES]`

use tower_chat_rooms::bench_cases::{self, MESSAGE};

const CASES: [&str; 8] = ["message", "pong", "join-leave", "state", "leftover", "read", "deliver", "resume"];

fn main() {
    // `cargo bench` adds an option of its own.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // Without a case each is tried once.
        [] => CASES.iter().for_each(|case| run(case, 1)),
        ["--list"] => CASES.iter().for_each(|case| println!("{case}")),
        [case, times] => run(case, times.parse().expect("a number of times")),
        _ => panic!("give nothing, --list, or CASE TIMES"),
    }
}

fn run(case: &str, times: u64) {
    match case {
        "message" => repeat(times, bench_cases::message(MESSAGE)),
        "pong" => repeat(times, bench_cases::pong()),
        "join-leave" => repeat(times, bench_cases::join_leave(100)),
        "state" => repeat(times, bench_cases::change_state()),
        "leftover" => repeat(times, bench_cases::leftover()),
        "read" => repeat(times, bench_cases::read()),
        "deliver" => repeat(times, bench_cases::deliver()),
        "resume" => repeat(times, bench_cases::resume()),
        _ => panic!("no such case: {case}"),
    }
}

fn repeat(times: u64, case: impl FnMut()) {
    std::iter::repeat_with(case).take(times as usize).for_each(drop);
}

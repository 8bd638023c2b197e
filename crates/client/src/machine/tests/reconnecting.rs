//! When a client comes back after its connection was lost.

use super::*;
use crate::retry_hint::RetryHint;

impl Bench {
    /// The connection ends with this, and the wait before the next attempt is returned.
    fn wait_after(&mut self, code: u16, reason: &str) -> u64 {
        self.machine.on_closed(self.now, code, reason);
        self.retry_in()
    }

    /// Is back, and stays for this long.
    pub(super) fn stay(&mut self, seconds: u64) {
        self.lines();
        self.reconnect(&self.fresh_token());
        self.say(resumed(1, 0));
        self.beats(seconds);
        self.lines();
    }
}

#[test]
fn the_backoff_is_kept_until_a_connection_has_lived_ten_seconds() {
    let mut bench = Bench::online_with_window(120_000);
    let mut waits = Vec::new();
    for _ in 0..6 {
        waits.push(bench.wait_after(1013, ""));
        bench.stay(9);
    }
    assert_eq!(waits, [1000, 1000, 2000, 4000, 8000, 10_000]);
    bench.wait_after(1013, "");
    bench.stay(11);
    bench.percent.store(25, Ordering::Relaxed);
    assert_eq!(bench.wait_after(1013, ""), 250);
}

#[test]
fn while_the_session_can_be_resumed_the_waits_leave_room_for_another_attempt() {
    for (resume_window, expected) in [
        (0, [1000, 1000, 2000, 4000, 8000, 10_000, 10_000]),
        (1000, [1000; 7]),
        (10_000, [1000, 1000, 2000, 4000, 5000, 5000, 5000]),
        (120_000, [1000, 1000, 2000, 4000, 8000, 10_000, 10_000]),
    ] {
        let mut bench = Bench::online_with_window(resume_window);
        let waits = [(); 7].map(|()| {
            let wait = bench.wait_after(1006, "");
            bench.wait();
            bench.lines();
            bench.open(&bench.fresh_token());
            bench.say(session_resumed(&["r"]));
            bench.say(resumed(1, 0));
            bench.pass(300);
            bench.lines();
            wait
        });
        assert_eq!(waits, expected, "{resume_window}");
    }
}

#[test]
fn attempts_that_fail_come_within_the_resume_window_and_then_as_rarely_as_ever() {
    let mut bench = Bench::online_with_window(10_000);
    // The backoff is long when the outage begins.
    for _ in 0..6 {
        bench.wait_after(1006, "");
        bench.stay(1);
    }
    let lost_at = bench.now;
    bench.machine.on_closed(bench.now, 1006, "");
    let mut attempts = Vec::new();
    for _ in 0..9 {
        bench.wait();
        attempts.push((bench.now - lost_at).as_millis() as u64 / 100);
        bench.machine.on_failed(bench.now, Failure::Transient("connection refused".into()));
    }
    assert_eq!(attempts, [50, 75, 87, 97, 107, 207, 307, 407, 507]);
}

#[test]
fn a_wait_that_the_server_asks_for_may_be_longer_than_the_resume_window() {
    let mut bench = Bench::online_with_window(10_000);
    assert_eq!(bench.wait_after(1012, "the server restarts; retry in 20-40 s"), 40_000);
    let mut bench = Bench::online_with_window(10_000);
    bench.machine.on_closed(ms(0), 1006, "");
    bench.wait();
    let retry = Some(RetryHint::after(ms(30_000)));
    let failure = Failure::Http { status: 503, body: String::new(), retry };
    bench.machine.on_failed(bench.now, failure);
    assert_eq!(bench.retry_in(), 45_000);
}

#[test]
fn attempts_that_fail_are_told_with_their_reason() {
    let mut bench = Bench::online();
    bench.machine.on_closed(ms(0), 1006, "");
    bench.wait();
    bench.machine.on_failed(bench.now, Failure::Transient("connection refused".into()));
    bench.wait();
    bench.machine.on_failed(bench.now, Failure::Token("no network".into()));
    bench.wait();
    bench.machine.on_open(bench.now, None);
    bench.machine.on_closed(bench.now, 1011, "internal error");
    bench.machine.cx.outputs.retain(|output| matches!(output, Output::Emit(..)));
    assert_eq!(
        bench.lines(),
        [
            "reconnecting: connection lost (1006)",
            "reconnecting: can't connect: connection refused",
            "reconnecting: no token: no network",
            "reconnecting: connection lost: internal error (1011)"
        ]
    );
}

#[test]
fn after_a_connection_that_broke_clients_spread_over_a_second() {
    for (percent, wait) in [(100, 1000), (50, 500), (0, 0)] {
        let mut bench = Bench::online();
        bench.beats(11);
        bench.percent.store(percent, Ordering::Relaxed);
        assert_eq!(bench.wait_after(1006, ""), wait);
    }
    // One that never was in the room has nobody to spread from.
    let mut bench = Bench::new(settings());
    bench.machine.on_open(ms(0), None);
    assert_eq!(bench.wait_after(1006, ""), 500);
}

#[test]
fn the_server_says_when_to_come_back() {
    for (reason, percent, wait) in [
        ("the server restarts; retry in 4-10 s", 0, 4000),
        ("the server restarts; retry in 4-10 s", 50, 7000),
        ("the server restarts; retry in 4-10 s", 100, 10_000),
        ("retry in 4 s", 0, 4000),
        ("retry in 4 s", 100, 6000),
        ("retry in 4-2 s", 100, 4000),
        ("retry in 4-10 s, or later", 100, 1000),
    ] {
        let mut bench = Bench::online();
        bench.percent.store(percent, Ordering::Relaxed);
        assert_eq!(bench.wait_after(1012, reason), wait, "{reason}, {percent}");
    }
}

#[test]
fn the_hint_of_the_server_replaces_the_backoff_of_an_earlier_outage() {
    let mut bench = Bench::online_with_window(120_000);
    bench.machine.on_closed(ms(0), 1006, "");
    for _ in 0..5 {
        bench.wait();
        bench.machine.on_failed(bench.now, Failure::Transient("connection refused".into()));
    }
    bench.stay(1);
    assert_eq!(bench.wait_after(1012, "the server restarts; retry in 2-3 s"), 3000);
    bench.stay(1);
    assert_eq!(bench.wait_after(1013, ""), 10_000, "without a hint, the backoff goes on");
}

#[test]
fn the_close_code_decides_whether_to_reconnect() {
    for (code, reconnects) in [
        (1001, true),
        (1006, true),
        (1011, true),
        (1012, true),
        (1013, true),
        (4000, true),
        (4001, true),
        (4499, true),
        (1000, false),
        (1002, false),
        (1008, false),
        (1009, false),
        (4500, false),
        (4501, false),
        (4502, false),
        (4503, false),
        (4504, false),
        (4505, false),
        (4999, false),
    ] {
        let mut bench = Bench::online();
        bench.send(7);
        bench.lines();
        bench.machine.on_closed(ms(0), code, "why");
        let lines = bench.lines();
        assert_eq!(bench.machine.ended().is_none(), reconnects, "{code}");
        if reconnects {
            assert_eq!(lines, [format!("reconnecting: connection lost: why ({code})")]);
        } else if matches!(code, 4502 | 4504 | 4505) {
            let closed = format!("not authenticated: why ({code})");
            assert_eq!(lines, [format!("7: closed: {closed} (1000)"), format!("closed: {closed}")]);
        } else {
            let closed = format!("closed: why ({code})");
            assert_eq!(lines, [format!("7: {closed}"), format!("closed: {closed}")]);
        }
    }
}

#[test]
fn what_comes_from_a_former_connection_is_ignored() {
    let mut bench = Bench::online();
    bench.machine.on_closed(ms(0), 1006, "");
    bench.lines();
    bench.say(said(2, "x"));
    bench.machine.on_closed(ms(0), 4500, "kicked");
    bench.machine.on_open(ms(0), Some("t"));
    bench.machine.on_token(ms(0), Ok("t".into()));
    bench.machine.on_failed(ms(0), Failure::Permanent("no".into()));
    bench.machine.on_binary(ms(0));
    assert_eq!((bench.lines().len(), bench.state()), (0, State::Reconnecting));
}

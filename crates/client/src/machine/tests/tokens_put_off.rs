//! Tokens that the server puts off.

use super::tokens::{ASK, ENTER, auth, authenticated, expiring, welcomed};
use super::*;

#[test]
fn a_token_that_the_server_puts_off_is_sent_later() {
    let limited = || error("rate_limited", json!({"retryAfter": 700}));
    let mut bench = welcomed(settings());
    bench.say(limited());
    bench.say(no_auth("authenticate first")); // The answer to the enter.
    bench.pass(699);
    assert_eq!(bench.lines(), [""; 0]);
    bench.pass(1);
    assert_eq!(bench.lines(), [ASK]);
    bench.provide("T1");
    bench.say(authenticated());
    assert_eq!(bench.lines(), [auth("T1"), ENTER.into()]);
    // A renewal is put off in the same way, without any event.
    let mut bench = Bench::online_with(renewable());
    bench.beats(30);
    bench.say(expiring(30_000));
    bench.pass(0);
    bench.provide("T2");
    bench.say(limited());
    bench.pass(700);
    bench.provide("T3");
    bench.say(authenticated());
    assert_eq!(bench.lines(), [ASK.into(), auth("T2"), ASK.into(), auth("T3")]);
}

#[test]
fn a_token_is_put_off_for_as_long_as_the_server_says() {
    let mut bench = welcomed(settings());
    bench.say(error("rate_limited", json!({"retryAfter": 20_000})));
    bench.say(no_auth("authenticate first")); // The answer to the enter.
    bench.beats(20);
    assert_eq!(bench.lines(), [ASK]);
    // It must not take longer than entering for the first time may take.
    bench.provide("T1");
    bench.say(error("rate_limited", json!({"retryAfter": 20_000})));
    let ended = bench.machine.ended().unwrap().to_string();
    assert_eq!(ended, "gave up after 2 attempts: refused: so it is (rate_limited)");
}

#[test]
fn a_token_and_the_enter_behind_it_may_both_be_put_off() {
    let later = |wait: u64| error("rate_limited", json!({"retryAfter": wait}));
    let mut bench = welcomed(settings());
    bench.say(later(700));
    bench.say(later(300));
    bench.pass(450);
    assert_eq!(bench.lines(), [ENTER]);
    bench.say(no_auth("authenticate first"));
    bench.pass(250);
    assert_eq!(bench.lines(), [ASK]);
    bench.provide("T1");
    bench.say(authenticated());
    assert_eq!(bench.lines(), [auth("T1"), ENTER.into()]);
    bench.say(entered(1, json!({})));
    assert_eq!(bench.lines()[0], "online");
    // The enter is put off for longer.
    let mut bench = welcomed(settings());
    bench.say(later(300));
    bench.say(later(700));
    bench.pass(300);
    bench.provide("T1");
    bench.say(authenticated());
    assert_eq!(bench.lines(), [ASK.into(), auth("T1")]);
    bench.pass(399);
    assert_eq!(bench.lines(), [""; 0]);
    bench.pass(1);
    assert_eq!(bench.lines(), [ENTER]);
    bench.say(entered(1, json!({})));
    bench.pass(1000);
    assert!(!bench.lines().contains(&ENTER.into()), "one enter");
}

#[test]
fn a_token_that_is_put_off_is_an_attempt_too() {
    let mut bench = welcomed(Settings { max_attempts: 2, ..settings() });
    bench.say(error("rate_limited", json!({})));
    bench.say(no_auth("authenticate first"));
    bench.pass(1000);
    assert_eq!(bench.lines(), [ASK]);
    bench.provide("T1");
    bench.say(error("rate_limited", json!({})));
    let ended = bench.machine.ended().unwrap().to_string();
    assert_eq!(ended, "gave up after 2 attempts: refused: so it is (rate_limited)");
}

#[test]
fn outside_of_the_room_a_token_that_is_put_off_is_sent_later() {
    let mut bench = Bench::online_with(renewable());
    bench.beats(2);
    bench.expire();
    bench.provide("T2");
    bench.lines();
    bench.say(error("rate_limited", json!({"retryAfter": 700})));
    assert_eq!(bench.lines(), ["outside for 0.7 s: refused: so it is (rate_limited)"]);
    bench.pass(700);
    bench.provide("T3");
    bench.say(authenticated());
    let lines = bench.lines();
    assert_eq!(lines[..2], [ASK.into(), auth("T3")]);
    assert!(lines[2].contains(r#""event":"enter""#), "{lines:?}");
}

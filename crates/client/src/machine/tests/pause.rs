//! Applications that take no events.

use super::*;

/// With a heartbeat as it is by default.
fn online_with_slow_heartbeat() -> Bench {
    let mut bench = Bench::new(settings());
    bench.machine.on_open(ms(0), None);
    bench.say(merged(welcome("s1"), json!({"heartbeat": {"interval": 25_000, "timeout": 20_000}})));
    bench.say(entered(1, json!({})));
    bench.lines();
    bench
}

#[test]
fn an_application_that_takes_no_events_stays_connected_and_misses_nothing() {
    let mut bench = Bench::online();
    bench.fill();
    assert!(!bench.machine.may_read());
    bench.fill();
    bench.pass(1000);
    assert_eq!(bench.lines(), ["pong"], "without having read the heartbeat");
    bench.pass(1000);
    assert!(bench.machine.may_read() && bench.machine.is_full(R));
    bench.lines();
    // From now on frames are left to the replay, but acknowledgements are not.
    bench.send(1);
    bench.lines();
    bench.say(said(2, "a"));
    bench.say_text("{");
    bench.say(json!({"event": "lagged", "missed": 2}));
    bench.say(heartbeat());
    bench.say(json!({"event": "notice"}));
    bench.say(ack("c1", 7));
    assert_eq!(bench.lines(), ["pong", "1: ok 7"]);
    bench.free();
    let again = r#"{"event":"enter","message":"ann","roomId":"r","since":{"epoch":"E","seq":1}}"#;
    assert_eq!(bench.lines(), ["overflow of 2", again]);
    bench.say(resumed(8, 7));
    (2..=8).for_each(|seq| bench.say(said(seq, "x")));
    assert_eq!(bench.lines().len(), 8);
}

/// The server has removed the client before it enters again.
#[test]
fn no_message_overtakes_those_before_an_enter_for_dropped_frames() {
    let mut bench = Bench::online();
    bench.fill();
    bench.pass(2000);
    bench.say(said(2, "a"));
    bench.send(1);
    bench.free();
    bench.lines();
    bench.send(2);
    assert_eq!(bench.lines(), [""; 0], "it waits for the answer to the enter");
    bench.say(removed("internal"));
    bench.say(error("not_entered", json!({"cid": "c1"})));
    bench.say(entered(3, json!({"recovered": true, "replayed": 2})));
    bench.say(said(2, "a"));
    bench.say(json!({"event": "out", "name": "ann", "num": 0, "member": "1", "seq": 3}));
    assert_eq!(numbers(&bench.lines()), [1, 2]);
}

#[test]
fn an_enter_for_dropped_frames_that_is_refused_for_the_moment_is_repeated() {
    let mut bench = Bench::online();
    bench.fill();
    bench.pass(2000);
    bench.say(said(2, "a"));
    bench.free();
    bench.lines();
    bench.say(error("rate_limited", json!({"roomId": "r", "retryAfter": 500})));
    bench.say(said(3, "b"));
    bench.pass(499);
    assert_eq!((bench.lines().len(), bench.state()), (0, State::Online));
    bench.pass(1);
    assert!(bench.lines()[0].contains(r#""since":{"epoch":"E","seq":1}"#));
    bench.say(resumed(3, 2));
    bench.say(said(2, "a"));
    assert_eq!(bench.lines()[1..], [r#"replayed message "a" 2"#]);
}

#[test]
fn the_server_does_not_have_to_wait_for_long() {
    let mut bench = online_with_slow_heartbeat();
    bench.fill();
    bench.pass(9_999);
    assert!(!bench.machine.may_read());
    bench.pass(1);
    assert!(bench.machine.may_read());
}

#[test]
fn a_short_pause_needs_no_reconnect() {
    let mut bench = Bench::online();
    bench.fill();
    bench.pass(1900);
    bench.free();
    assert!(bench.machine.may_read());
    bench.pass(1999);
    assert_eq!(bench.lines(), ["pong"]);
    bench.pass(1);
    assert_eq!(bench.state(), State::Reconnecting);
}

#[test]
fn out_of_the_room_nothing_is_missed() {
    let mut bench = Bench::online();
    bench.fill();
    bench.pass(2000);
    bench.say(said(2, "a"));
    bench.say(removed("denied"));
    bench.lines();
    bench.free();
    assert_eq!((bench.lines().len(), bench.state()), (0, State::Outside));
    bench.enter_again();
    assert!(bench.lines()[0].contains(r#""since":{"epoch":"E","seq":1}"#));
}

#[test]
fn a_connection_that_is_lost_meanwhile_tells_what_else_was() {
    let mut bench = Bench::online();
    bench.fill();
    bench.pass(2000);
    bench.say(json!({"event": "notice"}));
    bench.lines();
    bench.machine.on_closed(bench.now, 1006, "");
    assert_eq!(bench.lines(), ["overflow of 1", "reconnecting: connection lost (1006)"]);
    assert!(!bench.machine.is_full(R));
}

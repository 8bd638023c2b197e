//! Servers that fall silent.

use super::*;

#[test]
fn the_default_heartbeat_is_slow() {
    let mut bench = Bench::new(settings());
    bench.machine.on_open(ms(0), None);
    bench.say(json!({"event": "welcome", "connection": "1"}));
    bench.say(entered(1, json!({})));
    bench.pass(44_999);
    assert_eq!(bench.state(), State::Online);
    bench.pass(1);
    assert_eq!(bench.state(), State::Reconnecting);
}

#[test]
fn a_dead_server_is_noticed_within_interval_and_timeout() {
    let mut bench = Bench::online();
    bench.beats(10);
    bench.pass(999);
    assert_eq!(bench.lines(), [""; 0]);
    bench.pass(1);
    let lost = "reconnecting: connection lost: no heartbeat from the server (4000)";
    assert_eq!(bench.lines(), ["close 4000", lost]);
}

#[test]
fn whatever_is_received_is_a_sign_of_life() {
    let mut bench = Bench::online();
    for seq in 2..20 {
        bench.pass(1900);
        match seq % 4 {
            0 => bench.machine.on_alive(bench.now),
            1 => bench.machine.on_binary(bench.now),
            2 => bench.say_text("{"),
            _ => bench.say(heartbeat()),
        }
    }
    assert_eq!(bench.state(), State::Online);
}

#[test]
fn heartbeats_are_answered_and_answers_are_not() {
    let mut bench = Bench::new(settings());
    bench.machine.on_open(ms(0), None);
    bench.say(heartbeat());
    bench.say(json!({"event": "heartbeat", "message": "pong"}));
    bench.say(json!({"event": "heartbeat"}));
    assert_eq!(bench.lines(), ["pong", "pong"]);
}

#[test]
fn each_connection_that_fell_silent_makes_the_next_one_more_patient() {
    let mut bench = Bench::online();
    for silence in [2000, 4000, 8000, 8000] {
        bench.pass(silence - 1);
        assert_eq!(bench.state(), State::Online, "within {silence} ms");
        bench.pass(1);
        assert_eq!(bench.state(), State::Reconnecting, "after {silence} ms");
        bench.lines();
        bench.reconnect(&bench.fresh_token());
        bench.say(resumed(1, 0));
    }
    // Once heartbeats come in time, the patience ends.
    bench.beats(12);
    bench.pass(1000);
    assert_eq!(bench.state(), State::Reconnecting);
}

#[test]
fn an_attempt_may_take_longer_where_connections_were_slow() {
    let mut bench = Bench::online();
    bench.pass(2000);
    bench.wait();
    assert_eq!(bench.lines().last().unwrap(), "connect");
    bench.pass(19_990);
    assert_eq!(bench.lines(), [""; 0]);
    bench.pass(10);
    assert_eq!(bench.lines(), ["close 4000", "reconnecting: can't connect: connecting timed out"]);
}

#[test]
fn a_silent_server_is_noticed_outside_of_the_room_too() {
    let mut bench = Bench::online();
    bench.say(removed("denied"));
    bench.pass(2000);
    assert_eq!(bench.state(), State::Reconnecting);
}

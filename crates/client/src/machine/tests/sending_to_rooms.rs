//! Messages to several rooms: their order, and the limits that they share.

use super::rooms::{COFFEE, TEA, of};
use super::*;

impl Bench {
    fn send_to(&mut self, key: RoomKey, n: u32) {
        self.machine.publish(self.now, key, &body("message", n.to_string()), n);
    }
}

#[test]
fn messages_name_their_room() {
    let mut bench = Bench::in_two_rooms();
    bench.send_to(TEA, 1);
    bench.send_to(COFFEE, 2);
    assert_eq!(
        bench.lines(),
        [
            r#"{"event":"message","message":"1","roomId":"tea","cid":"c1"}"#,
            r#"{"event":"message","message":"2","roomId":"coffee","cid":"c2"}"#
        ]
    );
    bench.say(of("coffee", own(2, "2", "c2")));
    bench.say(ack("c1", 2));
    assert_eq!(bench.lines(), ["2: ok 2", r#"2: own message "2" 2"#, "1: ok 2"]);
}

#[test]
fn messages_that_wait_for_the_rates_go_in_the_order_of_the_calls() {
    let mut bench = Bench::in_two_rooms();
    bench.lose();
    bench.wait();
    bench.machine.on_open(bench.now, None);
    bench.say(merged(welcome("s2"), json!({"rates": {"messages": 10, "bytes": null, "burst": 2}})));
    bench.say(session_resumed(&["tea", "coffee"]));
    bench.say(of("tea", resumed(1, 0)));
    bench.say(of("coffee", resumed(1, 0)));
    bench.lines();
    let mut sent = Vec::new();
    for n in 0..30 {
        bench.send_to(if n % 3 == 0 { TEA } else { COFFEE }, n);
    }
    for second in 0..10 {
        let lines = bench.lines();
        for line in &lines {
            let Ok(frame) = serde_json::from_str::<Value>(line) else { continue };
            let Some(cid) = frame["cid"].as_str() else { continue };
            bench.say(ack(cid, 2));
        }
        sent.extend(numbers(&lines));
        assert!(sent.len() <= 10 + 10 * (second + 1));
        bench.beats(1);
    }
    assert_eq!(sent, (0..30).collect::<Vec<_>>());
}

#[test]
fn a_message_that_is_put_off_holds_up_its_own_room_only() {
    let mut bench = Bench::in_two_rooms();
    bench.send_to(TEA, 1);
    bench.lines();
    bench.say(error("unavailable", json!({"cid": "c1", "retryAfter": 500})));
    bench.send_to(TEA, 2);
    bench.send_to(COFFEE, 3);
    bench.pass(20);
    bench.send_to(COFFEE, 4);
    bench.pass(20);
    assert_eq!(numbers(&bench.lines()), [3, 4]);
    bench.pass(460);
    assert_eq!(numbers(&bench.lines()), [1], "it goes first, and alone");
    bench.say(ack("c1", 2));
    assert_eq!(numbers(&bench.lines()), [2]);
}

#[test]
fn a_room_outside_keeps_its_messages_and_the_other_goes_on() {
    let mut bench = Bench::in_two_rooms();
    bench.say(of("tea", removed("denied")));
    bench.send_to(TEA, 1);
    bench.send_to(COFFEE, 2);
    assert_eq!(numbers(&bench.lines()), [2]);
    bench.machine.enter_again(bench.now, TEA);
    bench.say(of("tea", entered(1, json!({}))));
    assert_eq!(numbers(&bench.lines()), [1]);
}

#[test]
fn each_room_has_a_queue_of_its_own() {
    let mut bench = Bench::in_two_rooms();
    bench.lose();
    (0..129).for_each(|n| bench.send_to(TEA, n));
    bench.send_to(COFFEE, 200);
    assert_eq!(bench.lines(), ["128: too many messages are waiting to be sent; send again later"]);
}

/// Has messages in flight in both rooms, and returns to a server that remembers three message ids.
fn with_three_ids() -> Bench {
    let mut bench = Bench::in_two_rooms();
    bench.lose();
    bench.wait();
    bench.machine.on_open(bench.now, None);
    bench.say(merged(welcome("s2"), json!({"limits": {"cids": 3, "messageBytes": 999}})));
    bench.say(session_resumed(&["tea", "coffee"]));
    bench.say(of("tea", resumed(1, 0)));
    bench.say(of("coffee", resumed(1, 0)));
    bench.lines();
    bench
}

#[test]
fn the_server_remembers_so_many_ids_over_all_rooms() {
    let mut bench = with_three_ids();
    for n in 1..=3 {
        bench.send_to(TEA, n);
        bench.send_to(COFFEE, 10 + n);
    }
    assert_eq!(numbers(&bench.lines()), [1, 11, 2]);
    bench.say(ack("c2", 2));
    assert_eq!(bench.lines(), ["11: ok 2"], "the first one is still unknown");
    bench.say(ack("c1", 2));
    assert_eq!(numbers(&bench.lines()), [12, 3]);
}

#[test]
fn a_message_that_the_server_has_forgotten_waits_for_the_replay() {
    let mut bench = with_three_ids();
    bench.send_to(TEA, 1);
    bench.lines();
    bench.lose();
    bench.wait();
    bench.machine.on_open(bench.now, None);
    bench.say(merged(welcome("s3"), json!({"limits": {"cids": 3, "messageBytes": 999}})));
    bench.say(session_resumed(&["tea", "coffee"]));
    // The first room is not entered again for the moment, and the other one uses all ids.
    bench.say(error("internal", json!({"roomId": "tea"})));
    bench.say(of("coffee", resumed(1, 0)));
    for n in 11..=14 {
        bench.send_to(COFFEE, n);
        let cid = format!("c{}", n - 9);
        bench.lines();
        bench.say(ack(&cid, 2));
    }
    bench.pass(1000);
    bench.lines();
    bench.say(of("tea", resumed(2, 1)));
    assert_eq!(numbers(&bench.lines()), [0; 0]);
    bench.say(of("tea", own(2, "1", "c1")));
    assert_eq!(bench.lines()[0], "1: ok 2");
}

//! Messages: acknowledgements, repetitions, the server's limits and rates.

use super::*;

/// A server that limits rates, with one bucket for messages and one for bytes.
struct Server {
    rates: [f64; 2],
    left: [f64; 2],
    filled_at: Now,
    accepted: Vec<u32>,
    refused: u32,
    /// Refused, less those since that were accepted. With 100 the server closes a connection for good.
    excess: u32,
    max_excess: u32,
}

impl Server {
    fn new(rates: [f64; 2]) -> Server {
        let left = rates.map(|rate| rate * 2.0);
        Server { rates, left, filled_at: ms(0), accepted: Vec::new(), refused: 0, excess: 0, max_excess: 0 }
    }

    /// Answers what the client sends, until nothing is left to be done.
    fn serve(&mut self, bench: &mut Bench) {
        loop {
            let lines = bench.lines();
            let is_idle = lines.is_empty();
            for line in lines {
                let Ok(frame) = serde_json::from_str::<Value>(&line) else { continue };
                let Some(cid) = frame["cid"].as_str() else { continue };
                // A message id has 32 bytes.
                self.receive(bench, &frame, cid, line.len() - cid.len() + 32);
            }
            if bench.machine.outgoing.deadline().is_some() {
                bench.say(heartbeat());
                bench.wait();
            } else if is_idle {
                break;
            }
        }
    }

    fn receive(&mut self, bench: &mut Bench, frame: &Value, cid: &str, bytes: usize) {
        let passed = (bench.now - std::mem::replace(&mut self.filled_at, bench.now)).as_secs_f64();
        let costs = [1.0, bytes as f64];
        let mut wait: f64 = 0.0;
        for ((left, rate), cost) in self.left.iter_mut().zip(self.rates).zip(costs) {
            *left = (*left + passed * rate).min(rate * 2.0);
            wait = wait.max((cost - *left) / rate);
        }
        if wait > 0.0 {
            self.refused += 1;
            self.excess += 1;
            self.max_excess = self.max_excess.max(self.excess);
            assert!(self.excess < 100, "the server has closed the connection");
            let retry_after = (wait * 1000.0).ceil() as u64;
            return bench.say(error("rate_limited", json!({"cid": cid, "retryAfter": retry_after})));
        }
        self.left.iter_mut().zip(costs).for_each(|(left, cost)| *left -= cost);
        self.excess = self.excess.saturating_sub(1);
        self.accepted.push(frame["message"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap());
        bench.say(ack(cid, 1 + self.accepted.len() as u64));
    }
}

const RATES: [f64; 2] = [100.0, 262_144.0];

/// Has queued this many messages while its connection was lost, and returns to a server that announces these rates.
fn back_with_queue(count: u32, bytes: usize, rates: Value) -> Bench {
    let mut bench = Bench::online();
    bench.machine.on_closed(ms(0), 1006, "");
    for n in 0..count {
        bench.send_text(n, &format!("{n} {}", "x".repeat(bytes)));
    }
    bench.wait();
    bench.lines();
    bench.machine.on_open(bench.now, None);
    bench.say(merged(welcome("s2"), json!({"rates": rates})));
    bench.lines();
    bench.say(resumed(1, 0));
    bench
}

#[test]
fn what_has_waited_is_sent_within_the_rates_and_in_order() {
    for (bytes, within) in [(10, 4), (6_000, 6), (30_000, 20)] {
        let mut bench = back_with_queue(128, bytes, json!({"messages": 100, "bytes": 262_144, "burst": 2}));
        let mut server = Server::new(RATES);
        server.serve(&mut bench);
        assert_eq!((server.refused, server.accepted), (0, (0..128).collect()), "messages of {bytes} bytes");
        assert!(bench.now < Now::from_secs(within), "{:?}", bench.now);
        assert_eq!(bench.state(), State::Online);
    }
}

#[test]
fn other_rates_are_kept_as_well_and_none_is_no_limit() {
    for (rates, actual) in [
        (json!({"messages": 10, "bytes": null, "burst": 1}), [10.0, 1e9]),
        (json!({"messages": null, "bytes": 20_000, "burst": 1}), [1e9, 20_000.0]),
        (json!({"messages": 10, "bytes": null}), [10.0, 1e9]),
        (json!({"messages": null, "bytes": null}), [1e9, 1e9]),
        (json!(null), RATES),
    ] {
        let mut bench = back_with_queue(100, 1000, rates.clone());
        let mut server = Server::new(actual);
        server.serve(&mut bench);
        assert_eq!((server.refused, server.accepted.len()), (0, 100), "{rates}");
    }
}

#[test]
fn a_server_that_takes_less_than_it_says_loses_nothing_and_gets_it_in_order() {
    let mut bench = back_with_queue(60, 10, json!({"messages": 100, "bytes": null}));
    let mut server = Server::new([10.0, 1e9]);
    server.serve(&mut bench);
    assert_eq!(server.accepted, (0..60).collect::<Vec<_>>());
    assert!(server.refused > 0 && bench.state() == State::Online);
}

/// As where many connections of one address were opened before.
#[test]
fn where_the_buckets_are_empty_at_the_start_nothing_is_refused() {
    for (rates, count, bytes, within) in [
        ([100.0, 262_144.0], 128, 10, 1_400),
        ([100.0, 262_144.0], 128, 6_000, 3_200),
        ([100.0, 262_144.0], 20, 60_000, 5_000),
        ([1.0, 1e9], 5, 10, 5_100),
        ([10.0, 1000.0], 20, 200, 6_000),
    ] {
        let told = json!({"messages": rates[0], "bytes": rates[1], "burst": 2, "empty": true});
        let mut bench = back_with_queue(count, bytes, told);
        let mut server = Server { left: [0.0; 2], filled_at: bench.now, ..Server::new(rates) };
        let begin = bench.now;
        server.serve(&mut bench);
        assert_eq!((server.refused, server.accepted), (0, (0..count).collect()), "messages of {bytes} bytes");
        assert!(bench.now - begin < ms(within), "{bytes} bytes: {:?}", bench.now - begin);
    }
}

#[test]
fn a_server_that_does_not_say_that_its_buckets_are_empty_closes_nobody() {
    let mut bench = back_with_queue(128, 10, json!({"messages": 100, "bytes": null, "burst": 2}));
    let mut server = Server { left: [0.0, 1e9], ..Server::new([100.0, 1e9]) };
    server.filled_at = bench.now;
    server.serve(&mut bench);
    assert_eq!(server.accepted, (0..128).collect::<Vec<_>>());
    assert!(
        server.refused > 0 && server.max_excess < 30,
        "{} refused, {} at once",
        server.refused,
        server.max_excess
    );
}

#[test]
fn each_connection_has_full_buckets_whatever_was_sent_on_the_one_before() {
    let mut bench = Bench::online();
    bench.percent.store(0, Ordering::Relaxed);
    for round in 0..3 {
        let mut server = Server { filled_at: bench.now, ..Server::new(RATES) };
        let begin = bench.now;
        (0..100).for_each(|n| bench.send(n));
        server.serve(&mut bench);
        assert_eq!((server.refused, server.accepted.len()), (0, 100), "round {round}");
        assert_eq!(bench.now, begin, "round {round}");
        bench.machine.on_closed(bench.now, 1006, "");
        bench.lines();
        bench.reconnect("s");
        bench.say(resumed(1, 0));
    }
}

#[test]
fn an_enter_on_the_same_connection_does_not_fill_the_buckets() {
    let mut bench = Bench::new(settings());
    bench.machine.on_open(ms(0), None);
    bench.say(merged(welcome("s1"), json!({"rates": {"messages": 10, "bytes": null, "burst": 2}})));
    bench.say(entered(1, json!({})));
    let mut sent = 0;
    for _ in 0..5 {
        (0..10).for_each(|n| bench.send(n));
        bench.say(error("denied", json!({"roomId": "r"})));
        sent += numbers(&bench.lines()).len();
        bench.machine.enter_again(ms(0));
        bench.lines();
        bench.say(resumed(1, 0));
    }
    assert_eq!(sent, 10);
}

#[test]
fn a_refused_message_goes_first_and_alone() {
    let mut bench = Bench::online();
    (1..=4).for_each(|n| bench.send(n));
    bench.lines();
    bench.say(ack("c1", 2));
    bench.say(error("rate_limited", json!({"cid": "c2", "retryAfter": 100})));
    bench.send(5);
    bench.pass(150);
    assert_eq!(bench.lines(), ["1: ok 2"], "what is in flight is not answered yet");
    bench.say(error("rate_limited", json!({"cid": "c3", "retryAfter": 90})));
    bench.say(error("rate_limited", json!({"cid": "c4", "retryAfter": 80})));
    bench.pass(89);
    assert_eq!(bench.lines(), [""; 0]);
    bench.pass(20);
    assert_eq!(numbers(&bench.lines()), [2]);
    bench.pass(500);
    bench.say(error("rate_limited", json!({"cid": "c2", "retryAfter": 100})));
    bench.pass(200);
    assert_eq!(numbers(&bench.lines()), [2]);
    bench.say(ack("c2", 3));
    assert_eq!(numbers(&bench.lines()), [3, 4], "and then more with each that is accepted");
    bench.say(ack("c3", 4));
    assert_eq!(numbers(&bench.lines()), [5]);
}

#[test]
fn a_server_that_is_unavailable_for_the_moment_gets_the_message_later() {
    for code in ["unavailable", "internal", "rate_limited", "new_code"] {
        let mut bench = Bench::online();
        bench.send(1);
        bench.lines();
        bench.say(error(code, json!({"cid": "c1", "retryAfter": 900})));
        bench.pass(899);
        assert_eq!(bench.lines(), [""; 0], "{code}");
        bench.pass(1);
        assert_eq!(numbers(&bench.lines()), [1], "{code}");
        bench.say(ack("c1", 2));
        assert_eq!(bench.lines(), ["1: ok 2"]);
    }
    // Without a time, a rate passes after a second, and other errors are final.
    let mut bench = Bench::online();
    (1..=2).for_each(|n| bench.send(n));
    bench.lines();
    bench.say(error("internal", json!({"cid": "c1"})));
    assert_eq!(bench.lines(), ["1: refused: so it is (internal)"]);
    bench.say(error("rate_limited", json!({"cid": "c2", "retryAfter": "soon"})));
    bench.pass(1000);
    assert_eq!(numbers(&bench.lines()), [2]);
}

#[test]
fn a_connection_that_is_lost_while_a_message_is_put_off_keeps_it() {
    let mut bench = Bench::online();
    bench.send(1);
    bench.lines();
    bench.say(error("rate_limited", json!({"cid": "c1", "retryAfter": 5000})));
    assert_eq!(numbers(&bench.come_back("s2", resumed(1, 0))), [0; 0], "the server has asked for this");
    bench.beats(6);
    assert_eq!(numbers(&bench.lines()), [1]);
}

#[test]
fn sends_unacknowledged_messages_again() {
    let mut bench = Bench::online();
    let welcome = merged(welcome("s1"), json!({"limits": {"cids": 2, "messageBytes": 200}}));
    bench.machine.on_closed(ms(0), 1006, "");
    bench.wait();
    bench.machine.on_open(bench.now, None);
    bench.say(welcome);
    bench.say(resumed(1, 0));
    bench.lines();
    (0..4).for_each(|n| bench.send(n));
    assert_eq!(numbers(&bench.lines()), [0, 1], "no more than the server remembers");
    bench.say(ack("c1", 2));
    let lines = bench.lines();
    assert_eq!((&*lines[0], numbers(&lines)), ("0: ok 2", vec![2]));
    bench.say(ack("c1", 2));
    bench.say(own(2, "0", "c1"));
    assert_eq!(bench.lines(), [r#"own message "0" 2"#]);
    bench.send_text(9, &"x".repeat(200));
    let cut = bench.come_back("s2", resumed(2, 0));
    assert_eq!(numbers(&cut), [1, 2, 3]);
    bench.say(error("denied", json!({"cid": "c2"})));
    assert_eq!(bench.lines(), ["1: refused: so it is (denied)"]);
}

#[test]
fn an_own_frame_acknowledges_and_a_replay_has_to_be_heard_first() {
    let mut bench = Bench::online();
    (0..2).for_each(|n| bench.send(n));
    bench.lines();
    let lines = bench.come_back("s2", entered(3, json!({"member": "2", "recovered": true, "replayed": 2})));
    assert_eq!(lines.len(), 2, "sent before the replay was over: {lines:?}");
    bench.say(own(2, "0", "c1"));
    // It is cut off, and the session of the second enter is resumed, which knows none of the messages.
    let lines = bench.come_back(
        "s3",
        entered(3, json!({"member": "2", "resumed": true, "recovered": true, "replayed": 1})),
    );
    assert_eq!((lines.len(), numbers(&lines)), (2, vec![]));
    bench.say(said(3, "b"));
    let lines = bench.lines();
    assert_eq!(numbers(&lines), [1]);
    // Now it knows them.
    assert_eq!(
        numbers(&bench.come_back(
            "s4",
            entered(9, json!({"member": "2", "resumed": true, "recovered": true, "replayed": 6}))
        )),
        [1]
    );
}

#[test]
fn only_a_frame_of_this_member_acknowledges() {
    let mut bench = Bench::online();
    bench.send(1);
    bench.lines();
    for (n, member) in [json!("b"), json!(null), json!(1), json!("")].into_iter().enumerate() {
        bench.say(merged(own(n as u64 + 2, "forged", "c1"), json!({"member": member})));
    }
    let mut without = own(6, "forged", "c1");
    without.as_object_mut().unwrap().remove("member");
    bench.say(without);
    let lines = bench.lines();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("message ")), "{lines:?}");
    bench.say(own(7, "1", "c1"));
    assert_eq!(bench.lines(), ["1: ok 7", r#"own message "1" 7"#]);
}

#[test]
fn a_server_that_names_no_member_only_acknowledges_with_acks() {
    let mut bench = Bench::new(settings());
    bench.open("s1");
    bench.say(entered(1, json!({"member": null})));
    bench.send(1);
    bench.lines();
    bench.say(merged(own(2, "forged", "c1"), json!({"member": ""})));
    assert_eq!(bench.lines(), [r#"message "forged" 2"#]);
    bench.say(ack("c1", 3));
    assert_eq!(bench.lines(), ["1: ok 3"]);
}

#[test]
fn a_frame_of_an_earlier_membership_is_own_in_a_replay_only() {
    let mut bench = Bench::online();
    (1..=2).for_each(|n| bench.send(n));
    bench.lines();
    bench.come_back("s2", entered(2, json!({"member": "2", "recovered": true, "replayed": 1})));
    bench.say(own(2, "1", "c1"));
    bench.say(own(3, "2", "c2"));
    let lines = bench.lines();
    assert_eq!(lines[..2], ["1: ok 2", r#"own replayed message "1" 2"#]);
    assert_eq!(lines.last().unwrap(), r#"message "2" 3"#);
    bench.say(merged(own(4, "2", "c2"), json!({"member": "2"})));
    assert_eq!(bench.lines(), ["2: ok 4", r#"own message "2" 4"#]);
}

/// An earlier enter whose answer was lost began another session, which knows no message ids.
#[test]
fn a_resumed_session_may_not_be_the_one_from_before() {
    let mut bench = Bench::online();
    bench.send(1);
    bench.lines();
    let other = entered(2, json!({"member": "2", "resumed": true, "recovered": true, "replayed": 1}));
    let lines = bench.come_back("s2", other);
    assert!(lines.len() == 2 && lines[1].contains("resumed false"), "{lines:?}");
    bench.say(own(2, "1", "c1"));
    assert_eq!(bench.lines()[0], "1: ok 2");
}

#[test]
fn a_message_that_the_server_can_not_read_is_the_oldest_in_flight() {
    let mut bench = Bench::online();
    (1..=3).for_each(|n| bench.send(n));
    bench.lines();
    bench.say(ack("c1", 2));
    bench.say(error("too_deep", json!({})));
    bench.say(ack("c3", 3));
    assert_eq!(bench.lines(), ["1: ok 2", "2: refused: so it is (too_deep)", "3: ok 3"]);
    bench.say(error("too_deep", json!({})));
    bench.say(error("denied", json!({"cid": "unknown"})));
    bench.say(error("new_code", json!({})));
    let errors = ["too_deep", "denied", "new_code"].map(|code| format!("error: refused: so it is ({code})"));
    assert_eq!(bench.lines(), errors);
}

#[test]
fn limits_the_queue_and_the_message_size() {
    let mut bench = Bench::online_with(Settings { max_unsent: 4, ..settings() });
    bench.send_text(0, &"x".repeat(65_500));
    assert!(bench.lines()[0].ends_with("bytes, the server accepts at most 65536"));
    bench.machine.on_closed(ms(0), 1006, "");
    bench.lines();
    (1..=5).for_each(|n| bench.send(n));
    assert_eq!(bench.lines(), ["5: too many messages are waiting to be sent; send again later"]);
}

#[test]
fn message_ids_can_not_be_guessed() {
    let mut bench = Bench::online();
    (1..=2).for_each(|n| bench.send(n));
    bench.lines();
    for cid in bench.cids.lock().unwrap().iter() {
        assert!(cid.len() == 32 && cid.bytes().all(|b| b.is_ascii_hexdigit()), "{cid}: 128 bits");
    }
}

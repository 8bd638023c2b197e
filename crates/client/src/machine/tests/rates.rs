//! Messages and the rates of the server.

use super::*;

/// A server that limits rates, with one bucket for messages and one for bytes.
struct Server {
    rates: [f64; 2],
    left: [f64; 2],
    filled_at: Now,
    accepted: Vec<u32>,
    refused: u32,
    /// The number of refused messages, minus those accepted since. At 100, the server closes the connection for good.
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
            if bench.machine.cx.outgoing.deadline().is_some() {
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

/// A client that has queued this many messages while its connection was lost, and reconnects to a server that announces
/// these rates.
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
    bench.say(session_resumed(&["r"]));
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

/// This happens if many connections were opened from the address before.
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
        bench.reconnect(&bench.fresh_token());
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
        bench.say(removed("denied"));
        sent += numbers(&bench.lines()).len();
        bench.enter_again();
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

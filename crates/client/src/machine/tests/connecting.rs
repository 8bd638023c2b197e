//! Attempts that fail, and their time limits.

use super::*;
use crate::retry_hint::RetryHint;

fn http(status: u16, retry: Option<&str>) -> Failure {
    let retry = retry.and_then(RetryHint::in_header);
    Failure::Http { status, body: "text".into(), retry }
}

#[test]
fn each_step_of_connecting_times_out() {
    let mut bench = Bench::new(settings());
    bench.pass(10_000);
    assert_eq!(bench.lines(), ["close 4000"]);
    bench.pass(500);
    assert_eq!(bench.lines(), ["connect"]);
    bench.machine.on_open(bench.now, None);
    // The first one was not answered, so this one is given more time, up to the first timeout.
    bench.pass(19_499);
    assert_eq!(bench.lines(), [""; 0]);
    bench.pass(1);
    assert_eq!(bench.lines(), ["close 4000"]);
    let ended = bench.machine.ended().unwrap().to_string();
    assert_eq!(ended, "gave up after 2 attempts: connection lost: the server sent no welcome in time (4000)");
}

#[test]
fn without_success_it_gives_up_in_the_end() {
    let mut bench = Bench::new(settings());
    let mut attempts = 0;
    while bench.machine.ended().is_none() {
        attempts += 1;
        bench.machine.on_failed(bench.now, Failure::Transient("no route".into()));
        if bench.machine.ended().is_none() {
            bench.wait();
        }
    }
    let ended = bench.machine.ended().unwrap().to_string();
    assert_eq!(ended, format!("gave up after {attempts} attempts: can't connect: no route"));
    assert!(bench.now < ms(30_000) && attempts > 5);
}

#[test]
fn a_wrong_address_ends_the_first_attempt() {
    for status in [200, 204, 226, 301, 400, 404, 405, 426] {
        let mut bench = Bench::new(settings());
        bench.machine.on_failed(ms(0), http(status, None));
        let text = if status == 404 { "there is no chat at this URL; check its path" } else { "text" };
        assert_eq!(bench.machine.ended().unwrap().to_string(), format!("HTTP {status}: {text}"));
        // Later it may be that of a proxy without a server behind it.
        let mut bench = Bench::online();
        bench.machine.on_closed(ms(0), 1006, "");
        bench.wait();
        bench.lines();
        bench.machine.on_failed(bench.now, http(status, None));
        assert_eq!(bench.lines(), [format!("reconnecting: HTTP {status}: {text}")]);
    }
}

#[test]
fn an_overloaded_server_is_tried_again_when_it_says() {
    for status in [408, 425, 429, 500, 501, 502, 503, 599] {
        let mut bench = Bench::new(settings());
        bench.machine.on_failed(ms(0), http(status, None));
        assert_eq!(bench.retry_in(), 500, "{status}");
        let mut bench = Bench::new(settings());
        bench.machine.on_failed(ms(0), http(status, Some("3")));
        assert_eq!(bench.retry_in(), 4500, "{status}");
        bench.wait();
        bench.machine.on_failed(bench.now, http(status, Some("60")));
        let ended = bench.machine.ended().unwrap().to_string();
        assert_eq!(ended, format!("gave up after 2 attempts: HTTP {status}: text"));
    }
}

#[test]
fn a_server_that_speaks_something_else_ends_the_first_attempt() {
    let mut bench = Bench::new(settings());
    bench.machine.on_failed(ms(0), Failure::Permanent("no v1".into()));
    assert_eq!(bench.machine.ended().unwrap().to_string(), "can't connect: no v1");
    let mut bench = Bench::online();
    bench.machine.on_closed(ms(0), 1006, "");
    bench.wait();
    bench.lines();
    bench.machine.on_failed(bench.now, Failure::Permanent("no v1".into()));
    assert_eq!(bench.lines(), ["reconnecting: can't connect: no v1"]);
}

#[test]
fn leaves_from_every_state() {
    let mut bench = Bench::new(settings());
    bench.leave();
    assert_eq!(bench.lines(), ["close 1000"]);
    let mut bench = Bench::online();
    bench.send(1);
    bench.lines();
    bench.leave();
    bench.leave();
    bench.send(2);
    let closed = "closed: left (1000)";
    assert_eq!(
        bench.lines(),
        ["close 1000".into(), format!("1: {closed}"), format!("closed: {closed}"), format!("2: {closed}")]
    );
    assert_eq!(bench.machine.deadline(), None);
    let mut bench = Bench::online();
    bench.machine.on_closed(ms(0), 1006, "");
    bench.lines();
    bench.leave();
    assert_eq!(bench.lines(), ["closed: closed: left (1000)"]);
}

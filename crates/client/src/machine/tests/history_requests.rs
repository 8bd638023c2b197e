//! Requests for earlier messages.

use super::*;

const ASKED: &str = r#"{"before":700,"cid":"c1","event":"history","roomId":"r"}"#;

fn ask(bench: &mut Bench, n: u32) {
    bench.machine.read_history(bench.now, R, json!({"before": 700}), n);
}

fn page(cid: &str, messages: Value, has_more: bool) -> Value {
    json!({"event": "history", "roomId": "r", "cid": cid, "messages": messages, "more": has_more})
}

/// A message from the server's store.
fn stored(message: &str, member: &str) -> Value {
    json!({"event": "message", "message": message, "name": "bob", "member": member, "id": 600, "roomId": "r"})
}

#[test]
fn a_request_that_is_refused_fails_at_once_and_delays_no_message() {
    for (code, more) in [
        ("unavailable", json!({"retryAfter": 2000})),
        ("internal", json!({"retryAfter": 1000})),
        ("rate_limited", json!({})),
        ("denied", json!({})),
        ("not_entered", json!({})),
    ] {
        let mut bench = Bench::online();
        ask(&mut bench, 1);
        assert_eq!(bench.lines().last().unwrap(), ASKED);
        bench.send(2);
        bench.lines();
        bench.say(error(code, merged(json!({"cid": "c1"}), more)));
        assert_eq!(bench.lines(), [format!("1: refused: so it is ({code})")]);
        bench.send(3);
        assert_eq!(numbers(&bench.lines()), [3], "nothing waits after {code}");
        assert_eq!(bench.state(), State::Online);
        bench.say(ack("c2", 2));
        bench.say(ack("c3", 3));
        assert_eq!(bench.lines(), ["2: ok 2", "3: ok 3"]);
    }
}

#[test]
fn a_request_in_flight_is_sent_again_after_a_lost_connection() {
    let mut bench = Bench::online();
    ask(&mut bench, 1);
    bench.lines();
    let lines = bench.come_back("s2", resumed(1, 0));
    assert_eq!(lines.last().unwrap(), ASKED);
    bench.say(page("c1", json!([7, stored("old", "b")]), true));
    assert_eq!(bench.lines(), [r#"1: message "old", and more"#]);
}

#[test]
fn a_request_that_is_not_answered_fails_when_the_room_is_left() {
    let mut bench = Bench::online();
    ask(&mut bench, 1);
    bench.lines();
    bench.leave();
    assert!(bench.lines().contains(&"1: closed: left (1000)".to_owned()));
    ask(&mut bench, 2);
    assert_eq!(bench.lines(), ["2: closed: left (1000)"]);
}

#[test]
fn too_many_requests_are_refused_like_too_many_messages() {
    let mut bench = Bench::online_with(Settings { max_unsent: 2, ..settings() });
    bench.machine.on_closed(bench.now, 1006, "");
    bench.lines();
    ask(&mut bench, 1);
    bench.send(2);
    ask(&mut bench, 3);
    assert_eq!(bench.lines(), ["3: too many messages are waiting to be sent; send again later"]);
}

#[test]
fn a_message_with_a_seq_is_own_only_if_its_member_is_of_this_epoch() {
    let mut bench = Bench::online();
    bench.come_back("s2", entered(0, json!({"member": "2", "epoch": "F"})));
    ask(&mut bench, 1);
    bench.lines();
    // Without a store, "1" is another member in this epoch.
    let messages = json!([stored("a", "1"), said_by("1"), said_by("2"), stored("b", "2")]);
    bench.say(page("c1", messages, false));
    assert_eq!(bench.lines(), [r#"1: own message "a", message "x" 1, own message "x" 1, own message "b""#]);
}

fn said_by(member: &str) -> Value {
    merged(said(1, "x"), json!({"member": member}))
}

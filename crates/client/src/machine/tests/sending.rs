//! Messages: acknowledgements, repetitions and limits.

use super::*;

#[test]
fn sends_unacknowledged_messages_again() {
    let mut bench = Bench::online();
    let welcome = merged(welcome("s1"), json!({"limits": {"cids": 2, "messageBytes": 200}}));
    bench.machine.on_closed(ms(0), 1006, "");
    bench.wait();
    bench.machine.on_open(bench.now, None);
    bench.say(welcome);
    bench.say(session_resumed(&["r"]));
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

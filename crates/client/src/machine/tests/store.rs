//! Messages from the server's store, in the answer to an enter.

use super::*;

/// A message from the server's store.
fn stored(message: &str, id: u64, member: &str) -> Value {
    json!({"event": "message", "message": message, "name": "bob", "member": member, "id": id, "roomId": "r"})
}

fn said_with_id(seq: u64, message: &str, id: u64) -> Value {
    merged(said(seq, message), json!({"id": id}))
}

/// In a room of a server with a store. The `entered` has the id 100.
fn in_room() -> Bench {
    let mut bench = Bench::new(settings());
    bench.open("s1");
    bench.say(entered(0, json!({"id": 100})));
    bench.lines();
    bench
}

/// The answer to an enter after a restart.
fn entered_again(seq: u64, more: Value) -> Value {
    entered(seq, merged(json!({"member": "9", "epoch": "F", "id": 200}), more))
}

/// The `since` with which the client enters again.
fn since_after(bench: &mut Bench) -> Value {
    bench.machine.on_closed(bench.now, 1006, "");
    bench.lines();
    let sent = bench.reconnect("s9");
    let enter = sent.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    enter.map(|frame| frame["since"].clone()).find(|since| !since.is_null()).unwrap()
}

#[test]
fn messages_of_the_first_enter_are_the_history() {
    let mut bench = Bench::new(settings());
    bench.open("s1");
    let messages = json!([null, "x", stored("one", 10, "b"), stored("two", 11, "b")]);
    bench.say(entered(5, json!({"id": 100, "history": 1, "messages": messages, "more": true})));
    bench.say(said_with_id(4, "three", 12));
    let expected = [r#"history message "one""#, r#"history message "two""#, r#"history message "three" 4"#];
    assert_eq!(bench.lines()[2..], expected);
}

#[test]
fn messages_of_a_later_enter_are_replayed_even_if_some_are_missing() {
    for (recovered, more, gap) in [(json!("store"), false, vec![]), (json!(false), true, vec!["gap"])] {
        let mut bench = in_room();
        let messages = json!([stored("mine", 110, "1"), stored("two", 120, "b")]);
        let answer = entered_again(0, json!({"recovered": recovered, "messages": messages, "more": more}));
        let lines = bench.come_back("s2", answer);
        let messages = [r#"own replayed message "mine""#, r#"replayed message "two""#];
        assert_eq!(lines[2..], [gap, messages.to_vec()].concat());
        assert_eq!(since_after(&mut bench)["id"], 200);
    }
}

#[test]
fn a_message_that_comes_from_the_store_and_in_the_replay_is_emitted_once() {
    let mut bench = in_room();
    let messages = json!([stored("one", 110, "b"), stored("two", 120, "b")]);
    let answer = entered_again(2, json!({"recovered": "store", "replayed": 2, "messages": messages}));
    let mut lines = bench.come_back("s2", answer);
    bench.say(said_with_id(1, "two", 120));
    bench.say(said_with_id(2, "three", 130));
    lines.extend(bench.lines());
    let expected =
        [r#"replayed message "one""#, r#"replayed message "two""#, r#"replayed message "three" 2"#];
    assert_eq!(lines[2..], expected);
}

#[test]
fn the_id_of_the_enter_counts_once_all_frames_before_it_have_come() {
    for (frames, id) in [(0, 100), (1, 110), (2, 200)] {
        let mut bench = in_room();
        let answer = entered(2, json!({"member": "9", "recovered": true, "replayed": 2, "id": 200}));
        bench.come_back("s2", answer);
        for n in 1..=frames {
            bench.say(said_with_id(n, "x", 100 + 10 * n));
        }
        assert_eq!(since_after(&mut bench), json!({"epoch": "E", "seq": frames, "id": id}));
    }
}

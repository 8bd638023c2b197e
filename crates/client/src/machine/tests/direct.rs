//! Direct messages, in both directions.

use super::*;

/// A direct message of another user.
fn direct(number: u64, message: &str) -> Value {
    json!({"event": "direct", "message": message, "from": {"user": "u", "name": "bob"}, "direct": number})
}

fn reached(cid: &str, connections: u64) -> Value {
    json!({"event": "ack", "cid": cid, "reached": connections})
}

/// The answer to a resume, with the number of the last frame before those that follow.
fn resumed_with(member: Option<&str>, last: u64) -> Value {
    let frame = json!({"event": "resumed", "rooms": [{"roomId": "r", "name": "ann"}], "direct": last});
    merged(frame, member.map_or(json!({"rooms": []}), |member| json!({"member": member})))
}

fn line(text: &str) -> String {
    format!("direct {text:?}")
}

impl Bench {
    fn send_to_user(&mut self, n: u32) -> Vec<String> {
        self.machine.send_to_user(self.now, "u", &Body::of_direct(&n).unwrap(), n);
        self.lines()
    }

    fn hear(&mut self, frame: Value) -> Vec<String> {
        self.say(frame);
        self.lines()
    }

    /// The connection is lost, and another one is opened. Returns the frame that resumes the session.
    fn resume_in_vain(&mut self, token: &str) -> Value {
        self.machine.on_closed(self.now, 1006, "");
        self.lines();
        let lines = self.reconnect_unanswered(token);
        let resume = lines.iter().find(|line| line.contains(r#""event":"resume""#)).unwrap();
        serde_json::from_str(resume).unwrap()
    }
}

fn sent(n: u32, cid: &str) -> String {
    format!(r#"{{"event":"direct","message":{n},"to":"u","cid":"{cid}"}}"#)
}

#[test]
fn numbered_frames_arrive_once_and_in_order_over_lost_connections() {
    let mut bench = Bench::online();
    assert_eq!(bench.hear(direct(1, "a")), [line("a")]);
    assert_eq!(bench.hear(direct(2, "b")), [line("b")]);
    assert!(bench.hear(direct(2, "b")).is_empty());
    let resume = bench.resume_in_vain("s2");
    assert_eq!((&resume["member"], &resume["direct"]), (&json!("1"), &json!(2)));
    assert!(bench.hear(direct(1, "of the new session")).is_empty());
    bench.hear(resumed_with(Some("1"), 2));
    assert_eq!(bench.hear(direct(3, "c")), [line("c")]);
    assert_eq!(bench.hear(direct(4, "d")), [line("d")]);
}

#[test]
fn frames_that_the_server_does_not_keep_are_reported() {
    let mut bench = Bench::online();
    bench.hear(direct(1, "a"));
    bench.resume_in_vain("s2");
    assert_eq!(bench.hear(resumed_with(Some("1"), 4))[0], "direct gap of 3");
    assert_eq!(bench.hear(direct(5, "e")), [line("e")]);
    assert_eq!(bench.hear(direct(7, "g")), ["direct gap of 1".to_owned(), line("g")]);
}

#[test]
fn a_session_that_was_not_resumed_begins_at_1() {
    for member in [None, Some("2")] {
        let mut bench = Bench::online();
        (1..4).for_each(|n| bench.say(direct(n, "x")));
        bench.lines();
        bench.resume_in_vain("s2");
        assert!(bench.hear(direct(1, "a")).is_empty());
        assert_eq!(bench.hear(resumed_with(member, 0))[0], "direct gap");
        assert_eq!(bench.hear(direct(1, "a")), [line("a")]);
        assert_eq!(bench.hear(direct(2, "b")), [line("b")]);
    }
}

#[test]
fn a_frame_without_a_number_arrives_at_any_time() {
    let mut bench = Bench::online();
    bench.resume_in_vain("s2");
    let notice = json!({"event": "notice", "message": "hi", "roomId": "r"});
    assert_eq!(bench.hear(notice), [r#"notice "hi""#]);
    bench.hear(resumed_with(Some("1"), 0));
    let numbered = json!({"event": "presence", "message": "hi", "roomId": "r", "seq": 9, "direct": 1});
    assert_eq!(bench.hear(numbered), [r#"presence "hi" 9"#], "its number makes it a direct frame");
}

#[test]
fn a_client_without_a_session_to_resume_takes_frames_at_once() {
    let mut bench = Bench::new(settings());
    bench.open("s1");
    assert_eq!(bench.hear(direct(1, "a")), [line("a")]);
}

#[test]
fn direct_messages_are_sent_in_order_and_resolve_to_the_connections_reached() {
    let mut bench = Bench::online();
    assert_eq!(bench.send_to_user(1), [sent(1, "c1")]);
    assert_eq!(bench.send_to_user(2), [sent(2, "c2")]);
    assert_eq!(bench.hear(reached("c1", 3)), ["1: ok 3"]);
    assert_eq!(bench.hear(error("denied", json!({"cid": "c2"}))), ["2: refused: so it is (denied)"]);
}

#[test]
fn direct_messages_wait_for_a_connection_and_are_sent_again_until_acknowledged() {
    let mut bench = Bench::online();
    bench.send_to_user(1);
    bench.send_to_user(2);
    bench.hear(reached("c1", 1));
    bench.machine.on_closed(bench.now, 1006, "");
    bench.lines();
    assert!(bench.send_to_user(3).is_empty());
    let lines = bench.reconnect_unanswered("s2");
    assert!(numbers_sent(&lines).is_empty(), "not before it is known which session it is: {lines:?}");
    let lines = bench.hear(resumed_with(Some("1"), 0));
    assert_eq!(lines, [sent(2, "c2"), sent(3, "c3")]);
    bench.hear(reached("c2", 1));
    assert_eq!(bench.hear(reached("c3", 0)), ["3: ok 0"]);
}

#[test]
fn a_direct_message_that_the_server_puts_off_is_sent_before_later_ones() {
    let mut bench = Bench::online();
    bench.send_to_user(1);
    bench.send_to_user(2);
    bench.hear(error("rate_limited", json!({"cid": "c1", "retryAfter": 200})));
    bench.hear(error("rate_limited", json!({"cid": "c2", "retryAfter": 200})));
    assert!(bench.send_to_user(3).is_empty());
    let mut sent = Vec::new();
    for cid in ["c1", "c2", "c3"] {
        bench.pass(300);
        sent.extend(numbers_sent(&bench.lines()));
        bench.say(reached(cid, 1));
        sent.extend(numbers_sent(&bench.lines()));
    }
    assert_eq!(sent, [1, 2, 3]);
}

/// Not all nodes of the server could be reached. Those that have got the message know it by its `cid`.
#[test]
fn a_direct_message_is_sent_again_under_its_id_when_the_server_is_available() {
    let mut bench = Bench::online();
    assert_eq!(bench.send_to_user(1), [sent(1, "c1")]);
    for _ in 0..3 {
        bench.say(error("unavailable", json!({"cid": "c1", "retryAfter": 900})));
        bench.pass(899);
        assert_eq!(bench.lines(), [""; 0]);
        bench.pass(1);
        assert_eq!(bench.lines(), [sent(1, "c1")]);
    }
    assert_eq!(bench.hear(reached("c1", 2)), ["1: ok 2"]);
}

#[test]
fn too_many_direct_messages_are_refused() {
    let mut bench = Bench::new(Settings { max_unsent: 2, ..settings() });
    assert!(bench.send_to_user(1).is_empty() && bench.send_to_user(2).is_empty());
    assert_eq!(bench.send_to_user(3), ["3: too many messages are waiting to be sent; send again later"]);
    let lines = bench.open("s1");
    assert_eq!(numbers_sent(&lines), [1, 2], "no room has to be entered for them");
}

#[test]
fn direct_messages_that_wait_at_the_end_fail() {
    let mut bench = Bench::online();
    bench.send_to_user(1);
    bench.machine.on_closed(bench.now, 4500, "kicked");
    assert_eq!(bench.lines()[0], "1: closed: kicked (4500)");
    assert_eq!(bench.send_to_user(2), ["2: closed: kicked (4500)"]);
}

/// The numbers of the direct messages that were sent.
fn numbers_sent(lines: &[String]) -> Vec<u64> {
    let frames = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    frames.filter(|frame| frame["event"] == "direct").filter_map(|frame| frame["message"].as_u64()).collect()
}

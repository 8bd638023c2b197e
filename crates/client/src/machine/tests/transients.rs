//! Transient events: when they are sent, and what their refusals are not about.

use super::*;

/// In its room at position 1, on a server with the transient event "typing".
fn online(settings: Settings) -> Bench {
    let mut bench = Bench::new(settings);
    bench.machine.on_open(bench.now, None);
    bench.say(merged(welcome("s1"), json!({"transient": ["typing"]})));
    bench.say(entered(1, json!({})));
    bench.lines();
    bench
}

impl Bench {
    fn type_in(&mut self, key: RoomKey) {
        self.machine.send_transient(self.now, key, &body("typing", true));
    }
}

const TYPING: &str = r#"{"event":"typing","message":true,"roomId":"r"}"#;

#[test]
fn a_transient_frame_is_sent_at_once_without_an_id() {
    let mut bench = online(settings());
    bench.type_in(R);
    assert_eq!(bench.lines(), [TYPING]);
    assert_eq!(**bench.machine.transient_events(), ["typing".to_owned()]);
}

#[test]
fn an_event_that_is_not_declared_is_not_sent() {
    let mut bench = online(settings());
    bench.machine.send_transient(bench.now, R, &body("pointer", 1));
    assert_eq!(bench.lines(), [""; 0]);
    // The client comes back to a server that has declared nothing.
    bench.come_back("s2", resumed(1, 0));
    bench.type_in(R);
    assert_eq!(bench.lines(), [""; 0]);
}

#[test]
fn outside_of_the_room_it_is_dropped() {
    let mut bench = online(settings());
    bench.say(removed("denied"));
    bench.lines();
    bench.type_in(R);
    assert_eq!(bench.lines(), [""; 0]);
    bench.machine.on_closed(bench.now, 1006, "");
    bench.lines();
    bench.type_in(R);
    bench.reconnect_unanswered("s2");
    bench.type_in(R);
    bench.say(session_resumed(&["r"]));
    bench.say(resumed(1, 0));
    assert!(!bench.lines().iter().any(|line| line.contains("typing")), "it is not sent later");
}

#[test]
fn a_frame_to_this_connection_only_is_not_transient_because_it_names_a_room() {
    let mut bench = online(settings());
    bench.say(json!({"event": "hint", "roomId": "r", "message": 1}));
    bench.say(json!({"event": "hint", "roomId": "elsewhere", "message": 2}));
    bench.say(json!({"event": "typing", "message": 3}));
    assert_eq!(bench.lines(), ["hint 1", "hint 2", "typing 3"]);
    bench.say(json!({"event": "hint", "roomId": "r", "member": "b", "message": 4}));
    bench.say(json!({"event": "typing", "roomId": "r", "message": 5}));
    assert_eq!(bench.lines(), ["transient hint 4", "transient typing 5"]);
    bench.say(json!({"event": "typing", "roomId": "left", "member": "b", "message": 6}));
    assert_eq!(bench.lines(), [""; 0], "it comes too late");
}

#[test]
fn it_overtakes_no_message() {
    let mut bench = online(settings());
    (0..16).for_each(|n| bench.send(n));
    bench.type_in(R);
    assert_eq!(bench.lines().last().unwrap(), TYPING, "all messages before it are sent");
    bench.send(16);
    bench.type_in(R);
    assert_eq!(bench.lines(), [""; 0], "one waits");
    bench.say(ack("c1", 2));
    assert_eq!(numbers(&bench.lines()), [16]);
}

#[test]
fn a_message_with_a_transient_event_is_refused() {
    let mut bench = online(settings());
    bench.machine.publish(bench.now, R, &body("typing", true), 1);
    let why = r#"1: the event "typing" is transient on this server: use `send_transient`"#;
    assert_eq!(bench.lines(), [why]);
    // Also if the event was not transient yet, and in front of other messages.
    bench.come_back("s2", resumed(1, 0));
    bench.machine.on_closed(bench.now, 1006, "");
    bench.machine.publish(bench.now, R, &body("typing", true), 1);
    bench.send(2);
    bench.lines();
    bench.wait();
    bench.machine.on_open(bench.now, None);
    bench.say(merged(welcome("s3"), json!({"transient": ["typing"]})));
    bench.say(session_resumed(&["r"]));
    bench.lines();
    bench.say(resumed(1, 0));
    let lines = bench.lines();
    assert_eq!(lines[2], why);
    assert_eq!(numbers(&lines), [2]);
}

#[test]
fn its_refusal_is_not_about_an_enter_or_a_message() {
    let mut bench = online(settings());
    bench.machine.join(bench.now, RoomKey(1), room("q"));
    bench.send(1);
    bench.type_in(R);
    bench.lines();
    bench.say(error("denied", json!({})));
    assert_eq!(bench.lines(), ["error: refused: so it is (denied)"]);
    bench.say(error("not_entered", json!({})));
    assert_eq!(bench.lines(), [""; 0], "it got lost");
    bench.say(merged(entered(1, json!({})), json!({"roomId": "q"})));
    bench.say(ack("c1", 2));
    assert_eq!(bench.lines(), ["1: online", "1: entered as 1, resumed false, recovered false", "1: ok 2"]);
}

#[test]
fn transient_frames_of_an_expired_token_refuse_no_new_token() {
    let mut bench = online(renewable());
    bench.pass(1000);
    (0..3).for_each(|_| bench.type_in(R));
    bench.say(removed("token_expired"));
    bench.say(no_auth("the token has expired"));
    bench.pass(1000);
    assert_eq!(bench.lines().last().unwrap(), "ask for a token");
    bench.machine.on_token(bench.now, Ok("T".into()));
    // One for each transient frame.
    (0..3).for_each(|_| bench.say(no_auth("authenticate first")));
    assert_eq!(bench.lines(), [r#"{"event":"auth","message":"T"}"#]);
    bench.say(json!({"event": "authenticated"}));
    bench.say(resumed(1, 0));
    assert!(bench.lines().contains(&"online".to_owned()));
}

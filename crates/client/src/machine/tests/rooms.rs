//! Several rooms on one connection.

use super::*;

pub(super) const TEA: RoomKey = RoomKey(1);
pub(super) const COFFEE: RoomKey = RoomKey(2);

pub(super) fn enter(room: &str) -> String {
    format!(r#"{{"event":"enter","message":"ann","roomId":"{room}"}}"#)
}

pub(super) fn enter_since(room: &str, seq: u64) -> String {
    let since = format!(r#""since":{{"epoch":"E","seq":{seq}}}"#);
    format!(r#"{{"event":"enter","message":"ann","roomId":"{room}",{since}}}"#)
}

pub(super) fn leave(room: &str) -> String {
    format!(r#"{{"event":"leave","roomId":"{room}"}}"#)
}

pub(super) fn left(room: &str) -> Value {
    json!({"event": "left", "roomId": room})
}

pub(super) fn removed_from(room: &str, code: &str) -> Value {
    merged(removed(code), json!({"roomId": room}))
}

/// A frame of this room.
pub(super) fn of(room: &str, frame: Value) -> Value {
    merged(frame, json!({"roomId": room}))
}

impl Bench {
    /// A connection without rooms, with its welcome.
    pub(super) fn chat() -> Bench {
        let mut bench = Bench::with(|random| Machine::new(settings(), random));
        assert_eq!(bench.open("s1"), ["chat: online"]);
        bench
    }

    pub(super) fn join(&mut self, key: RoomKey, id: &str) {
        self.machine.join(self.now, key, room(id));
    }

    pub(super) fn leave_room(&mut self, key: RoomKey) {
        self.machine.leave(self.now, key);
    }

    /// In two rooms at position 1.
    pub(super) fn in_two_rooms() -> Bench {
        let mut bench = Bench::chat();
        bench.join(TEA, "tea");
        bench.join(COFFEE, "coffee");
        assert_eq!(bench.lines(), [enter("tea"), enter("coffee")]);
        bench.say(of("tea", entered(1, json!({}))));
        bench.say(of("coffee", entered(1, json!({}))));
        assert_eq!(
            bench.lines(),
            [
                "1: online",
                "1: entered as 1, resumed false, recovered false",
                "2: online",
                "2: entered as 1, resumed false, recovered false"
            ]
        );
        bench
    }

    pub(super) fn lose(&mut self) {
        self.machine.on_closed(self.now, 1006, "");
        self.lines();
    }
}

#[test]
fn frames_reach_their_room_and_each_room_has_its_position() {
    let mut bench = Bench::in_two_rooms();
    bench.say(of("tea", said(2, "a")));
    bench.say(of("coffee", said(2, "b")));
    bench.say(of("tea", said(3, "c")));
    bench.say(of("unknown", said(2, "d")));
    bench.say(json!({"event": "notice", "message": "e"}));
    bench.say(json!({"event": "lagged", "missed": 2, "roomId": "coffee"}));
    assert_eq!(
        bench.lines(),
        [
            r#"1: message "a" 2"#,
            r#"2: message "b" 2"#,
            r#"1: message "c" 3"#,
            r#"chat: notice "e""#,
            "2: gap of 2"
        ]
    );
    bench.lose();
    assert_eq!(bench.reconnect("s2"), [enter_since("tea", 3), enter_since("coffee", 4)]);
}

#[test]
fn a_room_is_left_and_the_other_goes_on() {
    let mut bench = Bench::in_two_rooms();
    bench.machine.publish(bench.now, TEA, &body("message", "x"), 1);
    bench.lines();
    bench.leave_room(TEA);
    assert_eq!(
        bench.lines(),
        [
            "1: closed: left (1000)",
            "1: closed: closed: left (1000)",
            "1 is over: closed: left (1000)",
            &leave("tea")
        ]
    );
    bench.say(of("tea", said(2, "late")));
    bench.say(of("coffee", said(2, "b")));
    bench.say(left("tea"));
    bench.say(left("tea"));
    assert_eq!(bench.lines(), [r#"2: message "b" 2"#, "1 is left"]);
    bench.machine.publish(bench.now, TEA, &body("message", "x"), 2);
    assert_eq!(bench.lines(), ["2: closed: the room was left (1000)"]);
    bench.leave_room(COFFEE);
    bench.say(left("coffee"));
    bench.lines();
    bench.beats(5);
    assert_eq!(bench.lines(), [""; 0], "the connection stays");
    bench.machine.leave_all(bench.now);
    assert_eq!(bench.lines(), ["close 1000", "chat: closed: closed: left (1000)"]);
}

#[test]
fn a_leave_without_an_answer_is_repeated() {
    let mut bench = Bench::in_two_rooms();
    bench.leave_room(TEA);
    bench.lines();
    bench.say(error("rate_limited", json!({"retryAfter": 300})));
    bench.pass(299);
    assert_eq!(bench.lines(), [""; 0]);
    bench.pass(1);
    assert_eq!(bench.lines(), [leave("tea")]);
    // It may be that this one is not answered in time: then the connection is given up.
    bench.beats(10);
    assert_eq!(bench.lines()[0], "close 4000");
    bench.reconnect_unanswered("s2");
    bench.say(session_resumed(&["tea", "coffee"]));
    assert_eq!(bench.lines(), [leave("tea")]);
}

#[test]
fn a_room_that_is_joined_again_is_left_first() {
    let mut bench = Bench::in_two_rooms();
    bench.leave_room(TEA);
    bench.lines();
    bench.join(RoomKey(3), "tea");
    bench.say(of("tea", said(2, "of the membership before")));
    assert_eq!(bench.lines(), [""; 0]);
    bench.say(left("tea"));
    assert_eq!(bench.lines(), ["1 is left", &enter("tea")]);
    bench.say(of("tea", entered(3, json!({}))));
    bench.say(of("tea", said(4, "x")));
    assert_eq!(
        bench.lines(),
        ["3: online", "3: entered as 1, resumed false, recovered false", r#"3: message "x" 4"#]
    );
    bench.join(RoomKey(4), "tea");
    let why = r#"4 is over: the room "tea" was joined already; leave it first"#;
    assert_eq!(bench.lines(), [why]);
}

#[test]
fn an_enter_that_was_not_answered_before_the_room_was_left_leaves_no_ghost() {
    let mut bench = Bench::chat();
    bench.join(TEA, "tea");
    bench.leave_room(TEA);
    assert_eq!(bench.lines(), [enter("tea"), "1 is over: closed: left (1000)".into(), leave("tea")]);
    bench.say(of("tea", entered(1, json!({}))));
    bench.say(left("tea"));
    assert_eq!(bench.lines(), ["1 is left"]);
    bench.beats(30);
    assert_eq!(bench.lines(), [""; 0], "no answer is missing");
    // A room in which nobody wants to be.
    bench.say(of("coffee", entered(1, json!({}))));
    assert_eq!(bench.lines(), [leave("coffee")]);
}

#[test]
fn a_removal_concerns_one_room() {
    for (code, told) in [
        ("denied", vec!["1: outside: refused: so it is (denied)"]),
        ("name_taken", vec!["1: outside: refused: so it is (name_taken)"]),
        ("internal", vec!["1: outside for 0.5 s: refused: so it is (internal)"]),
        (
            "room_closed",
            vec!["1: closed: refused: so it is (room_closed)", "1 is over: refused: so it is (room_closed)"],
        ),
    ] {
        let mut bench = Bench::in_two_rooms();
        bench.say(removed_from("tea", code));
        assert_eq!(bench.lines(), told);
        bench.say(of("coffee", said(2, "x")));
        assert_eq!(bench.lines(), [r#"2: message "x" 2"#]);
        bench.pass(500);
        let again = if code == "internal" { vec![enter_since("tea", 1)] } else { Vec::new() };
        assert_eq!(bench.lines(), again, "{code}");
    }
}

#[test]
fn an_expired_token_concerns_all_rooms() {
    let mut bench = Bench::with(|random| Machine::new(renewable(), random));
    bench.open("s1");
    for (key, room) in [(TEA, "tea"), (COFFEE, "coffee")] {
        bench.join(key, room);
        bench.say(of(room, entered(1, json!({}))));
    }
    bench.pass(1500);
    bench.machine.publish(bench.now, COFFEE, &body("message", "x"), 1);
    bench.lines();
    bench.say(removed_from("tea", "token_expired"));
    bench.say(removed_from("coffee", "token_expired"));
    bench.say(no_auth("the token has expired"));
    bench.say(no_auth("authenticate first")); // The answer to the message.
    assert_eq!(
        bench.lines(),
        [
            "1: outside: not authenticated: so it is",
            "ask for a token",
            "2: outside: not authenticated: so it is"
        ]
    );
    bench.machine.on_token(bench.now, Ok("T".into()));
    bench.say(json!({"event": "authenticated"}));
    assert_eq!(bench.lines()[1..], [enter_since("tea", 1), enter_since("coffee", 1)]);
}

#[test]
fn a_room_too_many_is_refused() {
    let mut bench = Bench::in_two_rooms();
    bench.join(RoomKey(3), "third");
    bench.say(error("too_many_memberships", json!({"roomId": "third"})));
    assert_eq!(bench.lines(), [enter("third"), "3 is over: refused: so it is (too_many_memberships)".into()]);
    bench.beats(60);
    assert_eq!(bench.lines(), [""; 0]);
}

#[test]
fn the_connection_is_closed_once_nobody_needs_it() {
    let mut bench = Bench::in_two_rooms();
    bench.machine.release(bench.now);
    bench.leave_room(TEA);
    bench.lines();
    assert!(bench.machine.ended().is_none());
    bench.leave_room(COFFEE);
    assert_eq!(bench.lines()[0], "close 1000");
    assert!(bench.machine.ended().is_some());
    let mut bench = Bench::chat();
    bench.machine.release(bench.now);
    assert_eq!(bench.lines()[0], "close 1000");
}

#[test]
fn a_room_whose_events_are_not_taken_does_not_hold_up_the_others() {
    let mut bench = Bench::in_two_rooms();
    bench.machine.on_full(bench.now, TEA);
    assert!(bench.machine.may_read());
    bench.say(of("tea", said(2, "dropped")));
    bench.say(of("coffee", said(2, "x")));
    bench.say(of("tea", said(3, "dropped")));
    assert_eq!(bench.lines(), [r#"2: message "x" 2"#]);
    bench.machine.on_capacity(bench.now, TEA);
    assert_eq!(bench.lines(), [enter_since("tea", 1)], "on the same connection");
    bench.say(of("tea", resumed(3, 2)));
    bench.say(of("tea", said(2, "a")));
    assert_eq!(
        bench.lines(),
        ["1: entered as 1, resumed true, recovered true", r#"1: replayed message "a" 2"#]
    );
    // Only if all are full, nobody has to wait for what is not read.
    bench.machine.on_full(bench.now, TEA);
    bench.machine.on_full(bench.now, COFFEE);
    assert!(!bench.machine.may_read());
    bench.machine.on_capacity(bench.now, COFFEE);
    assert!(bench.machine.may_read());
}

#[test]
fn frames_that_can_not_be_read_may_be_of_any_room() {
    let mut bench = Bench::in_two_rooms();
    bench.say_text(r#"{"event":"x","message":1e400,"roomId":"tea","seq":2}"#);
    assert_eq!(bench.lines()[1..], ["1: gap of 1"]);
    bench.say_text("{");
    assert!(bench.lines()[0].starts_with("chat: error: "));
    bench.say(of("tea", said(3, "a")));
    bench.say(of("coffee", said(3, "b")));
    assert_eq!(bench.lines(), [r#"1: message "a" 3"#, "2: gap of 1", r#"2: message "b" 3"#]);
    bench.say(of("coffee", said(5, "c")));
    assert_eq!(bench.lines()[0], "close 4000");
}

#[test]
fn a_frame_to_this_connection_only_is_an_event_of_the_chat_even_if_it_names_a_room() {
    let mut bench = Bench::in_two_rooms();
    bench.say(json!({"event": "hint", "roomId": "tea", "message": 1}));
    assert_eq!(bench.lines(), ["chat: hint 1"]);
    bench.say(json!({"event": "hint", "roomId": "tea", "member": "b", "message": 2}));
    assert_eq!(bench.lines(), ["1: transient hint 2"]);
}

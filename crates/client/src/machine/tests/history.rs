//! The latest messages for a client that enters for the first time.

use super::*;

const ASKS: &str = r#""last":3"#;

/// A machine that asks for the latest three messages, connected.
fn asking() -> Bench {
    let settings_of_room = RoomSettings { history: 3, ..room("r") };
    Bench::with(|random| Machine::with_room(settings(), random, R, settings_of_room))
}

#[test]
fn the_history_comes_before_the_frames_of_the_room() {
    let mut bench = asking();
    let sent = bench.open("s1");
    assert!(sent[0].contains(ASKS) && !sent[0].contains("since"), "{sent:?}");
    bench.say(entered(9, json!({"history": 3})));
    for seq in [2, 5, 9, 9] {
        bench.say(said(seq, "old"));
    }
    bench.say(json!({"event": "enter", "message": "ann", "name": "ann", "num": 2, "member": "1", "seq": 10}));
    bench.say(said(11, "new"));
    assert_eq!(
        bench.lines(),
        [
            "online",
            "entered as 1, resumed false, recovered false",
            r#"history message "old" 2"#,
            r#"history message "old" 5"#,
            r#"history message "old" 9"#,
            r#"own enter "ann" 10"#,
            r#"message "new" 11"#
        ]
    );
    let sent = bench.come_back("s2", resumed(11, 0));
    assert_eq!(sent, ["online", "entered as 1, resumed true, recovered true"]);
}

#[test]
fn it_changes_no_position_and_is_asked_for_once() {
    let mut bench = asking();
    bench.open("s1");
    bench.say(entered(9, json!({"history": 3})));
    bench.say(said(2, "old"));
    assert_eq!(bench.machine.room_status(R).unwrap().position.map(|position| position.seq()), Some(9));
    bench.machine.on_closed(bench.now, 1006, "");
    bench.lines();
    let sent = bench.reconnect("s2").join("");
    assert!(sent.contains(r#""since":{"epoch":"E","seq":9}"#) && !sent.contains("last"), "{sent}");
    bench.say(resumed(9, 0));
    bench.say(said(5, "old"));
    bench.say(said(10, "new"));
    assert_eq!(bench.lines()[2..], [r#"message "new" 10"#]);
}

#[test]
fn it_is_asked_for_again_if_the_first_answer_was_lost() {
    let mut bench = asking();
    assert!(bench.open("s1")[0].contains(ASKS));
    bench.machine.on_closed(bench.now, 1006, "");
    bench.lines();
    assert!(bench.reconnect("s2").join("").contains(ASKS));
    bench.say(entered(9, json!({"resumed": true, "history": 1})));
    bench.say(said(9, "old"));
    assert_eq!(bench.lines().last().unwrap(), r#"history message "old" 9"#);
}

#[test]
fn it_acknowledges_nothing() {
    let mut bench = asking();
    bench.open("s1");
    bench.say(entered(9, json!({"history": 2})));
    bench.send(1);
    bench.say(own(5, "1", "c1"));
    let lines = bench.lines();
    assert!(lines[2].contains(r#""message":"1""#), "it is sent before the history has arrived: {lines:?}");
    bench.say(own(6, "1", "c1"));
    assert_eq!(bench.lines(), [r#"own history message "1" 6"#]);
    bench.say(own(10, "1", "c1"));
    assert_eq!(bench.lines(), ["1: ok 10", r#"own message "1" 10"#]);
}

#[test]
fn fewer_messages_than_announced_end_with_the_first_frame_of_the_room() {
    let mut bench = asking();
    bench.open("s1");
    bench.say(entered(9, json!({"history": 3})));
    bench.lines();
    bench.say(said(2, "old"));
    bench.say(said(10, "new"));
    bench.say(said(9, "late"));
    assert_eq!(bench.lines(), [r#"history message "old" 2"#, r#"message "new" 10"#]);
}

#[test]
fn what_can_not_be_read_is_no_gap() {
    let mut bench = asking();
    bench.open("s1");
    bench.say(entered(9, json!({"history": 3})));
    bench.lines();
    bench.say_text(r#"{"event":"message","message":1e400,"roomId":"r","seq":5}"#);
    bench.say_text(r#"{"event":"message","message":1e400,"roomId":"r"}"#);
    bench.say(said(8, "old"));
    bench.say(said(10, "new"));
    let lines = bench.lines();
    assert_eq!(lines[2..], [r#"history message "old" 8"#, r#"message "new" 10"#]);
    assert!(lines[..2].iter().all(|line| line.starts_with("error: ")), "{lines:?}");
}

#[test]
fn what_the_application_does_not_take_is_counted_and_not_replayed() {
    let mut bench = asking();
    bench.open("s1");
    bench.say(entered(9, json!({"history": 2})));
    bench.lines();
    bench.fill();
    bench.say(said(2, "old"));
    bench.say(said(3, "old"));
    bench.free();
    assert_eq!(bench.lines(), ["overflow of 2"]);
}

//! The room's frames: their order, gaps, and what can't be read.

use super::*;

#[test]
fn emits_each_frame_once_and_in_order() {
    let mut bench = Bench::online();
    for seq in [1, 2, 2] {
        bench.say(said(seq, "a"));
    }
    assert_eq!(bench.lines(), [r#"message "a" 2"#]);
    bench.say(said(4, "jump"));
    assert_eq!(
        bench.lines(),
        ["close 4000", "reconnecting: connection lost: frames of the room are missing (4000)"]
    );
    bench.say(said(3, "late"));
    assert_eq!(bench.lines(), [""; 0]);
    assert!(bench.reconnect("s2")[0].contains(r#""since":{"epoch":"E","seq":2}"#));
}

#[test]
fn transient_frames_have_no_place_in_the_room() {
    let mut bench = Bench::online();
    bench.say(
        json!({"event": "typing", "message": true, "roomId": "r", "name": "bob", "num": 2, "member": "b"}),
    );
    bench.say(said(2, "x"));
    assert_eq!(bench.lines(), ["transient typing true", r#"message "x" 2"#]);
    bench.fill();
    bench.pass(2000);
    bench.lines();
    bench.say(
        json!({"event": "typing", "message": true, "roomId": "r", "name": "bob", "num": 2, "member": "b"}),
    );
    bench.free();
    assert!(
        !bench.lines().iter().any(|line| line.contains("typing") || line.contains("overflow")),
        "it may get lost"
    );
}

#[test]
fn the_member_id_tells_own_frames() {
    let mut bench = Bench::online();
    bench.send(1);
    bench.lines();
    // Another member has the same name and uses the same cid.
    bench.say(json!({"event": "enter", "message": "ann", "name": "ann", "num": 2, "member": "2", "seq": 2}));
    bench.say(json!({"event": "message", "message": "x", "cid": "c1", "name": "ann", "num": 2, "member": "2", "seq": 3}));
    bench.say(json!({"event": "notice", "message": "x", "cid": "c1", "num": 2, "seq": 4}));
    bench.say(own(5, "1", "c1"));
    bench.say(json!({"event": "enter", "message": "ann", "name": "ann", "num": 2, "member": "1", "seq": 6}));
    assert_eq!(
        bench.lines(),
        [
            r#"enter "ann" 2"#,
            r#"message "x" 3"#,
            r#"notice "x" 4"#,
            "1: ok 5",
            r#"own message "1" 5"#,
            r#"own enter "ann" 6"#
        ]
    );
}

#[test]
fn frames_of_its_former_member_are_its_own() {
    let mut bench = Bench::online();
    bench.send(1);
    bench.lines();
    let answer = entered(4, json!({"member": "2", "recovered": true, "replayed": 3}));
    let lines = bench.come_back("s2", answer);
    assert_eq!(
        lines[1..],
        ["entered as 2, resumed false, recovered true"],
        "sent before the replay was over"
    );
    bench.say(own(2, "1", "c1"));
    bench.say(json!({"event": "out", "name": "ann", "num": 1, "member": "1", "seq": 3}));
    bench.say(said(4, "b"));
    bench.say(json!({"event": "enter", "message": "ann", "name": "ann", "num": 2, "member": "2", "seq": 5}));
    assert_eq!(
        bench.lines(),
        [
            "1: ok 2",
            r#"own replayed message "1" 2"#,
            "own replayed out null 3",
            r#"replayed message "b" 4"#,
            r#"own enter "ann" 5"#
        ]
    );
    // In another epoch the ids are those of others.
    bench.come_back("s3", entered(1, json!({"epoch": "F", "member": "7", "replayed": 1})));
    bench.say(own(1, "x", "x"));
    assert_eq!(bench.lines(), [r#"replayed message "x" 1"#]);
}

#[test]
fn a_gap_is_told_where_frames_were_missed() {
    for (answer, gap, next) in [
        (entered(9, json!({})), Some("gap of 8"), 10),
        (entered(9, json!({"replayed": 2})), Some("gap of 6"), 8),
        (entered(1, json!({})), None, 2),
        (entered(9, json!({"epoch": "F"})), Some("gap"), 10),
        (entered(9, json!({"epoch": "F", "replayed": 9})), Some("gap"), 1),
        (entered(0, json!({"epoch": "F"})), Some("gap"), 1),
        // The server has lost what it had.
        (entered(0, json!({})), Some("gap"), 1),
        (resumed(9, 8), None, 2),
        // More than was asked for.
        (resumed(9, 9), None, 2),
        // Older servers don't tell how much is replayed.
        (entered(9, json!({"recovered": true, "replayed": null})), None, 2),
        (entered(9, json!({"replayed": null})), Some("gap of 8"), 10),
    ] {
        let mut bench = Bench::online();
        let lines = bench.come_back("s2", answer.clone());
        assert_eq!(lines.get(2).map(String::as_str), gap, "{answer}");
        bench.say(said(next, "next"));
        assert!(bench.lines()[0].contains(&format!(r#"message "next" {next}"#)), "{answer}");
    }
}

#[test]
fn after_a_restart_of_the_server_the_gap_is_told_before_the_new_frames() {
    let mut bench = Bench::online();
    bench.machine.on_closed(ms(0), 1012, "the server restarts; retry in 2-3 s");
    bench.lines();
    bench.reconnect("s2");
    bench.say(entered(2, json!({"epoch": "F", "member": "9", "replayed": 2})));
    for seq in 1..=3 {
        bench.say(said(seq, "x"));
    }
    assert_eq!(
        bench.lines()[1..],
        [
            "entered as 9, resumed false, recovered false",
            "gap",
            r#"replayed message "x" 1"#,
            r#"replayed message "x" 2"#,
            r#"message "x" 3"#
        ]
    );
    bench.machine.on_closed(bench.now, 1006, "");
    bench.lines();
    assert!(bench.reconnect("s3")[0].contains(r#""since":{"epoch":"F","seq":3}"#));
}

#[test]
fn frames_dropped_by_the_server_are_a_gap_and_not_asked_for_again() {
    let mut bench = Bench::online();
    bench.say(said(2, "a"));
    bench.say(json!({"event": "lagged", "missed": 3}));
    bench.say(said(6, "b"));
    assert_eq!(bench.lines(), [r#"message "a" 2"#, "gap of 3", r#"message "b" 6"#]);
    bench.say(said(8, "d"));
    assert_eq!(bench.lines()[0], "close 4000");
    assert!(bench.reconnect("s2")[0].contains(r#""seq":6"#));
}

const UNREADABLE: [&str; 6] = ["", "null", "[]", "7", "{", r#"{"event":"message","message":1e400}"#];

#[test]
fn what_can_not_be_read_is_reported_and_skipped() {
    let mut bench = Bench::online();
    UNREADABLE.iter().for_each(|text| bench.say_text(text));
    bench.machine.on_binary(ms(0));
    let lines = bench.lines();
    assert_eq!(lines.len(), UNREADABLE.len() + 1);
    for line in lines {
        assert!(line.starts_with("error: the server sent a frame that can't be read: "), "{line}");
    }
    bench.say(said(2, "after"));
    assert_eq!(bench.lines(), [r#"message "after" 2"#], "none of them was a frame of the room");
    bench.say(json!({"event": "ack"}));
    assert!(bench.lines()[0].starts_with("error: "));
}

#[test]
fn a_frame_of_the_room_that_can_not_be_read_is_a_gap_of_one() {
    let deep = format!(r#"{{"event":"x","a":{}{},"seq":2}}"#, "[".repeat(200), "]".repeat(200));
    for (text, is_told_at_once) in [
        (r#"{"event":"x","message":"\ud800","seq":2}"#, true),
        (r#"{"event":"x","message":1e400,"seq":2}"#, true),
        (&*deep, true),
        ("{", false),
    ] {
        let mut bench = Bench::online();
        bench.say_text(text);
        assert_eq!(bench.lines().len(), if is_told_at_once { 2 } else { 1 }, "{text}");
        bench.say(said(3, "after"));
        let lines = bench.lines();
        assert_eq!(lines.iter().any(|line| line == "gap of 1"), !is_told_at_once, "{text}");
        assert_eq!(lines.last().unwrap(), r#"message "after" 3"#);
        // What is lost without a trace can be had again.
        bench.say(said(5, "one is missing"));
        assert_eq!(bench.lines()[0], "close 4000", "{text}");
    }
}

#[test]
fn more_missing_frames_than_unreadable_ones_are_asked_for_again() {
    let mut bench = Bench::online();
    bench.send(1);
    bench.say_text("{");
    bench.lines();
    bench.say(said(4, "after"));
    assert_eq!(bench.lines()[0], "close 4000");
    // In the replay the unreadable frame has its place, and it ends all the same.
    assert!(bench.reconnect("s2")[0].contains(r#""seq":1"#));
    bench.say(entered(4, json!({"member": "2", "recovered": true, "replayed": 3})));
    bench.lines();
    bench.say_text("{");
    bench.say(said(3, "x"));
    bench.say_text("{");
    let lines = bench.lines();
    assert_eq!(lines[1..3], ["gap of 1", r#"replayed message "x" 3"#]);
    assert_eq!(lines[4], "gap of 1");
    assert_eq!(numbers(&lines), [1], "sending begins");
    assert_eq!(bench.state(), State::Online);
}

#[test]
fn objects_without_an_event_have_their_place() {
    let mut bench = Bench::online();
    bench.say(json!({"text": "from the host", "num": 1, "seq": 2}));
    bench.say(json!({"event": 7, "num": 1, "seq": 3}));
    bench.say(said(4, "x"));
    bench.say(json!({"why": "to this connection alone"}));
    assert_eq!(bench.lines(), [" null 2", " null 3", r#"message "x" 4"#, " null"]);
}

#[test]
fn frames_before_the_room_is_entered_are_not_its_frames() {
    let mut bench = Bench::online();
    bench.machine.on_closed(ms(0), 1006, "");
    bench.lines();
    bench.reconnect("s2");
    bench.say(said(2, "too early"));
    bench.say(json!({"event": "lagged", "missed": 3}));
    bench.say_text("{");
    assert_eq!(bench.lines().len(), 1);
    assert_eq!(bench.machine.room_status(R).unwrap().position.unwrap().seq(), 1);
}

//! Connected, but not in the room.

use super::*;

const AGAIN: &str = r#"{"event":"enter","message":"ann","roomId":"r","since":{"epoch":"E","seq":1}}"#;

#[test]
fn a_member_that_is_put_out_of_the_room_stays_outside() {
    let mut bench = Bench::online();
    bench.say(removed("denied"));
    assert_eq!(bench.lines(), ["outside: refused: so it is (denied)"]);
    bench.say(said(2, "late"));
    bench.say(json!({"event": "notice"}));
    assert_eq!(bench.lines(), ["notice null"]);
    bench.beats(60);
    assert_eq!(bench.lines(), [""; 0]);
}

#[test]
fn the_application_may_have_it_enter_again() {
    let mut bench = Bench::online();
    bench.enter_again();
    assert_eq!(bench.lines(), [""; 0], "it is in the room");
    bench.say(removed("denied"));
    bench.lines();
    bench.enter_again();
    bench.enter_again();
    assert_eq!(bench.lines(), [AGAIN]);
    bench.say(error("denied", json!({"message": "still", "roomId": "r"})));
    assert_eq!(bench.lines(), ["outside: refused: still (denied)"]);
    bench.enter_again();
    assert_eq!(bench.lines(), [AGAIN]);
    bench.say(entered(3, json!({"recovered": true, "replayed": 2})));
    bench.say(said(2, "missed"));
    assert_eq!(
        bench.lines(),
        ["online", "entered as 1, resumed false, recovered true", r#"replayed message "missed" 2"#]
    );
    bench.machine.on_closed(ms(0), 1006, "");
    bench.lines();
    bench.enter_again();
    assert_eq!(bench.lines(), [""; 0], "there is no connection");
}

#[test]
fn put_out_for_a_reason_that_passes_it_enters_again_by_itself() {
    for code in ["internal", "unavailable", "rate_limited"] {
        let mut bench = Bench::online();
        bench.say(removed(code));
        assert_eq!(bench.lines(), [format!("outside for 0.5 s: refused: so it is ({code})")]);
        bench.pass(500);
        assert_eq!(bench.lines(), [AGAIN]);
        bench.say(resumed(1, 0));
        assert_eq!(bench.lines()[0], "online");
    }
}

#[test]
fn on_coming_back_only_what_can_not_pass_is_final() {
    for (code, is_final) in [
        ("denied", true),
        ("bad_name", true),
        ("bad_room_id", true),
        ("name_taken", false),
        ("room_full", false),
        ("too_many_rooms", false),
        ("internal", false),
        ("new_code", false),
    ] {
        let mut bench = Bench::online();
        bench.machine.on_closed(ms(0), 1006, "");
        bench.lines();
        bench.reconnect("s2");
        bench.say(error(code, json!({"roomId": "r"})));
        let reason = format!("refused: so it is ({code})");
        if is_final {
            assert_eq!(bench.lines(), ["close 1000".into(), format!("closed: {reason}")]);
        } else {
            assert_eq!(bench.lines(), [format!("outside for 1.0 s: {reason}")]);
            bench.pass(1000);
            assert!(bench.lines()[0].contains(r#""event":"enter""#), "on the same connection");
        }
    }
}

#[test]
fn an_enter_that_is_refused_again_and_again_is_tried_more_and_more_rarely() {
    let mut bench = Bench::online();
    bench.machine.on_closed(ms(0), 1006, "");
    bench.lines();
    bench.reconnect("s2");
    let mut waits = Vec::new();
    for _ in 0..6 {
        bench.say(error("room_full", json!({"roomId": "r"})));
        waits.push(bench.enter_in().unwrap());
        while bench.enter_in().is_some() {
            bench.beats(1);
        }
        bench.lines();
    }
    assert_eq!(waits, [1000, 2000, 4000, 8000, 10_000, 10_000]);
}

#[test]
fn an_enter_that_is_refused_again_and_again_is_tried_when_the_server_says() {
    let mut bench = Bench::online();
    for _ in 0..5 {
        bench.machine.on_closed(bench.now, 1006, "");
        bench.wait();
        bench.machine.on_failed(bench.now, Failure::Transient("connection refused".into()));
        bench.lines();
        bench.reconnect(&bench.fresh_token());
        let mut waits = Vec::new();
        for wait in [200, 200, 3000] {
            bench.say(error("unavailable", json!({"roomId": "r", "retryAfter": wait})));
            waits.push(bench.enter_in().unwrap());
            while bench.enter_in().is_some() {
                bench.beats(1);
            }
        }
        let earlier = if waits[0] == 300 { 300 } else { 1200 };
        assert_eq!(waits, [earlier, 1200, 4500]);
        bench.lines();
    }
    bench.percent.store(0, Ordering::Relaxed);
    bench.say(error("unavailable", json!({"roomId": "r", "retryAfter": 200})));
    assert_eq!(bench.enter_in(), Some(200));
}

#[test]
fn after_ten_seconds_in_the_room_the_backoff_begins_anew_for_enters_too() {
    let mut bench = Bench::online();
    let mut waits = Vec::new();
    for seconds in [9, 9, 9, 11, 9] {
        bench.say(removed("internal"));
        waits.push(bench.enter_in().unwrap());
        while bench.enter_in().is_some() {
            bench.beats(1);
        }
        bench.say(entered(1, json!({"member": "2", "recovered": true})));
        bench.beats(seconds);
    }
    assert_eq!(waits, [500, 1000, 2000, 4000, 500]);
}

#[test]
fn time_outside_of_the_room_does_not_begin_the_backoff_anew() {
    let mut bench = Bench::online_with_window(120_000);
    let mut waits = Vec::new();
    for n in 0..5 {
        bench.say(if n == 0 { removed("internal") } else { error("internal", json!({"roomId": "r"})) });
        waits.push(bench.enter_in().unwrap());
        while bench.enter_in().is_some() {
            bench.beats(1);
        }
    }
    bench.machine.on_closed(bench.now, 1006, "");
    waits.push(bench.retry_in());
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 10_000], "it was in the room for a moment only");
}

/// Its token has expired after a long time in the room.
#[test]
fn a_removal_without_a_retry_ends_the_time_in_the_room_as_well() {
    let mut bench = Bench::online();
    bench.machine.on_closed(ms(0), 1013, "");
    bench.stay(9);
    bench.machine.on_closed(bench.now, 1013, "");
    bench.stay(11);
    bench.say(removed("token_expired"));
    bench.say(no_auth("the token has expired"));
    bench.beats(1);
    bench.machine.on_closed(bench.now, 1013, "");
    assert_eq!(bench.retry_in(), 1000);
}

#[test]
fn what_is_sent_outside_waits_and_what_was_under_way_is_sent_again() {
    let mut bench = Bench::online();
    bench.send(1);
    bench.lines();
    bench.say(removed("internal"));
    bench.say(error("not_entered", json!({"cid": "c1"})));
    bench.send(2);
    assert_eq!(bench.lines(), ["outside for 0.5 s: refused: so it is (internal)"]);
    bench.pass(500);
    bench.lines();
    bench.say(entered(2, json!({"recovered": true, "replayed": 1})));
    assert_eq!(numbers(&bench.lines()), [0; 0], "it may be in the replay");
    bench.say(json!({"event": "out", "name": "ann", "num": 0, "member": "1", "seq": 2}));
    assert_eq!(numbers(&bench.lines()), [1, 2]);
    bench.say(ack("c1", 4));
    bench.say(ack("c2", 5));
    assert_eq!(bench.lines(), ["1: ok 4", "2: ok 5"]);
}

#[test]
fn a_message_that_finds_the_room_left_without_a_notice_makes_it_enter_again() {
    let mut bench = Bench::online();
    bench.send(1);
    bench.lines();
    bench.say(error("not_entered", json!({"cid": "c1"})));
    assert_eq!(bench.lines(), ["outside for 0.5 s: refused: so it is (not_entered)"]);
    bench.pass(500);
    assert_eq!(bench.lines(), [AGAIN]);
    bench.say(entered(1, json!({"recovered": true})));
    assert_eq!(numbers(&bench.lines()), [1]);
}

#[test]
fn a_lost_connection_brings_it_back_into_the_room_or_ends_it() {
    let mut bench = Bench::online();
    bench.say(removed("denied"));
    bench.machine.on_closed(ms(0), 4002, "no room was entered in time");
    bench.lines();
    bench.reconnect("s2");
    bench.say(entered(1, json!({"member": "2"})));
    assert_eq!(bench.lines()[0], "online");
    bench.say(removed("denied"));
    bench.machine.on_closed(bench.now, 1006, "");
    bench.lines();
    bench.reconnect("s3");
    bench.say(error("denied", json!({"roomId": "r"})));
    assert_eq!(bench.lines(), ["close 1000", "closed: refused: so it is (denied)"]);
}

#[test]
fn an_enter_that_is_not_answered_is_given_up() {
    let mut bench = Bench::online();
    bench.say(removed("denied"));
    bench.enter_again();
    bench.lines();
    bench.beats(10);
    assert_eq!(bench.lines(), ["close 4000", "reconnecting: connection lost: entering timed out (4000)"]);
}

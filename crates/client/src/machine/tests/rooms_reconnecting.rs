//! Several rooms whose connection is lost, and enters that the server does not accept.

use super::rooms::{COFFEE, TEA, enter, enter_since, leave, left, of, removed_from};
use super::*;

#[test]
fn a_room_that_is_left_while_there_is_no_connection_leaves_no_ghost() {
    let mut bench = Bench::in_two_rooms();
    bench.lose();
    bench.leave_room(TEA);
    let lines = bench.lines();
    assert_eq!(lines[lines.len() - 1], "1 is left", "nobody has to wait for the next connection");
    assert_eq!(
        bench.reconnect_unanswered("s2"),
        ["chat: online", r#"{"event":"resume","message":["s1"]}"#, &enter_since("coffee", 1)]
    );
    bench.say(session_resumed(&["tea", "coffee"]));
    bench.say(of("coffee", resumed(1, 0)));
    assert_eq!(bench.lines()[0], leave("tea"));
    bench.say(left("tea"));
    // So it is if all rooms are left, and if the room is joined again.
    bench.lose();
    bench.leave_room(COFFEE);
    bench.join(RoomKey(3), "coffee");
    bench.lines();
    assert_eq!(bench.reconnect_unanswered("s3")[1..], [r#"{"event":"resume","message":["s2"]}"#]);
    bench.say(session_resumed(&["coffee"]));
    assert_eq!(bench.lines(), [leave("coffee")]);
    bench.say(left("coffee"));
    assert_eq!(bench.lines(), [enter("coffee")]);
}

#[test]
fn a_room_that_was_left_is_entered_anew_if_no_session_was_resumed() {
    let mut bench = Bench::in_two_rooms();
    bench.lose();
    bench.leave_room(TEA);
    bench.join(RoomKey(3), "tea");
    bench.lines();
    assert_eq!(bench.reconnect_unanswered("s2")[2..], [enter_since("coffee", 1)]);
    bench.say(json!({"event": "resumed", "rooms": []}));
    assert_eq!(bench.lines(), ["chat: direct gap".to_owned(), enter("tea")]);
}

#[test]
fn one_of_two_rooms_is_denied_after_a_lost_connection() {
    let mut bench = Bench::in_two_rooms();
    bench.lose();
    bench.reconnect("s2");
    bench.say(removed_from("tea", "denied"));
    bench.say(of("coffee", resumed(1, 0)));
    assert_eq!(
        bench.lines(),
        [
            "1: outside: refused: so it is (denied)",
            "2: online",
            "2: entered as 1, resumed true, recovered true"
        ]
    );
    bench.machine.enter_again(bench.now, TEA);
    assert_eq!(bench.lines(), [enter_since("tea", 1)]);
    // Where the enter itself is refused, the room is closed.
    bench.say(of("tea", entered(1, json!({}))));
    bench.lose();
    bench.reconnect("s3");
    bench.say(error("denied", json!({"roomId": "tea"})));
    bench.say(of("coffee", resumed(1, 0)));
    let lines = bench.lines();
    assert_eq!(
        lines[..2],
        ["1: closed: refused: so it is (denied)", "1 is over: refused: so it is (denied)"]
    );
    assert_eq!(lines[2], "2: online");
}

#[test]
fn after_a_restart_of_the_server_all_rooms_are_entered_anew() {
    let mut bench = Bench::in_two_rooms();
    bench.machine.on_closed(ms(0), 1012, "the server restarts; retry in 2-3 s");
    let lost = "reconnecting: connection lost: the server restarts; retry in 2-3 s (1012)";
    assert_eq!(bench.lines(), ["chat", "1", "2"].map(|of| format!("{of}: {lost}")));
    bench.reconnect_unanswered("s2");
    bench.say(json!({"event": "resumed", "rooms": []}));
    let answer = entered(0, json!({"epoch": "F", "member": "9"}));
    bench.say(of("tea", answer.clone()));
    bench.say(of("coffee", answer));
    let told = ["online", "entered as 9, resumed false, recovered false", "gap"];
    let rooms = ["1", "2"].iter().flat_map(|of| told.map(|told| format!("{of}: {told}")));
    let expected: Vec<String> = std::iter::once("chat: direct gap".to_owned()).chain(rooms).collect();
    assert_eq!(bench.lines(), expected);
}

#[test]
fn a_room_that_is_joined_while_reconnecting_is_entered_with_the_others() {
    let mut bench = Bench::in_two_rooms();
    bench.lose();
    bench.join(RoomKey(3), "third");
    assert_eq!(bench.lines(), [""; 0]);
    let entered_rooms = bench.reconnect_unanswered("s2");
    assert_eq!(entered_rooms[2..], [enter_since("tea", 1), enter_since("coffee", 1), enter("third")]);
}

#[test]
fn a_room_that_can_not_be_entered_in_time_is_given_up() {
    let mut bench = Bench::in_two_rooms();
    bench.lose();
    bench.join(RoomKey(3), "third");
    let mut lines = Vec::new();
    while bench.now < ms(31_000) {
        bench.wait();
        bench.machine.on_failed(bench.now, Failure::Transient("no route".into()));
        lines.extend(bench.lines());
    }
    let over: Vec<&String> = lines.iter().filter(|line| line.contains("is over")).collect();
    assert_eq!(over.len(), 1, "{over:?}");
    assert!(over[0].starts_with("3 is over: gave up after ") && over[0].ends_with("no route"), "{over:?}");
    assert!(bench.machine.ended().is_none(), "the others go on");
    // On a connection, too.
    let mut bench = Bench::in_two_rooms();
    bench.join(RoomKey(3), "third");
    bench.say(error("internal", json!({"roomId": "third"})));
    while bench.now < ms(31_000) {
        bench.beats(1);
        if bench.lines().iter().any(|line| line.contains(r#""event":"enter""#)) {
            bench.say(error("internal", json!({"roomId": "third"})));
        }
        bench.lines();
    }
    assert!(bench.machine.rooms.get(RoomKey(3)).is_none());
    assert!(bench.machine.rooms.get(TEA).unwrap().is_in());
}

#[test]
fn a_chat_without_rooms_rests_until_one_is_joined() {
    let mut bench = Bench::chat();
    bench.machine.on_closed(bench.now, 4002, "no room was entered in time");
    assert_eq!((bench.lines(), bench.machine.deadline()), (vec!["chat: idle".into()], None));
    bench.join(TEA, "tea");
    assert_eq!(bench.lines(), ["connect"]);
    assert_eq!(bench.open("s2"), ["chat: online", &enter("tea")]);
}

#[test]
fn rooms_beyond_the_rate_of_enters_are_entered_one_by_one() {
    let mut bench = Bench::chat();
    (10..15).for_each(|n| bench.join(RoomKey(n), &n.to_string()));
    assert_eq!(bench.lines().len(), 5);
    bench.say(of("10", entered(1, json!({}))));
    let limited = |n: u64| error("rate_limited", json!({"roomId": n.to_string(), "retryAfter": 1000}));
    (11..15).for_each(|n| bench.say(limited(n)));
    bench.lines();
    let enters = |lines: Vec<String>| lines.iter().filter(|line| line.contains(r#""event":"enter""#)).count();
    bench.pass(999);
    assert_eq!(enters(bench.lines()), 0);
    bench.beats(3);
    assert_eq!(enters(bench.lines()), 1, "the others wait for the answer");
    bench.say(of("11", entered(1, json!({}))));
    assert_eq!(enters(bench.lines()), 2);
    bench.say(limited(12));
    bench.say(limited(13));
    bench.beats(2);
    assert_eq!(enters(bench.lines()), 1);
    assert!(bench.machine.may_read() && bench.machine.link.is_some());
}

#[test]
fn many_enters_get_as_much_time_each() {
    let mut bench = Bench::chat();
    for n in 10..13 {
        bench.join(RoomKey(n), &n.to_string());
    }
    for n in 10..13 {
        bench.beats(9);
        bench.say(of(&n.to_string(), entered(1, json!({}))));
    }
    assert!(!bench.lines().contains(&"close 4000".into()));
    bench.join(TEA, "tea");
    bench.lines();
    bench.beats(10);
    assert_eq!(bench.lines()[0], "close 4000");
}

#[test]
fn the_backoff_of_a_room_is_its_own() {
    let mut bench = Bench::in_two_rooms();
    let mut waits = Vec::new();
    for n in 0..4 {
        bench.say(if n == 0 {
            removed_from("tea", "internal")
        } else {
            error("internal", json!({"roomId": "tea"}))
        });
        waits.push(bench.enter_in().unwrap());
        while bench.enter_in().is_some() {
            bench.beats(1);
        }
        bench.lines();
    }
    assert_eq!(waits, [500, 1000, 2000, 4000]);
    bench.say(of("tea", entered(1, json!({"member": "2"}))));
    bench.machine.on_closed(bench.now, 1013, "");
    assert_eq!(bench.retry_in(), 1000, "the connection was of use");
}

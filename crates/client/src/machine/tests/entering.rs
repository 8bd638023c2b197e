//! The welcome, the first enter, and what the server may answer.

use super::*;

const AGAIN: &str = r#"{"event":"enter","message":"ann","roomId":"r","since":{"epoch":"E","seq":1}}"#;

#[test]
fn sends_the_token_first_and_enters_after_the_welcome() {
    let mut bench = Bench::new(settings());
    bench.machine.on_open(ms(1), Some("secret"));
    assert_eq!(bench.lines(), [r#"{"event":"auth","message":"secret"}"#]);
    bench.say(heartbeat());
    bench.say(welcome("s1"));
    bench.say(welcome("s1"));
    bench.say(json!({"event": "authenticated"}));
    assert_eq!(bench.lines(), ["pong", r#"{"event":"enter","message":"ann","roomId":"r"}"#], "one enter");
    bench.say(entered(5, json!({})));
    assert_eq!(bench.lines(), ["online", "entered as 1, resumed false, recovered false"]);
}

#[test]
fn most_refusals_of_the_first_enter_are_final() {
    for code in ["denied", "bad_name", "bad_room_id", "name_taken", "room_full", "too_many_rooms"] {
        let mut bench = Bench::new(settings());
        bench.open("s1");
        bench.say(error(code, json!({})));
        assert_eq!(bench.lines(), ["close 1000"], "{code}");
        let ended = bench.machine.ended().unwrap().to_string();
        assert_eq!(ended, format!("refused: so it is ({code})"));
        assert_eq!(bench.machine.deadline(), None);
    }
}

#[test]
fn refusals_of_the_first_enter_that_pass_are_tried_again_on_the_same_connection() {
    for (code, retry_after, wait) in
        [("internal", None, 500), ("unavailable", None, 500), ("rate_limited", Some(300), 450)]
    {
        let mut bench = Bench::new(settings());
        bench.open("s1");
        bench.say(error(code, retry_after.map_or(json!({}), |ms| json!({"retryAfter": ms}))));
        bench.pass(wait - 1);
        assert_eq!(bench.lines(), [""; 0], "{code}");
        bench.pass(1);
        assert_eq!(bench.lines(), [r#"{"event":"enter","message":"ann","roomId":"r"}"#], "{code}");
        bench.say(entered(1, json!({})));
        assert_eq!(bench.lines()[0], "online");
    }
}

#[test]
fn refusals_that_pass_are_tried_until_the_first_timeout() {
    let mut bench = Bench::new(settings());
    bench.machine.on_open(ms(0), None);
    bench.say(merged(welcome("s1"), json!({"heartbeat": {"interval": 25_000, "timeout": 20_000}})));
    bench.say(error("internal", json!({"retryAfter": 2000})));
    while bench.machine.ended().is_none() {
        bench.wait();
        bench.say(error("internal", json!({"retryAfter": 2000})));
    }
    let ended = bench.machine.ended().unwrap().to_string();
    assert!(
        ended.starts_with("gave up after ") && ended.ends_with("refused: so it is (internal)"),
        "{ended}"
    );
    assert!(bench.now < ms(30_000));
}

#[test]
fn gives_up_after_so_many_failed_attempts() {
    let mut bench = Bench::new(Settings { max_attempts: 3, ..settings() });
    bench.machine.on_failed(ms(0), Failure::Transient("no route".into()));
    bench.wait();
    bench.lines();
    bench.open("s1");
    bench.say(error("internal", json!({})));
    bench.pass(2000);
    bench.say(error("rate_limited", json!({})));
    assert_eq!(bench.lines().last().unwrap(), "close 1000");
    let ended = bench.machine.ended().unwrap().to_string();
    assert_eq!(ended, "gave up after 3 attempts: refused: so it is (rate_limited)");
    // It is told where the application listens, and a success in between begins anew.
    let mut bench = Bench::online_with(Settings { max_attempts: 2, ..settings() });
    for _ in 0..3 {
        bench.machine.on_closed(bench.now, 1006, "");
        bench.wait();
        bench.machine.on_failed(bench.now, Failure::Transient("no route".into()));
        bench.lines();
        bench.reconnect(&bench.fresh_token());
        bench.say(resumed(1, 0));
        assert_eq!(bench.lines()[0], "online");
    }
    bench.machine.on_closed(bench.now, 1006, "");
    bench.lines();
    for _ in 0..2 {
        bench.wait();
        bench.machine.on_failed(bench.now, Failure::Transient("no route".into()));
    }
    let lines = bench.lines();
    assert_eq!(
        lines.last().unwrap(),
        "closed: gave up after 2 attempts: can't connect: no route",
        "{lines:?}"
    );
}

#[test]
fn keeps_resume_tokens_until_the_server_has_answered() {
    let mut bench = Bench::online();
    let mut resume = Vec::new();
    for n in 2..=10 {
        bench.machine.on_closed(bench.now, 1006, "");
        bench.lines();
        let sent = bench.reconnect_unanswered(&format!("s{n}"));
        assert_eq!(sent[1..], [AGAIN], "the enter does not wait for the answer to the resume");
        resume.push(sent[0].clone());
    }
    assert_eq!(resume[0], r#"{"event":"resume","message":["s1"]}"#);
    assert_eq!(resume[8], r#"{"event":"resume","message":["s1","s3","s4","s5","s6","s7","s8","s9"]}"#);
    bench.say(session_resumed(&["r"]));
    bench.machine.on_closed(bench.now, 1006, "");
    bench.lines();
    assert_eq!(bench.reconnect_unanswered("s11")[0], r#"{"event":"resume","message":["s10"]}"#);
    bench.say(json!({"event": "resumed", "rooms": []}));
    bench.say(entered(1, json!({"member": "11"})));
    bench.machine.on_closed(bench.now, 1006, "");
    bench.lines();
    assert_eq!(bench.reconnect_unanswered("s12")[0], r#"{"event":"resume","message":["s11"]}"#);
}

#[test]
fn a_resume_that_the_server_has_not_looked_at_is_repeated_before_the_rooms_are_entered() {
    let mut bench = Bench::online();
    bench.machine.on_closed(ms(0), 1006, "");
    bench.wait();
    bench.lines();
    bench.machine.on_open(bench.now, None);
    bench.say(merged(
        welcome("s2"),
        json!({"rates": {"messages": 10, "bytes": null, "burst": 2, "empty": true}}),
    ));
    let resume = r#"{"event":"resume","message":["s1"]}"#;
    assert_eq!(bench.lines(), [resume], "an enter that is accepted instead would end the session");
    bench.say(error("rate_limited", json!({"retryAfter": 100})));
    bench.pass(99);
    assert_eq!(bench.lines(), [""; 0]);
    bench.pass(1);
    assert_eq!(bench.lines(), [resume]);
    bench.say(session_resumed(&["r"]));
    assert_eq!(bench.lines(), [AGAIN]);
    bench.say(resumed(1, 0));
    assert_eq!(bench.lines()[0], "online");
}

#[test]
fn a_resume_that_is_refused_for_good_is_reported_and_the_rooms_entered_anew() {
    let mut bench = Bench::online();
    bench.machine.on_closed(ms(0), 1006, "");
    bench.lines();
    bench.reconnect_unanswered("s2");
    bench.say(error("bad_shape", json!({})));
    bench.say(entered(1, json!({"member": "2"})));
    assert_eq!(
        bench.lines(),
        [
            "error: refused: so it is (bad_shape)",
            "direct gap",
            "online",
            "entered as 2, resumed false, recovered false"
        ]
    );
}

/// The `since` of the only enter among what was sent.
fn since(lines: &[String]) -> Value {
    let frames = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let enters: Vec<Value> = frames.filter(|frame| frame["event"] == "enter").collect();
    assert_eq!(enters.len(), 1, "{lines:?}");
    enters[0]["since"].clone()
}

#[test]
fn every_enter_after_the_first_says_where_the_client_is() {
    let mut bench = Bench::online_with(Settings { credential: Credential::Renewable, ..settings() });
    bench.pass(1000);
    bench.say(said(2, "x"));
    bench.say(removed("internal"));
    bench.pass(500);
    assert_eq!(since(&bench.lines()), json!({"epoch": "E", "seq": 2}), "put out");
    bench.say(error("internal", json!({})));
    bench.pass(1000);
    assert_eq!(since(&bench.lines()), json!({"epoch": "E", "seq": 2}), "refused");
    bench.say(resumed(3, 1));
    bench.say(said(3, "x"));
    bench.say(removed("token_expired"));
    bench.say(no_auth("expired"));
    bench.machine.on_token(bench.now, Ok("T".into()));
    bench.say(json!({"event": "authenticated"}));
    assert_eq!(since(&bench.lines()), json!({"epoch": "E", "seq": 3}), "expired");
    bench.say(resumed(3, 0));
    bench.say(removed("denied"));
    bench.enter_again();
    assert_eq!(since(&bench.lines()), json!({"epoch": "E", "seq": 3}), "by the application");
    bench.say(resumed(3, 0));
    bench.machine.on_closed(bench.now, 1006, "");
    bench.lines();
    assert_eq!(since(&bench.reconnect("s2")), json!({"epoch": "E", "seq": 3}), "lost");
}

#[test]
fn an_enter_in_the_room_repeats_no_frame_and_skips_none() {
    let mut bench = Bench::online();
    bench.send(1);
    bench.say(said(2, "before"));
    bench.fill();
    bench.pass(2000);
    bench.say(said(3, "dropped"));
    bench.lines();
    bench.free();
    assert_eq!(since(&bench.lines()), json!({"epoch": "E", "seq": 2}));
    bench.say(said(4, "while it was under way"));
    bench.say(resumed(4, 2));
    (3..=5).for_each(|seq| bench.say(said(seq, "x")));
    assert_eq!(
        bench.lines(),
        [
            "entered as 1, resumed true, recovered true",
            r#"replayed message "x" 3"#,
            r#"replayed message "x" 4"#,
            r#"message "x" 5"#
        ],
        "and the message is not sent again"
    );
    bench.say(ack("c1", 6));
    assert_eq!(bench.lines(), ["1: ok 6"]);
}

#[test]
fn an_answer_may_be_of_the_session_from_before() {
    // Under another name, the server first tells where the kept session stands.
    let mut bench = Bench::online();
    bench.machine.on_closed(ms(0), 1006, "");
    bench.lines();
    bench.reconnect("s2");
    bench.say(entered(9, json!({"resumed": true})));
    bench.say(entered(11, json!({"recovered": true, "replayed": 10})));
    for seq in 2..=12 {
        bench.say(said(seq, "x"));
    }
    let lines = bench.lines();
    assert_eq!(lines[2], "gap of 8");
    assert_eq!(lines[4..], ["replayed message \"x\" 10", "replayed message \"x\" 11", "message \"x\" 12"]);
}

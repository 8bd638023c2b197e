use serde_json::{Value, json};

use super::*;

const HEARTBEAT: &str = r#"{"event":"heartbeat","message":"ping","num":1}"#;

pub(super) fn plan() -> Plan {
    Plan {
        name: "ann".into(),
        room: "r".into(),
        credential: Credential::Fixed,
        backoff: (ms(100), ms(1000)),
        step_timeout: ms(10_000),
        first_timeout: ms(30_000),
        max_unsent: 4,
    }
}

pub(super) fn ms(n: u64) -> Now {
    Now::from_millis(n)
}

/// A machine whose waits are as long as they can be.
fn machine(plan: Plan) -> Machine<u32> {
    Machine::new(plan, Box::new(|| u64::MAX))
}

/// A machine that has cids in turn: with it a wait is next to nothing.
fn counting() -> Machine<u32> {
    let mut n = 0;
    let random = move || {
        n += 1;
        n
    };
    Machine::new(plan(), Box::new(random))
}

/// What is to be done, as lines.
fn outputs(m: &mut Machine<u32>) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(output) = m.poll_output() {
        lines.push(match output {
            Output::Connect => "connect".into(),
            Output::Send(text) => text,
            Output::Pong => "pong".into(),
            Output::Close(code) => format!("close {code}"),
            Output::Tell(ClientEvent::State(state)) => format!("{state:?}"),
            Output::Tell(
                ClientEvent::Enter(f)
                | ClientEvent::Out(f)
                | ClientEvent::Message(f)
                | ClientEvent::Direct(f),
            ) => {
                let own = if f.is_own() { "own " } else { "" };
                format!("{own}{} {} {:?}", f.event(), f.message(), f.seq())
            }
            Output::Tell(event) => format!("{event:?}"),
            Output::Settle(n, result) => format!("{n}: {result:?}"),
        });
    }
    lines
}

fn welcome(secret: &str) -> String {
    json!({"event": "welcome", "connection": "1", "resume": secret,
           "heartbeat": {"interval": 1000, "timeout": 500},
           "limits": {"messageBytes": 100, "cidBytes": 64, "cids": 2}, "history": true, "grace": 9000})
    .to_string()
}

fn entered(epoch: &str, seq: u64, resumed: bool, recovered: bool) -> String {
    json!({"event": "entered", "roomId": "r", "name": "ann", "connection": "1", "epoch": epoch, "seq": seq,
           "num": 2, "resumed": resumed, "recovered": recovered})
    .to_string()
}

fn said(seq: u64, message: &str) -> String {
    json!({"event": "message", "message": message, "name": "bob", "num": 2, "seq": seq}).to_string()
}

/// Connects and is told of a welcome; says what was done for it.
fn greet(m: &mut Machine<u32>, now: Now, secret: &str) -> Vec<String> {
    if let Phase::Waiting(at) = m.phase {
        m.tick(now.max(at));
    }
    outputs(m);
    m.on_open(now, None);
    m.on_text(now, &welcome(secret));
    outputs(m)
}

fn enter(m: &mut Machine<u32>, now: Now, secret: &str, answer: &str) -> Vec<String> {
    greet(m, now, secret);
    m.on_text(now, answer);
    outputs(m)
}

fn online(m: &mut Machine<u32>) {
    enter(m, ms(0), "s1", &entered("E", 5, false, false));
}

#[test]
fn the_token_goes_first_and_the_enter_after_the_welcome() {
    let mut m = machine(plan());
    assert_eq!(outputs(&mut m), ["connect"]);
    m.on_open(ms(1), Some("secret"));
    assert_eq!(outputs(&mut m), [r#"{"event":"auth","message":"secret"}"#]);
    m.on_text(ms(2), HEARTBEAT);
    m.on_text(ms(2), &welcome("s1"));
    assert_eq!(outputs(&mut m), ["pong", r#"{"event":"enter","message":"ann","roomId":"r"}"#]);
    m.on_text(ms(3), &entered("E", 5, false, false));
    let told = outputs(&mut m);
    assert_eq!(told[0], "Online");
    assert!(told[1].contains("resumed: false, recovered: false") && told.len() == 2, "{told:?}");
}

#[test]
fn secrets_are_kept_until_one_connection_has_entered() {
    let mut m = machine(plan());
    online(&mut m);
    for n in 2..=10 {
        m.on_closed(ms(n), 1006, "");
        let sent = greet(&mut m, ms(n), &format!("s{n}"));
        let sent: Value = serde_json::from_str(&sent[0]).unwrap();
        assert_eq!(sent["since"], json!({"epoch": "E", "seq": 5}));
        let latest = n.saturating_sub(7).max(2)..n;
        let names: Vec<String> = [1].into_iter().chain(latest).map(|n| format!("s{n}")).collect();
        assert_eq!(sent["resume"], json!(names));
    }
    m.on_text(ms(11), &entered("E", 5, true, true));
    m.on_closed(ms(12), 1006, "");
    let sent = greet(&mut m, ms(12), "s11");
    assert!(sent[0].contains(r#""resume":["s10"]"#), "{sent:?}");
}

#[test]
fn what_the_server_has_dropped_is_a_gap_and_no_reason_to_go() {
    let mut m = machine(plan());
    online(&mut m);
    m.on_text(ms(1), &said(6, "a"));
    m.on_text(ms(1), r#"{"event":"lagged","missed":3}"#);
    m.on_text(ms(1), &said(10, "b"));
    let told = outputs(&mut m);
    assert_eq!(told[0], r#"message "a" Some(6)"#);
    assert!(told[1].contains("Gap { missed: Some(3) }"), "{told:?}");
    assert_eq!(told[2..], [r#"message "b" Some(10)"#]);
    // Something else that is missing is one.
    m.on_text(ms(2), &said(12, "d"));
    assert!(outputs(&mut m).contains(&"close 4000".to_owned()));
    let sent = greet(&mut m, ms(3), "s2");
    assert!(sent[0].contains(r#""seq":10"#), "{sent:?}");
}

#[test]
fn frames_come_once_and_in_order() {
    let mut m = machine(plan());
    online(&mut m);
    m.on_text(ms(1), &said(5, "old"));
    m.on_text(ms(1), &said(6, "a"));
    m.on_text(ms(1), &said(6, "again"));
    assert_eq!(outputs(&mut m), [r#"message "a" Some(6)"#]);
    m.on_text(ms(1), &said(8, "jump"));
    assert_eq!(outputs(&mut m), ["close 4000", "Reconnecting"]);
    m.on_text(ms(2), &said(7, "late"));
    assert_eq!(outputs(&mut m), [""; 0]);
    let sent = greet(&mut m, ms(200), "s2");
    assert!(sent[0].contains(r#""since":{"epoch":"E","seq":6}"#), "{sent:?}");
}

#[test]
fn its_own_enter_is_known() {
    let mut m = machine(plan());
    online(&mut m);
    for seq in [6, 7] {
        m.on_text(ms(1), &format!(r#"{{"event":"enter","message":"ann","name":"ann","seq":{seq}}}"#));
    }
    assert_eq!(outputs(&mut m), [r#"own enter "ann" Some(6)"#, r#"enter "ann" Some(7)"#]);
}

#[test]
fn what_was_missed_is_told() {
    for (answer, gap) in [
        (entered("E", 9, false, false), Some("Gap { missed: Some(4) }")),
        (entered("E", 5, false, false), None),
        (entered("F", 9, false, false), Some("Gap { missed: None }")),
        (entered("E", 9, true, true), None),
    ] {
        let mut m = machine(plan());
        online(&mut m);
        m.on_closed(ms(1), 1012, "");
        let told = enter(&mut m, ms(200), "s2", &answer);
        assert_eq!(told.get(2).map(String::as_str), gap, "{answer}");
    }
}

#[test]
fn messages_are_acknowledged_and_sent_again() {
    let mut m = counting();
    online(&mut m);
    for n in 0..4 {
        m.send(&format!(r#"{{"event":"message","message":{n}"#), n);
    }
    let frame = |n: u32, cid: u32| format!(r#"{{"event":"message","message":{n},"cid":"{cid:016x}"}}"#);
    assert_eq!(outputs(&mut m), [frame(0, 1), frame(1, 2)], "no more than the server remembers");
    m.on_text(ms(1), r#"{"event":"ack","cid":"0000000000000001","seq":6}"#);
    assert_eq!(outputs(&mut m), ["0: Ok(6)".into(), frame(2, 3)]);
    m.on_text(ms(1), r#"{"event":"ack","cid":"0000000000000001","seq":6}"#);
    m.on_text(ms(1), r#"{"event":"message","message":0,"cid":"0000000000000001","name":"ann","seq":6}"#);
    assert_eq!(outputs(&mut m), ["own message 0 Some(6)"]);

    m.on_closed(ms(2), 1006, "");
    let told = enter(&mut m, ms(200), "s2", &entered("E", 6, true, true));
    assert_eq!(told[2..], [frame(1, 2), frame(2, 3)]);
    m.on_text(ms(201), r#"{"event":"error","code":"denied","message":"no","cid":"0000000000000002"}"#);
    let refused = r#"1: Err(Refused { code: "denied", message: "no" })"#;
    assert_eq!(outputs(&mut m), [refused.to_owned(), frame(3, 4)]);
}

#[test]
fn a_replay_acknowledges_what_it_holds() {
    let mut m = counting();
    online(&mut m);
    for n in 0..2 {
        m.send(&format!(r#"{{"event":"message","message":{n}"#), n);
    }
    m.on_closed(ms(1), 1006, "");
    let told = enter(&mut m, ms(200), "s2", &entered("E", 7, false, true));
    assert_eq!(told.len(), 2, "nothing is sent before the replay is over: {told:?}");
    m.on_text(ms(201), r#"{"event":"message","message":0,"cid":"0000000000000001","name":"ann","seq":6}"#);
    m.on_text(ms(201), &said(7, "b"));
    assert_eq!(
        outputs(&mut m),
        [
            "0: Ok(6)",
            "own message 0 Some(6)",
            r#"message "b" Some(7)"#,
            r#"{"event":"message","message":1,"cid":"0000000000000002"}"#,
        ]
    );
}

/// Another seat than before came of an enter whose answer was lost: its server knows no cids.
#[test]
fn a_resumed_seat_may_not_be_the_one_of_before() {
    let mut m = counting();
    online(&mut m);
    m.send(r#"{"event":"x""#, 1);
    m.on_closed(ms(1), 1006, "");
    let other = entered("E", 6, true, true).replace(r#""connection":"1""#, r#""connection":"2""#);
    let told = enter(&mut m, ms(200), "s2", &other);
    assert!(told.len() == 2 && told[1].contains("resumed: false"), "{told:?}");
    m.on_text(ms(201), r#"{"event":"x","cid":"0000000000000001","name":"ann","num":2,"seq":6}"#);
    assert_eq!(outputs(&mut m)[0], "1: Ok(6)");
}

#[test]
fn queue_and_size_are_bounded() {
    let mut m = machine(plan());
    online(&mut m);
    m.send(&format!(r#"{{"event":"message","message":"{}""#, "x".repeat(50)), 0);
    let told = outputs(&mut m);
    assert_eq!(told, ["0: Err(TooBig { bytes: 107, max: 100 })"]);
    m.on_closed(ms(1), 1006, "");
    for n in 1..=5 {
        m.send(r#"{"event":"x""#, n);
    }
    assert_eq!(outputs(&mut m), ["Reconnecting", "5: Err(QueueFull)"]);
}

#[test]
fn waits_double_up_to_a_bound_and_heed_the_server() {
    let mut m = machine(plan());
    online(&mut m);
    let mut now = ms(1);
    for bound in [100, 200, 400, 800, 1000, 1000] {
        m.on_closed(now, 1006, "");
        let Phase::Waiting(at) = m.phase else { panic!("{:?}", m.phase) };
        let wait = (at - now).as_micros() as f64 / 1000.0;
        assert!((wait - f64::from(bound)).abs() < 1.0, "{wait} is not {bound}");
        assert_eq!(m.deadline(), Some(at));
        now = at;
        enter(&mut m, now, "s", &entered("E", 5, true, true));
    }
    // A connection that has lasted sets it back.
    m.on_closed(now + ms(1001), 1012, "restart; retry in 7 s");
    let Phase::Waiting(at) = m.phase else { panic!() };
    assert_eq!((at - now).as_secs_f64().round(), 8.0, "1001 ms online, 7 s, and up to 100 ms");
}

#[test]
fn codes_tell_whether_to_come_back() {
    for (code, back) in
        [(1001, true), (1013, true), (4001, true), (1000, false), (1008, false), (4503, false)]
    {
        let mut m = machine(plan());
        online(&mut m);
        m.send(r#"{"event":"x""#, 7);
        outputs(&mut m);
        m.on_closed(ms(1), code, "why");
        let told = outputs(&mut m);
        assert_eq!(m.ending().is_none(), back, "{code}");
        if !back {
            let closed = format!(r#"Closed {{ code: {code}, reason: "why" }}"#);
            assert_eq!(told, [format!("7: Err({closed})"), "Closed".into(), closed]);
            assert_eq!(m.deadline(), None);
        }
    }
}

#[test]
fn a_dead_connection_is_left() {
    let mut m = machine(plan());
    online(&mut m);
    m.on_text(ms(800), HEARTBEAT);
    assert_eq!((outputs(&mut m).len(), m.deadline()), (1, Some(ms(2300))));
    m.tick(ms(2299));
    assert_eq!(outputs(&mut m), [""; 0]);
    m.tick(ms(2300));
    assert_eq!(outputs(&mut m), ["close 4000", "Reconnecting"]);
}

#[test]
fn each_step_of_connecting_has_its_time() {
    let mut m = machine(plan());
    m.tick(ms(10_000));
    assert_eq!(outputs(&mut m), ["connect", "close 4000"]);
    m.tick(ms(10_100));
    m.on_open(ms(10_200), None);
    m.tick(ms(20_200));
    assert_eq!(outputs(&mut m), ["connect", "close 4000"]);
    // The first time there is an end to it.
    m.tick(m.deadline().unwrap());
    m.on_failed(ms(29_900), Failure::Broken("no route".into()));
    assert_eq!(m.ending(), Some(&ClientError::Unreachable("no route".into())));
}

#[test]
fn refusals_on_entering() {
    for (code, first, later) in
        [("denied", false, false), ("bad_name", false, false), ("room_full", false, true)]
    {
        let error = json!({"event": "error", "code": code, "message": "no"}).to_string();
        let mut m = machine(plan());
        greet(&mut m, ms(0), "s1");
        m.on_text(ms(1), &error);
        assert_eq!(m.ending().is_none(), first, "{code}");
        let mut m = machine(plan());
        online(&mut m);
        m.on_closed(ms(1), 1006, "");
        greet(&mut m, ms(200), "s2");
        m.on_text(ms(201), &error);
        assert_eq!(m.ending().is_none(), later, "{code}");
        assert_eq!(outputs(&mut m)[0], if later { "close 4000" } else { "close 1000" });
    }
}

#[test]
fn a_fixed_token_is_refused_once_and_fresh_ones_three_times() {
    let mut m = machine(plan());
    m.on_failed(ms(1), Failure::Http(401, None));
    assert_eq!(m.ending(), Some(&ClientError::NoAuth("HTTP 401".into())));
    let no_auth = r#"{"event":"noAuth","message":"expired"}"#;
    let mut m = machine(Plan { credential: Credential::Fresh, ..plan() });
    for n in 0..2 {
        m.on_open(ms(n), Some("t"));
        m.on_text(ms(n), no_auth);
        assert_eq!(m.ending(), None);
        m.tick(m.deadline().unwrap());
    }
    m.on_open(ms(9), Some("t"));
    m.on_text(ms(9), no_auth);
    assert_eq!(m.ending(), Some(&ClientError::NoAuth("expired".into())));
}

#[test]
fn an_overloaded_server_says_when_to_come() {
    let mut m = machine(plan());
    m.on_failed(ms(0), Failure::Http(503, Some(ms(3000))));
    let Some(at) = m.deadline() else { panic!() };
    assert!(at >= ms(3000) && at <= ms(3100), "{at:?}");
}

#[test]
fn who_takes_no_events_stays_alive_and_misses_nothing() {
    let mut m = counting();
    online(&mut m);
    m.on_full(ms(100));
    assert!(!m.may_read());
    m.on_full(ms(200));
    m.tick(ms(1100));
    assert_eq!(outputs(&mut m), ["pong"], "without having read the heartbeat");
    m.tick(ms(1600));
    assert!(m.may_read() && m.is_paused());
    assert_eq!(outputs(&mut m), [""; 0]);
    // From now on frames are left to the replay, and answers are not.
    m.send(r#"{"event":"x""#, 1);
    m.on_text(ms(1700), &said(6, "a"));
    m.on_text(ms(1700), HEARTBEAT);
    m.on_text(ms(1700), r#"{"event":"notice"}"#);
    m.on_text(ms(1700), r#"{"event":"ack","cid":"0000000000000001","seq":7}"#);
    assert_eq!(outputs(&mut m)[1..], ["pong", "1: Ok(7)"]);
    m.on_room(ms(1800));
    assert_eq!(outputs(&mut m), ["close 4000", "Reconnecting", "Overflow { lost: 1 }"]);
    let sent = greet(&mut m, ms(2000), "s2");
    assert!(sent[0].contains(r#""since":{"epoch":"E","seq":5}"#), "{sent:?}");
}

#[test]
fn a_short_pause_costs_nothing() {
    let mut m = machine(plan());
    online(&mut m);
    m.on_full(ms(100));
    m.on_room(ms(1500));
    assert!(m.may_read());
    m.tick(ms(1600));
    assert_eq!((outputs(&mut m).len(), m.deadline()), (0, Some(ms(3000))));
}

#[test]
fn leaving_ends_everything_from_anywhere() {
    let mut m = machine(plan());
    m.leave();
    assert_eq!(outputs(&mut m), ["connect", "close 1000"]);
    let mut m = machine(plan());
    online(&mut m);
    m.send(r#"{"event":"x""#, 1);
    m.leave();
    m.leave();
    m.send(r#"{"event":"x""#, 2);
    let closed = r#"Closed { code: 1000, reason: "left" }"#;
    assert_eq!(
        outputs(&mut m)[1..],
        [
            "close 1000".into(),
            format!("1: Err({closed})"),
            "Closed".into(),
            closed.into(),
            format!("2: Err({closed})")
        ]
    );
}

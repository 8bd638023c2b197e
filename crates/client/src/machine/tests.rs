use serde_json::{Value, json};

use super::*;

const HEARTBEAT: &str = r#"{"event":"heartbeat","message":"ping","num":1}"#;

pub(super) fn settings() -> Settings {
    Settings {
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

/// A machine whose backoff waits are as long as possible.
fn machine(settings: Settings) -> Machine<u32> {
    Machine::new(settings, Box::new(|| u64::MAX))
}

/// A machine whose message ids count up from 1, and whose backoff waits are almost zero.
fn counting_machine() -> Machine<u32> {
    let mut n = 0;
    let random = move || {
        n += 1;
        n
    };
    Machine::new(settings(), Box::new(random))
}

/// The outputs as lines of text.
fn outputs(m: &mut Machine<u32>) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(output) = m.poll_output() {
        lines.push(match output {
            Output::Connect => "connect".into(),
            Output::Send(text) => text,
            Output::Pong => "pong".into(),
            Output::Close(code) => format!("close {code}"),
            Output::Emit(ClientEvent::State(state)) => format!("{state:?}"),
            Output::Emit(
                ClientEvent::Enter(f)
                | ClientEvent::Out(f)
                | ClientEvent::Message(f)
                | ClientEvent::Direct(f),
            ) => {
                let own = if f.is_own() { "own " } else { "" };
                format!("{own}{} {} {:?}", f.event(), f.message(), f.seq())
            }
            Output::Emit(event) => format!("{event:?}"),
            Output::Resolve(n, result) => format!("{n}: {result:?}"),
        });
    }
    lines
}

fn welcome(token: &str) -> String {
    json!({"event": "welcome", "connection": "1", "resume": token,
           "heartbeat": {"interval": 1000, "timeout": 500},
           "limits": {"messageBytes": 100, "cidBytes": 64, "cids": 2}, "history": true, "resumeWindow": 9000})
    .to_string()
}

/// An answer to an enter, without a replay.
fn entered(epoch: &str, seq: u64, resumed: bool, recovered: bool) -> String {
    replaying(epoch, seq, 0, resumed, recovered)
}

fn replaying(epoch: &str, seq: u64, replayed: u64, resumed: bool, recovered: bool) -> String {
    json!({"event": "entered", "roomId": "r", "name": "ann", "member": "1", "epoch": epoch, "seq": seq,
           "num": 2, "resumed": resumed, "recovered": recovered, "replayed": replayed})
    .to_string()
}

fn message(seq: u64, message: &str) -> String {
    json!({"event": "message", "message": message, "name": "bob", "num": 2, "seq": seq}).to_string()
}

/// Connects and receives a welcome. Returns the outputs for it.
fn connect(m: &mut Machine<u32>, now: Now, token: &str) -> Vec<String> {
    if let Phase::Waiting(at) = m.phase {
        m.tick(now.max(at));
    }
    outputs(m);
    m.on_open(now, None);
    m.on_text(now, &welcome(token));
    outputs(m)
}

fn enter(m: &mut Machine<u32>, now: Now, token: &str, answer: &str) -> Vec<String> {
    connect(m, now, token);
    m.on_text(now, answer);
    outputs(m)
}

fn online(m: &mut Machine<u32>) {
    enter(m, ms(0), "s1", &entered("E", 5, false, false));
}

#[test]
fn sends_the_token_first_and_enters_after_the_welcome() {
    let mut m = machine(settings());
    assert_eq!(outputs(&mut m), ["connect"]);
    m.on_open(ms(1), Some("secret"));
    assert_eq!(outputs(&mut m), [r#"{"event":"auth","message":"secret"}"#]);
    m.on_text(ms(2), HEARTBEAT);
    m.on_text(ms(2), &welcome("s1"));
    assert_eq!(outputs(&mut m), ["pong", r#"{"event":"enter","message":"ann","roomId":"r"}"#]);
    m.on_text(ms(3), &entered("E", 5, false, false));
    let emitted = outputs(&mut m);
    assert_eq!(emitted[0], "Online");
    assert!(emitted[1].contains("resumed: false, recovered: false") && emitted.len() == 2, "{emitted:?}");
}

#[test]
fn keeps_resume_tokens_until_a_connection_has_entered() {
    let mut m = machine(settings());
    online(&mut m);
    for n in 2..=10 {
        m.on_closed(ms(n), 1006, "");
        let sent = connect(&mut m, ms(n), &format!("s{n}"));
        let sent: Value = serde_json::from_str(&sent[0]).unwrap();
        assert_eq!(sent["since"], json!({"epoch": "E", "seq": 5}));
        let latest = n.saturating_sub(7).max(2)..n;
        let names: Vec<String> = [1].into_iter().chain(latest).map(|n| format!("s{n}")).collect();
        assert_eq!(sent["resume"], json!(names));
    }
    m.on_text(ms(11), &entered("E", 5, true, true));
    m.on_closed(ms(12), 1006, "");
    let sent = connect(&mut m, ms(12), "s11");
    assert!(sent[0].contains(r#""resume":["s10"]"#), "{sent:?}");
}

#[test]
fn frames_dropped_by_the_server_are_a_gap_and_not_asked_for_again() {
    let mut m = machine(settings());
    online(&mut m);
    m.on_text(ms(1), &message(6, "a"));
    m.on_text(ms(1), r#"{"event":"lagged","missed":3}"#);
    m.on_text(ms(1), &message(10, "b"));
    let emitted = outputs(&mut m);
    assert_eq!(emitted[0], r#"message "a" Some(6)"#);
    assert!(emitted[1].contains("Gap { missed: Some(3) }"), "{emitted:?}");
    assert_eq!(emitted[2..], [r#"message "b" Some(10)"#]);
    // Frames that are missing otherwise are.
    m.on_text(ms(2), &message(12, "d"));
    assert!(outputs(&mut m).contains(&"close 4000".to_owned()));
    let sent = connect(&mut m, ms(3), "s2");
    assert!(sent[0].contains(r#""seq":10"#), "{sent:?}");
}

#[test]
fn emits_each_frame_once_and_in_order() {
    let mut m = machine(settings());
    online(&mut m);
    m.on_text(ms(1), &message(5, "old"));
    m.on_text(ms(1), &message(6, "a"));
    m.on_text(ms(1), &message(6, "again"));
    assert_eq!(outputs(&mut m), [r#"message "a" Some(6)"#]);
    m.on_text(ms(1), &message(8, "jump"));
    assert_eq!(outputs(&mut m), ["close 4000", "Reconnecting"]);
    m.on_text(ms(2), &message(7, "late"));
    assert_eq!(outputs(&mut m), [""; 0]);
    let sent = connect(&mut m, ms(200), "s2");
    assert!(sent[0].contains(r#""since":{"epoch":"E","seq":6}"#), "{sent:?}");
}

#[test]
fn recognizes_its_own_enter() {
    let mut m = machine(settings());
    online(&mut m);
    for (member, seq) in [("1", 6), ("2", 7)] {
        let enter = json!({"event": "enter", "message": "ann", "name": "ann", "member": member, "seq": seq});
        m.on_text(ms(1), &enter.to_string());
    }
    assert_eq!(outputs(&mut m), [r#"own enter "ann" Some(6)"#, r#"enter "ann" Some(7)"#]);
}

#[test]
fn emits_a_gap_where_frames_were_missed() {
    for (answer, gap) in [
        (entered("E", 9, false, false), Some("Gap { missed: Some(4) }")),
        (entered("E", 5, false, false), None),
        (entered("F", 9, false, false), Some("Gap { missed: None }")),
        (replaying("E", 9, 2, false, false), Some("Gap { missed: Some(2) }")),
        (replaying("E", 9, 4, true, true), None),
    ] {
        let mut m = machine(settings());
        online(&mut m);
        m.on_closed(ms(1), 1012, "");
        let emitted = enter(&mut m, ms(200), "s2", &answer);
        assert_eq!(emitted.get(2).map(String::as_str), gap, "{answer}");
    }
}

#[test]
fn sends_unacknowledged_messages_again() {
    let mut m = counting_machine();
    online(&mut m);
    for n in 0..4 {
        m.publish(&format!(r#"{{"event":"message","message":{n}"#), n);
    }
    let frame = |n: u32, cid: u32| format!(r#"{{"event":"message","message":{n},"cid":"{cid:016x}"}}"#);
    assert_eq!(outputs(&mut m), [frame(0, 1), frame(1, 2)], "no more than the server remembers");
    m.on_text(ms(1), r#"{"event":"ack","cid":"0000000000000001","seq":6}"#);
    assert_eq!(outputs(&mut m), ["0: Ok(6)".into(), frame(2, 3)]);
    m.on_text(ms(1), r#"{"event":"ack","cid":"0000000000000001","seq":6}"#);
    m.on_text(
        ms(1),
        r#"{"event":"message","message":0,"cid":"0000000000000001","name":"ann","member":"1","seq":6}"#,
    );
    assert_eq!(outputs(&mut m), ["own message 0 Some(6)"]);

    m.on_closed(ms(2), 1006, "");
    let emitted = enter(&mut m, ms(200), "s2", &entered("E", 6, true, true));
    assert_eq!(emitted[2..], [frame(1, 2), frame(2, 3)]);
    m.on_text(ms(201), r#"{"event":"error","code":"denied","message":"no","cid":"0000000000000002"}"#);
    let refused = r#"1: Err(Refused { code: "denied", message: "no" })"#;
    assert_eq!(outputs(&mut m), [refused.to_owned(), frame(3, 4)]);
}

#[test]
fn a_replay_acknowledges_its_messages() {
    let mut m = counting_machine();
    online(&mut m);
    for n in 0..2 {
        m.publish(&format!(r#"{{"event":"message","message":{n}"#), n);
    }
    m.on_closed(ms(1), 1006, "");
    let emitted = enter(&mut m, ms(200), "s2", &replaying("E", 7, 2, false, true));
    assert_eq!(emitted.len(), 2, "sent before the replay was over: {emitted:?}");
    m.on_text(ms(201), r#"{"event":"message","message":0,"cid":"0000000000000001","name":"ann","seq":6}"#);
    m.on_text(ms(201), &message(7, "b"));
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

/// An earlier enter whose answer was lost started another session, which knows no message ids.
#[test]
fn a_resumed_session_may_not_be_the_one_from_before() {
    let mut m = counting_machine();
    online(&mut m);
    m.publish(r#"{"event":"x""#, 1);
    m.on_closed(ms(1), 1006, "");
    let other = replaying("E", 6, 1, true, true).replace(r#""member":"1""#, r#""member":"2""#);
    let emitted = enter(&mut m, ms(200), "s2", &other);
    assert!(emitted.len() == 2 && emitted[1].contains("resumed: false"), "{emitted:?}");
    m.on_text(ms(201), r#"{"event":"x","cid":"0000000000000001","name":"ann","num":2,"seq":6}"#);
    assert_eq!(outputs(&mut m)[0], "1: Ok(6)");
}

#[test]
fn limits_the_queue_and_the_message_size() {
    let mut m = machine(settings());
    online(&mut m);
    m.publish(&format!(r#"{{"event":"message","message":"{}""#, "x".repeat(50)), 0);
    let emitted = outputs(&mut m);
    assert_eq!(emitted, ["0: Err(TooBig { bytes: 107, max: 100 })"]);
    m.on_closed(ms(1), 1006, "");
    for n in 1..=5 {
        m.publish(r#"{"event":"x""#, n);
    }
    assert_eq!(outputs(&mut m), ["Reconnecting", "5: Err(QueueFull)"]);
}

#[test]
fn backoff_doubles_up_to_a_bound_and_adds_the_servers_wait() {
    let mut m = machine(settings());
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
    // A connection that lasted long enough resets it.
    m.on_closed(now + ms(1001), 1012, "restart; retry in 7 s");
    let Phase::Waiting(at) = m.phase else { panic!() };
    assert_eq!((at - now).as_secs_f64().round(), 8.0, "1001 ms online, 7 s, and up to 100 ms");
}

#[test]
fn the_close_code_decides_whether_to_reconnect() {
    for (code, reconnects) in
        [(1001, true), (1013, true), (4001, true), (1000, false), (1008, false), (4503, false)]
    {
        let mut m = machine(settings());
        online(&mut m);
        m.publish(r#"{"event":"x""#, 7);
        outputs(&mut m);
        m.on_closed(ms(1), code, "why");
        let emitted = outputs(&mut m);
        assert_eq!(m.ended().is_none(), reconnects, "{code}");
        if !reconnects {
            let closed = format!(r#"Closed {{ code: {code}, reason: "why" }}"#);
            assert_eq!(emitted, [format!("7: Err({closed})"), "Closed".into(), closed]);
            assert_eq!(m.deadline(), None);
        }
    }
}

#[test]
fn gives_up_a_dead_connection() {
    let mut m = machine(settings());
    online(&mut m);
    m.on_text(ms(800), HEARTBEAT);
    assert_eq!((outputs(&mut m).len(), m.deadline()), (1, Some(ms(2300))));
    m.tick(ms(2299));
    assert_eq!(outputs(&mut m), [""; 0]);
    m.tick(ms(2300));
    assert_eq!(outputs(&mut m), ["close 4000", "Reconnecting"]);
}

#[test]
fn each_step_of_connecting_times_out() {
    let mut m = machine(settings());
    m.tick(ms(10_000));
    assert_eq!(outputs(&mut m), ["connect", "close 4000"]);
    m.tick(ms(10_100));
    m.on_open(ms(10_200), None);
    m.tick(ms(20_200));
    assert_eq!(outputs(&mut m), ["connect", "close 4000"]);
    // Until it has entered once, it gives up in the end.
    m.tick(m.deadline().unwrap());
    m.on_failed(ms(29_900), Failure::Transient("no connector".into()));
    assert_eq!(m.ended(), Some(&ClientError::Unreachable("no connector".into())));
}

#[test]
fn some_refusals_on_entering_are_permanent() {
    for (code, first, later) in
        [("denied", false, false), ("bad_name", false, false), ("room_full", false, true)]
    {
        let error = json!({"event": "error", "code": code, "message": "no"}).to_string();
        let mut m = machine(settings());
        connect(&mut m, ms(0), "s1");
        m.on_text(ms(1), &error);
        assert_eq!(m.ended().is_none(), first, "{code}");
        let mut m = machine(settings());
        online(&mut m);
        m.on_closed(ms(1), 1006, "");
        connect(&mut m, ms(200), "s2");
        m.on_text(ms(201), &error);
        assert_eq!(m.ended().is_none(), later, "{code}");
        assert_eq!(outputs(&mut m)[0], if later { "close 4000" } else { "close 1000" });
    }
}

#[test]
fn gives_up_after_one_refused_fixed_token_or_three_provided_ones() {
    let mut m = machine(settings());
    m.on_failed(ms(1), Failure::Http(401, None));
    assert_eq!(m.ended(), Some(&ClientError::NoAuth("HTTP 401".into())));
    let no_auth = r#"{"event":"noAuth","message":"expired"}"#;
    let mut m = machine(Settings { credential: Credential::Renewable, ..settings() });
    for n in 0..2 {
        m.on_open(ms(n), Some("t"));
        m.on_text(ms(n), no_auth);
        assert_eq!(m.ended(), None);
        m.tick(m.deadline().unwrap());
    }
    m.on_open(ms(9), Some("t"));
    m.on_text(ms(9), no_auth);
    assert_eq!(m.ended(), Some(&ClientError::NoAuth("expired".into())));
}

#[test]
fn waits_as_long_as_an_overloaded_server_asks() {
    let mut m = machine(settings());
    m.on_failed(ms(0), Failure::Http(503, Some(ms(3000))));
    let Some(at) = m.deadline() else { panic!() };
    assert!(at >= ms(3000) && at <= ms(3100), "{at:?}");
}

#[test]
fn an_application_that_takes_no_events_stays_connected_and_misses_nothing() {
    let mut m = counting_machine();
    online(&mut m);
    m.on_full(ms(100));
    assert!(!m.may_read());
    m.on_full(ms(200));
    m.tick(ms(1100));
    assert_eq!(outputs(&mut m), ["pong"], "without having read the heartbeat");
    m.tick(ms(1600));
    assert!(m.may_read() && m.is_paused());
    assert_eq!(outputs(&mut m), [""; 0]);
    // From now on frames are left to the replay, but acknowledgements are not.
    m.publish(r#"{"event":"x""#, 1);
    m.on_text(ms(1700), &message(6, "a"));
    m.on_text(ms(1700), HEARTBEAT);
    m.on_text(ms(1700), r#"{"event":"notice"}"#);
    m.on_text(ms(1700), r#"{"event":"ack","cid":"0000000000000001","seq":7}"#);
    assert_eq!(outputs(&mut m)[1..], ["pong", "1: Ok(7)"]);
    m.on_capacity(ms(1800));
    assert_eq!(outputs(&mut m), ["close 4000", "Reconnecting", "Overflow { lost: 1 }"]);
    let sent = connect(&mut m, ms(2000), "s2");
    assert!(sent[0].contains(r#""since":{"epoch":"E","seq":5}"#), "{sent:?}");
}

#[test]
fn a_short_pause_needs_no_reconnect() {
    let mut m = machine(settings());
    online(&mut m);
    m.on_full(ms(100));
    m.on_capacity(ms(1500));
    assert!(m.may_read());
    m.tick(ms(1600));
    assert_eq!((outputs(&mut m).len(), m.deadline()), (0, Some(ms(3000))));
}

#[test]
fn leaves_from_every_state() {
    let mut m = machine(settings());
    m.leave();
    assert_eq!(outputs(&mut m), ["connect", "close 1000"]);
    let mut m = machine(settings());
    online(&mut m);
    m.publish(r#"{"event":"x""#, 1);
    m.leave();
    m.leave();
    m.publish(r#"{"event":"x""#, 2);
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

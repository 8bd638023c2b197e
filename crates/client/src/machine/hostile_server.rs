//! Whatever a server sends and whenever it does, nothing panics, there is one connection at a time, and
//! memory stays bounded.

use proptest::prelude::*;
use serde_json::json;
use tower_chat_rooms_protocol::MAX_RESUME_TOKENS;

use super::tests::{ms, settings};
use super::*;

fn frame() -> impl Strategy<Value = String> {
    let event = prop::sample::select(vec![
        "welcome",
        "entered",
        "ack",
        "error",
        "noAuth",
        "heartbeat",
        "message",
        "enter",
        "out",
    ]);
    let number = prop_oneof![0u64..4, Just(u64::MAX), Just(u64::MAX - 1)];
    (event, number, any::<[bool; 3]>(), "[EF]").prop_map(|(event, n, [a, b, c], epoch)| {
        let object = json!({"event": event, "epoch": epoch, "cid": format!("{n:016x}"), "resumed": a,
            "recovered": b, "member": "1", "resume": "s", "limits": {"cids": n, "cidBytes": n},
            "heartbeat": {"interval": n, "timeout": n}, "message": "m", "code": "room_full"});
        let mut object = object;
        if c {
            object["seq"] = json!(n);
        }
        object.to_string()
    })
}

#[derive(Debug, Clone)]
enum Input {
    Open,
    Frame(String),
    Text(String),
    Closed(u16, String),
    Fail(u16),
    Tick,
    Full,
    Room,
    Send,
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        4 => Just(Input::Open),
        12 => frame().prop_map(Input::Frame),
        1 => ".{0,20}".prop_map(Input::Text),
        1 => (prop::sample::select(vec![1006, 1012, 4000]), "(retry in [0-9]{1,30} s)?")
            .prop_map(|(code, reason)| Input::Closed(code, reason)),
        1 => (400u16..600).prop_map(Input::Fail),
        4 => Just(Input::Tick),
        1 => Just(Input::Full),
        1 => Just(Input::Room),
        3 => Just(Input::Send),
    ]
}

proptest! {
    #[test]
    fn any_input_is_handled(inputs in prop::collection::vec(input(), 0..60)) {
        let mut m = Machine::new(Settings { first_timeout: Now::MAX, ..settings() }, Box::new(|| 1));
        let mut now = ms(0);
        let mut connecting = 0i32;
        for input in inputs {
            match input {
                Input::Open => m.on_open(now, Some("t")),
                Input::Frame(text) | Input::Text(text) => m.on_text(now, &text),
                Input::Closed(code, reason) => m.on_closed(now, code, &reason),
                Input::Fail(status) => m.on_failed(now, Failure::Http(status, None)),
                Input::Tick => {
                    now = m.deadline().unwrap_or(now).max(now);
                    m.tick(now);
                }
                Input::Full => m.on_full(now),
                Input::Room => m.on_capacity(now),
                Input::Send => m.publish(r#"{"event":"x""#, 0),
            }
            while let Some(output) = m.poll_output() {
                if let Output::Connect = output {
                    connecting += 1;
                }
            }
            if matches!(m.phase, Phase::Waiting(_) | Phase::Ended) {
                connecting = 0;
            }
            prop_assert!(connecting <= 1);
            prop_assert!(m.resume_tokens.len() <= MAX_RESUME_TOKENS);
            prop_assert!(m.outgoing.unsent() <= settings().max_unsent);
            prop_assert_eq!(m.deadline().is_none(), m.phase == Phase::Ended, "{:?}", m.phase);
        }
    }
}

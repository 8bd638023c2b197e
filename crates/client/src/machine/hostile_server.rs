//! No matter what a server sends and when, nothing panics, memory stays bounded, and there is always
//! something to wait for.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::{R, body, ms, room as room_settings, settings};
use super::*;
use crate::body::Body;
use crate::outgoing::Recipient;

fn frame() -> impl Strategy<Value = String> {
    let event = prop::sample::select(vec![
        "welcome",
        "entered",
        "left",
        "resumed",
        "ack",
        "error",
        "noAuth",
        "authenticated",
        "expiring",
        "lagged",
        "heartbeat",
        "message",
        "enter",
        "out",
        "presence",
        "members",
        "state",
        "direct",
    ]);
    let number = prop_oneof![0u64..4, Just(u64::MAX), Just(u64::MAX - 1)];
    let code = prop::sample::select(vec![
        "room_full",
        "internal",
        "rate_limited",
        "denied",
        "not_entered",
        "too_deep",
        "token_expired",
        "room_closed",
        "bad_shape",
    ]);
    let mode = prop::sample::select(vec!["full", "full", "count", "quiet"]);
    let rate =
        prop::sample::select(vec![json!(null), json!(0), json!(-1), json!(1e-300), json!(1e300), json!(3)]);
    let room = prop::sample::select(vec!["r", "q", "s"]);
    let frame = (event, number, any::<[bool; 9]>(), "[EF]", code, rate, room, mode);
    frame.prop_map(|(event, n, flags, epoch, code, rate, room, mode)| {
        let mut object = json!({"event": event, "epoch": epoch, "resumed": flags[0], "recovered": flags[1],
            "member": "1", "resume": "s", "limits": {"cids": n, "messageBytes": if n == 0 { 0 } else { 999 }},
            "rates": {"messages": rate, "bytes": rate, "transient": rate, "burst": rate},
            "transient": ["y"], "in": n, "missed": n, "retryAfter": n,
            "heartbeat": {"interval": n, "timeout": n}, "message": "m",
            "rooms": [{"roomId": "q"}, {"roomId": "s"}], "mode": mode, "num": n, "users": n, "state": {"n": n},
            "name": "ann"});
        let optional = [
            (flags[2], "seq", json!(n)),
            (flags[3], "replayed", json!(n)),
            (flags[3], "history", json!(n)),
            (flags[4], "cid", json!(format!("{:016x}{:016x}", 1, 1))),
            (flags[5], "roomId", json!(room)),
            (flags[6], "code", json!(code)),
            (flags[7], "members", json!([{"member": "1"}, {"member": n.to_string(), "name": "bob"}])),
            (flags[8], "next", json!("cursor")),
            (flags[7], "direct", json!(n)),
        ];
        for (_, key, value) in optional.into_iter().filter(|(is_there, ..)| *is_there) {
            object[key] = value;
        }
        object.to_string()
    })
}

#[derive(Debug, Clone)]
enum Input {
    Open,
    Token(bool),
    Frame(String),
    Text(String),
    Binary,
    Closed(u16, String),
    Fail(u16),
    Tick,
    Full(RoomKey),
    Capacity(RoomKey),
    Send(RoomKey),
    SendTransient(RoomKey),
    SetState(RoomKey, u64),
    SendToUser,
    Enter(RoomKey),
    Join,
    Leave,
    Release,
}

const Q: RoomKey = RoomKey(1);

fn input() -> impl Strategy<Value = Input> {
    let room = prop::sample::select(vec![R, Q]);
    prop_oneof![
        4 => Just(Input::Open),
        2 => any::<bool>().prop_map(Input::Token),
        16 => frame().prop_map(Input::Frame),
        1 => ".{0,20}".prop_map(Input::Text),
        1 => Just(Input::Binary),
        1 => (prop::sample::select(vec![1006, 1012, 4000, 4002, 4504]), "(retry in [0-9]{1,30}(-[0-9]{1,30})? s)?")
            .prop_map(|(code, reason)| Input::Closed(code, reason)),
        1 => (300u16..600).prop_map(Input::Fail),
        5 => Just(Input::Tick),
        1 => room.clone().prop_map(Input::Full),
        1 => room.clone().prop_map(Input::Capacity),
        3 => room.clone().prop_map(Input::Send),
        3 => room.clone().prop_map(Input::SendTransient),
        2 => (room.clone(), 0u64..3).prop_map(|(room, n)| Input::SetState(room, n)),
        2 => Just(Input::SendToUser),
        1 => room.prop_map(Input::Enter),
        1 => Just(Input::Join),
        1 => Just(Input::Leave),
        1 => Just(Input::Release),
    ]
}

/// What a machine is told, and what must be true after it.
fn step(m: &mut Machine<u32>, now: &mut Now, input: Input) -> Result<(), TestCaseError> {
    match input {
        Input::Open => m.on_open(*now, Some("t")),
        Input::Token(is_there) => {
            m.on_token(*now, if is_there { Ok("t".into()) } else { Err("none".into()) });
        }
        Input::Frame(text) | Input::Text(text) => m.on_text(*now, &text),
        Input::Binary => m.on_binary(*now),
        Input::Closed(code, reason) => m.on_closed(*now, code, &reason),
        Input::Fail(status) => {
            m.on_failed(*now, Failure::Http { status, body: String::new(), retry: None });
        }
        Input::Tick => {
            *now = m.deadline().unwrap_or(*now).max(*now);
            let mut ticks = 0;
            while m.deadline().is_some_and(|at| at <= *now) && *now < Now::MAX {
                m.tick(*now);
                ticks += 1;
                prop_assert!(ticks < 20, "always due: {:?} {:?} {:?}", m.link, m.rooms, m.leaving);
            }
        }
        Input::Full(room) => m.on_full(*now, room),
        Input::Capacity(room) => m.on_capacity(*now, room),
        Input::Send(room) => m.publish(*now, room, &body("x", 1), 0),
        Input::SendTransient(room) => m.send_transient(*now, room, &body("y", 1)),
        Input::SetState(room, n) => m.set_state(*now, room, json!(n)),
        Input::SendToUser => m.send_to_user(*now, "u", &Body::of_direct("hi").unwrap(), 0),
        Input::Enter(room) => m.enter_again(*now, room),
        Input::Join => m.join(*now, Q, room_settings("q")),
        Input::Leave => m.leave(*now, Q),
        Input::Release => m.release(*now),
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_input_is_handled(
        inputs in prop::collection::vec(input(), 0..80), renewable in any::<bool>(), is_chat in any::<bool>(),
    ) {
        let credential = if renewable { Credential::Renewable } else { Credential::Fixed };
        let settings = Settings { first_timeout: Now::MAX, credential, ..settings() };
        let max_unsent = settings.max_unsent;
        let mut m = if is_chat {
            Machine::new(settings, Box::new(|| 1))
        } else {
            Machine::with_room(settings, Box::new(|| 1), R, room_settings("r"))
        };
        let mut now = ms(0);
        for input in inputs {
            step(&mut m, &mut now, input)?;
            while let Some(output) = m.poll_output() {
                if let Output::Send(text) | Output::SendTransient(text) = output {
                    prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
                }
            }
            let recipients = [Recipient::Room(R), Recipient::Room(Q), Recipient::Users];
            prop_assert!(recipients.iter().all(|to| m.cx.outgoing.unsent(*to) <= max_unsent));
            prop_assert_eq!(m.deadline().is_none(), m.ended().is_some() || m.is_idle(), "{:?}", m.link);
            prop_assert!(!m.is_idle() || m.rooms.is_empty());
        }
    }
}

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::members::Members;
use super::*;
use crate::ids::ConnectionId;

fn parse(text: &str) -> Result<Inbound<'_>, ErrorCode> {
    Inbound::parse(text, Subprotocol::V1, 64).map_err(|e| e.code)
}

fn body_of(text: &str) -> String {
    match parse(text) {
        Ok(Inbound::Publish(publish)) => publish.body.as_str().into(),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn the_protocols_own_frames() {
    let Ok(Inbound::Enter(enter)) = parse(r#"{"event":"enter","message":"ann","roomId":"7"}"#) else {
        panic!()
    };
    assert_eq!(enter.name.as_deref(), Some("ann"));
    assert_eq!(enter.room, RoomField::Id("7".into()));
    assert_eq!(parse(r#"{"event":"heartbeat","message":"pong"}"#), Ok(Inbound::Pong));
    assert_eq!(parse(r#" { "message" : "p\u006fng", "event":"heartbeat" } "#), Ok(Inbound::Pong));
    assert_eq!(parse(r#"{"event":"auth","message":"a.b.c"}"#), Ok(Inbound::Auth("a.b.c".into())));
}

#[test]
fn room_ids() {
    for (text, id) in [
        ("42", "42"),
        ("\"42\"", "42"),
        ("42.0", "42"),
        ("4.2e1", "42"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("1.5", "1.5"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("\"\\u5c0f\"", "小"),
        ("null", ""),
        ("\"__proto__\"", "__proto__"),
    ] {
        let frame = format!(r#"{{"event":"enter","message":"a","roomId":{text}}}"#);
        let Ok(Inbound::Enter(enter)) = parse(&frame) else { panic!("{text}") };
        assert_eq!(enter.room, RoomField::Id(id.into()), "{text}");
    }
    for text in ["true", "[]", "{}"] {
        let frame = format!(r#"{{"event":"enter","message":"a","roomId":{text}}}"#);
        let Ok(Inbound::Enter(enter)) = parse(&frame) else { panic!("{text}") };
        assert_eq!(enter.room, RoomField::Invalid, "{text}");
    }
    for (keys, room) in [
        ("", RoomField::Id("".into())),
        (r#","room":"lobby""#, RoomField::OtherKey),
        (r#","room_id":7"#, RoomField::OtherKey),
        (r#","room":"lobby","roomId":"7""#, RoomField::Id("7".into())),
    ] {
        let frame = format!(r#"{{"event":"enter","message":"a"{keys}}}"#);
        let Ok(Inbound::Enter(enter)) = parse(&frame) else { panic!("{keys}") };
        assert_eq!(enter.room, room, "{keys}");
    }
}

#[test]
fn what_is_refused() {
    use ErrorCode::*;
    for (text, code) in [
        ("", BadJson),
        ("hello", BadJson),
        ("{\"event\":\"x\"", BadJson),
        ("{\"event\":\"x\"} {}", BadJson),
        ("{\"event\":\"x\",\"a\":01}", BadJson),
        ("null", NotAnObject),
        ("[1,2]", NotAnObject),
        ("\"x\"", NotAnObject),
        ("{}", BadShape),
        ("{\"event\":7}", BadShape),
        ("{\"message\":\"x\"}", BadShape),
        ("{\"event\":\"out\",\"event\":\"hello\"}", BadShape),
        ("{\"event\":\"out\",\"\\u0065vent\":\"hello\"}", BadShape),
        ("{\"event\":\"out\",\"name\":\"bob\"}", ReservedEvent),
        ("{\"event\":\"noAuth\"}", ReservedEvent),
        ("{\"event\":\"error\"}", ReservedEvent),
        ("{\"event\":\"welcome\"}", ReservedEvent),
        ("{\"event\":\"entered\"}", ReservedEvent),
        ("{\"event\":\"left\"}", ReservedEvent),
        ("{\"event\":\"resumed\"}", ReservedEvent),
        ("{\"event\":\"ack\",\"cid\":\"x\"}", ReservedEvent),
        ("{\"event\":\"heartbeat\",\"message\":\"beat\"}", ReservedEvent),
        ("{\"event\":\"heartbe\\u0061t\",\"num\":1}", ReservedEvent),
        ("{\"event\":\"auth\",\"message\":{}}", BadShape),
    ] {
        assert_eq!(parse(text).unwrap_err(), code, "{text}");
    }
}

#[test]
fn a_hundred_thousand_brackets_are_refused() {
    for text in ["[".repeat(100_000), format!("{{\"event\":\"x\",\"a\":{}", "[".repeat(100_000))] {
        assert_eq!(parse(&text).unwrap_err(), ErrorCode::TooDeep);
    }
    let brackets_in_a_string = format!(r#"{{"event":"x","message":"{}"}}"#, "[{\\\"".repeat(1000));
    assert!(parse(&brackets_in_a_string).is_ok());
}

#[test]
fn bodies_are_relayed_as_they_came() {
    assert_eq!(body_of(r#"{"event":"message","message":1.00}"#), r#"{"event":"message","message":1.00"#);
    assert_eq!(body_of(" {\"event\" :\"x\" , \"b\":[1, 2] }\n"), "{\"event\" :\"x\" , \"b\":[1, 2]");
}

#[test]
fn forged_keys_are_cut() {
    assert_eq!(body_of(r#"{"name":"eve","event":"x","num":9,"a":1}"#), r#"{"event":"x","a":1"#);
    assert_eq!(body_of(r#"{"event":"x","n\u0061me":"eve","name":"mal"}"#), r#"{"event":"x""#);
}

#[test]
fn a_message_can_be_replaced() {
    let Ok(Inbound::Enter(enter)) = parse(r#"{"event":"enter","message":"eve","roomId":7}"#) else {
        panic!()
    };
    assert_eq!(enter.body.with_message("a\"n").as_str(), r#"{"event":"enter","roomId":7,"message":"a\"n""#);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_object_comes_out_as_it_went_in(
        mut object in prop::collection::btree_map("name|num|message|[a-z]{1,5}", any_json(), 0..6),
        pretty in any::<bool>(),
    ) {
        object.insert("event".into(), json!("draw"));
        let value = Value::Object(object.into_iter().collect());
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        let relayed = format!("{},\"name\":\"ann\",\"num\":3}}", body_of(&text));
        // Duplicate keys would show as text that is longer than its parsed form needs.
        let mut want: Map<String, Value> = serde_json::from_str(&text).unwrap();
        want.insert("name".into(), json!("ann"));
        want.insert("num".into(), json!(3));
        let got: Map<String, Value> = serde_json::from_str(&relayed).unwrap();
        prop_assert_eq!(&got, &want);
        let members: Members<'_> = serde_json::from_str(&relayed).unwrap();
        prop_assert_eq!(members.0.len(), want.len());
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = Inbound::parse(&text, Subprotocol::V1, 8);
    }

    #[test]
    fn no_nearly_json_panics(text in "[\\[\\]{}\",:\\\\a-e0-9u ]{0,40}") {
        let _ = Inbound::parse(&text, Subprotocol::V1, 8);
    }
}

#[test]
fn a_seq_is_the_clients_own_on_the_plain_wire_and_the_servers_in_v1() {
    let Ok(Inbound::Publish(publish)) = parse(r#"{"event":"x","seq":7,"cid":"c"}"#) else { panic!() };
    let frame = publish.body.frame("", ConnectionId(1), &"r".into());
    assert_eq!((frame.plain, &*frame.v1), (r#"{"event":"x","seq":7,"cid":"c""#, r#"{"event":"x","cid":"c""#));
    assert_eq!(publish.cid, Some("\"c\""));
    let alone = Body::of_host(r#"{"seq":7,"num":1}"#).unwrap();
    let room = "r".into();
    let frame = alone.host_frame(&room);
    assert_eq!((frame.plain, &*frame.v1, frame.tail), ("{", "{", "\"num\":"));
}

#[test]
fn the_position_that_a_client_returns_with_is_not_relayed() {
    let text = r#"{"event":"enter","since":{"epoch":"e","seq":1},"message":"a","seq":3,"x":1}"#;
    let Ok(Inbound::Enter(enter)) = parse(text) else { panic!() };
    assert_eq!(enter.since, Some(r#"{"epoch":"e","seq":1}"#));
    let named = enter.body.without_replay_keys().with_message("b");
    let frame = named.frame("", ConnectionId(1), &"r".into());
    assert_eq!(frame.plain, r#"{"event":"enter","seq":3,"x":1,"message":"b""#);
    assert_eq!(frame.v1, r#"{"event":"enter","x":1,"message":"b""#);
}

#[test]
fn a_replaced_message_keeps_its_cid() {
    for (json, plain, v1) in [
        (r#"{"a":1}"#, r#"{"a":1,"cid":"c""#, r#"{"a":1,"cid":"c""#),
        (r#"{"cid":7}"#, r#"{"cid":"c""#, r#"{"cid":"c""#),
        (r#"{"seq":1,"cid":7}"#, r#"{"seq":1,"cid":"c""#, r#"{"cid":"c""#),
    ] {
        let body = Body::of_host_for_member(json).unwrap().with_cid("c");
        assert_eq!((body.as_str(), body.v1()), (plain, v1), "{json}");
    }
}

#[test]
fn each_v1_frame_has_the_rooms_id_once_and_as_the_server_writes_it() {
    for (room, text, v1, has_room) in [
        ("r", r#"{"event":"x"}"#, r#"{"event":"x""#, false),
        ("r", r#"{"event":"x","roomId":"r","a":1}"#, r#"{"event":"x","roomId":"r","a":1"#, true),
        ("r", r#"{"event":"x","roomId":"\u0072","a":1}"#, r#"{"event":"x","a":1"#, false),
        ("r", r#"{"event":"x","room\u0049d":"\u0072","a":1}"#, r#"{"event":"x","a":1"#, false),
        ("r", r#"{"event":"x","roomId":"other","name":"forged"}"#, r#"{"event":"x""#, false),
        ("r", r#"{"roomId":"r","event":"x","name":"forged"}"#, r#"{"roomId":"r","event":"x""#, true),
        ("42", r#"{"roomId":42,"event":"x"}"#, r#"{"event":"x""#, false),
        ("42", r#"{"roomId":"42","seq":1,"event":"x"}"#, r#"{"roomId":"42","event":"x""#, true),
        (r"a\u0072", r#"{"roomId":"a\u0072","event":"x"}"#, r#"{"event":"x""#, false),
    ] {
        let Ok(Inbound::Publish(publish)) = parse(text) else { panic!() };
        let frame = publish.body.frame("", ConnectionId(1), &room.into());
        assert_eq!((&*frame.v1, frame.has_room), (v1, has_room), "{text}");
    }
    let host = Body::of_host(r#"{"event":"x","roomId":"elsewhere"}"#).unwrap();
    let room = "r".into();
    let frame = host.host_frame(&room);
    assert_eq!((frame.plain, &*frame.v1), (r#"{"event":"x","roomId":"elsewhere""#, r#"{"event":"x""#));
}

#[test]
fn leaving_and_resuming_are_for_v1_only() {
    let leave = r#"{"event":"leave","roomId":7}"#;
    let resume = r#"{"event":"resume","message":["t"]}"#;
    assert_eq!(parse(leave), Ok(Inbound::Leave(RoomField::Id("7".into()))));
    assert_eq!(parse(r#"{"event":"leave"}"#), Ok(Inbound::Leave(RoomField::Id("".into()))));
    assert_eq!(
        parse(resume),
        Ok(Inbound::Resume(Resume { tokens: r#"["t"]"#, last_direct: LastDirect::default() }))
    );
    assert_eq!(
        parse(r#"{"event":"resume"}"#),
        Ok(Inbound::Resume(Resume { tokens: "null", last_direct: LastDirect::default() }))
    );
    for text in [leave, resume] {
        assert!(matches!(Inbound::parse(text, Subprotocol::Plain, 8), Ok(Inbound::Publish(_))), "{text}");
    }
}

#[test]
fn direct_messages() {
    let text = r#"{"event":"direct","message":{"to":1},"to":"u\u0031","cid":"c","from":1,"direct":2,"roomId":"r","a":3,"name":4,
        "num":5,"seq":6,"member":"7"}"#;
    let Ok(Inbound::Direct(direct)) = parse(text) else { panic!() };
    assert_eq!((&*direct.to, direct.cid), ("u1", Some("\"c\"")));
    assert_eq!(direct.body, r#"{"event":"direct","message":{"to":1},"cid":"c","a":3"#);
    for to in ["", r#","to":7"#, r#","to":null"#, r#","to":["u"]"#, r#","to":"u","to":"u""#] {
        let text = format!(r#"{{"event":"direct","message":"hi"{to}}}"#);
        assert_eq!(parse(&text), Err(ErrorCode::BadShape), "{to}");
    }
    let plain = Inbound::parse(r#"{"event":"direct","to":"u"}"#, Subprotocol::Plain, 64);
    assert_eq!(plain.unwrap_err().code, ErrorCode::ReservedEvent);
}

/// Otherwise a member could send frames that look like numbered direct frames.
#[test]
fn only_the_server_numbers_direct_frames() {
    let Ok(Inbound::Publish(publish)) = parse(r#"{"event":"x","direct":1,"a":2}"#) else { panic!() };
    assert_eq!(publish.body.v1(), r#"{"event":"x","a":2"#);
    assert_eq!(publish.body.as_str(), r#"{"event":"x","direct":1,"a":2"#);
    assert_eq!(Body::of_host(r#"{"event":"x","direct":1}"#).unwrap().v1(), r#"{"event":"x""#);
    assert_eq!(Body::of_host_for_member(r#"{"direct":1,"event":"x"}"#).unwrap().v1(), r#"{"event":"x""#);
}

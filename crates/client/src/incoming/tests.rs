//! How a client parses the frames of a server.

use super::*;
use proptest::prelude::*;

#[test]
fn a_limit_that_is_missing_or_null_is_no_limit() {
    let text = r#"{"event":"welcome","heartbeat":{"interval":2000,"timeout":500},
                   "limits":{"messageBytes":null,"cids":7},"rates":{"messages":null,"bytes":5.5}}"#;
    let Incoming::Welcome(welcome) = Incoming::parse(text) else { panic!() };
    assert_eq!((welcome.resume_token, welcome.silence), (None, Duration::from_millis(2500)));
    assert_eq!((welcome.message_bytes, welcome.cids), (usize::MAX, 7));
    assert_eq!(welcome.rates, Rates { messages: None, bytes: Some(5.5), ..DEFAULT_RATES });
    let text = r#"{"event":"welcome","rates":{"messages":7,"transient":9,"burst":3,"empty":true},"transient":["a",7,"b"]}"#;
    let Incoming::Welcome(welcome) = Incoming::parse(text) else { panic!() };
    let rates = Rates { messages: Some(7.0), bytes: None, transient: Some(9.0), burst: 3.0, is_empty: true };
    assert_eq!(welcome.rates, rates);
    assert_eq!(*welcome.transient_events, ["a".to_owned(), "b".to_owned()]);
}

#[test]
fn a_welcome_without_them_has_the_default_heartbeat_and_rates() {
    let Incoming::Welcome(welcome) = Incoming::parse(r#"{"event":"welcome"}"#) else { panic!() };
    assert_eq!((welcome.interval.as_secs(), welcome.silence.as_secs()), (25, 45));
    assert_eq!(welcome.rates, DEFAULT_RATES);
}

#[test]
fn a_left_without_a_code_answers_a_leave() {
    for (text, removal) in [
        (r#"{"event":"left","roomId":"r"}"#, None),
        (r#"{"event":"left","roomId":"r","code":"denied","message":"banned"}"#, Some(("denied", "banned"))),
    ] {
        let removal = removal.map(|(code, message)| Removal { code: code.into(), message: message.into() });
        assert_eq!(Incoming::parse(text), Incoming::Left(Left { room: Some("r".into()), removal }));
    }
}

#[test]
fn a_resumed_names_the_rooms_of_the_session() {
    for (text, session, rooms) in [
        (r#"{"event":"resumed","rooms":[]}"#, None, vec![]),
        (r#"{"event":"resumed"}"#, None, vec![]),
        (
            r#"{"event":"resumed","member":"1","direct":7,"rooms":[{"roomId":"a","name":"n"},7,{"roomId":"b","name":"n"}]}"#,
            Some(("1".to_owned(), 7)),
            vec!["a", "b"],
        ),
    ] {
        let rooms = rooms.into_iter().map(str::to_owned).collect();
        let (member, direct) = session.unzip();
        assert_eq!(Incoming::parse(text), Incoming::Resumed(Resumed { member, direct, rooms }));
    }
}

#[test]
fn what_can_not_be_read_may_have_a_place_in_the_room() {
    let deep = format!(r#"{{"event":"x","a":{}{},"seq":7}}"#, "[".repeat(500), "]".repeat(500));
    for (text, expected) in [
        (r#"{"event":"message","message":"\ud800","seq":7}"#, Some(7)),
        (r#"{"event":"message","message":1e400,"seq":7}"#, Some(7)),
        (&deep, Some(7)),
        (r#"{"event":"message","message":1e400}"#, None),
        ("null", None),
        ("[]", None),
        ("{", None),
        ("", None),
    ] {
        let Incoming::Unreadable { seq, .. } = Incoming::parse(text) else { panic!("{text}") };
        assert_eq!(seq, expected, "{text}");
    }
    let text = r#"{"message":1e400,"roomId":"r","seq":7}"#;
    let Incoming::Unreadable { room, .. } = Incoming::parse(text) else { panic!() };
    assert_eq!(room.as_deref(), Some("r"));
}

#[test]
fn frames_of_the_protocol_have_what_belongs_to_them() {
    for text in [
        r#"{"event":"ack","cid":"c"}"#,
        r#"{"event":"entered","seq":1}"#,
        r#"{"event":"lagged","missed":0}"#,
        r#"{"event":"lagged","missed":-3}"#,
        r#"{"event":"expiring"}"#,
        r#"{"event":"presence","num":3}"#,
        r#"{"event":"presence","mode":"full"}"#,
        r#"{"event":"presence","mode":"unknown","num":3}"#,
        r#"{"event":"state","state":1}"#,
    ] {
        assert!(matches!(Incoming::parse(text), Incoming::Malformed(_)), "{text}");
    }
    for text in ["{}", r#"{"event":1}"#, r#"{"event":"new","a":1}"#] {
        assert!(matches!(Incoming::parse(text), Incoming::Frame(_)), "{text}");
    }
}

#[test]
fn a_numbered_frame_to_a_session_may_have_any_event_and_room() {
    for text in [
        r#"{"event":"direct","message":1,"direct":7}"#,
        r#"{"event":"presence","mode":"full","num":3,"roomId":"r","direct":7}"#,
        r#"{"event":"x","roomId":"r","seq":3,"direct":7}"#,
    ] {
        assert!(matches!(Incoming::parse(text), Incoming::Direct(7, _)), "{text}");
    }
    assert!(matches!(Incoming::parse(r#"{"event":"resumed","direct":7}"#), Incoming::Resumed(_)));
    assert!(matches!(Incoming::parse(r#"{"event":"x","direct":"7"}"#), Incoming::Frame(_)));
}

proptest! {
    #[test]
    fn nothing_panics(
        text in r#"\{"event":"(welcome|entered|left|resumed|ack|error|noAuth|expiring|lagged|presence|members|state)",.{0,40}\}"#,
    ) {
        let _ = Incoming::parse(&text);
    }
}

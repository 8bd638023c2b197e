//! Attacks with keys that only the server sets, written in other ways.

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, DirectRequest, History, Recovery, RoomPolicy, User, Verdict};

use crate::support::{Client, builder, nth_id};

/// Allows direct messages.
struct Open;

impl RoomPolicy for Open {
    fn may_send_direct(&self, _: &DirectRequest<'_>) -> Verdict {
        Verdict::allow()
    }
}

/// The keys that only the server sets, with an escape in each.
const FORGED: &str = r#""dir\u0065ct":7,"\u0066rom":{"user":"root"},"us\u0065r":"root","inf\u006f":"root","n\u0061me":"root","nu\u006d":99,"s\u0065q":99,"memb\u0065r":"99""#;

#[tokio::test(start_paused = true)]
async fn escapes_do_not_hide_keys_that_only_the_server_sets() {
    let recovery = Recovery::default().history(History::last(10));
    let rooms = builder().recovery(recovery).transient_events(["typing"]).policy(Open).build().unwrap();
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::user(User::new("ann"))).await;
    ann.enter_another("ann", "r").await;
    let (mut eve, _) = Client::connect_v1(&rooms, Admission::user(User::new("eve"))).await;
    eve.send_text(format!(r#"{{"event":"enter","message":"eve","roomId":"r",{FORGED}}}"#)).await;
    assert_eq!(eve.next().await["event"], "entered");
    let text = ann.next_text().await;
    let has_forged_number = text.contains(":99") || text.contains(r#""99""#);
    assert!(text.matches("root").count() == 1 && !has_forged_number, "{text}");
    for event in ["message", "typing"] {
        eve.send_text(format!(r#"{{"event":"{event}","message":1,"roomId":"r",{FORGED}}}"#)).await;
        let frame = ann.next().await;
        assert_eq!(
            (&frame["event"], &frame["name"], &frame["member"], &frame["num"], frame.get("direct")),
            (&json!(event), &json!("eve"), &json!(nth_id(1)), &json!(2), None),
            "{frame}"
        );
        assert_eq!(frame.get("seq").is_some(), event == "message", "{frame}");
    }
    eve.send_text(format!(r#"{{"event":"direct","message":1,"t\u006f":"ann","ro\u006fmId":"r",{FORGED}}}"#))
        .await;
    let frame = ann.next().await;
    let want = json!({"event": "direct", "message": 1, "user": "root", "info": "root", "from": {"user": "eve"}, "direct": 1});
    assert_eq!(frame, want);
    for twice in [
        r#"{"event":"direct","to":"ann","t\u006f":"bob"}"#,
        r#"{"event":"state","state":1,"st\u0061te":2}"#,
        r#"{"event":"members","after":"1","\u0061fter":"2","roomId":"r"}"#,
    ] {
        eve.send_text(twice).await;
        assert_eq!(next_error(&mut eve).await["code"], "bad_shape", "{twice}");
    }
}

async fn next_error(client: &mut Client) -> Value {
    loop {
        let frame = client.next().await;
        if frame["event"] == "error" {
            return frame;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn malformed_requests_are_answered() {
    let rooms = builder().policy(Open).build().unwrap();
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::user(User::new("ann"))).await;
    ann.enter_another("ann", "r").await;
    for (request, code) in [
        (r#"{"event":"members","roomId":"x"}"#, "not_entered"),
        (r#"{"event":"members","roomId":{}}"#, "bad_room_id"),
        (r#"{"event":"members","after":5}"#, "bad_shape"),
        (r#"{"event":"members","after":"18446744073709551616"}"#, "bad_shape"),
        (r#"{"event":"members","after":"-1"}"#, "bad_shape"),
        (r#"{"event":"state","state":"\ud800"}"#, "bad_json"),
        (r#"{"event":"state","state":1e999}"#, "bad_json"),
        (r#"{"event":"direct","to":1}"#, "bad_shape"),
        (r#"{"event":"direct","to":null}"#, "bad_shape"),
        (r#"{"event":"direct","to":"ann","cid":""}"#, "bad_shape"),
        (r#"{"event":"direct","to":"ann","cid":1}"#, "bad_shape"),
        (r#"{"event":"direct"}"#, "bad_shape"),
    ] {
        ann.send_text(request).await;
        let error = ann.next().await;
        assert_eq!((&error["event"], &error["code"]), (&json!("error"), &json!(code)), "{request}: {error}");
        // It counts as no malformed frame in a row.
        ann.send_text(r#"{"event":"heartbeat","message":"pong"}"#).await;
    }
    for after in ["18446744073709551615", "0", "1"] {
        ann.send(json!({"event": "members", "after": after})).await;
        assert_eq!(ann.next().await["event"], "members");
    }
}

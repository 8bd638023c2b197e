//! Room ids on frames: how a client names the room of a message, and what each member gets to see of it.

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms};

use crate::support::{
    Client, default_rooms, leave_frame, message_with_cid, recovering_rooms, resume_frame, rooms_with_log,
};

/// The room id of a frame, which must occur in it once, and as a string.
fn only_room_id(text: &str) -> String {
    assert_eq!(text.matches("roomId").count() + text.matches("room\\u0049d").count(), 1, "{text}");
    let frame: Value = serde_json::from_str(text).unwrap();
    frame["roomId"].as_str().unwrap_or_else(|| panic!("{text}")).into()
}

/// A `chat-rooms.v1` member of this room.
async fn v1_member(rooms: &ChatRooms, name: &str, room: &str) -> Client {
    Client::enter_rooms(rooms, name, &[room]).await.0
}

#[tokio::test(start_paused = true)]
async fn a_room_id_can_be_written_in_several_ways() {
    for (room, spellings) in [
        ("42", vec!["42", "\"42\"", "42.0", "4.2e1", "\"\\u00342\""]),
        ("lobby", vec!["\"lobby\"", "\"\\u006cobby\"", "\"l\\u006fbby\""]),
        ("a\"b\\c", vec!["\"a\\\"b\\\\c\"", "\"\\u0061\\u0022b\\u005cc\""]),
        ("小明", vec!["\"小明\"", "\"\\u5c0f\\u660e\""]),
        ("", vec!["\"\"", "null"]),
    ] {
        let (rooms, _) = recovering_rooms();
        let mut bob = v1_member(&rooms, "bob", room).await;
        for spelling in spellings {
            let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
            // Another room, so that the client has to name the one that it means.
            ann.enter_another("ann", "other").await;
            ann.send_text(format!(r#"{{"event":"enter","roomId":{spelling},"message":"ann"}}"#)).await;
            assert_eq!(only_room_id(&ann.next_text().await), room, "entered");
            let message = [
                format!(r#"{{"event":"x","roomId":{spelling}}}"#),
                format!(r#" {{ "roomId" : {spelling} , "event" : "x" }} "#),
                format!(r#"{{"room\u0049d":{spelling},"event":"x"}}"#),
                // The server replaces these keys.
                format!(r#"{{"event":"x","name":"forged","roomId":{spelling},"seq":7,"num":1,"member":3}}"#),
                format!(r#"{{"seq":7,"roomId":{spelling},"event":"x"}}"#),
            ];
            for text in &message {
                ann.send_text(text.as_str()).await;
            }
            for (n, event) in ["enter"].into_iter().chain(["x"; 5]).enumerate() {
                let text = ann.next_text().await;
                assert_eq!(only_room_id(&text), room, "{spelling}");
                let frame: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(
                    (&frame["event"], &frame["name"], &frame["num"]),
                    (&json!(event), &json!("ann"), &json!(2)),
                    "{n} {spelling}: {frame}"
                );
                assert_eq!(bob.next_text().await, text);
            }
            assert_eq!(rooms.rooms().len(), 2);
            // So it is in a replay, and when the room is left.
            ann.disconnect().await;
            let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
            ann.resume([&welcome["resume"]]).await;
            ann.send_text(format!(
                r#"{{"event":"enter","message":"ann","roomId":{spelling},"since":{{"epoch":"0123456789abcdef","seq":0}}}}"#
            ))
            .await;
            let entered = ann.next_text().await;
            let replayed = serde_json::from_str::<Value>(&entered).unwrap()["replayed"].as_u64().unwrap();
            assert!(replayed >= 6, "{entered}");
            for text in [vec![entered], next_texts(&mut ann, replayed).await].concat() {
                assert_eq!(only_room_id(&text), room);
            }
            ann.send_text(format!(r#"{{"event":"leave","roomId":{spelling}}}"#)).await;
            assert_eq!(only_room_id(&ann.next_text().await), room);
            assert_eq!(only_room_id(&bob.next_text().await), room, "out");
            ann.close().await;
        }
    }
}

async fn next_texts(client: &mut Client, n: u64) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..n {
        texts.push(client.next_text().await);
    }
    texts
}

#[tokio::test(start_paused = true)]
async fn each_room_frame_has_a_room_id_in_v1_and_none_is_added_on_the_plain_wire() {
    let rooms = default_rooms();
    let mut ann = v1_member(&rooms, "ann", "r").await;
    ann.enter_another("ann", "s").await;
    let mut plain = Client::connect(&rooms).await;
    plain.send_text(r#"{"event":"enter","message":"bob","roomId":"r"}"#).await;
    assert_eq!(
        plain.next_text().await,
        r#"{"event":"enter","message":"bob","roomId":"r","name":"bob","num":2}"#
    );
    assert_eq!(only_room_id(&ann.next_text().await), "r");
    // To plain clients, the key of a message means what they like.
    for (sent, relayed) in [
        (r#"{"event":"x"}"#, r#"{"event":"x","name":"bob","num":2}"#),
        (r#"{"event":"x","roomId":"s"}"#, r#"{"event":"x","roomId":"s","name":"bob","num":2}"#),
        (r#"{"event":"x","roomId":[7]}"#, r#"{"event":"x","roomId":[7],"name":"bob","num":2}"#),
        (
            r#"{"event":"x","roomId":{"roomId":7}}"#,
            r#"{"event":"x","roomId":{"roomId":7},"name":"bob","num":2}"#,
        ),
        (r#"{"event":"x","num":3,"roomId":"r"}"#, r#"{"event":"x","roomId":"r","name":"bob","num":2}"#),
    ] {
        plain.send_text(sent).await;
        assert_eq!(plain.next_text().await, relayed);
        assert_eq!(only_room_id(&ann.next_text().await), "r", "{sent}");
    }
    // Plain clients get what a v1 client has sent, without what the server adds for v1.
    for (sent, relayed) in [
        (
            r#"{"event":"x","roomId":"r","cid":"1"}"#,
            r#"{"event":"x","roomId":"r","cid":"1","name":"ann","num":2}"#,
        ),
        (r#"{"event":"x","roomId":"\u0072"}"#, r#"{"event":"x","roomId":"\u0072","name":"ann","num":2}"#),
    ] {
        ann.send_text(sent).await;
        assert_eq!(plain.next_text().await, relayed);
        while only_or_none(&ann.next_text().await).is_none() {}
    }
    // Frames of the host.
    rooms.send("r", &json!({"event": "notice"})).unwrap();
    rooms.send("r", &json!({"event": "notice", "roomId": "elsewhere"})).unwrap();
    assert_eq!(plain.next_text().await, r#"{"event":"notice","num":2}"#);
    assert_eq!(plain.next().await, json!({"event": "notice", "roomId": "elsewhere", "num": 2}));
    for _ in 0..2 {
        assert_eq!(only_room_id(&ann.next_text().await), "r");
    }
    ann.leave("r").await;
    assert_eq!(plain.next_text().await, r#"{"event":"out","name":"ann","num":1}"#);
    // A v1 client that names no room.
    ann.send_text(r#"{"event":"x"}"#).await;
    assert_eq!(only_room_id(&ann.next_text().await), "s");
}

/// The room id of a frame, unless it is an acknowledgement.
fn only_or_none(text: &str) -> Option<String> {
    (!text.contains("\"ack\"")).then(|| only_room_id(text))
}

#[tokio::test(start_paused = true)]
async fn a_message_that_names_no_room_needs_exactly_one() {
    let rooms = default_rooms();
    let nameless = || json!({"event": "message", "message": "?", "cid": "c"});
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let refused = async |ann: &mut Client| {
        ann.send(nameless()).await;
        let refused = ann.next().await;
        assert_eq!((&refused["code"], &refused["cid"]), (&json!("not_entered"), &json!("c")));
    };
    refused(&mut ann).await;
    ann.enter_another("ann", "a").await;
    ann.enter_another("ann", "b").await;
    refused(&mut ann).await;
    ann.assert_quiet().await;
    ann.leave("a").await;
    // It was not remembered, so it is accepted under the same id.
    ann.send(nameless()).await;
    let [ack, message] = ann.next_acknowledged().await;
    assert_eq!(ack["cid"], "c");
    assert_eq!((&message["roomId"], &message["message"]), (&json!("b"), &json!("?")));
}

#[tokio::test(start_paused = true)]
async fn a_message_for_a_room_that_the_client_is_not_in_is_refused() {
    let (rooms, log) = rooms_with_log();
    let (mut bob, _) = Client::enter_rooms(&rooms, "bob", &["b"]).await;
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["a"]).await;
    for room in ["b", "nowhere", ""] {
        ann.send(message_with_cid(room, "?", room.get(..1).unwrap_or("c"))).await;
        assert_eq!(ann.next().await["code"], "not_entered", "{room}");
    }
    for wrong in [json!([1]), json!({}), json!(true)] {
        ann.send(json!({"event": "message", "roomId": wrong, "cid": "d"})).await;
        let refused = ann.next().await;
        assert_eq!((&refused["code"], &refused["cid"]), (&json!("bad_room_id"), &json!("d")));
    }
    bob.assert_quiet().await;
    assert_eq!(log.take().len(), 2);
    ann.say("a", "here").await;
}

#[tokio::test(start_paused = true)]
async fn left_and_resumed_are_for_the_server_and_leave_and_resume_are_not_of_the_plain_wire() {
    let rooms = default_rooms();
    let mut plain = Client::enter(&rooms, "plain", "r").await;
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["r"]).await;
    assert_eq!(plain.next().await["name"], "ann");
    for event in ["left", "resumed"] {
        for client in [&mut plain, &mut ann] {
            client.send(json!({"event": event, "roomId": "r"})).await;
            let refused = client.next().await;
            assert_eq!(refused["code"], "reserved_event", "{refused}");
        }
    }
    for frame in [leave_frame("r"), resume_frame([&json!("x")])] {
        plain.send(frame.clone()).await;
        let relayed = plain.next().await;
        assert_eq!((&relayed["event"], &relayed["name"]), (&frame["event"], &json!("plain")));
        assert_eq!(ann.next().await["event"], frame["event"]);
    }
    assert_eq!(rooms.members("r").len(), 2);
}

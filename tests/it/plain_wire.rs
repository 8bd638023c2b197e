//! The plain wire: its frames, byte by byte.

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::support::{Client, assert_empty, default_rooms, frame};

#[tokio::test(start_paused = true)]
async fn members_receive_each_others_frames_and_their_own() {
    let rooms = default_rooms();
    let mut ann = Client::connect(&rooms).await;
    ann.send_text(r#"{"event":"enter","message":"ann","roomId":"7"}"#).await;
    assert_eq!(
        ann.next_text().await,
        r#"{"event":"enter","message":"ann","roomId":"7","name":"ann","num":1}"#
    );
    let mut bob = Client::connect(&rooms).await;
    bob.send_text(r#"{"event":"enter","message":"bob","roomId":7}"#).await;
    let hello = r#"{"event":"enter","message":"bob","roomId":7,"name":"bob","num":2}"#;
    assert_eq!(bob.next_text().await, hello);
    assert_eq!(ann.next_text().await, hello);
    ann.send_text(r#"{"event":"message","message":"hi"}"#).await;
    let hi = r#"{"event":"message","message":"hi","name":"ann","num":2}"#;
    assert_eq!(ann.next_text().await, hi);
    assert_eq!(bob.next_text().await, hi);
    ann.close().await;
    assert_eq!(bob.next_text().await, r#"{"event":"out","name":"ann","num":1}"#);
    bob.close().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn any_event_is_relayed_byte_by_byte() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "7").await;
    for text in [
        r#"{"event":"draw","to":[1.50,1e300,{"a":null}],"x":"\u0041"}"#,
        "{ \"message\":{},\t\"event\":\"\u{5c0f}\" }",
    ] {
        ann.send_text(text).await;
        let open = text.strip_suffix('}').unwrap().trim_end();
        assert_eq!(ann.next_text().await, format!(r#"{open},"name":"ann","num":1}}"#));
    }
}

#[tokio::test(start_paused = true)]
async fn clients_cannot_forge_the_servers_events_and_values() {
    let rooms = default_rooms();
    let mut eve = Client::enter(&rooms, "eve", "").await;
    let mut ann = Client::enter(&rooms, "ann", "").await;
    assert_eq!(eve.next().await["name"], "ann");
    for event in ["out", "noAuth", "error", "heartbeat"] {
        eve.send(json!({"event": event, "name": "ann", "num": 0, "message": "ping"})).await;
        let answer = eve.next().await;
        assert_eq!((&answer["event"], &answer["code"]), (&json!("error"), &json!("reserved_event")));
    }
    eve.send_text(r#"{"name":"ann","event":"message","num":99,"message":"I am Ann","n\u0061me":"ann"}"#)
        .await;
    assert_eq!(ann.next_text().await, r#"{"event":"message","message":"I am Ann","name":"eve","num":2}"#);
}

#[tokio::test(start_paused = true)]
async fn errors_have_exactly_three_keys_and_keep_the_connection() {
    let rooms = default_rooms();
    let mut ann = Client::connect(&rooms).await;
    for (text, code) in [
        ("{", "bad_json"),
        ("null", "not_an_object"),
        ("{}", "bad_shape"),
        (r#"{"event":"message","message":"hi"}"#, "not_entered"),
        (r#"{"event":"enter","message":""}"#, "bad_name"),
        (r#"{"event":"enter","message":7}"#, "bad_name"),
        (r#"{"event":"enter"}"#, "bad_name"),
        (r#"{"event":"enter","message":"a\u0007"}"#, "bad_name"),
        (r#"{"event":"enter","message":"a","roomId":[7]}"#, "bad_room_id"),
        (r#"{"event":"enter","message":"a","roomId":"\n"}"#, "bad_room_id"),
    ] {
        ann.send_text(text).await;
        let answer = ann.next().await;
        assert_eq!(answer["code"], code, "{text}");
        assert_eq!(answer["event"], "error");
        assert!(answer["message"].as_str().is_some_and(|m| m.len() > 5));
        assert_eq!(answer.as_object().unwrap().len(), 3);
    }
    ann.send_text("[".repeat(60_000)).await;
    assert_eq!(ann.next().await["code"], "too_deep");
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "7"})).await;
    assert_eq!(ann.next().await["num"], 1);
}

#[tokio::test(start_paused = true)]
async fn malformed_frames_in_a_row_close_the_connection() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "7").await;
    for _ in 0..3 {
        for _ in 0..7 {
            ann.send_text("{").await;
            assert_eq!(ann.next().await["code"], "bad_json");
        }
        // A valid frame resets the count.
        ann.send(json!({"event": "message", "message": "sorry"})).await;
        assert_eq!(ann.next().await["message"], "sorry");
    }
    for _ in 0..8 {
        ann.send_text("{").await;
    }
    let (before, code) = ann.frames_until_close().await;
    assert_eq!((before.len(), code), (8, 1008));
    ann.task.await.unwrap();
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_bad_frame_has_its_close_code() {
    let rooms = default_rooms();

    let cases: [(Vec<u8>, u16); 5] = [
        (frame(0x82, b"binary"), 1003),
        (frame(0x81, b"\xff\xfe"), 1007),
        (frame(0xc1, b"{}"), 1002),
        (vec![0x81, 2, b'{', b'}'], 1002),
        (frame(0x80, b"continued"), 1002),
    ];
    for (bytes, code) in cases {
        let mut ann = Client::enter(&rooms, "ann", "7").await;
        ann.ws.get_mut().write_all(&bytes).await.unwrap();
        assert_eq!(ann.close_code().await, code, "{bytes:?}");
        drop(ann.ws);
        ann.task.await.unwrap();
        assert_empty(&rooms);
    }
    let mut ann = Client::enter(&rooms, "ann", "7").await;
    ann.ws.send(Message::text("x".repeat(65 * 1024))).await.unwrap();
    assert_eq!(ann.close_code().await, 1009);
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_between_fragments() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "7").await;
    ann.ws.send(Message::Ping(Bytes::from_static(b"there?"))).await.unwrap();
    let text = br#"{"event":"message","message":"in pieces"}"#;
    for (n, piece) in text.chunks(9).enumerate() {
        let fin = if (n + 1) * 9 >= text.len() { 0x80 } else { 0 };
        ann.ws.get_mut().write_all(&frame(fin | u8::from(n == 0), piece)).await.unwrap();
        ann.ws.send(Message::Ping(Bytes::from_static(b"still?"))).await.unwrap();
    }
    let mut pongs = 0;
    loop {
        match ann.ws.next().await.unwrap().unwrap() {
            Message::Pong(_) => pongs += 1,
            Message::Text(t) if t.contains("in pieces") => break,
            _ => {}
        }
    }
    assert!(pongs >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_room_id_can_be_a_number_or_a_string() {
    let rooms = default_rooms();
    let mut members = Vec::new();
    for (n, id) in [json!(42), json!("42"), json!(42.0)].into_iter().enumerate() {
        let mut client = Client::connect(&rooms).await;
        client.send(json!({"event": "enter", "message": "x", "roomId": id})).await;
        let hello = client.next().await;
        assert_eq!(hello["num"], n + 1);
        assert_eq!(hello["roomId"], id);
        members.push(client);
    }
    let mut nowhere = Client::connect(&rooms).await;
    nowhere.send(json!({"event": "enter", "message": "x"})).await;
    assert_eq!(nowhere.next().await["num"], 1);
    let mut null = Client::connect(&rooms).await;
    null.send(json!({"event": "enter", "message": "x", "roomId": null})).await;
    assert_eq!(null.next().await["num"], 2);
    let mut undefined = Client::connect(&rooms).await;
    undefined.send(json!({"event": "enter", "message": "x", "roomId": "undefined"})).await;
    assert_eq!(undefined.next().await["num"], 1);
}

/// Clients that cannot parse such a frame used to take it for a gap.
#[tokio::test(start_paused = true)]
async fn json_that_some_clients_cannot_parse_is_not_relayed() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    for text in [
        r#"{"event":"message","message":"\ud83d"}"#.to_owned(),
        r#"{"event":"message","message":[1e400]}"#.to_owned(),
        format!(r#"{{"event":"message","message":{}{}}}"#, "[".repeat(200), "]".repeat(200)),
    ] {
        ann.send_text(text.as_str()).await;
        let answer = ann.next().await;
        assert!(answer["code"] == "bad_json" || answer["code"] == "too_deep", "{text}: {answer}");
    }
}

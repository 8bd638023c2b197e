//! Programs that are no nodes: publishers, and programs in other languages.

use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms_redis::{Event, Publisher, Settings};

use crate::support::{Data, Server, TestNode, member};

/// What nodes get of an object, between other fields.
fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

async fn publish(server: &Server, arguments: &[&str]) -> Result<u64, String> {
    server.try_command(&[&["FCALL", "chat_publish", "1", "chat"], arguments].concat()).await
}

#[tokio::test]
async fn a_publisher_publishes_once_and_is_no_node() {
    let server = Server::start().await;
    let settings = || Settings::new(server.url());
    let a = TestNode::connect(settings()).await;
    let (one, other) =
        (Publisher::connect(settings()).await.unwrap(), Publisher::connect(settings()).await.unwrap());
    assert_eq!(one.publish("r", Some("key"), b"nobody hears it").await, Ok(None));
    a.enter("r", member("ann"), None).await.unwrap();
    let first = one.publish("r", Some("key"), b"first").await.unwrap().unwrap();
    assert_eq!((first.stamp.event, first.stamp.num, first.is_repeat), (2, 1, false));
    let again = other.publish("r", Some("key"), b"again").await.unwrap().unwrap();
    assert_eq!((again.stamp, again.id, again.is_repeat), (first.stamp, first.id, true));
    one.send_transient("r", b"transient").await.unwrap();
    one.send_to_all(b"command").await.unwrap();
    let last = other.publish("r", None, b"last").await.unwrap().unwrap();
    a.until_heard("r", last.stamp).await;
    assert_eq!(a.bodies("r"), ["+ann", "first", "last"]);
    let others: Vec<Event> = a.heard().into_iter().filter(|event| !matches!(event, Event::Room(_))).collect();
    let transient = Event::Transient { room: "r".into(), body: "transient".into() };
    assert_eq!(others, [transient, Event::Command { body: "command".into() }]);
    assert_eq!(server.command::<u64>(&["ZCARD", "{chat}:nodes"]).await, 1);
}

#[tokio::test]
async fn the_function_publishes_once_in_the_rooms_order() {
    let server = Server::start().await;
    let a = TestNode::connect(Settings::new(server.url()).log_length(10)).await;
    let object = r#"{"event":"x","big":12345678901234567890,"none":[]}"#;
    assert_eq!(publish(&server, &["r", object, "key"]).await, Ok(0), "nobody is there");
    a.enter("r", member("ann"), None).await.unwrap();
    for _ in 0..2 {
        assert_eq!(publish(&server, &["r", object, "key"]).await, Ok(1));
    }
    for n in 0..30 {
        assert_eq!(publish(&server, &["r", &json!({"event": "y", "n": n}).to_string()]).await, Ok(1));
    }
    let last = a.publish("r", None, None, b"last").await.unwrap().stamp;
    assert_eq!((last.event, last.seq), (33, 33));
    a.until_heard("r", last).await;
    let bodies: Vec<_> = a.events("r").into_iter().map(|event| event.body).collect();
    assert_eq!(bodies.iter().filter(|body| contains(body, &object[..object.len() - 1])).count(), 1);
    assert!(server.command::<u64>(&["XLEN", "{chat}:log:r"]).await <= 10, "the node's limits hold");
    a.leave("r", "ann", None).await;
    a.close().await;
    assert_eq!(server.lasting_keys().await, [] as [&str; 0]);
}

/// Rule: a server that was started again begins a new epoch in each room.
#[tokio::test]
async fn the_function_knows_that_the_server_was_started_again() {
    let mut server = Server::start_with(Data::Everything).await;
    let a = TestNode::connect(Settings::new(server.url())).await;
    a.enter("r", member("ann"), None).await.unwrap();
    drop(a);
    let before: Vec<u8> = server.command(&["HGET", "{chat}:meta:r", "epoch"]).await;
    server.kill();
    server.spawn().await;
    // The function is among the data.
    let object = r#"{"event":"back"}"#;
    loop {
        match publish(&server, &["r", object]).await {
            Err(error) if error.contains("loading") => tokio::time::sleep(Duration::from_millis(5)).await,
            answer => break assert_eq!(answer, Ok(1)),
        }
    }
    let after: Vec<u8> = server.command(&["HGET", "{chat}:meta:r", "epoch"]).await;
    assert_ne!(after, before);
}

#[tokio::test]
async fn the_function_is_back_after_the_server_has_lost_its_data() {
    let mut server = Server::start().await;
    let a = TestNode::connect(Settings::new(server.url())).await;
    a.enter("r", member("ann"), None).await.unwrap();
    server.kill();
    server.spawn().await;
    a.until("that it works", |heard| {
        heard.iter().any(|event| matches!(event, Event::Reset { .. })) && a.degraded_since().is_none()
    })
    .await;
    assert_eq!(publish(&server, &["r", r#"{"event":"x"}"#]).await, Ok(1));
}

#[tokio::test]
async fn the_function_says_what_is_wrong() {
    let server = Server::start().await;
    let _a = TestNode::connect(Settings::new(server.url())).await;
    let big = json!({"event": "x", "message": "x".repeat(1 << 16)}).to_string();
    let deep = |depth| format!(r#"{{"event":"x","a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(publish(&server, &["r", &deep(126)]).await, Ok(0));
    let not_twice = r#"{"event":"x","a":{"event":"welcome","b":[{"c":1},{"c":2}]},"b":"\"c\":","c":"a"}"#;
    assert_eq!(publish(&server, &["r", not_twice]).await, Ok(0));
    for (arguments, says) in [
        (&["r"][..], "two or three arguments"),
        (&["", r#"{"event":"x"}"#], "room is empty"),
        (&["r", r#"{"event":"x"}"#, ""], "the idempotency key must have 1 to 256 bytes"),
        (&["r", ""], "not JSON"),
        (&["r", "{'event': 'x'}"], "not JSON"),
        (&["r", r#"["event"]"#], "not a JSON object"),
        (&["r", r#""event""#], "not a JSON object"),
        (&["r", r#"{"message":"x"}"#], r#"needs a string "event""#),
        (&["r", r#"{"event":7}"#], r#"needs a string "event""#),
        (&["r", r#"{"event":"x","\u006eum":7}"#], r#"the key "num""#),
        (&["r", r#"{"event":"x","id":7}"#], r#"the key "id""#),
        (&["r", r#"{"event":"welcome"}"#], r#"the event "welcome" belongs to the protocol"#),
        (&["r", r#"{"event":"\u0065ntered"}"#], r#"the event "entered" belongs to the protocol"#),
        (&["r", r#"{"event":"x","event":"welcome"}"#], r#"the event "welcome" belongs to the protocol"#),
        (&["r", r#"{"event":"welcome","event":"x"}"#], r#"the key "event" twice"#),
        (&["r", r#"{"a":{"event":1},"event":"x","\u0065vent" :"x"}"#], r#"the key "event" twice"#),
        (&["r", r#"{"a":"\\","event":"x","a":"\""}"#], r#"the key "a" twice"#),
        (&["r", &big], "may have 65536"),
        (&["r", &deep(127)], "more than 127 deep"),
        (&["r", r#"{"event":"x","n":1e999}"#], "a number"),
    ] {
        let error = publish(&server, arguments).await.unwrap_err();
        assert!(error.contains(says) && error.contains("chat_publish"), "{arguments:?}: {error}");
        // As errors of Redis itself, and without the place in the function.
        assert!(!error.contains("ERR") && !error.contains("script"), "{error}");
    }
}

/// What the function takes for JSON is JSON for everybody, and the other way round.
#[tokio::test]
async fn the_function_reads_json_as_everybody_does() {
    const PARTS: [&str; 34] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\n",
        "\t",
        "\r",
        "\"a\"",
        "\"",
        "\\",
        "\\n",
        "\\u00e9",
        "\\ud83d\\ude00",
        "\\ud800",
        "\\x",
        "é",
        "😀",
        "\u{7f}",
        "\u{1}",
        "null",
        "true",
        "nul",
        "NaN",
        "Infinity",
        "0",
        "-",
        "1.5",
        ".",
        "e5",
        "0x1",
        "+",
    ];
    let server = Server::start().await;
    let _a = TestNode::connect(Settings::new(server.url())).await;
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let mut accepted = 0;
    for n in 0..3000 {
        let inner: String = (0..=random(4)).map(|_| PARTS[random(PARTS.len())]).collect();
        let value = match n % 3 {
            0 => inner,
            1 => format!("\"{inner}\""),
            _ => format!("[{inner}]"),
        };
        let object = format!("{{\"event\":\"x\",\"a\":{value}}}");
        let is_json = serde_json::from_str::<Value>(&object).is_ok();
        let answer = publish(&server, &["r", &object]).await;
        assert_eq!(answer.is_ok(), is_json, "{object:?}: {answer:?}");
        accepted += usize::from(is_json);
    }
    assert!(accepted > 300, "{accepted}");
    let not_utf8: &[&[u8]] =
        &[b"\x80", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe9\xe9"];
    for bytes in not_utf8 {
        let object = [b"{\"event\":\"", *bytes, b"\"}"].concat();
        let error =
            server.try_bytes(&[b"FCALL", b"chat_publish", b"1", b"chat", b"r", &object]).await.unwrap_err();
        assert!(error.contains("not UTF-8"), "{bytes:x?}: {error}");
    }
}

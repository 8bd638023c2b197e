//! Rate limits: messages, bytes, other frames, enters, new rooms, and failed authentications.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::time::{Instant, advance};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tower_chat_rooms::{
    Admission, AuthRefusal, Authenticate, Denied, EnterRequest, Heartbeat, Limits, RateLimits, Timeouts, User,
};

use crate::support::{Client, EventLog, Next, assert_empty, builder, default_rooms, unlimited};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn limited(message: &str) -> Value {
    json!({"event": "error", "code": "rate_limited", "message": message})
}

/// Sends a message until the connection is closed. Returns the frames before the close frame, and its code.
async fn flood(client: &mut Client, message: Message) -> (Vec<Value>, u16) {
    let mut sent = 0;
    // Writes fail once the server has closed.
    while sent < 3000 && client.ws.send(message.clone()).await.is_ok() {
        sent += 1;
        if sent % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    client.frames_until_close().await
}

#[tokio::test(start_paused = true)]
async fn messages_beyond_the_rate_are_dropped_and_the_sender_is_told() {
    let rooms = builder().rate_limits(RateLimits::default().max_messages_per_second(10)).build().unwrap();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    assert_eq!(bob.next().await["name"], "ann");
    // A burst may have as many as two seconds. The enter was one of them.
    for n in 0..19 {
        ann.send(json!({"event": "message", "message": n})).await;
        assert_eq!(ann.next().await["message"], n);
        assert_eq!(bob.next().await["message"], n);
    }
    for _ in 0..3 {
        ann.send(json!({"event": "message", "message": "lost"})).await;
        assert_eq!(ann.next().await, limited("more than 10 messages per second; try again in 100 ms"));
    }
    advance(ms(60)).await;
    ann.send(json!({"event": "message", "message": "lost"})).await;
    assert_eq!(ann.next().await, limited("more than 10 messages per second; try again in 40 ms"));
    advance(ms(40)).await;
    ann.send(json!({"event": "message", "message": "again"})).await;
    assert_eq!(ann.next().await["message"], "again");
    assert_eq!(bob.next().await["message"], "again");
    assert_eq!((rooms.stats().rate_limited, rooms.stats().errors, rooms.stats().messages), (4, 4, 20));
}

#[tokio::test(start_paused = true)]
async fn a_v1_client_is_told_the_cid_and_when_to_try_again() {
    let rooms = builder().rate_limits(RateLimits::default().max_messages_per_second(1)).build().unwrap();
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    assert_eq!(ann.next().await["event"], "entered");
    assert_eq!(ann.next().await["event"], "enter");
    let message = |cid: &str| json!({"event": "message", "message": "hi", "cid": cid});
    ann.send(message("a")).await;
    let [_, sent] = ann.next_acknowledged().await;
    assert_eq!(sent["event"], "message");
    ann.send(message("b")).await;
    let error = ann.next().await;
    assert_eq!(
        (&error["code"], &error["cid"], &error["retryAfter"]),
        (&json!("rate_limited"), &json!("b"), &json!(1000))
    );
    // A message with an invalid id is refused too.
    ann.send(json!({"event": "message", "message": "hi", "cid": 7})).await;
    let error = ann.next().await;
    assert_eq!((&error["code"], error.get("cid")), (&json!("rate_limited"), None));
    // After that time the message is accepted under the same id.
    tokio::time::sleep(ms(1000)).await;
    ann.send(message("b")).await;
    let ack = ann.next().await;
    assert_eq!((&ack["event"], &ack["cid"]), (&json!("ack"), &json!("b")));
    let message = ann.next().await;
    assert_eq!((&message["event"], &message["cid"]), (&json!("message"), &json!("b")));
}

#[tokio::test(start_paused = true)]
async fn too_many_rate_violations_close_the_connection() {
    let log = EventLog::default();
    let rooms = builder()
        .rate_limits(RateLimits::default().max_messages_per_second(10).max_rate_violations(5))
        .events(log.hook())
        .build()
        .unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    log.take();
    let (before, code) = flood(&mut ann, Message::text(r#"{"event":"message"}"#)).await;
    assert_eq!(code, 1008);
    assert_eq!(before.iter().filter(|frame| frame["code"] == "rate_limited").count(), 5);
    assert_eq!(log.take().last().unwrap(), "- ann r 0 too much too fast");
    let stats = rooms.stats();
    assert_eq!((stats.messages, stats.rate_limited, stats.flooded), (19, 5, 1));
    ann.disconnect().await;
    assert_empty(&rooms);
}

/// They are within the rate of messages, and so used to offset each violation.
#[tokio::test(start_paused = true)]
async fn enters_and_tokens_beyond_their_own_rates_close_the_connection() {
    let rates = RateLimits::default().max_enters_per_minute(3).max_auths_per_minute(3).max_rate_violations(5);
    for frame in [
        json!({"event": "enter", "message": "ann", "roomId": "r"}),
        json!({"event": "auth", "message": "token"}),
    ] {
        let rooms = builder()
            .rate_limits(rates.clone())
            .auth(|_: String| std::future::ready(Ok::<_, Denied>(User::new("ann"))))
            .build()
            .unwrap();
        let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        for _ in 0..20 {
            ann.send(frame.clone()).await;
            advance(ms(20)).await;
        }
        let (frames, code) = ann.frames_until_close().await;
        assert_eq!(code, 1008, "{frame}");
        assert_eq!(frames.iter().filter(|frame| frame["code"] == "rate_limited").count(), 5, "{frame}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_accepted_message_offsets_a_rate_violation() {
    let rooms = builder()
        .rate_limits(RateLimits::default().max_messages_per_second(10).max_rate_violations(5))
        .build()
        .unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    for _ in 0..19 {
        ann.send(json!({"event": "message"})).await;
        ann.next().await;
    }
    // As many are refused as accepted: this can go on forever.
    for _ in 0..200 {
        ann.send(json!({"event": "message"})).await;
        assert_eq!(ann.next().await["code"], "rate_limited");
        advance(ms(100)).await;
        ann.send(json!({"event": "message"})).await;
        assert_eq!(ann.next().await["event"], "message");
    }
    // Two are refused for each that is accepted.
    let mut closed = None;
    for _ in 0..100 {
        ann.send(json!({"event": "message"})).await;
        ann.send(json!({"event": "message"})).await;
        advance(ms(100)).await;
        ann.send(json!({"event": "message"})).await;
        for _ in 0..3 {
            if let Next::Closed(code) = ann.next_or_close().await {
                closed.get_or_insert(code);
                break;
            }
        }
        if closed.is_some() {
            break;
        }
    }
    assert_eq!(closed, Some(1008));
}

#[tokio::test(start_paused = true)]
async fn bytes_have_their_own_rate() {
    let rooms = builder()
        .rate_limits(RateLimits::default().max_bytes_per_second(1000))
        .limits(Limits::default().max_message_bytes(1000))
        .build()
        .unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let message = |n: usize| format!(r#"{{"event":"x","a":"{}"}}"#, "x".repeat(n - 20));
    ann.send_text(message(900)).await;
    assert_eq!(ann.next().await["event"], "x");
    ann.send_text(message(900)).await;
    assert_eq!(ann.next().await["event"], "x");
    ann.send_text(message(900)).await;
    let error = ann.next().await;
    assert_eq!(error["code"], "rate_limited");
    assert!(error["message"].as_str().unwrap().starts_with("more than 1000 bytes per second; "), "{error}");
    // A smaller message is still accepted.
    ann.send_text(message(100)).await;
    assert_eq!(ann.next().await["event"], "x");
    tokio::time::sleep(ms(900)).await;
    ann.send_text(message(900)).await;
    assert_eq!(ann.next().await["event"], "x");
}

#[tokio::test(start_paused = true)]
async fn frames_without_content_count() {
    let ping = Message::Ping(Default::default());
    let pong = Message::Pong(Default::default());
    let begin = Message::Frame(Frame::message("", OpCode::Data(Data::Text), false));
    let go_on = Message::Frame(Frame::message("", OpCode::Data(Data::Continue), false));
    let beat = Message::text(r#"{"event":"heartbeat","message":"pong"}"#);
    for (first, then) in [(&ping, &ping), (&pong, &pong), (&begin, &go_on), (&beat, &beat)] {
        let rooms = builder().build().unwrap();
        let mut eve = Client::connect_as(&rooms, Admission::anonymous(), 1024).await;
        eve.send(json!({"event": "enter", "message": "eve", "roomId": "r"})).await;
        assert_eq!(eve.next().await["event"], "enter");
        eve.ws.send(first.clone()).await.unwrap();
        let begin = Instant::now();
        eve.answers_heartbeats = false;
        let (before, code) = flood(&mut eve, then.clone()).await;
        assert_eq!((code, before), (1008, Vec::new()), "{then:?}");
        // The violations that are allowed, and the frames that were read together with the last one.
        let stats = rooms.stats();
        assert!((100..=100 + 64 + 700).contains(&stats.rate_limited), "{then:?}: {stats:?}");
        assert_eq!((stats.flooded, begin.elapsed()), (1, Duration::ZERO));
        eve.disconnect().await;
        assert_empty(&rooms);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_to_heartbeats_do_not_count() {
    let heartbeat = Heartbeat::every(ms(50));
    let rooms = builder()
        .rate_limits(RateLimits::default().max_messages_per_second(1))
        .heartbeat(heartbeat)
        .timeouts(Timeouts::default().enter_timeout(Duration::MAX))
        .build()
        .unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    for n in 0..60 {
        ann.send(json!({"event": "message", "message": n})).await;
        assert_eq!(ann.next().await["message"], n);
        for _ in 0..40 {
            advance(ms(25)).await;
            ann.answer_heartbeats().await;
        }
    }
    assert_eq!((rooms.stats().connections, rooms.stats().rate_limited), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn enters_and_new_rooms_have_rates() {
    let rooms = builder()
        .rate_limits(RateLimits::default().max_enters_per_minute(6).max_new_rooms_per_minute(2))
        .build()
        .unwrap();
    let _bob = Client::enter(&rooms, "bob", "old").await;
    let mut ann = Client::connect(&rooms).await;
    let enter = |room: &str| json!({"event": "enter", "message": "ann", "roomId": room});
    for (room, code) in [
        ("a", None),
        ("b", None),
        ("c", Some("more than 2 new rooms per minute; enter an existing one, or wait")),
        ("b", None),
        ("old", None),
        ("d", Some("more than 2 new rooms per minute; enter an existing one, or wait")),
        ("old", Some("more than 6 enters per minute")),
    ] {
        ann.send(enter(room)).await;
        let frame = ann.next().await;
        match code {
            None => assert_eq!(frame["event"], "enter", "{room}: {frame}"),
            Some(text) => {
                assert_eq!(frame["code"], "rate_limited", "{room}");
                assert!(frame["message"].as_str().unwrap().starts_with(text), "{frame}");
            }
        }
    }
    // The member has stayed in its room.
    assert_eq!(rooms.members("old").len(), 2);
    for _ in 0..31 {
        advance(ms(1000)).await;
        ann.answer_heartbeats().await;
    }
    ann.send(enter("d")).await;
    assert_eq!(ann.next().await["event"], "enter");
    assert_eq!(rooms.stats().rate_limited, 3);
}

#[tokio::test(start_paused = true)]
async fn rate_limits_can_be_removed() {
    let rooms = unlimited().build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    for n in 0..1000 {
        ann.send(json!({"event": "message", "message": n})).await;
        assert_eq!(ann.next().await["message"], n);
    }
    for n in 0..100 {
        ann.send(json!({"event": "enter", "message": "ann", "roomId": n})).await;
        assert_eq!(ann.next().await["roomId"], n);
    }
    assert_eq!(rooms.stats().rate_limited, 0);
}

/// Accepts one token.
struct MyAuth;

impl Authenticate for MyAuth {
    async fn on_upgrade(&self, _: &http::request::Parts) -> Result<Admission, AuthRefusal> {
        Ok(Admission::anonymous())
    }

    async fn on_token(&self, token: &str) -> Result<User, Denied> {
        if token == "good" { Ok(User::new("ann")) } else { Err(Denied::new("wrong")) }
    }
}

#[tokio::test(start_paused = true)]
async fn accepted_tokens_and_messages_do_not_offset_failed_authentications() {
    let rooms = builder().auth(MyAuth).build().unwrap();
    let mut eve = Client::enter(&rooms, "eve", "r").await;
    for n in 1..=8 {
        eve.send(json!({"event": "auth", "message": format!("guess {n}")})).await;
        assert_eq!(eve.next().await, json!({"event": "noAuth", "message": "wrong"}));
        if n < 8 {
            eve.send(json!({"event": "auth", "message": "good"})).await;
            eve.send(json!({"event": "message", "message": n})).await;
            assert_eq!(eve.next().await["message"], n);
        }
    }
    assert_eq!(eve.close_code().await, 1008);
    assert_eq!(rooms.stats().auth_failed, 1);
}

/// Each accepted token has the policy asked again, which used to have no limit.
#[tokio::test(start_paused = true)]
async fn tokens_have_a_rate() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let rooms = builder()
        .policy(move |_: &EnterRequest<'_>| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
        .auth(|token: String| async move { Ok::<_, Denied>(User::new(token)) })
        .rate_limits(RateLimits::default().max_auths_per_minute(5))
        .build()
        .unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    for _ in 0..50 {
        ann.send(json!({"event": "auth", "message": "u-1"})).await;
    }
    for _ in 5..50 {
        assert_eq!(ann.next().await["code"], "rate_limited");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1 + 5);
}

/// An answer to a heartbeat does not count, so it used to be a way to send any number of bytes.
#[tokio::test(start_paused = true)]
async fn a_padded_answer_to_a_heartbeat_counts_as_a_message() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let pong = json!({"event": "heartbeat", "message": "pong", "pad": "x".repeat(60_000)});
    for _ in 0..40 {
        ann.send(pong.clone()).await;
    }
    let refused = ann.next().await;
    assert_eq!(refused["code"], "rate_limited", "{refused}");
}

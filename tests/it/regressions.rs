//! What once went wrong, found by review, and must not come back.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tower_chat_rooms::{Admission, ChatRooms, Denied, EnterRequest, Recovery, RoomPolicy, SendError, User};

use crate::client::{Client, Log, default_rooms, logged};

const PONG: &str = r#"{"event":"heartbeat","message":"pong"}"#;

/// A full inbox excused silence for good.
#[tokio::test(start_paused = true)]
async fn a_burst_and_then_silence_is_noticed() {
    let rooms = default_rooms();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    assert_eq!(bob.next().await["name"], "ann");
    for _ in 0..16 {
        ann.ws.feed(Message::text(PONG)).await.unwrap();
    }
    ann.ws.flush().await.unwrap();
    let begin = Instant::now();
    assert_eq!(bob.next().await["event"], "out");
    assert!(begin.elapsed() <= Duration::from_secs(2));
}

/// A closure runs before there is a future, and its panic was the task's.
#[tokio::test(start_paused = true)]
async fn a_closure_that_panics_is_a_failed_hook() {
    let log = Log::default();
    let rooms = ChatRooms::builder()
        .policy(|request: &EnterRequest<'_>| -> Result<(), Denied> {
            assert_ne!(request.room().as_str(), "bad", "on purpose");
            Ok(())
        })
        .auth(|_: String| -> std::future::Ready<Result<User, Denied>> { panic!("on purpose") })
        .events(log.hook())
        .build()
        .unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    ann.say(json!({"event": "enter", "message": "ann", "roomId": "bad"})).await;
    assert_eq!(ann.closed().await, 1011);
    ann.task.await.unwrap();
    assert_eq!(log.take().pop().unwrap(), "- ann r 0 a hook failed");
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    bob.say(json!({"event": "auth", "message": "x"})).await;
    assert_eq!(bob.closed().await, 1011);
    bob.task.await.unwrap();
}

/// An object without an event was relayed, and the count was put after a comma that stood alone.
#[tokio::test(start_paused = true)]
async fn an_object_of_the_host_needs_an_event() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    for value in [json!({}), json!({"num": 9}), json!({"seq": 7})] {
        assert!(matches!(rooms.send("r", &value), Err(SendError::NoEvent)), "{value}");
    }
    rooms.send("r", &json!({"event": "x", "num": 9})).unwrap();
    assert_eq!(ann.next_text().await, r#"{"event":"x","num":1}"#);
}

/// The sweep went down with the runtime that it had been started in, and was never missed.
#[test]
fn heartbeats_survive_a_runtime() {
    let rooms = default_rooms();
    let builder =
        || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    builder().block_on(async { drop(Client::enter(&rooms, "ann", "r").await) });
    builder().block_on(async {
        let mut mute = Client::enter(&rooms, "mute", "r").await;
        mute.polite = false;
        assert_eq!(mute.closed().await, 4000);
    });
}

/// What many said at once was more than one queue may hold, and who had read everything so far
/// was closed for it.
#[tokio::test(start_paused = true)]
async fn who_has_kept_up_is_not_slow() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut others = Vec::new();
    for n in 0..4 {
        let mut other = Client::connect_as(&rooms, Admission::anonymous(), 1 << 20).await;
        other.say(json!({"event": "enter", "message": format!("m{n}"), "roomId": "r"})).await;
        ann.next().await;
        others.push(other);
    }
    for other in &mut others {
        other.say(json!({"event": "message", "message": "x".repeat(60_000)})).await;
    }
    for _ in 0..4 {
        assert_eq!(ann.next().await["event"], "message");
    }
}

/// The flusher went down with a short-lived runtime before it had begun, and was waited for.
#[tokio::test(start_paused = true)]
async fn speaking_from_another_runtime_does_not_mute_a_room() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let host = rooms.clone();
    let speak = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { host.send("r", &json!({"event": "notice"})).unwrap() });
    };
    std::thread::spawn(speak).join().unwrap();
    assert_eq!(ann.next().await["event"], "notice");
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    out.extend(payload);
    out
}

/// The opcodes of the server's frames.
fn opcodes(mut bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while bytes.len() >= 2 {
        all.push(bytes[0] & 15);
        let len = match bytes[1] {
            126 => 4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
            n => 2 + usize::from(n),
        };
        bytes = bytes.get(len..).unwrap_or_default();
    }
    all
}

/// The answer to a close passed the queue like any control frame.
#[tokio::test(start_paused = true)]
async fn nothing_follows_the_close_frame() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let (theirs, mut ours) = tokio::io::duplex(300);
    let handle = rooms.clone();
    tokio::spawn(async move { handle.serve(theirs, Admission::anonymous()).await });
    ours.write_all(&masked(0x81, br#"{"event":"enter","message":"bob","roomId":"r"}"#)).await.unwrap();
    ann.next().await;
    for n in 0..20 {
        ann.say(json!({"event": "message", "message": n})).await;
        ann.next().await;
    }
    ours.write_all(&masked(0x88, &1000u16.to_be_bytes())).await.unwrap();
    assert_eq!(ann.next().await["event"], "out");
    let mut all = Vec::new();
    ours.read_to_end(&mut all).await.unwrap();
    let opcodes = opcodes(&all);
    assert_eq!(opcodes.iter().position(|o| *o == 8), Some(opcodes.len() - 1), "{opcodes:?}");
}

/// The answer to a close that found no room was never given.
#[tokio::test(start_paused = true)]
async fn a_close_behind_unread_pongs_is_the_end() {
    let (rooms, log) = logged();
    let (theirs, mut ours) = tokio::io::duplex(512);
    let handle = rooms.clone();
    let task = tokio::spawn(async move { handle.serve(theirs, Admission::anonymous()).await });
    ours.write_all(&masked(0x81, br#"{"event":"enter","message":"bob","roomId":"r"}"#)).await.unwrap();
    for _ in 0..100 {
        ours.write_all(&masked(0x89, &[7; 125])).await.unwrap();
    }
    ours.write_all(&masked(0x88, &1000u16.to_be_bytes())).await.unwrap();
    let begin = Instant::now();
    let mut all = Vec::new();
    ours.read_to_end(&mut all).await.unwrap();
    drop(ours);
    task.await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(opcodes(&all).last(), Some(&8));
    assert_eq!(log.take(), ["+ bob r 1", "- bob r 0 closed by the client"]);
}

struct Hesitant;

impl RoomPolicy for Hesitant {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<(), Denied> {
        if request.room().as_str() == "r" {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        Err(Denied::new("no"))
    }
}

/// Each wish that waited for the policy's answer excused two intervals of silence.
#[tokio::test(start_paused = true)]
async fn who_is_gone_behind_a_pile_of_wishes_is_noticed() {
    let rooms = ChatRooms::builder().policy(Hesitant).build().unwrap();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    bob.next().await;
    for n in 0..12 {
        let wish = format!(r#"{{"event":"enter","message":"ann","roomId":"x{n}"}}"#);
        ann.ws.feed(Message::text(wish)).await.unwrap();
    }
    ann.ws.flush().await.unwrap();
    let begin = Instant::now();
    assert_eq!(bob.next().await, json!({"event": "out", "name": "ann", "num": 1}));
    assert!(begin.elapsed() <= Duration::from_secs(2), "{:?}", begin.elapsed());
}

/// Whoever kept authenticating never had to enter.
#[tokio::test(start_paused = true)]
async fn authenticating_again_does_not_postpone_the_enter() {
    let rooms = ChatRooms::builder().auth(|token: String| async { Ok(User::new(token)) }).build().unwrap();
    let ann = Client::connect_as(&rooms, Admission::pending_auth(), 64 * 1024).await;
    let begin = Instant::now();
    let (mut tx, mut rx) = ann.ws.split();
    tokio::spawn(async move {
        loop {
            let auth = Message::text(r#"{"event":"auth","message":"u"}"#);
            if tx.send(auth).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let code = loop {
        if let Message::Close(frame) = rx.next().await.unwrap().unwrap() {
            break u16::from(frame.unwrap().code);
        }
    };
    assert_eq!((code, begin.elapsed()), (4002, Duration::from_secs(10)));
}

/// Whoever came back to his seat, and was refused another room, was closed as one who never entered.
#[tokio::test(start_paused = true)]
async fn who_comes_back_and_may_not_move_is_a_member() {
    struct House;
    impl RoomPolicy for House {
        async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<(), Denied> {
            if request.room().as_str() == "r" { Ok(()) } else { Err(Denied::new("no")) }
        }
    }
    let rooms = ChatRooms::builder()
        .policy(House)
        .recovery(Recovery::default().resume_window(Duration::from_secs(60)))
        .build()
        .unwrap();
    let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    ann.say(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    assert_eq!(ann.next().await["event"], "entered");
    ann.vanish().await;
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    assert_eq!(rooms.stats().pending, 1);
    let secrets = [&welcome["resume"]];
    ann.say(json!({"event": "enter", "message": "ann", "roomId": "elsewhere", "resume": secrets})).await;
    while ann.next().await["code"] != "denied" {}
    assert_eq!((rooms.stats().resumed, rooms.stats().pending), (1, 0));
    // Longer than the time to enter.
    tokio::time::timeout(Duration::from_secs(30), ann.next()).await.unwrap_err();
    assert_eq!(rooms.members("r").len(), 1);
}

//! The Rust client in paused time, against a server that does as told and against the engine.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use http::HeaderValue;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::accept_hdr_async;
use tower_chat_rooms::{
    Admission, AuthRefusal, Authenticate, ChatRooms, Denied, History, Limits, Recovery, User,
};
use tower_chat_rooms_client::{Client, ClientBuilder, ClientError, ClientEvent, ClientState};

use crate::scripted_server::{Heard, Line, Lines, PATIENCE, choose, lines};
use crate::support::{Log, assert_empty, logged};

const BEAT: Duration = Duration::from_secs(1);

fn welcome() -> Value {
    json!({"event": "welcome", "connection": "1", "resume": "s", "heartbeat": {"interval": 1000, "timeout": 1000},
           "limits": {"messageBytes": 65536, "cidBytes": 64, "cids": 128}, "history": true, "grace": 10000})
}

fn entered(seq: u64) -> Value {
    json!({"event": "entered", "roomId": "r", "name": "ann", "connection": "1", "epoch": "E", "seq": seq,
           "num": 1, "resumed": seq > 0, "recovered": seq > 0})
}

fn said(seq: u64) -> Value {
    json!({"event": "message", "message": seq, "name": "bob", "num": 2, "seq": seq})
}

/// Lets a client in on its next connection.
async fn let_in(lines: &mut Lines, seq: u64) -> Line {
    let mut line = lines.accept(BEAT).await;
    line.say(welcome());
    assert_eq!(line.frame().await["event"], "enter");
    line.say(entered(seq));
    line
}

async fn pair() -> (Client, Line, Lines) {
    let (builder, mut lines) = lines();
    let (client, line) = tokio::join!(builder.open(), let_in(&mut lines, 0));
    (client.unwrap(), line, lines)
}

/// The next message of the room.
async fn message(client: &mut Client) -> u64 {
    loop {
        let event =
            timeout(PATIENCE, client.recv()).await.expect("nothing came").expect("the client has ended");
        match event {
            ClientEvent::Message(frame) => return frame.seq().unwrap(),
            ClientEvent::Gap { .. } => panic!("{event:?}"),
            _ => {}
        }
    }
}

/// A client to be of an engine, which may be exchanged for another.
fn of(rooms: &Arc<Mutex<ChatRooms>>) -> ClientBuilder {
    let rooms = rooms.clone();
    let dial = move || {
        let rooms = rooms.lock().unwrap().clone();
        let (theirs, ours) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let Ok(ws) = accept_hdr_async(theirs, choose).await else { return };
            let v1 = Admission::anonymous().with_protocol(HeaderValue::from_static("chat-rooms.v1"));
            rooms.serve(ws.into_inner(), v1).await;
        });
        async { Ok(ours) }
    };
    Client::over("ws://test/chat", dial).room("r")
}

fn shared(rooms: ChatRooms) -> Arc<Mutex<ChatRooms>> {
    Arc::new(Mutex::new(rooms))
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_watched_and_replaced() {
    let (mut client, line, mut lines) = pair().await;
    let begin = Instant::now();
    // Heartbeats go on, and so does the connection.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(client.recv().await, Some(ClientEvent::State(ClientState::Online)));
    line.say(said(1));
    assert_eq!(message(&mut client).await, 1);
    drop(line);
    let next = let_in(&mut lines, 1).await;
    assert!(begin.elapsed() < Duration::from_secs(61));
    next.say(said(2));
    assert_eq!(message(&mut client).await, 2);
}

#[tokio::test(start_paused = true)]
async fn silence_closes_with_the_code_that_keeps_the_seat() {
    let (builder, mut lines) = lines();
    let silent = async {
        let mut line = lines.accept(PATIENCE).await;
        line.say(welcome());
        line.frame().await;
        line.say(entered(0));
        line
    };
    let (client, mut line) = tokio::join!(builder.open(), silent);
    let begin = Instant::now();
    assert_eq!(line.hear().await, Heard::Closed(4000));
    assert_eq!(begin.elapsed().as_secs(), 2);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_client_leaves_the_room_and_ends_its_task() {
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (client, mut line, lines) = pair().await;
    let sender = client.sender();
    drop(client);
    assert_eq!(line.hear().await, Heard::Closed(1000));
    drop((line, lines));
    let sent = sender.send("too late").await;
    assert!(matches!(sent, Err(ClientError::Closed { .. })), "{sent:?}");
    // Every end of the connection is a task's last act.
    let ended = async {
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, ended).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropping_the_wish_to_connect_ends_it() {
    let (builder, mut lines) = lines();
    let greeted = async {
        let mut line = lines.accept(BEAT).await;
        line.say(welcome());
        line.frame().await;
        line
    };
    let mut line = tokio::select! {
        _ = builder.open() => panic!("nobody has let it in"),
        line = greeted => line,
    };
    assert_eq!(line.hear().await, Heard::Closed(1000));
}

#[tokio::test(start_paused = true)]
async fn a_message_is_sent_though_nobody_waits_for_its_answer() {
    let (client, mut line, _lines) = pair().await;
    let sender = client.sender();
    drop(sender.send("first"));
    let mut second = Box::pin(sender.send_event("typing", &true));
    assert!(futures_util::FutureExt::now_or_never(&mut second).is_none());
    drop(second);
    let third = sender.send_object(&json!({"message": 3, "to": ["bob"]}));
    let mut cids = Vec::new();
    for expected in [
        json!({"event": "message", "message": "first"}),
        json!({"event": "typing", "message": true}),
        json!({"event": "message", "message": 3, "to": ["bob"]}),
    ] {
        let mut frame = line.frame().await;
        cids.push(frame.as_object_mut().unwrap().remove("cid").unwrap());
        assert_eq!(frame, expected);
    }
    for (n, cid) in cids.iter().enumerate() {
        line.say(json!({"event": "ack", "cid": cid, "seq": n + 1}));
    }
    assert_eq!(third.await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn what_is_the_protocols_own_is_not_sent() {
    let (client, _line, _lines) = pair().await;
    let sender = client.sender();
    for object in [json!({"event": "enter"}), json!({"event": 7}), json!({"cid": "x"}), json!([])] {
        assert!(matches!(sender.send_object(&object).await, Err(ClientError::Value(_))), "{object}");
    }
    assert!(matches!(sender.send_event("ack", &1).await, Err(ClientError::Value(_))));
}

#[tokio::test(start_paused = true)]
async fn the_first_connection_is_tried_for_a_time() {
    let begin = Instant::now();
    let dial = || async { Err::<tokio::io::DuplexStream, _>(std::io::Error::other("no route")) };
    let refused = Client::over("ws://test", dial).first_timeout(Duration::from_secs(9)).await;
    assert_eq!(refused.unwrap_err(), ClientError::Unreachable("no route".into()));
    assert!(begin.elapsed() <= Duration::from_secs(9));

    let (builder, mut lines) = lines();
    let (client, _line) = tokio::join!(builder.open(), async {
        lines.accept(BEAT).await.cut();
        lines.accept(BEAT).await.close(1013, "busy; retry in 3 s");
        let cut = Instant::now();
        let line = let_in(&mut lines, 0).await;
        assert_eq!(cut.elapsed().as_secs(), 3);
        line
    });
    drop(client.unwrap());
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_work() {
    for (builder, what) in [
        (Client::connect("http://x"), "ws://"),
        (Client::connect("ws://"), "URL"),
        (Client::connect("ws://x").max_events(0), "max_events"),
        (Client::connect("ws://x").backoff(Duration::ZERO, Duration::ZERO), "backoff"),
        (Client::connect("ws://x").connect_timeout(Duration::ZERO), "connect_timeout"),
    ] {
        let error = builder.await.unwrap_err();
        assert!(matches!(&error, ClientError::Config(text) if text.contains(what)), "{error:?}");
    }
}

/// Answers one handshake with this status line and headers.
async fn answer(lines: &mut Lines, answer: &str) -> String {
    let mut io = lines.raw().await;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(io.read_u8().await.unwrap());
    }
    io.write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
    String::from_utf8(request).unwrap()
}

#[tokio::test(start_paused = true)]
async fn answers_to_the_handshake() {
    let (builder, mut lines_1) = lines();
    let builder = builder.token("t").token_in_header();
    let (refused, request) = tokio::join!(builder.open(), answer(&mut lines_1, "401 Unauthorized"));
    assert_eq!(refused.unwrap_err(), ClientError::NoAuth("HTTP 401".into()));
    assert!(request.contains("authorization: Bearer t\r\n"), "{request}");

    // A token that is asked for may be better the next time, three times.
    let asked = Arc::new(AtomicU32::new(0));
    let (builder, mut lines_2) = lines();
    let count = asked.clone();
    let builder = builder.token_in_header().token_with(move || {
        let n = count.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, Infallible>(format!("t{n}")) }
    });
    let (refused, ()) = tokio::join!(builder.open(), async {
        for n in 0..3 {
            let request = answer(&mut lines_2, "403 Forbidden").await;
            assert!(request.contains(&format!("authorization: Bearer t{n}\r\n")), "{request}");
        }
    });
    assert_eq!(refused.unwrap_err(), ClientError::NoAuth("HTTP 403".into()));

    let (builder, mut lines_3) = lines();
    let (client, _line) = tokio::join!(builder.open(), async {
        answer(&mut lines_3, "503 Service Unavailable\r\nretry-after: 5").await;
        let refused = Instant::now();
        let line = let_in(&mut lines_3, 0).await;
        assert_eq!(refused.elapsed().as_secs(), 5);
        line
    });
    drop(client.unwrap());

    // A server that knows the plain wire only.
    let (builder, mut lines_4) = lines();
    let (refused, _io) = tokio::join!(builder.open(), async {
        tokio_tungstenite::accept_async(lines_4.raw().await).await.unwrap()
    });
    assert!(refused.unwrap_err().to_string().contains("chat-rooms.v1"));
}

/// Nobody without the token of the day.
struct Daily(Arc<AtomicU32>);

impl Authenticate for Daily {
    async fn on_upgrade(&self, _: &http::request::Parts) -> Result<Admission, AuthRefusal> {
        Ok(Admission::pending_auth())
    }

    async fn on_token(&self, token: &str) -> Result<User, Denied> {
        let today = format!("day {}", self.0.load(Ordering::Relaxed));
        if token == today { Ok(User::new("u").with_name("Ann")) } else { Err(Denied::new("expired")) }
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_in_band() {
    let day = Arc::new(AtomicU32::new(1));
    let rooms = ChatRooms::builder().auth(Daily(day.clone())).build().unwrap();
    let dial = {
        let rooms = rooms.clone();
        move || {
            let rooms = rooms.clone();
            let (theirs, ours) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                let Ok(ws) = accept_hdr_async(theirs, choose).await else { return };
                let v1 = Admission::pending_auth().with_protocol(HeaderValue::from_static("chat-rooms.v1"));
                rooms.serve(ws.into_inner(), v1).await;
            });
            async { Ok(ours) }
        }
    };
    let refused = Client::over("ws://test", dial.clone()).token("day 0").await;
    assert_eq!(refused.unwrap_err(), ClientError::NoAuth("expired".into()));

    let now = day.clone();
    let fresh = move || {
        let token = format!("day {}", now.load(Ordering::Relaxed));
        async { Ok::<_, Infallible>(token) }
    };
    let mut client = Client::over("ws://test", dial).name("claimed").token_with(fresh).await.unwrap();
    let Some(ClientEvent::State(ClientState::Online)) = client.recv().await else { panic!() };
    let Some(ClientEvent::Entered { name, .. }) = client.recv().await else { panic!() };
    assert_eq!(name, "Ann");
    client.leave().await;
    rooms.shutdown().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn who_is_kicked_stays_away() {
    let (rooms, log) = logged();
    let mut client = of(&shared(rooms.clone())).name("ann").await.unwrap();
    let member = rooms.members("r")[0].connection;
    let sender = client.sender();
    rooms.kick(member);
    let mut events = Vec::new();
    while let Some(event) = client.next().await {
        events.push(event);
    }
    let closed = format!("{:?}", events.last().unwrap());
    assert_eq!(closed, r#"Closed { code: 4500, reason: "kicked" }"#);
    let sent = sender.send("again").await;
    assert!(matches!(sent, Err(ClientError::Closed { .. })), "{sent:?}");
    assert_eq!(log.take(), ["+ ann r 1", "- ann r 0 kicked"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_server_cannot_read_is_refused() {
    let (rooms, _) = logged();
    let client = of(&shared(rooms)).name("ann").await.unwrap();
    let sender = client.sender();
    let deep = (0..70).fold(json!(0), |inner, _| json!([inner]));
    for _ in 0..20 {
        let sendings = (sender.send("before"), sender.send(&deep), sender.send("behind"));
        assert!(sendings.0.await.is_ok());
        let refused = sendings.1.await;
        assert!(
            matches!(&refused, Err(ClientError::Refused { code, .. }) if code == "too_deep"),
            "{refused:?}"
        );
        assert!(sendings.2.await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn another_server_gets_what_the_old_one_did_not_acknowledge() {
    let (old, _) = logged();
    let (new, log) = logged();
    let at = shared(old.clone());
    let mut client = of(&at).name("ann").await.unwrap();
    let sender = client.sender();
    assert_eq!(sender.send("first").await, Ok(2));
    *at.lock().unwrap() = new.clone();
    old.shutdown().await;
    // Said while there is no server.
    assert_eq!(sender.send("second").await, Ok(2));
    assert_eq!(
        log.take()[1],
        r#"ann r: {"event":"message","message":"second"#.to_owned() + &cid(&mut client).await
    );
    assert_eq!(new.members("r").len(), 1);
}

/// The rest of the frame that has the client's second message; on the way the events of a restart.
async fn cid(client: &mut Client) -> String {
    let (mut gap, mut back) = (false, false);
    loop {
        match client.recv().await.unwrap() {
            ClientEvent::Gap { missed, .. } => gap = missed.is_none(),
            ClientEvent::Entered { resumed, recovered, .. } => back = !resumed && !recovered,
            ClientEvent::Message(frame) if frame.message() == "second" => {
                assert!(gap && back && frame.is_own());
                return format!(r#"","cid":{}}}"#, frame.object()["cid"]);
            }
            _ => {}
        }
    }
}

/// Rooms that remember much.
fn remembering() -> (ChatRooms, Log) {
    let log = Log::default();
    let rooms = ChatRooms::builder()
        .events(log.hook())
        .recovery(
            Recovery::default().resume_window(PATIENCE).history(History::last(10_000).max_bytes(4 << 20)),
        )
        .limits(Limits::default().max_queue_frames(20_000).max_queue_bytes(8 << 20))
        .build()
        .unwrap();
    (rooms, log)
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_events_for_long_misses_nothing_and_can_speak() {
    let (rooms, log) = remembering();
    let at = shared(rooms.clone());
    let mut client = of(&at).name("ann").max_events(50).await.unwrap();
    for n in 0..2000 {
        rooms.send("r", &json!({"event": "notice", "message": n})).unwrap();
        if n % 100 == 99 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    // Long enough for any server to give up whoever is silent.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(rooms.stats().heartbeats_missed, 0);
    let seq = client.sender().send("still here").await.unwrap();
    let mut expected = 2;
    while expected <= seq {
        assert_eq!(message(&mut client).await, expected);
        expected += 1;
    }
    client.leave().await;
    let log = log.take();
    let moves: Vec<&String> = log.iter().filter(|line| line.starts_with(['+', '-'])).collect();
    assert_eq!(moves, ["+ ann r 1", "- ann r 0 closed by the client"]);
}

#[tokio::test(start_paused = true)]
async fn who_never_takes_events_can_speak_for_ever() {
    let (rooms, _log) = remembering();
    let at = shared(rooms.clone());
    let client = of(&at).name("ann").max_events(4).await.unwrap();
    let sender = client.sender();
    for n in 2..300 {
        assert_eq!(timeout(PATIENCE, sender.send(&n)).await.unwrap(), Ok(n));
    }
    assert_eq!(rooms.stats().accepted, 1, "it never had to come back");
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn who_never_takes_events_comes_back_for_ever() {
    let (builder, mut lines) = lines();
    let (client, mut line) = tokio::join!(builder.max_events(4).open(), let_in(&mut lines, 0));
    let mut client = client.unwrap();
    for _ in 0..50 {
        line.cut();
        line = let_in(&mut lines, 0).await;
    }
    let sending = client.sender().send("hi");
    let cid = line.frame().await["cid"].clone();
    line.say(json!({"event": "ack", "cid": cid, "seq": 1}));
    assert_eq!(sending.await, Ok(1));
    client.sender().leave().await;
    let mut events = Vec::new();
    while let Some(event) = client.recv().await {
        events.push(event);
    }
    assert!(events.len() < 80, "{}", events.len());
    assert!(events.iter().any(|event| matches!(event, ClientEvent::Overflow { lost: 50.., .. })));
    assert!(matches!(events.last(), Some(ClientEvent::Closed { code: 1000, .. })));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_takes_long_is_a_sign_of_life() {
    let (builder, mut lines) = lines();
    let trickle = async {
        let ws = accept_hdr_async(lines.raw().await, choose).await.unwrap();
        let mut io = ws.into_inner();
        let text = |value: Value| {
            let text = value.to_string();
            let mut frame = vec![0x81, 126];
            frame.extend((text.len() as u16).to_be_bytes());
            frame.extend(text.as_bytes());
            frame
        };
        io.write_all(&text(welcome())).await.unwrap();
        io.write_all(&text(entered(0))).await.unwrap();
        for byte in text(json!({"event": "notice", "seq": 1, "message": "x".repeat(100)})) {
            io.write_all(&[byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(900)).await;
        }
        io
    };
    let begin = Instant::now();
    let listen = async {
        let mut client = builder.await.unwrap();
        assert_eq!(message(&mut client).await, 1);
        begin.elapsed()
    };
    let (took, _io) = tokio::join!(listen, trickle);
    assert!(took > Duration::from_secs(100), "{took:?}");
}

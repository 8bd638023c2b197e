//! The clients for tests of a host, over the real handshake.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tower_chat_rooms::testing::{ConnectError, ConnectOptions, TestClient, TestServer};
use tower_chat_rooms::{Admission, AuthRefusal, Authenticate, Heartbeat, History, Limits, Recovery, User};

use crate::support::builder;

const WINDOW: Duration = Duration::from_secs(60);

fn recovery() -> Recovery {
    Recovery::default().resume_window(WINDOW).history(History::last(1000))
}

/// The token is the user's id.
struct Tokens;

impl Authenticate for Tokens {
    async fn on_upgrade(&self, request: &http::request::Parts) -> Result<Admission, AuthRefusal> {
        let token = request.headers.get("authorization").and_then(|value| value.to_str().ok());
        match token.and_then(|token| token.strip_prefix("Bearer ")) {
            Some(id) => Ok(Admission::user(User::new(id))),
            None => Err(AuthRefusal::unauthorized("a token is required")),
        }
    }
}

/// Two members of the room "r".
async fn ann_and_bob(server: &TestServer) -> (TestClient, TestClient) {
    let (mut ann, mut bob) = (server.connect().await, server.connect().await);
    ann.enter("ann", "r").await;
    bob.enter("bob", "r").await;
    ann.expect(json!({"event": "enter", "name": "bob", "num": 2})).await;
    (ann, bob)
}

#[tokio::test(start_paused = true)]
async fn plain_clients_talk() {
    let server = TestServer::new(builder().build().unwrap());
    let mut ann = server.options().plain().connect().await;
    let mut bob = server.options().plain().connect().await;
    ann.enter("ann", "r").await;
    let own = bob.enter("bob", "r").await;
    assert_eq!(own["num"], 2);
    ann.expect(json!({"event": "enter", "name": "bob"})).await;
    bob.say("hi").await;
    for client in [&mut ann, &mut bob] {
        client.expect(json!({"event": "message", "message": "hi", "name": "bob", "num": 2})).await;
        // For many heartbeats.
        client.expect_silence(Duration::from_secs(60)).await;
    }
    bob.cut();
    ann.expect(json!({"event": "out", "name": "bob", "num": 1})).await;
    assert!(!bob.restore().await);
    ann.expect(json!({"event": "enter", "name": "bob", "num": 2})).await;
    bob.close().await;
    ann.expect(json!({"event": "out", "name": "bob"})).await;
}

#[tokio::test(start_paused = true)]
async fn a_stalled_client_is_removed_when_its_heartbeat_times_out() {
    let heartbeat = Heartbeat::every(Duration::from_secs(5));
    let server = TestServer::new(builder().v1_heartbeat(heartbeat).build().unwrap());
    let (mut ann, mut bob) = ann_and_bob(&server).await;
    bob.stall();
    ann.expect_silence(Duration::from_secs(1)).await;
    ann.expect(json!({"event": "out", "name": "bob"})).await;
    bob.go_on();
    assert_eq!(bob.expect_close().await, 4000);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_stalled_for_a_moment_misses_nothing() {
    let server = TestServer::new(builder().build().unwrap());
    let (mut ann, mut bob) = ann_and_bob(&server).await;
    bob.stall();
    ann.say("hi").await;
    bob.expect_silence(Duration::from_secs(10)).await;
    bob.go_on();
    bob.expect(json!({"event": "message", "message": "hi"})).await;
}

#[tokio::test(start_paused = true)]
async fn every_message_arrives_once_through_many_cuts() {
    let server = TestServer::new(builder().recovery(recovery()).build().unwrap());
    let (mut ann, mut bob) = ann_and_bob(&server).await;
    ann.enter("ann", "s").await;
    bob.enter("bob", "s").await;
    ann.expect(json!({"event": "enter", "roomId": "s", "name": "bob"})).await;
    // Each room has its own order.
    let (mut in_r, mut in_s) = (Vec::new(), Vec::new());
    let mut add = |frame: &Value| {
        let room = if frame["roomId"] == "r" { &mut in_r } else { &mut in_s };
        room.push(frame["message"].as_u64().unwrap());
    };
    let mut read = 0;
    for n in 0..60 {
        ann.send(json!({"event": "message", "message": n, "roomId": if n % 2 == 0 { "r" } else { "s" }}))
            .await;
        match n % 7 {
            2 => bob.cut(),
            4 => assert!(bob.restore().await),
            5 => {
                // Not all that was received has been read when the connection is cut.
                server.settle().await;
                add(&bob.skip_to(json!({"event": "message"})).await);
                read += 1;
                bob.cut();
                assert!(bob.restore().await);
            }
            _ => {}
        }
    }
    bob.restore().await;
    while read < 60 {
        add(&bob.skip_to(json!({"event": "message"})).await);
        read += 1;
    }
    bob.expect_silence(Duration::from_secs(1)).await;
    let all: Vec<u64> = (0..60).collect();
    let (even, odd): (Vec<u64>, Vec<u64>) = all.into_iter().partition(|n| n % 2 == 0);
    assert_eq!((in_r, in_s), (even, odd));
}

#[tokio::test(start_paused = true)]
async fn direct_messages_arrive_once_through_a_cut() {
    let server = TestServer::new(builder().auth(Tokens).recovery(recovery()).build().unwrap());
    let rooms = server.rooms();
    let mut ann = server.options().bearer_token("u-1").connect().await;
    ann.enter("ann", "r").await;
    let notice = |n: u32| json!({"event": "notice", "message": n});
    rooms.send_to_user("u-1", &notice(1)).unwrap();
    ann.expect(json!({"message": 1})).await;
    rooms.send_to_user("u-1", &notice(2)).unwrap();
    ann.cut();
    rooms.send_to_user("u-1", &notice(3)).unwrap();
    assert!(ann.restore().await);
    ann.expect(json!({"message": 2, "direct": 2})).await;
    ann.expect(json!({"message": 3, "direct": 3})).await;
    ann.expect_silence(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_over_is_not_resumed() {
    let server = TestServer::new(builder().recovery(recovery()).build().unwrap());
    let (mut ann, mut bob) = ann_and_bob(&server).await;
    bob.cut();
    ann.expect_silence(WINDOW / 2).await;
    ann.expect(json!({"event": "out", "name": "bob"})).await;
    assert!(!bob.restore().await);
    ann.expect(json!({"event": "enter", "name": "bob"})).await;
}

#[tokio::test(start_paused = true)]
async fn refusals_are_returned() {
    let limits = Limits::default().max_room_members(1).max_connections_per_ip(1);
    let server = TestServer::new(builder().auth(Tokens).limits(limits).build().unwrap());
    // A client of chat-rooms.v1 is told after the upgrade.
    match server.options().try_connect().await {
        Err(ConnectError::Closed { frame, code: 4505, .. }) => assert_eq!(frame.unwrap()["event"], "noAuth"),
        other => panic!("{other:?}"),
    }
    let refused = |options: ConnectOptions| async {
        match options.plain().try_connect().await {
            Err(ConnectError::Refused(response)) => response,
            other => panic!("{other:?}"),
        }
    };
    let response = refused(server.options()).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(String::from_utf8_lossy(response.body()).contains("a token is required"));
    let peer = |last| SocketAddr::from((IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), 1));
    let mut ann = server.options().bearer_token("u-1").peer(peer(1)).connect().await;
    let response = refused(server.options().bearer_token("u-1").peer(peer(1))).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let mut bob = server.options().bearer_token("u-2").peer(peer(2)).connect().await;
    ann.enter("ann", "r").await;
    assert_eq!(bob.try_enter("bob", "r").await.unwrap_err()["code"], "room_full");
    bob.enter("bob", "s").await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_closes_with_1012() {
    let server = TestServer::new(builder().build().unwrap());
    let (mut ann, _bob) = ann_and_bob(&server).await;
    let (code, ()) = tokio::join!(ann.expect_close(), server.rooms().shutdown());
    assert_eq!(code, 1012);
}

#[tokio::test(start_paused = true)]
async fn a_whole_application_is_served() {
    let rooms = builder().build().unwrap();
    let page = format!("<!doctype html>{}", "ü".repeat(1000));
    let app = axum::Router::new()
        .route("/", axum::routing::get(|_: Request<axum::body::Body>| async { page }))
        .route_service("/chat", rooms.service());
    let server = TestServer::with_service(rooms, app);
    match server.options().plain().try_connect().await {
        Err(ConnectError::Refused(response)) => assert_eq!(response.status(), StatusCode::OK),
        other => panic!("{other:?}"),
    }
    let advice = "; choose the path with `.options().path(…)`";
    let start = format!("no WebSocket at `/` (200 OK){advice}: <!doctype html>ü");
    let connected = server.connect();
    let message = fails(connected, line!() - 1, &start).await;
    assert!(message.ends_with("ü…"), "{message}");
    assert!(message.chars().count() < 350, "{message}");
    let connected = server.options().path("/none").plain().connect();
    let message = fails(connected, line!() - 1, "no WebSocket at `/none` (404 Not Found)").await;
    assert!(message.ends_with(advice), "{message}");
    server.options().path("/chat").connect().await.enter("ann", "r").await;
}

#[tokio::test(start_paused = true)]
async fn other_frames_than_expected_fail_the_test() {
    let server = TestServer::new(builder().build().unwrap());
    let (mut ann, mut bob) = ann_and_bob(&server).await;
    bob.say("hi").await;
    let silence = ann.expect_silence(Duration::from_secs(1));
    fails(silence, line!() - 1, "expected silence, got [Object").await;
    let hello = ann.expect(json!({"message": "hello"}));
    fails(hello, line!() - 1, r#"expected {"message":"hello"}, got {"#).await;
    let entered = bob.enter("", "r");
    fails(entered, line!() - 1, "the enter was refused: ").await;
    bob.cut();
    let next = bob.send(json!({"event": "message", "message": "hi", "roomId": "r"}));
    fails(next, line!() - 1, "the connection is cut: call `restore` first").await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_fails_the_test() {
    let server = TestServer::new(builder().auth(Tokens).build().unwrap());
    let connected = server.connect();
    fails(connected, line!() - 1, "the server has closed the connection with 4505: ").await;
    let connected = server.options().plain().connect();
    fails(connected, line!() - 1, "the server has refused the connection with 401 Unauthorized: ").await;
}

/// Expects a failure with a message that names this line, and then starts in this way. Returns the message.
async fn fails<T>(future: impl Future<Output = T>, line: u32, start: &str) -> String {
    let Err(panic) = AssertUnwindSafe(future).catch_unwind().await else { panic!("expected: {start}") };
    let message = panic.downcast_ref::<String>().unwrap();
    let start = format!("at {}:{line}: {start}", file!());
    assert!(message.starts_with(&start), "expected {start}, got {message}");
    message.clone()
}

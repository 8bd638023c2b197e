//! Limits and rates per address, pending connections, and proxies.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt;
use http::Request;
use http::request::Parts;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::ServiceExt;
use tower_chat_rooms::{
    Admission, AuthRefusal, Authenticate, ChatRooms, ChatRoomsBuilder, Denied, History, Limits, PeerAddr,
    RateLimits, Recovery, RoomEvent, Timeouts, TrustedProxies, User,
};

use crate::support::{
    Client, EventLog, HANDSHAKE, HttpResponse, assert_empty, builder, open_http, send_request, text_frame,
};

const ENTER: &str = r#"{"event":"enter","message":"ann"}"#;

fn peer(text: &str) -> SocketAddr {
    SocketAddr::new(text.parse().unwrap(), 7)
}

async fn connect(rooms: &ChatRooms, from: &str, headers: &str) -> (HttpResponse, DuplexStream) {
    let mut io = open_http(rooms, Some(peer(from)));
    let answer = send_request(&mut io, format!("{HANDSHAKE}{headers}\r\n").as_bytes()).await;
    (answer, io)
}

async fn status(rooms: &ChatRooms, from: &str) -> u16 {
    connect(rooms, from, "").await.0.status
}

/// Waits until no connection is left.
async fn until_empty(rooms: &ChatRooms) {
    while rooms.stats().connections > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_empty(rooms);
    assert_eq!(rooms.stats().pending, 0);
}

#[tokio::test(start_paused = true)]
async fn connections_per_address_are_limited() {
    let rooms = builder().limits(Limits::default().max_connections_per_ip(2)).build().unwrap();
    let (_, one) = connect(&rooms, "192.0.2.1", "").await;
    let (_, _two) = connect(&rooms, "::ffff:192.0.2.1", "").await;
    let (refused, _) = connect(&rooms, "192.0.2.1", "").await;
    assert_eq!(refused.status, 429);
    assert!(refused.head.contains("\r\nretry-after: 5\r\n") && refused.body.contains("your address"));
    // Other addresses are not affected, nor are connections without an address.
    assert_eq!(status(&rooms, "192.0.2.2").await, 101);
    for _ in 0..5 {
        assert_eq!(
            send_request(&mut open_http(&rooms, None), format!("{HANDSHAKE}\r\n").as_bytes()).await.status,
            101
        );
    }
    // An IPv6 /64 network counts as one address.
    let (_, _three) = connect(&rooms, "2001:db8::1", "").await;
    let (_, _four) = connect(&rooms, "2001:db8::ffff:0:0:2", "").await;
    assert_eq!(status(&rooms, "2001:db8::3").await, 429);
    assert_eq!(status(&rooms, "2001:db8:0:1::3").await, 101);
    let stats = rooms.stats();
    assert_eq!((stats.refused, stats.refused_per_ip), (2, 2));
    drop(one);
    while status(&rooms, "192.0.2.1").await == 429 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Accepts, refuses, panics or never answers, as the request says.
struct MyAuth;

impl Authenticate for MyAuth {
    async fn on_upgrade(&self, request: &Parts) -> Result<Admission, AuthRefusal> {
        match request.headers.get("x-auth").and_then(|value| value.to_str().ok()) {
            Some("no") => Err(AuthRefusal::forbidden("no")),
            Some("panic") => panic!("on purpose"),
            Some("never") => std::future::pending().await,
            _ => Ok(Admission::anonymous()),
        }
    }
}

fn one_connection(builder: ChatRoomsBuilder) -> ChatRooms {
    builder.limits(Limits::default().max_connections_per_ip(1).max_pending(1)).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_returned_once_on_every_way_out() {
    let rooms = one_connection(builder().auth(MyAuth));
    // Each of these takes the only permit, so the next one shows that it was returned.
    for (answer, status) in [("no", 403), ("panic", 500), ("never", 503), ("no", 403)] {
        assert_eq!(connect(&rooms, "192.0.2.1", &format!("X-Auth: {answer}\r\n")).await.0.status, status);
        until_empty(&rooms).await;
    }
    assert_eq!(rooms.stats().refused_auth, 4);
    // The client is gone while the hook runs.
    let mut io = open_http(&rooms, Some(peer("192.0.2.1")));
    io.write_all(format!("{HANDSHAKE}X-Auth: never\r\n\r\n").as_bytes()).await.unwrap();
    while rooms.stats().connections == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(status(&rooms, "192.0.2.1").await, 429);
    drop(io);
    until_empty(&rooms).await;
    // The client is gone when the response is written.
    let mut io = open_http(&rooms, Some(peer("192.0.2.1")));
    io.write_all(format!("{HANDSHAKE}\r\n").as_bytes()).await.unwrap();
    drop(io);
    until_empty(&rooms).await;
    // The server does not support upgrades.
    let mut request = Request::builder().uri("/").extension(PeerAddr(peer("192.0.2.1")));
    for line in HANDSHAKE.lines().skip(1) {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    let answer = rooms.service().oneshot(request.body(()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 500);
    until_empty(&rooms).await;
    // The client has entered, and then: a close, a reset, a kick, a shutdown.
    let enter = async |rooms: &ChatRooms| Client::enter_from(rooms, "ann", peer("192.0.2.1")).await;
    enter(&rooms).await.close().await;
    until_empty(&rooms).await;
    enter(&rooms).await.disconnect().await;
    until_empty(&rooms).await;
    let mut ann = enter(&rooms).await;
    assert!(rooms.kick(rooms.members("r")[0].connection));
    assert_eq!(ann.close_code().await, 4500);
    until_empty(&rooms).await;
    // Its task is aborted.
    let ann = enter(&rooms).await;
    ann.task.abort();
    until_empty(&rooms).await;
    let mut ann = enter(&rooms).await;
    let (down, code) = tokio::join!(rooms.shutdown(), ann.close_code());
    assert_eq!((down, code), ((), 1012));
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn connections_are_pending_until_they_enter() {
    let rooms = builder()
        .limits(Limits::default().max_pending(2))
        .timeouts(Timeouts::default().enter_timeout(Duration::from_secs(3)))
        .build()
        .unwrap();
    let (_, _one) = connect(&rooms, "192.0.2.1", "").await;
    let (_, mut two) = connect(&rooms, "192.0.2.2", "").await;
    let (refused, _) = connect(&rooms, "192.0.2.3", "").await;
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("\r\nretry-after: ") && refused.body.contains("entered"), "{refused:?}");
    assert_eq!((rooms.stats().pending, rooms.stats().refused_full), (2, 1));
    // A connection that enters is no longer pending, however often it enters again.
    for _ in 0..3 {
        two.write_all(&text_frame(ENTER)).await.unwrap();
    }
    while rooms.stats().pending == 2 {
        two.read_u8().await.unwrap();
    }
    assert_eq!(rooms.stats().pending, 1);
    let (_, _three) = connect(&rooms, "192.0.2.3", "").await;
    assert_eq!(status(&rooms, "192.0.2.4").await, 503);
    // A connection that never enters is closed.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(rooms.stats().pending, 0);
    assert_eq!(status(&rooms, "192.0.2.4").await, 101);
}

#[tokio::test(start_paused = true)]
async fn behind_a_trusted_proxy_the_clients_address_counts() {
    let log = EventLog::default();
    let seen = log.clone();
    let rooms = builder()
        .limits(Limits::default().max_connections_per_ip(1))
        .trusted_proxies(TrustedProxies::new(["10.0.0.0/8"]).unwrap())
        .events(move |event: RoomEvent<'_>| {
            if let RoomEvent::Entered(e) = event {
                seen.push(e.peer.unwrap().to_string());
            }
        })
        .build()
        .unwrap();
    let (_, mut ann) = connect(&rooms, "10.0.0.1", "X-Forwarded-For: 192.0.2.1\r\n").await;
    let (_, _bob) = connect(&rooms, "10.0.0.1", "X-Forwarded-For: 192.0.2.2\r\n").await;
    let (again, _) = connect(&rooms, "10.0.0.9", "X-Forwarded-For: 6.6.6.6, 192.0.2.2\r\n").await;
    assert_eq!(again.status, 429);
    // Headers from elsewhere are ignored.
    let (_, _mal) = connect(&rooms, "198.51.100.1", "X-Forwarded-For: 192.0.2.7\r\n").await;
    let (mal, _) = connect(&rooms, "198.51.100.1", "X-Forwarded-For: 192.0.2.8\r\n").await;
    assert_eq!(mal.status, 429);
    // The hooks see the client.
    ann.write_all(&text_frame(ENTER)).await.unwrap();
    while rooms.stats().entered == 0 {
        ann.read_u8().await.unwrap();
    }
    assert_eq!(log.take(), ["192.0.2.1:0"]);
    assert!(ann.read_u8().now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn limits_can_be_removed() {
    let rooms = builder()
        .limits(Limits::default().max_connections_per_ip(usize::MAX).max_pending(usize::MAX))
        .build()
        .unwrap();
    let mut all = Vec::new();
    for _ in 0..600 {
        let (answer, io) = connect(&rooms, "192.0.2.1", "").await;
        assert_eq!(answer.status, 101);
        all.push(io);
    }
    let rooms = builder().build().unwrap();
    let mut all = Vec::new();
    for n in 0..=256 {
        let (answer, io) = connect(&rooms, "192.0.2.1", "").await;
        assert_eq!(answer.status, if n < 256 { 101 } else { 429 });
        all.push(io);
    }
}

/// Otherwise a client could fill a room with lost members, one connection after the other.
#[tokio::test(start_paused = true)]
async fn kept_sessions_per_address_are_limited() {
    let window = Duration::from_secs(60);
    let rooms = builder()
        .limits(Limits::default().max_connections_per_ip(2))
        .recovery(Recovery::default().resume_window(window))
        .build()
        .unwrap();
    for (n, from) in ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"].into_iter().enumerate() {
        let admission = Admission::anonymous().with_protocol("chat-rooms.v1".parse().unwrap());
        let mut client = Client::connect_from(&rooms, admission, peer(from)).await;
        client.send(json!({"event": "enter", "message": format!("n{n}"), "roomId": "r"})).await;
        while client.next().await["event"] != "entered" {}
        client.disconnect().await;
    }
    let names = || rooms.members("r").iter().map(|member| member.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(), ["n0", "n1", "n3"]);
    assert_eq!((rooms.stats().absent, rooms.stats().connections), (3, 0));
    // The permits are returned after the resume window.
    tokio::time::sleep(2 * window).await;
    assert_empty(&rooms);
    assert_eq!(rooms.stats().absent, 0);
    let admission = Admission::anonymous().with_protocol("chat-rooms.v1".parse().unwrap());
    let mut client = Client::connect_from(&rooms, admission, peer("192.0.2.1")).await;
    client.send(json!({"event": "enter", "message": "n", "roomId": "r"})).await;
    while client.next().await["event"] != "entered" {}
    client.disconnect().await;
    assert_eq!(names(), ["n"]);
}

/// Reconnecting used to start with full token buckets.
#[tokio::test(start_paused = true)]
async fn some_rates_count_all_connections_of_an_address() {
    let rates =
        RateLimits::default().max_new_rooms_per_minute_per_ip(30).max_failed_auths_per_minute_per_ip(3);
    let rooms = builder()
        .rate_limits(rates)
        .auth(|token: String| async move {
            if token == "right" { Ok(User::new("u-1")) } else { Err(Denied::new("wrong")) }
        })
        .build()
        .unwrap();
    // New rooms.
    let mut opened = 0;
    for n in 0..100 {
        let mut client = Client::connect_from(&rooms, Admission::anonymous(), peer("192.0.2.1")).await;
        client.send(json!({"event": "enter", "message": "ann", "roomId": format!("r{n}")})).await;
        opened += u32::from(client.next().await["event"] == "enter");
        client.close().await;
    }
    assert_eq!(opened, 30);
    // Failed authentications. Another address is not affected.
    for _ in 0..3 {
        let mut client = Client::connect_from(&rooms, Admission::pending_auth(), peer("192.0.2.2")).await;
        client.send(json!({"event": "auth", "message": "guess"})).await;
        assert_eq!(client.next().await["event"], "noAuth");
        client.close().await;
    }
    let mut refused = Client::connect_from(&rooms, Admission::pending_auth(), peer("192.0.2.2")).await;
    assert_eq!(refused.close_code().await, 1006);
    assert_eq!(rooms.stats().refused_per_ip, 1);
    // Connections.
    let accepted = rooms.stats().accepted;
    for _ in 0..650 {
        let client = Client::connect_from(&rooms, Admission::anonymous(), peer("192.0.2.3")).await;
        client.disconnect().await;
    }
    assert_eq!(rooms.stats().accepted - accepted, 600);
}

/// Others at the same address may have used up the rate. Clients that came back together were closed for good.
#[tokio::test(start_paused = true)]
async fn enters_beyond_the_rate_of_an_address_do_not_close_the_connection() {
    let rates = RateLimits::default().max_enters_per_minute_per_ip(3).max_rate_violations(5);
    let rooms = builder().rate_limits(rates).build().unwrap();
    let (mut ann, _) = Client::connect_v1_from(&rooms, Admission::anonymous(), peer("192.0.2.1")).await;
    let mut waits = Vec::new();
    for n in 0..20 {
        ann.send(json!({"event": "enter", "message": "ann", "roomId": n})).await;
        match ann.next().await {
            error if error["event"] == "error" => waits.extend(error["retryAfter"].as_u64()),
            entered => {
                assert_eq!((n < 3, &entered["event"]), (true, &json!("entered")), "{entered}");
                assert_eq!(ann.next().await["event"], "enter");
            }
        }
    }
    // Each is told to try again at another time.
    assert_eq!(waits[..4], [20_000, 40_000, 60_000, 60_000]);
    assert_eq!((waits.len(), rooms.stats().rate_limited), (17, 17));
}

/// The client waits longer than it may take to enter a room, as the server has asked it to.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_told_to_enter_later_may_do_so() {
    let rooms = builder()
        .rate_limits(RateLimits::default().max_enters_per_minute_per_ip(3))
        .timeouts(Timeouts::default().enter_timeout(Duration::from_secs(10)))
        .build()
        .unwrap();
    let enter = |name: &str| json!({"event": "enter", "message": name, "roomId": "r"});
    for _ in 0..3 {
        let (mut bob, _) = Client::connect_v1_from(&rooms, Admission::anonymous(), peer("192.0.2.1")).await;
        bob.send(enter("bob")).await;
        assert_eq!(bob.next().await["event"], "entered");
    }
    let (mut ann, _) = Client::connect_v1_from(&rooms, Admission::anonymous(), peer("192.0.2.1")).await;
    ann.send(enter("ann")).await;
    let wait = Duration::from_millis(ann.next().await["retryAfter"].as_u64().unwrap());
    assert_eq!(wait, Duration::from_secs(20));
    tokio::time::sleep(wait).await;
    ann.send(enter("ann")).await;
    assert_eq!(ann.next().await["event"], "entered");
    // Without an enter, the usual time applies.
    let (mut idle, _) = Client::connect_v1_from(&rooms, Admission::anonymous(), peer("192.0.2.1")).await;
    let since = tokio::time::Instant::now();
    assert_eq!(idle.close_code().await, 4002);
    assert_eq!(since.elapsed(), Duration::from_secs(10));
}

/// The client has to know, because it sends as much as a full bucket allows.
#[tokio::test(start_paused = true)]
async fn a_connection_that_starts_with_empty_token_buckets_is_told_so() {
    let rooms = builder().build().unwrap();
    let v1 = || Admission::anonymous().with_protocol("chat-rooms.v1".parse().unwrap());
    let full = json!({"messages": 100, "bytes": 262_144, "burst": 2});
    let empty = json!({"messages": 100, "bytes": 262_144, "burst": 2, "empty": true});
    for n in 0..300 {
        let mut client = Client::connect_from(&rooms, v1(), peer("192.0.2.1")).await;
        let expected = if n < 256 { &full } else { &empty };
        assert_eq!(client.next().await["rates"], *expected, "connection {n}");
        client.disconnect().await;
    }
    // Another address is not affected.
    let mut client = Client::connect_from(&rooms, v1(), peer("192.0.2.2")).await;
    assert_eq!(client.next().await["rates"], full);
    // A client that sends no faster than the rate is never refused.
    let mut client = Client::connect_from(&rooms, v1(), peer("192.0.2.1")).await;
    assert_eq!(client.next().await["rates"], empty);
    tokio::time::sleep(Duration::from_millis(10)).await;
    client.send(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    assert_eq!(client.next().await["event"], "entered");
    assert_eq!(client.next().await["event"], "enter");
    for n in 0..200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        client.send(json!({"event": "message", "message": n, "cid": n.to_string()})).await;
        let [_, message] = client.next_acknowledged().await;
        assert_eq!(message["event"], "message");
    }
    assert_eq!(rooms.stats().rate_limited, 0);
}

/// Such a client was once refused if there were many others with the same address.
#[tokio::test(start_paused = true)]
async fn without_a_burst_a_client_can_still_come_back_to_all_of_its_rooms_at_once() {
    let recovery = Recovery::default().resume_window(Duration::from_secs(60)).history(History::last(10));
    let rooms = builder().recovery(recovery).build().unwrap();
    let v1 = || Admission::anonymous().with_protocol("chat-rooms.v1".parse().unwrap());
    for _ in 0..300 {
        Client::connect_from(&rooms, v1(), peer("192.0.2.1")).await.disconnect().await;
    }
    let mut token = Value::Null;
    for round in 0..3 {
        let mut client = Client::connect_from(&rooms, v1(), peer("192.0.2.1")).await;
        let welcome = client.next().await;
        assert_eq!(welcome["rates"]["empty"], true);
        if round > 0 {
            client.send(json!({"event": "resume", "message": [token]})).await;
        }
        let ids = (0..64).map(|n| format!("r{n}"));
        for id in ids.clone() {
            client.send(json!({"event": "enter", "message": "ann", "roomId": id})).await;
        }
        for id in ids {
            let entered = loop {
                let frame = client.next().await;
                assert_ne!(frame["event"], "error", "{frame}");
                if frame["event"] == "entered" {
                    break frame;
                }
            };
            assert_eq!((&entered["roomId"], &entered["resumed"]), (&json!(id), &json!(round > 0)));
        }
        token = welcome["resume"].clone();
        client.disconnect().await;
    }
    assert_eq!(rooms.stats().rate_limited, 0);
}

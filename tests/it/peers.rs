//! How many connections one address may have, and who is behind a proxy.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt;
use http::Request;
use http::request::Parts;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::ServiceExt;
use tower_chat_rooms::{
    Admission, AuthRefusal, Authenticate, ChatRooms, ChatRoomsBuilder, Limits, PeerAddr, Recovery, RoomEvent,
    Timeouts, TrustedProxies,
};

use crate::client::{Client, Log, assert_empty};
use crate::door::{Answer, HANDSHAKE, ask, open};

fn peer(text: &str) -> SocketAddr {
    SocketAddr::new(text.parse().unwrap(), 7)
}

async fn connect(rooms: &ChatRooms, from: &str, headers: &str) -> (Answer, DuplexStream) {
    let mut io = open(rooms, Some(peer(from)));
    let answer = ask(&mut io, format!("{HANDSHAKE}{headers}\r\n").as_bytes()).await;
    (answer, io)
}

async fn status(rooms: &ChatRooms, from: &str) -> u16 {
    connect(rooms, from, "").await.0.status
}

/// Waits until no connection is left.
async fn settled(rooms: &ChatRooms) {
    while rooms.stats().connections > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_empty(rooms);
    assert_eq!(rooms.stats().pending, 0);
}

#[tokio::test(start_paused = true)]
async fn an_address_has_so_many_places_and_no_more() {
    let rooms = ChatRooms::builder().limits(Limits::default().max_connections_per_ip(2)).build().unwrap();
    let (_, one) = connect(&rooms, "192.0.2.1", "").await;
    let (_, _two) = connect(&rooms, "::ffff:192.0.2.1", "").await;
    let (refused, _) = connect(&rooms, "192.0.2.1", "").await;
    assert_eq!(refused.status, 429);
    assert!(refused.head.contains("\r\nretry-after: 5\r\n") && refused.body.contains("your address"));
    // Others are not concerned, nor is who has no address.
    assert_eq!(status(&rooms, "192.0.2.2").await, 101);
    for _ in 0..5 {
        assert_eq!(ask(&mut open(&rooms, None), format!("{HANDSHAKE}\r\n").as_bytes()).await.status, 101);
    }
    // A network of IPv6 is one address.
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

/// Asks, and lets in, refuses, panics or never answers.
struct Door;

impl Authenticate for Door {
    async fn on_upgrade(&self, request: &Parts) -> Result<Admission, AuthRefusal> {
        match request.headers.get("x-door").and_then(|door| door.to_str().ok()) {
            Some("no") => Err(AuthRefusal::forbidden("no")),
            Some("panic") => panic!("on purpose"),
            Some("never") => std::future::pending().await,
            _ => Ok(Admission::anonymous()),
        }
    }
}

fn one_place(builder: ChatRoomsBuilder) -> ChatRooms {
    builder.limits(Limits::default().max_connections_per_ip(1).max_pending(1)).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_place_is_given_back_once_on_every_way_out() {
    let rooms = one_place(ChatRooms::builder().auth(Door));
    // Each of these takes the only place, so that the next one shows that it is free again.
    for (door, status) in [("no", 403), ("panic", 500), ("never", 503), ("no", 403)] {
        assert_eq!(connect(&rooms, "192.0.2.1", &format!("X-Door: {door}\r\n")).await.0.status, status);
        settled(&rooms).await;
    }
    assert_eq!(rooms.stats().refused_auth, 4);
    // Gone while the hook is asked.
    let mut io = open(&rooms, Some(peer("192.0.2.1")));
    io.write_all(format!("{HANDSHAKE}X-Door: never\r\n\r\n").as_bytes()).await.unwrap();
    while rooms.stats().connections == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(status(&rooms, "192.0.2.1").await, 429);
    drop(io);
    settled(&rooms).await;
    // Gone when the answer is written.
    let mut io = open(&rooms, Some(peer("192.0.2.1")));
    io.write_all(format!("{HANDSHAKE}\r\n").as_bytes()).await.unwrap();
    drop(io);
    settled(&rooms).await;
    // A host without upgrades.
    let mut request = Request::builder().uri("/").extension(PeerAddr(peer("192.0.2.1")));
    for line in HANDSHAKE.lines().skip(1) {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    let answer = rooms.service().oneshot(request.body(()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 500);
    settled(&rooms).await;
    // Entered, and then: a close, a reset, a kick, a shutdown.
    let enter = async |rooms: &ChatRooms| Client::enter_from(rooms, "ann", peer("192.0.2.1")).await;
    enter(&rooms).await.leave().await;
    settled(&rooms).await;
    enter(&rooms).await.vanish().await;
    settled(&rooms).await;
    let mut ann = enter(&rooms).await;
    assert!(rooms.kick(rooms.members("r")[0].connection));
    assert_eq!(ann.closed().await, 4500);
    settled(&rooms).await;
    // Its task is gone.
    let ann = enter(&rooms).await;
    ann.task.abort();
    settled(&rooms).await;
    let mut ann = enter(&rooms).await;
    let (down, code) = tokio::join!(rooms.shutdown(), ann.closed());
    assert_eq!((down, code), ((), 1012));
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn who_has_not_entered_is_pending() {
    let rooms = ChatRooms::builder()
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
    // Who enters makes room; he may enter again and again.
    let enter = br#"{"event":"enter","message":"ann"}"#;
    for _ in 0..3 {
        two.write_all(&[0x81, 0x80 | enter.len() as u8, 0, 0, 0, 0]).await.unwrap();
        two.write_all(enter).await.unwrap();
    }
    while rooms.stats().pending == 2 {
        two.read_u8().await.unwrap();
    }
    assert_eq!(rooms.stats().pending, 1);
    let (_, _three) = connect(&rooms, "192.0.2.3", "").await;
    assert_eq!(status(&rooms, "192.0.2.4").await, 503);
    // Who never enters is closed, and makes room too.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(rooms.stats().pending, 0);
    assert_eq!(status(&rooms, "192.0.2.4").await, 101);
}

#[tokio::test(start_paused = true)]
async fn behind_a_trusted_proxy_the_client_counts() {
    let log = Log::default();
    let seen = log.clone();
    let rooms = ChatRooms::builder()
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
    // Nobody else is believed.
    let (_, _mal) = connect(&rooms, "198.51.100.1", "X-Forwarded-For: 192.0.2.7\r\n").await;
    let (mal, _) = connect(&rooms, "198.51.100.1", "X-Forwarded-For: 192.0.2.8\r\n").await;
    assert_eq!(mal.status, 429);
    // The hooks see the client.
    let enter = br#"{"event":"enter","message":"ann"}"#;
    ann.write_all(&[0x81, 0x80 | enter.len() as u8, 0, 0, 0, 0]).await.unwrap();
    ann.write_all(enter).await.unwrap();
    while rooms.stats().entered == 0 {
        ann.read_u8().await.unwrap();
    }
    assert_eq!(log.take(), ["192.0.2.1:0"]);
    assert!(ann.read_u8().now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn no_limit_is_no_limit() {
    let rooms = ChatRooms::builder()
        .limits(Limits::default().max_connections_per_ip(usize::MAX).max_pending(usize::MAX))
        .build()
        .unwrap();
    let mut all = Vec::new();
    for _ in 0..600 {
        let (answer, io) = connect(&rooms, "192.0.2.1", "").await;
        assert_eq!(answer.status, 101);
        all.push(io);
    }
    let rooms = ChatRooms::builder().build().unwrap();
    let mut all = Vec::new();
    for n in 0..=256 {
        let (answer, io) = connect(&rooms, "192.0.2.1", "").await;
        assert_eq!(answer.status, if n < 256 { 101 } else { 429 });
        all.push(io);
    }
}

/// Or somebody could fill a room with absent members, one connection after the other.
#[tokio::test(start_paused = true)]
async fn an_address_keeps_so_many_seats_and_no_more() {
    let grace = Duration::from_secs(60);
    let rooms = ChatRooms::builder()
        .limits(Limits::default().max_connections_per_ip(2))
        .recovery(Recovery::default().resume_window(grace))
        .build()
        .unwrap();
    for (n, from) in ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"].into_iter().enumerate() {
        let admission = Admission::anonymous().with_protocol("chat-rooms.v1".parse().unwrap());
        let mut client = Client::connect_from(&rooms, admission, peer(from)).await;
        client.say(json!({"event": "enter", "message": format!("n{n}"), "roomId": "r"})).await;
        while client.next().await["event"] != "entered" {}
        client.vanish().await;
    }
    let names = || rooms.members("r").iter().map(|member| member.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(), ["n0", "n1", "n3"]);
    assert_eq!((rooms.stats().absent, rooms.stats().connections), (3, 0));
    // The places are given back as the time is up.
    tokio::time::sleep(2 * grace).await;
    assert_empty(&rooms);
    assert_eq!(rooms.stats().absent, 0);
    let admission = Admission::anonymous().with_protocol("chat-rooms.v1".parse().unwrap());
    let mut client = Client::connect_from(&rooms, admission, peer("192.0.2.1")).await;
    client.say(json!({"event": "enter", "message": "n", "roomId": "r"})).await;
    while client.next().await["event"] != "entered" {}
    client.vanish().await;
    assert_eq!(names(), ["n"]);
}

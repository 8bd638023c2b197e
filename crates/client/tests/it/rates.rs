//! The client keeps to the rates of a real server with its default settings.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout};
use tower_chat_rooms::{Admission, ChatRooms};
use tower_chat_rooms_client::{Client, ClientEvent, ClientState, Sending};

use crate::scripted_server::{PATIENCE, online};
use crate::support::{Replaceable, assert_empty};

/// Waits until the client is in this state, and returns how it is described.
pub(crate) async fn reach(client: &mut Client, is_wanted: impl Fn(&ClientState) -> bool) -> String {
    loop {
        let event = timeout(PATIENCE, client.recv()).await.expect("no event").expect("the client has ended");
        if let ClientEvent::State(state) = event
            && is_wanted(&state)
        {
            return format!("{state:?}");
        }
    }
}

/// The first words of this many messages of another member.
async fn words(client: &mut Client, count: usize) -> Vec<usize> {
    let mut words = Vec::new();
    while words.len() < count {
        let event = timeout(PATIENCE, client.recv()).await.expect("no event").expect("the client has ended");
        match event {
            ClientEvent::Message(frame) => {
                let text = frame.message().as_str().unwrap().to_owned();
                words.push(text.split(' ').next().unwrap().parse().unwrap());
            }
            ClientEvent::Gap { .. } => panic!("{event:?}"),
            _ => {}
        }
    }
    words
}

fn send_all(client: &Client, bytes: usize) -> Vec<Sending> {
    let sender = client.sender();
    (0..128).map(|n| sender.send(&format!("{n} {}", "x".repeat(bytes)))).collect()
}

#[tokio::test(start_paused = true)]
async fn what_has_waited_during_an_outage_arrives_once_and_in_order() {
    for (bytes, within) in [(10, 5), (6_000, 8), (30_000, 30)] {
        let rooms = ChatRooms::builder().build().unwrap();
        let (near, far) = (Replaceable::new(rooms.clone()), Replaceable::new(rooms.clone()));
        let mut bob = far.client().name("bob").await.unwrap();
        let mut ann = near.client().name("ann").await.unwrap();
        near.cut();
        reach(&mut ann, |state| matches!(state, ClientState::Reconnecting { .. })).await;
        let sendings = send_all(&ann, bytes);
        let begin = Instant::now();
        near.mend();
        assert_eq!(words(&mut bob, 128).await, (0..128).collect::<Vec<_>>(), "messages of {bytes} bytes");
        for sending in sendings {
            assert!(sending.await.is_ok());
        }
        assert!(begin.elapsed().as_secs() < within, "{:?}", begin.elapsed());
        let stats = rooms.stats();
        assert_eq!((stats.rate_limited, stats.flooded, stats.messages, stats.accepted), (0, 0, 128, 3));
        ann.leave().await;
        bob.leave().await;
        rooms.shutdown().await;
        assert_empty(&rooms);
    }
}

/// The server gives no burst to an address from which many connections are opened.
#[tokio::test(start_paused = true)]
async fn a_connection_without_a_burst_keeps_the_order() {
    for (bytes, within) in [(10, 2), (6_000, 4)] {
        let rooms = ChatRooms::builder().build().unwrap();
        let peer = "192.0.2.1:1".parse().unwrap();
        for _ in 0..256 {
            let (_, io) = tokio::io::duplex(4096);
            rooms.serve_from(io, Admission::anonymous(), Some(peer)).await;
        }
        let mut bob = Replaceable::new(rooms.clone()).client().name("bob").await.unwrap();
        let ann = Replaceable::from_peer(rooms.clone(), peer).client().name("ann").await.unwrap();
        let begin = Instant::now();
        let sendings = send_all(&ann, bytes);
        assert_eq!(words(&mut bob, 128).await, (0..128).collect::<Vec<_>>(), "messages of {bytes} bytes");
        for sending in sendings {
            assert!(sending.await.is_ok());
        }
        assert!(begin.elapsed() > Duration::from_secs(1), "{:?}: there was a burst", begin.elapsed());
        assert!(begin.elapsed().as_secs() < within, "{:?}", begin.elapsed());
        assert_eq!(rooms.stats().rate_limited, 0, "the server allows the enter");
    }
}

#[tokio::test]
async fn so_it_is_over_real_sockets() {
    let rooms = ChatRooms::builder().build().unwrap();
    let app = axum::Router::new().route_service("/chat", rooms.service());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/chat", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut bob = Client::connect(&url).name("bob").room("r").await.unwrap();
    let ann = Client::connect(&url).name("ann").room("r").await.unwrap();
    let sendings = send_all(&ann, 6_000);
    assert_eq!(words(&mut bob, 128).await, (0..128).collect::<Vec<_>>());
    for sending in sendings {
        assert!(sending.await.is_ok());
    }
    assert_eq!((rooms.stats().rate_limited, rooms.stats().messages), (0, 128));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_sends_for_long_is_never_refused() {
    let rooms = ChatRooms::builder().build().unwrap();
    let client = Replaceable::new(rooms.clone()).client().name("ann").await.unwrap();
    let sender = client.sender();
    let (text, begin) = ("x".repeat(3000), Instant::now());
    for _ in 0..20 {
        let sendings: Vec<Sending> = (0..100).map(|_| sender.send(&text)).collect();
        for sending in sendings {
            assert!(sending.await.is_ok());
        }
    }
    assert_eq!((rooms.stats().rate_limited, rooms.stats().messages), (0, 2000));
    assert!((15..40).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_all_the_same_keeps_its_place() {
    let (client, mut connection, _server) = online().await;
    let sender = client.sender();
    let sendings = ["a", "b", "c"].map(|text| sender.send(text));
    let mut frames = Vec::new();
    for _ in 0..3 {
        frames.push(connection.frame().await);
    }
    let refused = Instant::now();
    for frame in &frames {
        connection.send(serde_json::json!({"event": "error", "code": "unavailable", "message": "later",
            "cid": frame["cid"], "retryAfter": 2000}));
    }
    let mut seq = 0;
    for frame in &frames {
        let again: Value = connection.frame().await;
        assert_eq!((&again, refused.elapsed().as_secs()), (frame, 2));
        seq += 1;
        connection.send(serde_json::json!({"event": "ack", "cid": again["cid"], "seq": seq}));
    }
    for (n, sending) in sendings.into_iter().enumerate() {
        assert_eq!(sending.await, Ok(n as u64 + 1));
    }
}

/// More than may be entered in a minute, and more than may be opened.
#[tokio::test(start_paused = true)]
async fn a_chat_in_many_rooms_keeps_to_the_rate_of_enters() {
    const ROOMS: usize = 64;
    let (old, new) = (ChatRooms::builder().build().unwrap(), ChatRooms::builder().build().unwrap());
    let server = Replaceable::new(old.clone());
    let chat = server.chat().first_timeout(PATIENCE).await.unwrap();
    let ids: Vec<String> = (0..ROOMS).map(|n| n.to_string()).collect();
    let mut clients =
        futures_util::future::try_join_all(ids.iter().map(|id| chat.join(id, "ann").enter())).await.unwrap();
    assert_eq!((old.rooms().len(), old.stats().accepted), (ROOMS, 1));
    server.replace(new.clone());
    old.shutdown().await;
    for client in &mut clients {
        reach(client, |state| matches!(state, ClientState::Reconnecting { .. })).await;
        reach(client, |state| *state == ClientState::Online).await;
    }
    let stats = new.stats();
    assert_eq!((new.rooms().len(), stats.accepted, stats.flooded), (ROOMS, 1, 0));
    assert!(stats.rate_limited < 2 * ROOMS as u64, "{}", stats.rate_limited);
}

//! Lost connections, dead connections, and the end of a client.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::accept_hdr_async;
use tower_chat_rooms::{ChatRooms, Heartbeat};
use tower_chat_rooms_client::{Client, ClientError, ClientEvent, ClientState};

use crate::scripted_server::{
    PATIENCE, Received, choose_v1, entered, message, online, scripted_server, welcome,
};
use crate::support::{Replaceable, logged};

/// The `seq` of the room's next message. Nothing may be missed before it.
pub(crate) async fn next_message(client: &mut Client) -> u64 {
    loop {
        let event = timeout(PATIENCE, client.recv()).await.expect("no event").expect("the client has ended");
        match event {
            ClientEvent::Message(frame) => return frame.seq().unwrap(),
            ClientEvent::Gap { .. } => panic!("{event:?}"),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn replaces_a_lost_connection() {
    let (mut client, connection, mut server) = online().await;
    let begin = Instant::now();
    // The connection lasts as long as heartbeats do.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(client.recv().await, Some(ClientEvent::State(ClientState::Online)));
    connection.send(message(1));
    assert_eq!(next_message(&mut client).await, 1);
    drop(connection);
    let connection = server.let_enter(1).await;
    assert!(begin.elapsed() < Duration::from_secs(61));
    connection.send(message(2));
    assert_eq!(next_message(&mut client).await, 2);
}

#[tokio::test(start_paused = true)]
async fn closes_a_dead_connection_with_the_code_that_keeps_the_session() {
    let (builder, mut server) = scripted_server();
    let silent = async {
        // No heartbeat for as long as the test takes.
        let mut connection = server.accept(PATIENCE).await;
        connection.send(welcome());
        connection.frame().await;
        connection.send(entered(0));
        connection
    };
    let (client, mut connection) = tokio::join!(builder.open(), silent);
    let begin = Instant::now();
    assert_eq!(connection.receive().await, Received::Closed(4000));
    assert_eq!(begin.elapsed().as_secs(), 2);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_arrives_slowly_is_a_sign_of_life() {
    let (builder, mut server) = scripted_server();
    let trickle = async {
        let ws = accept_hdr_async(server.accept_raw().await, choose_v1).await.unwrap();
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
        for byte in text(json!({"event": "notice", "roomId": "r", "seq": 1, "message": "x".repeat(100)})) {
            io.write_all(&[byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(900)).await;
        }
        io
    };
    let begin = Instant::now();
    let receive = async {
        let mut client = builder.await.unwrap();
        assert_eq!(next_message(&mut client).await, 1);
        begin.elapsed()
    };
    let (took, _io) = tokio::join!(receive, trickle);
    assert!(took > Duration::from_secs(100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_large_message_arrives_on_a_slow_line() {
    // With default settings, and a heartbeat as fast as that of plain clients.
    for heartbeat in [Heartbeat::wide_internet(), Heartbeat::every(Duration::from_secs(4))] {
        let rooms = ChatRooms::builder().v1_heartbeat(heartbeat).build().unwrap();
        let server = Replaceable::new(rooms.clone());
        let mut client = server.client().name("ann").await.unwrap();
        server.slow_down(20_000);
        for seq in 2..6 {
            let text = "x".repeat(60_000);
            rooms.send("r", &json!({"event": "notice", "message": text})).unwrap();
            let sent = Instant::now();
            assert_eq!(next_message(&mut client).await, seq);
            assert!((2.5..4.0).contains(&sent.elapsed().as_secs_f64()), "{:?}", sent.elapsed());
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        assert_eq!(rooms.stats().accepted, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn comes_back_when_the_restarting_server_says() {
    let (old, _) = logged();
    let (new, _) = logged();
    let server = Replaceable::new(old.clone());
    let mut client = server.client().name("ann").await.unwrap();
    server.replace(new);
    let begin = Instant::now();
    old.shutdown().await;
    let ended = begin.elapsed();
    loop {
        match client.recv().await.unwrap() {
            ClientEvent::State(ClientState::Reconnecting { reason, retry_in, .. }) => {
                assert!(reason.to_string().contains("retry in 2-3 s"), "{reason}");
                assert!((2.0..3.0).contains(&retry_in.as_secs_f64()), "{retry_in:?}");
            }
            ClientEvent::Gap { missed: None, .. } => break,
            _ => {}
        }
    }
    let took = (begin.elapsed() - ended).as_secs_f64();
    assert!((1.9..3.1).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn gives_up_after_so_many_failed_attempts_and_says_why() {
    let (rooms, _) = logged();
    let server = Replaceable::new(rooms);
    let mut client = server.client().name("ann").max_attempts(5).await.unwrap();
    server.cut();
    let sending = client.sender().send("lost");
    let mut reasons = Vec::new();
    while let Some(event) = client.recv().await {
        match event {
            ClientEvent::State(ClientState::Reconnecting { reason, .. }) => reasons.push(reason.to_string()),
            ClientEvent::State(ClientState::Closed { reason, .. }) => reasons.push(reason.to_string()),
            _ => {}
        }
    }
    assert_eq!(reasons[1], "can't connect: the network is down");
    assert_eq!(reasons[5], "gave up after 5 attempts: can't connect: the network is down");
    assert_eq!(reasons.len(), 6);
    assert!(matches!(sending.await, Err(ClientError::Closed { .. })));
}

#[tokio::test(start_paused = true)]
async fn dropping_a_client_leaves_the_room_and_ends_its_task() {
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (client, mut connection, server) = online().await;
    let sender = client.sender();
    drop(client);
    assert_eq!(connection.receive().await, Received::Closed(1000));
    drop((connection, server));
    let sent = sender.send("too late").await;
    assert!(matches!(sent, Err(ClientError::Closed { .. })), "{sent:?}");
    // The tasks of both sides end once the connection has.
    let ended = async {
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, ended).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_kicked_client_does_not_reconnect() {
    let (rooms, log) = logged();
    let mut client = Replaceable::new(rooms.clone()).client().name("ann").await.unwrap();
    let member = rooms.members("r")[0].connection;
    let sender = client.sender();
    rooms.kick(member);
    let mut events = Vec::new();
    while let Some(event) = client.next().await {
        events.push(event);
    }
    let Some(ClientEvent::State(ClientState::Closed { reason, .. })) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!(reason.to_string(), "closed: kicked (4500)");
    let sent = sender.send("again").await;
    assert!(matches!(sent, Err(ClientError::Closed { .. })), "{sent:?}");
    assert_eq!(log.take(), ["+ ann r 1", "- ann r 0 kicked"]);
}

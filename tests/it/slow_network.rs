//! Clients that read steadily over slow networks, over real TCP and with default settings: none is closed, and each
//! receives everything.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};
use tower_chat_rooms::ChatRooms;

use crate::support::default_rooms;

type Ws = WebSocketStream<TcpStream>;

/// The latency to the client.
const DELAY: Duration = Duration::from_millis(100);

/// Bytes that the client's kernel receives before the client reads them.
const RECEIVE_WINDOW: u32 = 32 * 1024;

/// Messages of this many bytes ...
const MESSAGE: usize = 60_000;

/// ... are a burst within the default rate limits if there are this many.
const BURST: usize = 8;

/// Longer than a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

async fn serve(rooms: &ChatRooms) -> u16 {
    let app = axum::Router::new().route_service("/", rooms.service());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

/// A proxy with this bandwidth and the latency to the client.
async fn slow_proxy(server: u16, bits_per_second: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(RECEIVE_WINDOW).unwrap();
        let server = socket.connect(([127, 0, 0, 1], server).into()).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let up = async { tokio::io::copy(&mut from_client, &mut to_server).await };
        let (queue, mut queued) = tokio::sync::mpsc::channel::<(Instant, Vec<u8>)>(1024);
        let read = async {
            let mut chunk = vec![0; 4096];
            loop {
                let n = from_server.read(&mut chunk).await.unwrap_or(0);
                if n == 0 || queue.send((Instant::now() + DELAY, chunk[..n].to_vec())).await.is_err() {
                    return;
                }
                sleep(Duration::from_secs_f64(n as f64 * 8.0 / bits_per_second as f64)).await;
            }
        };
        let write = async {
            while let Some((at, bytes)) = queued.recv().await {
                sleep_until(at).await;
                if to_client.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(up, read, write)
    });
    port
}

async fn enter(port: u16, name: &str, subprotocol: Option<&str>) -> Ws {
    let mut request = format!("ws://127.0.0.1:{port}/").into_client_request().unwrap();
    if let Some(subprotocol) = subprotocol {
        request.headers_mut().insert("sec-websocket-protocol", subprotocol.parse().unwrap());
    }
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut ws, _) = client_async(request, stream).await.unwrap();
    send(&mut ws, json!({"event": "enter", "message": name, "roomId": "r"})).await;
    ws
}

async fn send(ws: &mut Ws, frame: Value) {
    ws.send(Message::text(frame.to_string())).await.unwrap();
}

/// Receives `messages` messages of each sender, and answers heartbeats. Panics if one is missing or out of order.
async fn receive(mut ws: Ws, name: String, senders: usize, messages: usize) -> Ws {
    let mut received = vec![0; senders];
    while received.iter().any(|n| *n < messages) {
        let next = timeout(PATIENCE, ws.next())
            .await
            .unwrap_or_else(|_| panic!("{name} received only {received:?}"));
        match next {
            Some(Ok(Message::Text(text))) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                match frame["event"].as_str() {
                    Some("heartbeat") => {
                        send(&mut ws, json!({"event": "heartbeat", "message": "pong"})).await;
                    }
                    Some("message") => {
                        let from = &mut received[frame["from"].as_u64().unwrap() as usize];
                        assert_eq!(frame["n"], *from, "{name}");
                        *from += 1;
                    }
                    Some("error" | "out") => panic!("{name} received {frame} after {received:?}"),
                    _ => {}
                }
            }
            other => panic!("{name} was closed after {received:?}: {other:?}"),
        }
    }
    ws
}

/// A plain client and a `chat-rooms.v1` client at each of these rates receive everything that the senders send: each
/// sends a burst, and then `more` messages at the rate.
async fn check_burst(senders: usize, more: usize, megabits: &[u64]) {
    let rooms = default_rooms();
    let server = serve(&rooms).await;
    let messages = BURST + more;
    let mut readers = Vec::new();
    for megabits in megabits {
        for subprotocol in [None, Some("chat-rooms.v1")] {
            let port = slow_proxy(server, megabits * 1_000_000).await;
            let name = format!("a reader at {megabits} Mbit/s with {subprotocol:?}");
            let ws = enter(port, &name, subprotocol).await;
            readers.push(tokio::spawn(receive(ws, name, senders, messages)));
        }
    }
    let mut members = Vec::new();
    for from in 0..senders {
        let subprotocol = (from % 2 == 1).then_some("chat-rooms.v1");
        members.push(enter(server, &format!("sender {from}"), subprotocol).await);
    }
    while rooms.members("r").len() < readers.len() + senders {
        sleep(Duration::from_millis(5)).await;
    }
    let text = "x".repeat(MESSAGE);
    for (from, mut ws) in members.into_iter().enumerate() {
        let (name, text) = (format!("sender {from}"), text.clone());
        readers.push(tokio::spawn(async move {
            for n in 0..messages {
                if n >= BURST {
                    sleep(Duration::from_millis(250)).await;
                }
                send(&mut ws, json!({"event": "message", "from": from, "n": n, "text": text})).await;
            }
            receive(ws, name, senders, messages).await
        }));
    }
    let mut open = Vec::new();
    for reader in readers {
        open.push(reader.await.unwrap());
    }
    assert_eq!((rooms.stats().slow, rooms.stats().rate_limited), (0, 0));
}

#[tokio::test]
async fn a_burst_within_the_rate_closes_no_client_that_reads_steadily() {
    check_burst(1, 8, &[1, 10, 100]).await;
}

#[tokio::test]
async fn bursts_of_several_members_close_no_client_that_reads_steadily() {
    check_burst(4, 0, &[1, 2, 100]).await;
}

#[tokio::test]
async fn bursts_of_many_members_close_no_client_that_reads_steadily() {
    check_burst(8, 0, &[1, 2]).await;
}

//! Clients that connect, send messages, and leave in every way in which clients leave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

type Socket = WebSocketStream<TcpStream>;

/// The clients, on a runtime of their own.
pub(crate) struct Clients {
    runtime: Runtime,
    address: SocketAddr,
    clients: usize,
    rooms: usize,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    resumptions: AtomicU64,
    received: AtomicU64,
}

/// How a client leaves.
#[derive(Clone, Copy)]
enum Exit {
    /// With a closing handshake.
    Close,
    /// Without a closing handshake.
    Disconnect,
    /// It sends nothing more, not even answers to heartbeats.
    StopSending,
    /// It reads nothing more.
    StopReading,
    /// It violates the WebSocket protocol.
    ProtocolError,
}

const EXITS: [Exit; 5] =
    [Exit::Close, Exit::Disconnect, Exit::StopSending, Exit::StopReading, Exit::ProtocolError];

impl Clients {
    pub(crate) fn new(address: SocketAddr, clients: usize, rooms: usize) -> Clients {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        Clients { runtime, address, clients, rooms: rooms.max(1), counters: Arc::default() }
    }

    /// Lets all clients connect and leave again and again for this time, until the last has left.
    pub(crate) fn run(&self, time: Duration) {
        self.runtime.block_on(async {
            let until = Instant::now() + time;
            let mut all = JoinSet::new();
            for n in 0..self.clients {
                let (address, counters) = (self.address, self.counters.clone());
                let mut random =
                    Random::new(n as u64 ^ self.counters.connections.load(Ordering::Relaxed) << 16);
                let rooms = self.rooms as u64;
                all.spawn(async move {
                    while Instant::now() < until {
                        let room = random.below(rooms);
                        // The server may be at a limit; try again.
                        if visit(address, room, &mut random, &counters, until).await.is_err() {
                            sleep(Duration::from_millis(50)).await;
                        }
                    }
                });
            }
            while all.join_next().await.is_some() {}
        });
    }

    pub(crate) fn counts(&self) -> String {
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        format!(
            "{} connections, {} of them resumed, {} frames received",
            of(&self.counters.connections),
            of(&self.counters.resumptions),
            of(&self.counters.received)
        )
    }
}

/// How many rooms a client is in at the most.
const MAX_ROOMS: u64 = 3;

/// One client's visit to a room and, with `chat-rooms.v1`, to the rooms after it.
async fn visit(
    address: SocketAddr,
    room: u64,
    random: &mut Random,
    counters: &Counters,
    until: Instant,
) -> Result<(), Error> {
    let is_v1 = random.below(2) == 0;
    let mut resume_token = Value::Null;
    loop {
        let (mut socket, welcome) = connect(address, is_v1).await?;
        counters.connections.fetch_add(1, Ordering::Relaxed);
        if !resume_token.is_null() {
            send(&mut socket, json!({"event": "resume", "message": [resume_token]})).await?;
            counters.resumptions.fetch_add(1, Ordering::Relaxed);
        }
        let rooms = if is_v1 { 1 + random.below(MAX_ROOMS) } else { 1 };
        let name = format!("n{}", random.below(1000));
        for room in room..room + rooms {
            send(&mut socket, json!({"event": "enter", "message": name, "roomId": room})).await?;
        }
        for _ in 0..random.below(8) {
            let room = room + random.below(rooms);
            let text = "x".repeat(random.below(400) as usize);
            send(&mut socket, json!({"event": "message", "message": text, "roomId": room})).await?;
            receive(&mut socket, Duration::from_millis(random.below(300)), counters).await?;
        }
        if is_v1 && random.below(2) == 0 {
            send(&mut socket, json!({"event": "leave", "roomId": room})).await?;
        }
        let resumes = is_v1 && random.below(2) == 0 && Instant::now() < until;
        if !resumes {
            return exit(socket, EXITS[random.below(EXITS.len() as u64) as usize], counters).await;
        }
        resume_token = welcome["resume"].clone();
        drop(socket);
        sleep(Duration::from_millis(random.below(500))).await;
    }
}

async fn send(socket: &mut Socket, frame: Value) -> Result<(), Error> {
    socket.send(Message::text(frame.to_string())).await
}

async fn connect(address: SocketAddr, is_v1: bool) -> Result<(Socket, Value), Error> {
    let mut request = format!("ws://{address}/").into_client_request()?;
    if is_v1 {
        let protocol = http::HeaderValue::from_static("chat-rooms.v1");
        request.headers_mut().insert("sec-websocket-protocol", protocol);
    }
    let stream = TcpStream::connect(address).await?;
    let (mut socket, _) = client_async(request, stream).await?;
    let mut welcome = Value::Null;
    if is_v1 && let Some(Message::Text(text)) = socket.next().await.transpose()? {
        welcome = serde_json::from_str(&text).unwrap_or_default();
    }
    Ok((socket, welcome))
}

/// Receives frames and answers heartbeats.
async fn receive(socket: &mut Socket, time: Duration, counters: &Counters) -> Result<(), Error> {
    let until = Instant::now() + time;
    while let Ok(Some(message)) =
        timeout(until.saturating_duration_since(Instant::now()), socket.next()).await
    {
        counters.received.fetch_add(1, Ordering::Relaxed);
        if message?.to_text().is_ok_and(|text| text.starts_with(r#"{"event":"heartbeat""#)) {
            socket.send(Message::text(r#"{"event":"heartbeat","message":"pong"}"#)).await?;
        }
    }
    Ok(())
}

async fn exit(mut socket: Socket, exit: Exit, counters: &Counters) -> Result<(), Error> {
    match exit {
        Exit::Close => {
            socket.close(None).await?;
            while let Some(Ok(_)) = socket.next().await {}
        }
        Exit::Disconnect => {}
        Exit::StopSending => {
            // Until the server closes the connection, within two heartbeats.
            while let Some(Ok(_)) = socket.next().await {
                counters.received.fetch_add(1, Ordering::Relaxed);
            }
        }
        Exit::StopReading => {
            for _ in 0..3 {
                sleep(Duration::from_millis(500)).await;
                let pong = Message::text(r#"{"event":"heartbeat","message":"pong"}"#);
                if socket.send(pong).await.is_err() {
                    break;
                }
            }
        }
        Exit::ProtocolError => {
            use tokio::io::AsyncWriteExt;
            socket.get_mut().write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
            while let Some(Ok(_)) = socket.next().await {}
        }
    }
    Ok(())
}

/// Pseudo-random numbers (xorshift).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`.
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

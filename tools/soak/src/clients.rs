//! Clients that come, talk and go, in every way in which clients go.

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

/// All of them, on a runtime of their own.
pub(crate) struct Crowd {
    runtime: Runtime,
    address: SocketAddr,
    clients: usize,
    rooms: usize,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    connections: AtomicU64,
    returns: AtomicU64,
    heard: AtomicU64,
}

/// How a client goes.
#[derive(Clone, Copy)]
enum Way {
    /// With a closing handshake.
    Closes,
    /// Without a word.
    Vanishes,
    /// It says nothing more, and doesn't answer heartbeats.
    FallsSilent,
    /// It reads nothing more.
    StopsReading,
    /// It sends what is no WebSocket.
    Misbehaves,
}

const WAYS: [Way; 5] = [Way::Closes, Way::Vanishes, Way::FallsSilent, Way::StopsReading, Way::Misbehaves];

impl Crowd {
    pub(crate) fn new(address: SocketAddr, clients: usize, rooms: usize) -> Crowd {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        Crowd { runtime, address, clients, rooms: rooms.max(1), tally: Arc::default() }
    }

    /// All come and go again and again for so long, then the last are gone.
    pub(crate) fn wave(&self, time: Duration) {
        self.runtime.block_on(async {
            let until = Instant::now() + time;
            let mut all = JoinSet::new();
            for n in 0..self.clients {
                let (address, tally) = (self.address, self.tally.clone());
                let mut dice = Dice::new(n as u64 ^ self.tally.connections.load(Ordering::Relaxed) << 16);
                let rooms = self.rooms as u64;
                all.spawn(async move {
                    while Instant::now() < until {
                        let room = dice.roll(rooms);
                        // A server that is short of something is asked again.
                        if visit(address, room, &mut dice, &tally, until).await.is_err() {
                            sleep(Duration::from_millis(50)).await;
                        }
                    }
                });
            }
            while all.join_next().await.is_some() {}
        });
    }

    pub(crate) fn tally(&self) -> String {
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        format!(
            "{} connections, {} of them coming back, {} frames heard",
            of(&self.tally.connections),
            of(&self.tally.returns),
            of(&self.tally.heard)
        )
    }
}

/// One client's visit to a room.
async fn visit(
    address: SocketAddr,
    room: u64,
    dice: &mut Dice,
    tally: &Tally,
    until: Instant,
) -> Result<(), Error> {
    let is_v1 = dice.roll(2) == 0;
    let mut secret = Value::Null;
    loop {
        let (mut socket, welcome) = connect(address, is_v1).await?;
        tally.connections.fetch_add(1, Ordering::Relaxed);
        let mut enter = json!({"event": "enter", "message": format!("n{}", dice.roll(1000)), "roomId": room});
        if !secret.is_null() {
            enter["resume"] = secret.clone();
            tally.returns.fetch_add(1, Ordering::Relaxed);
        }
        socket.send(Message::text(enter.to_string())).await?;
        for _ in 0..dice.roll(8) {
            let say = json!({"event": "message", "message": "x".repeat(dice.roll(400) as usize)});
            socket.send(Message::text(say.to_string())).await?;
            listen(&mut socket, Duration::from_millis(dice.roll(300)), tally).await?;
        }
        let comes_back = is_v1 && dice.roll(2) == 0 && Instant::now() < until;
        if !comes_back {
            return go(socket, WAYS[dice.roll(WAYS.len() as u64) as usize], tally).await;
        }
        secret = welcome["resume"].clone();
        drop(socket);
        sleep(Duration::from_millis(dice.roll(500))).await;
    }
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

/// Hears what comes, and answers heartbeats.
async fn listen(socket: &mut Socket, time: Duration, tally: &Tally) -> Result<(), Error> {
    let until = Instant::now() + time;
    while let Ok(Some(message)) =
        timeout(until.saturating_duration_since(Instant::now()), socket.next()).await
    {
        tally.heard.fetch_add(1, Ordering::Relaxed);
        if message?.to_text().is_ok_and(|text| text.starts_with(r#"{"event":"heartbeat""#)) {
            socket.send(Message::text(r#"{"event":"heartbeat","message":"pong"}"#)).await?;
        }
    }
    Ok(())
}

async fn go(mut socket: Socket, way: Way, tally: &Tally) -> Result<(), Error> {
    match way {
        Way::Closes => {
            socket.close(None).await?;
            while let Some(Ok(_)) = socket.next().await {}
        }
        Way::Vanishes => {}
        Way::FallsSilent => {
            // It hears the end: nobody waits for it beyond two heartbeats.
            while let Some(Ok(_)) = socket.next().await {
                tally.heard.fetch_add(1, Ordering::Relaxed);
            }
        }
        Way::StopsReading => {
            for _ in 0..3 {
                sleep(Duration::from_millis(500)).await;
                let pong = Message::text(r#"{"event":"heartbeat","message":"pong"}"#);
                if socket.send(pong).await.is_err() {
                    break;
                }
            }
        }
        Way::Misbehaves => {
            use tokio::io::AsyncWriteExt;
            socket.get_mut().write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
            while let Some(Ok(_)) = socket.next().await {}
        }
    }
    Ok(())
}

/// Numbers without a pattern (xorshift).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 up to, not including, `n`.
    fn roll(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

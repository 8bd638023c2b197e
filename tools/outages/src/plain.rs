//! A client of the plain protocol: it stays in one room, and connects again when its connection is lost.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flaps::{Network, Random};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::Failure;
use crate::stay::{Frame, Kind};

/// After this silence, the connection is lost. Longer than the server's heartbeat.
const SILENCE: Duration = Duration::from_secs(10);

const LONGEST_PAUSE: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(crate) struct Received {
    /// The frames of each connection since the last check.
    pub(crate) runs: Vec<Vec<Frame>>,
    pub(crate) is_inside: bool,
    pub(crate) connections: usize,
    pub(crate) faults: Vec<String>,
}

pub(crate) struct PlainClient {
    pub(crate) name: String,
    pub(crate) room: usize,
    pub(crate) network: Network,
    received: Arc<Mutex<Received>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl PlainClient {
    pub(crate) fn start(n: u64, room: usize, server: SocketAddr, seed: u64) -> PlainClient {
        let (network, received) = (Network::new(server), Arc::default());
        let (name, stop) = (format!("p{n}"), watch::Sender::new(false));
        let connection = Connection {
            name: name.clone(),
            room: room.to_string(),
            network: network.clone(),
            received: Arc::clone(&received),
            random: Random::new(seed),
            sent: 0,
        };
        let task = tokio::spawn(connection.repeat(stop.subscribe()));
        PlainClient { name, room, network, received, stop, task }
    }

    pub(crate) fn received(&self) -> MutexGuard<'_, Received> {
        lock(&self.received)
    }

    /// Closes the connection.
    pub(crate) async fn end(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

struct Connection {
    name: String,
    room: String,
    network: Network,
    received: Arc<Mutex<Received>>,
    random: Random,
    sent: u64,
}

impl Connection {
    async fn repeat(mut self, stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let _ = self.connect(stop.clone()).await;
            lock(&self.received).is_inside = false;
            sleep(self.random.time(LONGEST_PAUSE)).await;
        }
    }

    /// Stays until the connection is lost.
    async fn connect(&mut self, mut stop: watch::Receiver<bool>) -> Result<(), Failure> {
        let io = timeout(SILENCE, self.network.clone().dial()).await??;
        let (mut socket, _) = timeout(SILENCE, client_async("ws://outages/chat", io)).await??;
        // The server asks for it, because it has an auth hook.
        for frame in [
            json!({"event": "auth", "message": self.name}),
            json!({"event": "enter", "message": self.name, "roomId": self.room}),
        ] {
            socket.send(Message::text(frame.to_string())).await?;
        }
        lock(&self.received).runs.push(Vec::new());
        let mut next = Instant::now() + self.random.time(LONGEST_PAUSE);
        loop {
            tokio::select! {
                message = timeout(SILENCE, socket.next()) => {
                    let message = message?.ok_or("the connection is closed")??;
                    let Message::Text(text) = message else { continue };
                    let frame: Value = serde_json::from_str(&text)?;
                    if frame["event"] == "heartbeat" {
                        let pong = json!({"event": "heartbeat", "message": "pong"});
                        socket.send(Message::text(pong.to_string())).await?;
                    } else {
                        self.receive(&frame);
                    }
                }
                () = sleep_until(next) => {
                    next = Instant::now() + self.random.time(LONGEST_PAUSE);
                    if lock(&self.received).is_inside {
                        self.sent += 1;
                        let text = format!("{} {}", self.name, self.sent);
                        let frame = json!({"event": "message", "message": text, "roomId": self.room});
                        socket.send(Message::text(frame.to_string())).await?;
                    }
                }
                () = async { let _ = stop.wait_for(|stop| *stop).await; } => {
                    socket.close(None).await?;
                    return Ok(());
                }
            }
        }
    }

    fn receive(&self, frame: &Value) {
        let kind = match frame["event"].as_str() {
            Some("enter") => Kind::Enter,
            Some("out") => Kind::Out,
            Some("message") => Kind::Message,
            // Errors, while Redis is away.
            _ => return,
        };
        let text = |key: &str| frame[key].as_str().unwrap_or_default().to_owned();
        let num = frame["num"].as_u64().unwrap_or_default();
        let frame = Frame { kind, member: None, name: text("name"), text: text("message"), num };
        let mut received = lock(&self.received);
        if kind == Kind::Enter && frame.name == self.name && !received.is_inside {
            received.is_inside = true;
            received.connections += 1;
        } else if !received.is_inside {
            received.faults.push(format!("{} has received this before it has entered: {frame:?}", self.name));
        }
        let run = received.runs.last().and_then(|run| run.last());
        if let Some(before) = run
            && Some(num) != num_after(before.num, kind)
        {
            let fault = format!("{} has received {frame:?} after {before:?}", self.name);
            received.faults.push(fault);
        }
        if let Some(run) = received.runs.last_mut() {
            run.push(frame);
        }
    }
}

/// The number of members after this event.
pub(crate) fn num_after(before: u64, kind: Kind) -> Option<u64> {
    match kind {
        Kind::Enter => Some(before + 1),
        Kind::Out => before.checked_sub(1),
        Kind::Message => Some(before),
    }
}

fn lock(received: &Mutex<Received>) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

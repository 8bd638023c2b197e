//! One connection: a member of a room, who may be told to speak.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::options::Scenario;
use crate::stamp::Stamp;
use crate::world::World;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may say nothing at all when it is told goodbye.
const SILENCE: Duration = Duration::from_secs(3);
const PONG: &str = r#"{"event":"heartbeat","message":"pong"}"#;

/// Each order is the moment at which the member was due to say something, or in a join storm
/// to enter. When no more can come, the member leaves.
pub(crate) type Orders = UnboundedReceiver<u64>;

struct Client {
    world: Arc<World>,
    /// The number among all; the room follows from it.
    index: usize,
    orders: Orders,
    socket: WebSocketStream<TcpStream>,
    entered: bool,
    said: u64,
    /// The number expected next from each of the room's senders.
    heard: Vec<u64>,
}

/// Connects, enters, and does as ordered. What goes wrong is counted in the tally.
pub(crate) async fn run(world: Arc<World>, index: usize, orders: Orders) {
    let tally = &world.tally;
    let mut client = match connect(&world).await {
        Ok(socket) => {
            Client { world: world.clone(), index, orders, socket, entered: false, said: 0, heard: vec![] }
        }
        Err(why) => {
            tally.complain(&why);
            return tally.failed.add(1);
        }
    };
    if let Err(why) = client.talk().await {
        tally.complain(&why);
        if client.entered { &tally.closed } else { &tally.failed }.add(1);
    }
}

async fn connect(world: &World) -> Result<WebSocketStream<TcpStream>, String> {
    let _turn = world.connecting.acquire().await.map_err(|e| e.to_string())?;
    let begun = world.now();
    // The default is 128 KiB for reading and no bound on what waits to be written.
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(0)
        .max_write_buffer_size(64 << 20);
    let connecting = async {
        let stream = TcpStream::connect(&world.target.addresses[..]).await.map_err(explain)?;
        stream.set_nodelay(true).map_err(explain)?;
        let handshake = client_async_with_config(world.target.uri.clone(), stream, Some(config));
        handshake.await.map_err(|e| format!("handshake failed: {e}"))
    };
    let (socket, _) = timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| "no answer; a server that is out of open files looks like this")??;
    world.tally.connect.record(world.now() - begun);
    world.tally.connected.add(1);
    Ok(socket)
}

/// Two errors of the system that a load generator runs into, with what helps.
fn explain(error: io::Error) -> String {
    let advice = match (cfg!(unix), error.raw_os_error()) {
        (true, Some(23 | 24)) => "; allow more, for example with `ulimit -n 100000`",
        _ if error.kind() == io::ErrorKind::AddrNotAvailable => "; no local port is left: fewer connections",
        _ => "",
    };
    format!("can't connect: {error}{advice}")
}

impl Client {
    /// Until there are no more orders, or the connection ends for another reason.
    async fn talk(&mut self) -> Result<(), String> {
        if self.world.options.scenario != Scenario::Enter {
            self.enter(self.world.now()).await?;
        }
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(due) if self.world.options.scenario == Scenario::Enter => self.enter(due).await?,
                    Some(due) => self.say(due).await?,
                    None => break,
                },
                frame = self.socket.next() => match frame {
                    Some(Ok(Message::Text(text))) => self.hear(&text).await?,
                    Some(Ok(Message::Close(frame))) => return Err(closed(frame)),
                    Some(Ok(_)) => {} // Pings are answered by the library.
                    Some(Err(error)) => return Err(broken(error)),
                    None => return Err("connection ended".into()),
                },
            }
        }
        self.leave().await
    }

    async fn hear(&mut self, text: &str) -> Result<(), String> {
        if let Some(stamp) = Stamp::find(text) {
            return self.on_stamp(stamp).await;
        }
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        match frame["event"].as_str() {
            Some("heartbeat") => {
                self.world.tally.heartbeats.add(1);
                self.send(PONG).await?;
            }
            Some("error" | "noAuth") => {
                if !self.entered {
                    return Err(format!("not let in: {text}"));
                }
                self.world.tally.errors.add(1);
                self.world.tally.complain(text);
            }
            _ => {}
        }
        Ok(())
    }

    async fn on_stamp(&mut self, stamp: Stamp) -> Result<(), String> {
        let own = stamp.sender == self.index;
        match stamp.number {
            None if own && !self.entered => {
                self.entered = true;
                self.world.enter(self.room());
            }
            None => {}
            Some(number) => self.check_order(stamp.sender, number),
        }
        self.world.deliver(stamp.due);
        if own && stamp.number.is_some() && self.world.options.scenario == Scenario::Flood {
            let now = self.world.now();
            if self.world.goes_on(now) {
                self.world.owe(self.room(), now);
                return self.say(now).await;
            }
        }
        Ok(())
    }

    fn check_order(&mut self, sender: usize, number: u64) {
        let seat = sender % self.world.options.members();
        if self.heard.len() <= seat {
            self.heard.resize(seat + 1, 0);
        }
        // A gap is a loss, which is counted otherwise.
        if number < self.heard[seat] {
            self.world.tally.disordered.add(1);
        }
        self.heard[seat] = number + 1;
    }

    async fn enter(&mut self, due: u64) -> Result<(), String> {
        let stamp = Stamp { sender: self.index, number: None, due };
        let room = self.world.room_name(self.room());
        self.note_lateness(due);
        let text = format!(
            r#"{{"event":"enter","message":"member {}","roomId":"{room}","stamp":"{stamp}"}}"#,
            self.index
        );
        self.send(text).await
    }

    async fn say(&mut self, due: u64) -> Result<(), String> {
        let stamp = Stamp { sender: self.index, number: Some(self.said), due }.to_string();
        self.said += 1;
        self.note_lateness(due);
        let text = format!(r#"{{"event":"message","message":"{stamp:x<0$}"}}"#, self.world.options.size);
        self.send(text).await
    }

    fn note_lateness(&self, due: u64) {
        if self.world.is_measured(due) {
            self.world.tally.late.record(self.world.now().saturating_sub(due));
        }
    }

    async fn send(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), String> {
        self.socket.send(Message::text(text)).await.map_err(broken)
    }

    /// Says goodbye. A server that doesn't answer was gone, however quiet its connection was.
    async fn leave(&mut self) -> Result<(), String> {
        let goodbye = self.socket.close(None);
        let mut answer = timeout(SILENCE, goodbye).await.map(|sent| sent.is_ok());
        while let Ok(true) = answer {
            answer = timeout(SILENCE, self.socket.next()).await.map(|frame| matches!(frame, Some(Ok(_))));
        }
        answer.map(drop).map_err(|_| "no answer to the goodbye".into())
    }

    fn room(&self) -> usize {
        self.index / self.world.options.members()
    }
}

fn closed(frame: Option<CloseFrame>) -> String {
    match frame {
        Some(frame) => format!("closed by the server: {} {}", frame.code, frame.reason),
        None => "closed by the server".into(),
    }
}

fn broken(error: Error) -> String {
    format!("connection broke: {error}")
}

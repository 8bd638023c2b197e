//! One connection: a member of a room that sends on command.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Error, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::options::Scenario;
use crate::shared::Shared;
use crate::stamp::Stamp;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may be silent in the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
const PONG: &str = r#"{"event":"heartbeat","message":"pong"}"#;

/// Each command is the time at which a message of the member is due or, in the scenario `enter`, its
/// enter. When the channel closes, the member leaves.
pub(crate) type Commands = UnboundedReceiver<u64>;

struct Client {
    shared: Arc<Shared>,
    /// Its number among all connections, which determines its room.
    index: usize,
    commands: Commands,
    socket: WebSocketStream<TcpStream>,
    entered: bool,
    published: u64,
    /// The next expected number of each sender of the room.
    next_numbers: Vec<u64>,
}

/// Connects, enters, and follows the commands. Counts what goes wrong.
pub(crate) async fn run(shared: Arc<Shared>, index: usize, commands: Commands) {
    let counters = &shared.counters;
    let mut client = match connect(&shared, index).await {
        Ok(socket) => Client {
            shared: shared.clone(),
            index,
            commands,
            socket,
            entered: false,
            published: 0,
            next_numbers: vec![],
        },
        Err(why) => {
            counters.add_problem(&why);
            return counters.failed.add(1);
        }
    };
    if let Err(why) = client.run().await {
        counters.add_problem(&why);
        if client.entered { &counters.closed } else { &counters.failed }.add(1);
    }
}

async fn connect(shared: &Shared, index: usize) -> Result<WebSocketStream<TcpStream>, String> {
    let _permit = shared.connecting.acquire().await.map_err(|e| e.to_string())?;
    let begun = shared.now();
    // By default the read buffer is 128 KiB and the write buffer unlimited.
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(0)
        .max_write_buffer_size(64 << 20);
    let target = shared.target(index);
    let connecting = async {
        let stream = TcpStream::connect(&target.addresses[..]).await.map_err(explain)?;
        stream.set_nodelay(true).map_err(explain)?;
        let mut request = ClientRequestBuilder::new(target.uri.clone());
        if shared.options.v1 {
            request = request.with_sub_protocol("chat-rooms.v1");
        }
        let handshake = client_async_with_config(request, stream, Some(config));
        handshake.await.map_err(|e| format!("handshake failed: {e}"))
    };
    let (socket, _) = timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| "no answer; perhaps the server is out of open files")??;
    shared.counters.connect.record(shared.now() - begun);
    shared.counters.connected.add(1);
    Ok(socket)
}

/// Adds advice to the system errors that a load generator runs into.
fn explain(error: io::Error) -> String {
    let advice = match (cfg!(unix), error.raw_os_error()) {
        (true, Some(23 | 24)) => "; raise the limit, for example with `ulimit -n 100000`",
        _ if error.kind() == io::ErrorKind::AddrNotAvailable => {
            "; no local port is left, use fewer connections"
        }
        _ => "",
    };
    format!("can't connect: {error}{advice}")
}

impl Client {
    /// Runs until there are no more commands or the connection ends.
    async fn run(&mut self) -> Result<(), String> {
        if self.shared.options.scenario != Scenario::Enter {
            self.enter(self.shared.now()).await?;
        }
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(due) if self.shared.options.scenario == Scenario::Enter => self.enter(due).await?,
                    Some(due) => self.publish(due).await?,
                    None => break,
                },
                frame = self.socket.next(), if self.reads() => match frame {
                    Some(Ok(Message::Text(text))) => self.on_text(&text).await?,
                    Some(Ok(Message::Close(frame))) => return Err(closed(frame)),
                    Some(Ok(_)) => {} // tungstenite answers pings.
                    Some(Err(error)) => return Err(broken(error)),
                    None => return Err("connection ended".into()),
                },
            }
        }
        self.leave().await
    }

    async fn on_text(&mut self, text: &str) -> Result<(), String> {
        if let Some(stamp) = Stamp::find(text) {
            return self.on_stamp(stamp).await;
        }
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        match frame["event"].as_str() {
            Some("ack") => self.shared.counters.acknowledged.add(1),
            Some("heartbeat") => {
                self.shared.counters.heartbeats.add(1);
                self.send(PONG).await?;
            }
            Some("error" | "noAuth") => {
                if !self.entered {
                    return Err(format!("refused: {text}"));
                }
                self.shared.counters.errors.add(1);
                self.shared.counters.add_problem(text);
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
                self.shared.enter(self.index);
            }
            None => {}
            Some(number) => self.check_order(stamp.sender, number),
        }
        if self.reads() {
            self.shared.record_delivery(stamp.due);
        }
        if own && stamp.number.is_some() && self.shared.options.scenario == Scenario::Flood {
            let now = self.shared.now();
            if self.shared.is_before_end(now) {
                self.shared.expect_deliveries(self.room(), now);
                return self.publish(now).await;
            }
        }
        Ok(())
    }

    fn reads(&self) -> bool {
        !self.shared.has_begun() || self.shared.options.reads(self.index)
    }

    fn check_order(&mut self, sender: usize, number: u64) {
        let member = sender % self.shared.options.members();
        if self.next_numbers.len() <= member {
            self.next_numbers.resize(member + 1, 0);
        }
        // A gap is not out of order; the missing deliveries count as lost.
        if number < self.next_numbers[member] {
            self.shared.counters.out_of_order.add(1);
        }
        self.next_numbers[member] = number + 1;
    }

    async fn enter(&mut self, due: u64) -> Result<(), String> {
        let stamp = Stamp { sender: self.index, number: None, due };
        let room = self.shared.room_name(self.room());
        self.note_lateness(due);
        let text = format!(
            r#"{{"event":"enter","message":"member {}","roomId":"{room}","stamp":"{stamp}"}}"#,
            self.index
        );
        self.send(text).await
    }

    async fn publish(&mut self, due: u64) -> Result<(), String> {
        let stamp = Stamp { sender: self.index, number: Some(self.published), due }.to_string();
        self.published += 1;
        self.note_lateness(due);
        let id = if self.shared.options.v1 {
            self.shared.counters.to_acknowledge.add(1);
            // 24 digits, as in the ids of this project's clients. Here, others may guess them.
            format!(r#","cid":"{:024x}""#, self.published)
        } else {
            String::new()
        };
        let text = format!(r#"{{"event":"message","message":"{stamp:x<0$}"{id}}}"#, self.shared.options.size);
        self.send(text).await
    }

    fn note_lateness(&self, due: u64) {
        if self.shared.is_measured(due) {
            self.shared.counters.late.record(self.shared.now().saturating_sub(due));
        }
    }

    async fn send(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), String> {
        self.socket.send(Message::text(text)).await.map_err(broken)
    }

    /// Closes the connection. If the server does not answer, it was gone.
    async fn leave(&mut self) -> Result<(), String> {
        let close = self.socket.close(None);
        let mut answer = timeout(CLOSE_TIMEOUT, close).await.map(|sent| sent.is_ok());
        while let Ok(true) = answer {
            answer =
                timeout(CLOSE_TIMEOUT, self.socket.next()).await.map(|frame| matches!(frame, Some(Ok(_))));
        }
        answer.map(drop).map_err(|_| "no answer to the close frame".into())
    }

    fn room(&self) -> usize {
        self.index / self.shared.options.members()
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

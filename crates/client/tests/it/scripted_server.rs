//! A `chat-rooms.v1` server that does what a test tells it, over duplex I/O.

use std::future::{Ready, ready};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};
use tower_chat_rooms_client::{Chat, Client, ClientBuilder, ManyRooms};

/// Longer than any test in paused time has to wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// The interval of the server's heartbeat, as [`welcome`] gives it.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);

/// Accepts a client's connections.
pub(crate) struct ScriptedServer(UnboundedReceiver<DuplexStream>);

/// One connection, on which heartbeats are sent and their answers ignored.
pub(crate) struct Connection {
    commands: UnboundedSender<Command>,
    received: UnboundedReceiver<Received>,
}

enum Command {
    Send(Message),
    Close(u16, String),
    Break,
}

/// What the client does; answers to heartbeats are left out.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    Frame(Value),
    /// With 1006 if there was no close frame.
    Closed(u16),
}

/// Returns a client's builder and the server that its connections reach.
pub(crate) fn scripted_server() -> (ClientBuilder, ScriptedServer) {
    let (dial, server) = dialed_server();
    let builder = Client::over("ws://test/chat", dial).name("ann").room("r");
    (builder.backoff(FIRST_BACKOFF, LONGEST_BACKOFF), server)
}

/// Returns a chat's builder and the server that its connections reach.
pub(crate) fn scripted_server_of_chat() -> (ClientBuilder<ManyRooms>, ScriptedServer) {
    let (dial, server) = dialed_server();
    (Chat::over("ws://test/chat", dial).backoff(FIRST_BACKOFF, LONGEST_BACKOFF), server)
}

const FIRST_BACKOFF: Duration = Duration::from_millis(10);
const LONGEST_BACKOFF: Duration = Duration::from_millis(100);

fn dialed_server() -> (impl Fn() -> Ready<io::Result<DuplexStream>> + Send + Sync + 'static, ScriptedServer) {
    let (tx, rx) = unbounded_channel();
    let dial = move || {
        let (theirs, ours) = tokio::io::duplex(64 * 1024);
        let sent = tx.send(theirs);
        ready(sent.map(|()| ours).map_err(|_| io::Error::other("the test is over")))
    };
    (dial, ScriptedServer(rx))
}

/// A client in its room, with its connection.
pub(crate) async fn online() -> (Client, Connection, ScriptedServer) {
    let (builder, mut server) = scripted_server();
    let (client, connection) = tokio::join!(builder.open(), server.let_enter(0));
    (client.unwrap(), connection, server)
}

pub(crate) fn welcome() -> Value {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
    let token = format!("s{}", CONNECTIONS.fetch_add(1, Ordering::Relaxed));
    json!({"event": "welcome", "connection": "1", "resume": token, "heartbeat": {"interval": 1000, "timeout": 1000},
           "limits": {"messageBytes": 65536, "cidBytes": 64, "cids": 128, "rooms": 64},
           "rates": {"messages": 100, "bytes": 262_144, "burst": 2}, "history": true, "resumeWindow": 10000})
}

pub(crate) fn entered(seq: u64) -> Value {
    json!({"event": "entered", "roomId": "r", "name": "ann", "member": "1", "epoch": "E", "seq": seq,
           "num": 1, "resumed": seq > 0, "recovered": seq > 0, "replayed": 0})
}

pub(crate) fn message(seq: u64) -> Value {
    json!({"event": "message", "message": seq, "roomId": "r", "name": "bob", "num": 2, "member": "2", "seq": seq})
}

/// The answer to a resume.
pub(crate) fn resumed(rooms: &[&str]) -> Value {
    let rooms: Vec<Value> = rooms.iter().map(|room| json!({"roomId": room, "name": "ann"})).collect();
    json!({"event": "resumed", "member": "1", "rooms": rooms})
}

/// Chooses `chat-rooms.v1`, which must have been offered.
#[allow(clippy::result_large_err, reason = "tungstenite's callback")]
pub(crate) fn choose_v1(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = &request.headers()["sec-websocket-protocol"];
    assert_eq!(offered, "chat-rooms.v1");
    response.headers_mut().insert("sec-websocket-protocol", offered.clone());
    Ok(response)
}

impl ScriptedServer {
    /// The next connection, before its handshake.
    pub(crate) async fn accept_raw(&mut self) -> DuplexStream {
        timeout(PATIENCE, self.0.recv()).await.expect("no connection").unwrap()
    }

    /// The next connection after its handshake, with heartbeats at this interval.
    pub(crate) async fn accept(&mut self, heartbeat: Duration) -> Connection {
        let ws = loop {
            // Fails if the client has given up an attempt that took too long.
            if let Ok(ws) = accept_hdr_async(self.accept_raw().await, choose_v1).await {
                break ws;
            }
        };
        let (commands, to_do) = unbounded_channel();
        let (receives, received) = unbounded_channel();
        tokio::spawn(serve(ws, heartbeat, to_do, receives));
        Connection { commands, received }
    }

    /// Accepts the next connection and lets the client enter at this position.
    pub(crate) async fn let_enter(&mut self, seq: u64) -> Connection {
        let mut connection = self.accept(HEARTBEAT).await;
        connection.send(welcome());
        let mut frame = connection.frame().await;
        if frame["event"] == "resume" {
            connection.send(resumed(&["r"]));
            frame = connection.frame().await;
        }
        assert_eq!(frame["event"], "enter");
        connection.send(entered(seq));
        connection
    }
}

impl Connection {
    pub(crate) fn send(&self, frame: Value) {
        self.send_raw(Message::text(frame.to_string()));
    }

    pub(crate) fn send_raw(&self, message: Message) {
        self.command(Command::Send(message));
    }

    pub(crate) fn close(&self, code: u16, reason: &str) {
        self.command(Command::Close(code, reason.into()));
    }

    /// Ends the connection without a close frame.
    pub(crate) fn break_off(&self) {
        self.command(Command::Break);
    }

    fn command(&self, command: Command) {
        self.commands.send(command).unwrap_or_else(|_| panic!("the connection is closed"));
    }

    pub(crate) async fn receive(&mut self) -> Received {
        timeout(PATIENCE, self.received.recv()).await.expect("the client did nothing").unwrap()
    }

    pub(crate) async fn frame(&mut self) -> Value {
        match self.receive().await {
            Received::Frame(frame) => frame,
            closed => panic!("{closed:?} instead of a frame"),
        }
    }
}

async fn serve(
    mut ws: WebSocketStream<DuplexStream>,
    heartbeat: Duration,
    mut commands: UnboundedReceiver<Command>,
    receives: UnboundedSender<Received>,
) {
    let ping = r#"{"event":"heartbeat","message":"ping"}"#;
    let mut heartbeats = interval(heartbeat);
    // The test may have stopped to wait for frames, so failures to pass them on are ignored.
    let closed = loop {
        let sent = tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Send(message)) => ws.send(message).await,
                Some(Command::Close(code, reason)) => {
                    ws.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await
                }
                Some(Command::Break) | None => return,
            },
            message = ws.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    if frame["event"] != "heartbeat" {
                        let _ = receives.send(Received::Frame(frame));
                    }
                    Ok(())
                }
                Some(Ok(Message::Close(frame))) => break frame.map_or(1005, |frame| frame.code.into()),
                Some(Ok(_)) => Ok(()),
                Some(Err(_)) | None => break 1006,
            },
            _ = heartbeats.tick() => ws.send(Message::text(ping)).await,
        };
        // After its own close frame it reads on until the client's.
        let _ = sent;
    };
    let _ = receives.send(Received::Closed(closed));
    while let Some(Ok(_)) = ws.next().await {}
}

//! A server of `chat-rooms.v1` that does as a test tells it, over duplex I/O.

use std::io;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};
use tower_chat_rooms_client::{Client, ClientBuilder};

/// Longer than any test in paused time has to wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// Where a client's connections arrive.
pub(crate) struct Lines(UnboundedReceiver<DuplexStream>);

/// One connection, whose heartbeats go on by themselves.
pub(crate) struct Line {
    orders: UnboundedSender<Order>,
    heard: UnboundedReceiver<Heard>,
}

enum Order {
    Say(Value),
    Close(u16, String),
    Cut,
}

/// What the client does; its answers to heartbeats are left out.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    Frame(Value),
    /// With 1006 where there was no close frame.
    Closed(u16),
}

/// A client to be, and where its connections will arrive.
pub(crate) fn lines() -> (ClientBuilder, Lines) {
    let (tx, rx) = unbounded_channel();
    let dial = move || {
        let (theirs, ours) = tokio::io::duplex(64 * 1024);
        let sent = tx.send(theirs);
        async move { sent.map(|()| ours).map_err(|_| io::Error::other("the test is over")) }
    };
    let builder = Client::over("ws://test/chat", dial)
        .backoff(Duration::from_millis(10), Duration::from_millis(100))
        .name("ann")
        .room("r");
    (builder, Lines(rx))
}

/// Chooses `chat-rooms.v1`, which must have been offered.
#[allow(clippy::result_large_err, reason = "tungstenite wants it so")]
pub(crate) fn choose(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = &request.headers()["sec-websocket-protocol"];
    assert_eq!(offered, "chat-rooms.v1");
    response.headers_mut().insert("sec-websocket-protocol", offered.clone());
    Ok(response)
}

impl Lines {
    /// The next connection, its bytes untouched.
    pub(crate) async fn raw(&mut self) -> DuplexStream {
        timeout(PATIENCE, self.0.recv()).await.expect("nobody connected").unwrap()
    }

    /// The next connection, its handshake done, with heartbeats every `beat`.
    pub(crate) async fn accept(&mut self, beat: Duration) -> Line {
        let ws = loop {
            // The client gives up an attempt that takes too long.
            if let Ok(ws) = accept_hdr_async(self.raw().await, choose).await {
                break ws;
            }
        };
        let (orders, to_do) = unbounded_channel();
        let (hears, heard) = unbounded_channel();
        tokio::spawn(serve(ws, beat, to_do, hears));
        Line { orders, heard }
    }
}

impl Line {
    pub(crate) fn say(&self, frame: Value) {
        self.orders.send(Order::Say(frame)).unwrap_or_else(|_| panic!("the connection is closed"));
    }

    pub(crate) fn close(&self, code: u16, reason: &str) {
        self.orders.send(Order::Close(code, reason.into())).unwrap_or_else(|_| panic!("closed already"));
    }

    pub(crate) fn cut(&self) {
        self.orders.send(Order::Cut).unwrap_or_else(|_| panic!("the connection is closed"));
    }

    pub(crate) async fn hear(&mut self) -> Heard {
        timeout(PATIENCE, self.heard.recv()).await.expect("the client did nothing").unwrap()
    }

    pub(crate) async fn frame(&mut self) -> Value {
        match self.hear().await {
            Heard::Frame(frame) => frame,
            closed => panic!("{closed:?} instead of a frame"),
        }
    }
}

async fn serve(
    mut ws: WebSocketStream<DuplexStream>,
    beat: Duration,
    mut orders: UnboundedReceiver<Order>,
    hears: UnboundedSender<Heard>,
) {
    let ping = r#"{"event":"heartbeat","message":"ping","num":1}"#;
    let mut beats = interval(beat);
    // What the test doesn't wait for any more needn't be heard or said.
    let closed = loop {
        let sent = tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Say(frame)) => ws.send(Message::text(frame.to_string())).await,
                Some(Order::Close(code, reason)) => {
                    ws.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await
                }
                Some(Order::Cut) | None => return,
            },
            message = ws.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    if frame["event"] != "heartbeat" {
                        let _ = hears.send(Heard::Frame(frame));
                    }
                    Ok(())
                }
                Some(Ok(Message::Close(frame))) => break frame.map_or(1005, |frame| frame.code.into()),
                Some(Ok(_)) => Ok(()),
                Some(Err(_)) | None => break 1006,
            },
            _ = beats.tick() => ws.send(Message::text(ping)).await,
        };
        // After a close of its own it goes on until the client has closed, too.
        let _ = sent;
    };
    let _ = hears.send(Heard::Closed(closed));
    while let Some(Ok(_)) = ws.next().await {}
}

//! One connection of a client: tasks that read and write, so that heartbeats are answered while the test does something
//! else.

use std::pin::pin;

use futures_util::future::{Either, select};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

type Socket = WebSocketStream<DuplexStream>;

const PONG: &str = r#"{"event":"heartbeat","message":"pong"}"#;

/// What a client receives.
#[derive(Debug)]
pub(super) enum Received {
    Frame(Value),
    /// The code of the close frame, or 1006 without one.
    Closed(u16),
}

/// Dropping it cuts the connection.
#[derive(Debug)]
pub(super) struct Connection {
    send: mpsc::UnboundedSender<Message>,
    received: mpsc::UnboundedReceiver<Received>,
    is_stalled: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
    /// The close code, once the client has seen the end.
    closed: Option<u16>,
}

impl Connection {
    pub(super) fn new(socket: Socket) -> Connection {
        let (sink, stream) = socket.split();
        let (send, to_send) = mpsc::unbounded_channel();
        let (receive, received) = mpsc::unbounded_channel();
        let (is_stalled, has_stalled) = watch::channel(false);
        let tasks = [
            tokio::spawn(write(sink, to_send)),
            tokio::spawn(read(stream, receive, send.clone(), has_stalled)),
        ];
        Connection { send, received, is_stalled, tasks, closed: None }
    }

    pub(super) fn send(&self, message: Message) {
        // If the connection has ended, the client finds that when it reads.
        let _ = self.send.send(message);
    }

    /// What arrives next: after the end, again and again the end.
    pub(super) async fn next(&mut self) -> Received {
        if self.closed.is_none() {
            match self.received.recv().await {
                Some(Received::Closed(code)) => self.closed = Some(code),
                Some(frame) => return frame,
                None => {}
            }
        }
        Received::Closed(self.closed.unwrap_or(1006))
    }

    /// A frame that has arrived.
    pub(super) fn try_next_frame(&mut self) -> Option<Value> {
        match self.received.try_recv().ok()? {
            Received::Frame(frame) => Some(frame),
            Received::Closed(code) => {
                self.closed = Some(code);
                None
            }
        }
    }

    /// While it is stalled, the client reads nothing and answers no heartbeat.
    pub(super) fn set_stalled(&self, is_stalled: bool) {
        self.is_stalled.send_replace(is_stalled);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn write(mut sink: SplitSink<Socket, Message>, mut messages: mpsc::UnboundedReceiver<Message>) {
    while let Some(message) = messages.recv().await {
        if sink.send(message).await.is_err() {
            return;
        }
    }
}

async fn read(
    mut stream: SplitStream<Socket>,
    received: mpsc::UnboundedSender<Received>,
    answers: mpsc::UnboundedSender<Message>,
    mut is_stalled: watch::Receiver<bool>,
) {
    let mut code = 1006;
    loop {
        if is_stalled.wait_for(|is_stalled| !is_stalled).await.is_err() {
            return;
        }
        let message = match select(stream.next(), pin!(is_stalled.changed())).await {
            Either::Left((message, _)) => message,
            Either::Right(_) => continue,
        };
        match message {
            Some(Ok(Message::Text(text))) => {
                let frame: Value = serde_json::from_str(&text).expect("the server sends JSON");
                match frame["event"] == "heartbeat" {
                    true if frame["message"] == "ping" => drop(answers.send(Message::text(PONG))),
                    true => {}
                    false => drop(received.send(Received::Frame(frame))),
                }
            }
            Some(Ok(Message::Close(frame))) => code = frame.map_or(1005, |frame| frame.code.into()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return drop(received.send(Received::Closed(code))),
        }
    }
}

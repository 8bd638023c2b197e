//! A connection whose server side runs only when the test lets it.

use std::pin::Pin;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio::task::unconstrained;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tower_chat_rooms::ChatRooms;

use super::broker::{broker_traffic, wait_for_broker};
use super::client::PATIENCE;
use super::v1_admission;

/// A `chat-rooms.v1` connection whose server side is polled by [`step`](SteppedConnection::step) alone, so that a
/// test can choose the order of events.
pub(crate) struct SteppedConnection {
    ws: WebSocketStream<DuplexStream>,
    serve: Pin<Box<dyn Future<Output = ()>>>,
    /// From the welcome.
    pub(crate) resume_token: Value,
}

impl SteppedConnection {
    pub(crate) async fn connect(rooms: &ChatRooms) -> SteppedConnection {
        let (server_io, client_io) = tokio::io::duplex(64 * 1024);
        let rooms = rooms.clone();
        let serve = Box::pin(async move { rooms.serve(server_io, v1_admission()).await });
        let ws = WebSocketStream::from_raw_socket(client_io, Role::Client, None).await;
        let mut connection = SteppedConnection { ws, serve, resume_token: Value::Null };
        connection.step().await;
        connection.resume_token = connection.next().await["resume"].clone();
        connection
    }

    /// Polls the server side once.
    pub(crate) async fn step(&mut self) {
        // Otherwise, tokio may not let it go on after a task that has done much.
        let _ = futures_util::poll!(unconstrained(self.serve.as_mut()));
    }

    /// Polls the server side until it has done what the client has sent before. With a broker, this takes several steps.
    pub(crate) async fn run(&mut self) {
        for _ in 0..3 {
            self.step().await;
            run_other_tasks().await;
        }
    }

    /// Sends a frame, and polls the server side once.
    pub(crate) async fn send(&mut self, frame: Value) {
        self.ws.send(Message::text(frame.to_string())).await.unwrap();
        self.step().await;
    }

    /// The next frame that is not a heartbeat.
    pub(crate) async fn next(&mut self) -> Value {
        self.next_or_end().await.expect("the connection has ended")
    }

    /// As [`next`](SteppedConnection::next); `None` if the server closes the connection.
    pub(crate) async fn next_or_end(&mut self) -> Option<Value> {
        loop {
            let next = timeout(PATIENCE, self.ws.next()).await.expect("nothing was received");
            let Some(Ok(Message::Text(text))) = next else { return None };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["event"] != "heartbeat" {
                return Some(frame);
            }
        }
    }
}

/// Lets all other tasks run until they wait for something other than the broker.
pub(crate) async fn run_other_tasks() {
    loop {
        // What the broker has answered by now reaches the tasks in the turns that follow.
        wait_for_broker().await;
        let before = broker_traffic();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        wait_for_broker().await;
        if broker_traffic() == before {
            return;
        }
    }
}

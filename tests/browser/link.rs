//! A connection to a browser: calls, their answers, and events. The DevTools protocol and WebDriver BiDi encode them in
//! the same way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::PATIENCE;

/// A call may contain a wait inside the page, which has a shorter deadline and a more detailed error.
const CALL_WITHIN: Duration = PATIENCE.saturating_mul(3);

pub(crate) type Answer = Result<Value, String>;

/// Unanswered calls, and all events in the order in which they arrived.
pub(crate) struct Link {
    outbox: mpsc::UnboundedSender<String>,
    next_id: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    events: Mutex<Vec<Value>>,
}

impl Link {
    pub(crate) async fn open(endpoint: &str) -> Arc<Link> {
        let connected = tokio_tungstenite::connect_async(endpoint).await;
        let (socket, _) = connected.expect("the browser takes a connection");
        let (outbox, outgoing) = mpsc::unbounded_channel();
        let link = Arc::new(Link {
            outbox,
            next_id: AtomicU64::new(1),
            waiting: Mutex::default(),
            events: Mutex::default(),
        });
        tokio::spawn(carry(socket, outgoing, link.clone()));
        link
    }

    /// What `read` returns for the events so far.
    pub(crate) fn events<T>(&self, read: impl FnMut(&Value) -> Option<T>) -> Vec<T> {
        lock(&self.events).iter().filter_map(read).collect()
    }

    /// Calls a method; the DevTools protocol has a session for each tab.
    pub(crate) async fn call(&self, session: Option<&str>, method: &str, params: Value) -> Answer {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        lock(&self.waiting).insert(id, answer);
        let mut request = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            request["sessionId"] = session.into();
        }
        let _ = self.outbox.send(request.to_string());
        match tokio::time::timeout(CALL_WITHIN, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("the browser is gone".into()),
            Err(_) => Err(format!("no answer within {CALL_WITHIN:?}; is a dialog open?")),
        }
    }

    fn receive(&self, text: &str) {
        let mut message: Value = serde_json::from_str(text).expect("browsers speak JSON");
        let Some(id) = message["id"].as_u64() else {
            lock(&self.events).push(message);
            return;
        };
        let answer = match message.get("error") {
            Some(_) => Err(message.to_string()),
            None => Ok(message["result"].take()),
        };
        if let Some(waiting) = lock(&self.waiting).remove(&id) {
            let _ = waiting.send(answer);
        }
    }
}

/// Carries messages both ways until either side is gone.
async fn carry(
    mut socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    mut outgoing: mpsc::UnboundedReceiver<String>,
    link: Arc<Link>,
) {
    loop {
        tokio::select! {
            Some(text) = outgoing.recv() => {
                if socket.send(Message::text(text)).await.is_err() {
                    break;
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => link.receive(&text),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
        }
    }
    outgoing.close();
    lock(&link.waiting).clear();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

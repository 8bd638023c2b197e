//! What a client sends last is heard, whatever becomes of its connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tower_chat_rooms::{AuthRefusal, Authenticate, ChatRooms};

use crate::client::{Client, Log, Next, assert_empty};
use crate::hyper_server::open;

/// A connection that the client's kernel has reset: writing fails, and what the client sent can be read.
struct Reset {
    received: Bytes,
    /// The kernel's news comes a little later than the failure.
    is_late: bool,
}

impl AsyncRead for Reset {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if std::mem::take(&mut self.is_late) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let n = self.received.len().min(buf.remaining()).min(50);
        buf.put_slice(&self.received.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Reset {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn frames(parts: Vec<Frame>) -> Bytes {
    let mut bytes = Vec::new();
    for mut part in parts {
        part.header_mut().mask = Some([0; 4]);
        part.format(&mut bytes).unwrap();
    }
    bytes.into()
}

fn text(value: serde_json::Value) -> Frame {
    Frame::message(value.to_string(), OpCode::Data(Data::Text), true)
}

/// A failed write ended the connection, although the client had said something and closed it properly.
#[tokio::test(start_paused = true)]
async fn a_reset_loses_nothing_that_came_before() {
    let log = Log::default();
    let rooms = ChatRooms::builder().events(log.hook()).build().unwrap();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let received = frames(vec![
        text(json!({"event": "enter", "message": "ann", "roomId": "r"})),
        text(json!({"event": "message", "message": "good bye"})),
        Frame::close(Some(close)),
    ]);
    let io = Reset { received, is_late: true };
    rooms.serve(io, tower_chat_rooms::Admission::anonymous()).await;
    assert_eq!(bob.next().await["name"], "ann");
    assert_eq!(bob.next().await["message"], "good bye");
    assert_eq!(bob.next().await["event"], "out");
    assert_eq!(
        log.take()[1..],
        ["+ ann r 2", r#"ann r: {"event":"message","message":"good bye"}"#, "- ann r 1 closed by the client"]
    );
    bob.leave().await;
    assert_empty(&rooms);
}

/// A browser hides the HTTP status from the page, which retried for ever without knowing why.
#[tokio::test(start_paused = true)]
async fn a_refused_v1_client_is_told_why() {
    struct Members;
    impl Authenticate for Members {
        async fn on_upgrade(
            &self,
            _: &http::request::Parts,
        ) -> Result<tower_chat_rooms::Admission, AuthRefusal> {
            Err(AuthRefusal::unauthorized("log in first"))
        }
    }
    let rooms = ChatRooms::builder().auth(Members).build().unwrap();
    let mut request = "ws://host/chat".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "chat-rooms.v1".parse().unwrap());
    let (ws, response) = client_async(request, open(&rooms, None)).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat-rooms.v1");
    let mut ann = Client { ws, task: tokio::spawn(async {}), polite: true };
    assert_eq!(ann.next().await, json!({"event": "noAuth", "message": "log in first"}));
    assert_eq!(ann.next_or_end().await, Next::End(4505));
    assert_eq!((rooms.stats().refused_auth, rooms.stats().accepted), (1, 0));
    // Any other client gets the status.
    let refused = client_async("ws://host/chat", open(&rooms, None)).await.unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");
}

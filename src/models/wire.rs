//! What a client of a model reads and writes.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWriteExt, DuplexStream, ReadBuf};

use crate::protocol::frame::{frame_len, payload};

/// The client's end of a connection.
pub(super) struct Wire {
    io: DuplexStream,
    bytes: Vec<u8>,
}

impl Wire {
    pub(super) fn new(io: DuplexStream) -> Wire {
        Wire { io, bytes: Vec::new() }
    }

    /// Sends a short frame.
    pub(super) async fn send(&mut self, frame: &Value) {
        let text = frame.to_string();
        let mut bytes = vec![0x81, 0x80 | 126];
        bytes.extend((text.len() as u16).to_be_bytes());
        // A mask of zeros leaves the payload unchanged.
        bytes.extend([0; 4]);
        bytes.extend(text.as_bytes());
        // Fails if the server has closed the connection.
        let _ = self.io.write_all(&bytes).await;
    }

    /// The next frame that is not a heartbeat; `None` at a close frame or the end of the stream.
    pub(super) async fn next(&mut self) -> Option<Value> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// What has arrived.
    pub(super) fn arrived(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Poll::Ready(Some(frame)) = self.poll_next(&mut Context::from_waker(Waker::noop())) {
            all.push(frame);
        }
        all
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Value>> {
        loop {
            if let Some(frame) = self.take_frame() {
                let is_text = frame[0] == 0x81;
                let value = is_text.then(|| serde_json::from_slice::<Value>(payload(&frame)).unwrap());
                if value.as_ref().is_some_and(|value| value["event"] == "heartbeat") {
                    continue;
                }
                return Poll::Ready(value);
            }
            let mut chunk = [0; 1024];
            let mut buf = ReadBuf::new(&mut chunk);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => self.bytes.extend_from_slice(buf.filled()),
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn take_frame(&mut self) -> Option<Vec<u8>> {
        let is_header = self.bytes.len() >= 2 && (self.bytes[1] < 126 || self.bytes.len() >= 4);
        let len = is_header.then(|| frame_len(&self.bytes)).filter(|len| *len <= self.bytes.len())?;
        Some(self.bytes.drain(..len).collect())
    }
}

//! I/O that takes a few bytes at a time, delays writes, fails, or panics.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_chat_rooms::Admission;

use crate::support::{
    Client, TestIo, assert_empty, builder, close_frame, default_rooms, rooms_with_log, text_frame,
    v1_admission,
};

#[tokio::test(start_paused = true)]
async fn frames_arrive_whole_and_in_order_through_a_few_bytes_at_a_time() {
    let rooms = default_rooms();
    for max in [1, 2, 3, 7, 50] {
        let anonymous = Admission::anonymous();
        let mut slow = Client::connect_through(&rooms, anonymous, |io| TestIo::in_pieces(io, max)).await;
        slow.send(json!({"event": "enter", "message": "slow", "roomId": "r"})).await;
        assert_eq!(slow.next().await["event"], "enter");
        let mut ann = Client::enter(&rooms, "ann", "r").await;
        for n in 0..100 {
            ann.send(json!({"event": "message", "message": n, "pad": "x".repeat(n * 3)})).await;
        }
        slow.send(json!({"event": "message", "message": "own"})).await;
        assert_eq!(slow.next().await["name"], "ann");
        let (mut next, mut own) = (0, 0);
        while next < 100 || own < 1 {
            let frame = slow.next().await;
            match frame["name"].as_str() {
                Some("ann") => {
                    assert_eq!(frame["message"], next);
                    next += 1;
                }
                _ => own += 1,
            }
        }
        ann.close().await;
        assert_eq!(slow.next().await["event"], "out");
        slow.close().await;
        assert_empty(&rooms);
    }
}

/// The first heartbeat used to overtake a welcome that the socket did not take at once.
#[tokio::test(start_paused = true)]
async fn the_welcome_is_first_even_if_its_write_is_delayed() {
    let rooms = builder().build().unwrap();
    let mut delay = true;
    let delayed = move |io| {
        TestIo::new(io, move |cx, bytes| {
            if std::mem::take(&mut delay) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(bytes.len())
        })
    };
    let mut client = Client::connect_through(&rooms, v1_admission(), delayed).await;
    client.answers_heartbeats = false;
    assert_eq!(client.next().await["event"], "welcome");
    assert_eq!(client.next().await["event"], "heartbeat");
}

/// A socket that panicked while it wrote an answer used to leave its member in the room.
#[tokio::test(start_paused = true)]
async fn io_that_panics_leaves_no_member() {
    let enter = |room: &str, name: &str| json!({"event": "enter", "message": name, "roomId": room});
    // The text whose write panics, and what the client sends.
    for (text, frames) in [
        ("\"entered\"", vec![enter("r1", "ann")]),
        ("\"r2\"", vec![enter("r1", "ann"), enter("r2", "ann")]),
        ("\"anna\"", vec![enter("r1", "ann"), enter("r1", "anna")]),
        ("\"last\"", vec![enter("r1", "ann"), json!({"event": "last"}), enter("r1", "anna")]),
        ("\"last\"", vec![enter("r1", "ann"), json!({"event": "last"}), enter("r2", "ann")]),
    ] {
        let rooms = builder().build().unwrap();
        let panicking = |io| {
            TestIo::new(io, move |_, bytes| {
                assert!(!String::from_utf8_lossy(bytes).contains(text), "on purpose");
                Poll::Ready(bytes.len())
            })
        };
        let mut client = Client::connect_through(&rooms, v1_admission(), panicking).await;
        client.send_at_once(frames).await;
        let _ = client.task.await;
        tokio::task::yield_now().await;
        assert_empty(&rooms);
    }
}

/// A connection that the client has reset: writes fail, and what the client sent before can still be read.
struct ResetIo {
    received: Bytes,
    /// The first read is pending.
    is_delayed: bool,
}

impl AsyncRead for ResetIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.is_delayed) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let n = self.received.len().min(buf.remaining()).min(50);
        buf.put_slice(&self.received.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ResetIo {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A failed write used to end the connection before everything that the client had sent was read.
#[tokio::test(start_paused = true)]
async fn frames_that_were_sent_before_a_reset_are_handled() {
    let (rooms, log) = rooms_with_log();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let frames = [
        text_frame(r#"{"event":"enter","message":"ann","roomId":"r"}"#),
        text_frame(r#"{"event":"message","message":"good bye"}"#),
        close_frame(1000),
    ];
    let io = ResetIo { received: frames.concat().into(), is_delayed: true };
    rooms.serve(io, Admission::anonymous()).await;
    assert_eq!(bob.next().await["name"], "ann");
    assert_eq!(bob.next().await["message"], "good bye");
    assert_eq!(bob.next().await["event"], "out");
    assert_eq!(
        log.take()[1..],
        ["+ ann r 2", r#"ann r: {"event":"message","message":"good bye"}"#, "- ann r 1 closed by the client"]
    );
    bob.close().await;
    assert_empty(&rooms);
}

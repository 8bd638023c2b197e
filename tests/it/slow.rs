//! Members who read slowly or not at all, and I/O that takes a few bytes at a time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tower_chat_rooms::{Admission, ChatRooms, Limits, RateLimits};

use crate::client::{Client, Log, assert_empty, default_rooms, unhurried};

/// I/O that takes and gives at most so many bytes at once, and every other time nothing.
struct Drops<IO> {
    io: IO,
    most: usize,
    refuse: bool,
}

impl<IO> Drops<IO> {
    fn hesitates(&mut self, cx: &Context<'_>) -> bool {
        self.refuse = !self.refuse;
        if self.refuse {
            cx.waker().wake_by_ref();
        }
        self.refuse
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Drops<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let most = self.most.min(buf.remaining());
        let mut part = buf.take(most);
        let read = Pin::new(&mut self.io).poll_read(cx, &mut part);
        let n = part.filled().len();
        // `take` shares the memory but not the cursor.
        let bytes = part.filled().to_vec();
        buf.put_slice(&bytes[..n]);
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Drops<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.hesitates(cx) {
            return Poll::Pending;
        }
        let most = self.most.min(bytes.len());
        Pin::new(&mut self.io).poll_write(cx, &bytes[..most])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

async fn connect_by_drops(rooms: &ChatRooms, most: usize) -> Client {
    let (theirs, ours) = tokio::io::duplex(4096);
    let rooms = rooms.clone();
    let io = Drops { io: theirs, most, refuse: false };
    let task = tokio::spawn(async move { rooms.serve(io, Admission::anonymous()).await });
    let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
    let ws = tokio_tungstenite::WebSocketStream::from_raw_socket(ours, role, None).await;
    Client { ws, task, polite: true }
}

#[tokio::test(start_paused = true)]
async fn by_drops_all_frames_come_whole_and_in_order() {
    let rooms = default_rooms();
    for most in [1, 2, 3, 7, 50] {
        let mut slow = connect_by_drops(&rooms, most).await;
        slow.say(json!({"event": "enter", "message": "slow", "roomId": "r"})).await;
        assert_eq!(slow.next().await["event"], "enter");
        let mut ann = Client::enter(&rooms, "ann", "r").await;
        for n in 0..100 {
            ann.say(json!({"event": "message", "message": n, "pad": "x".repeat(n * 3)})).await;
        }
        slow.say(json!({"event": "message", "message": "mine"})).await;
        assert_eq!(slow.next().await["name"], "ann");
        let mut next = 0;
        let mut mine = 0;
        while next < 100 || mine < 1 {
            let frame = slow.next().await;
            match frame["name"].as_str() {
                Some("ann") => {
                    assert_eq!(frame["message"], next);
                    next += 1;
                }
                _ => mine += 1,
            }
        }
        ann.leave().await;
        assert_eq!(slow.next().await["event"], "out");
        slow.leave().await;
        assert_empty(&rooms);
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_nothing_is_slow_and_delays_nobody() {
    let log = Log::default();
    let rooms = ChatRooms::builder()
        .limits(Limits::default().max_queue_frames(50))
        .events(log.hook())
        .build()
        .unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    // Enough for a few frames, then its socket is full.
    let mut stuck = Client::connect_as(&rooms, Admission::anonymous(), 300).await;
    stuck.say(json!({"event": "enter", "message": "stuck", "roomId": "r"})).await;
    assert_eq!(ann.next().await["name"], "stuck");
    let begin = Instant::now();
    let mut sent = 0;
    loop {
        ann.say(json!({"event": "message", "message": sent})).await;
        let frame = ann.next().await;
        if frame["event"] == "out" {
            assert_eq!(frame, json!({"event": "out", "name": "stuck", "num": 1}));
            break;
        }
        assert_eq!(frame["message"], sent);
        sent += 1;
        assert!(sent < 100);
    }
    assert!(sent >= 50, "{sent}");
    assert_eq!(begin.elapsed(), Duration::ZERO);
    // What had been taken before is whole, and the close frame says why.
    let (before, code) = stuck.closed_after().await;
    assert_eq!(code, 4001);
    assert!(!before.is_empty() && before.len() < 10, "{}", before.len());
    assert!(log.take().iter().any(|l| l == "- stuck r 1 too slow"));
    assert_eq!(rooms.stats().slow, 1);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_pass_a_full_queue() {
    let rooms = unhurried().build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut late = Client::connect_as(&rooms, Admission::anonymous(), 256).await;
    late.say(json!({"event": "enter", "message": "late", "roomId": "r"})).await;
    assert_eq!(ann.next().await["name"], "late");
    for n in 0..200 {
        ann.say(json!({"event": "message", "message": n, "pad": "x".repeat(100)})).await;
        assert_eq!(ann.next().await["message"], n);
    }
    tokio::time::sleep(Duration::from_millis(990)).await;
    // A heartbeat comes after the few frames that the socket held, before most of the queue.
    let mut data = 0;
    let mut beats = 0;
    while beats < 2 {
        let message = late.ws.next().await.unwrap().unwrap();
        let frame: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        match frame["event"].as_str() {
            Some("heartbeat") => beats += 1,
            _ => data += 1,
        }
    }
    assert!(data < 20, "{data}");
    late.text(r#"{"event":"heartbeat","message":"pong"}"#).await;
    for n in data - 1..200 {
        assert_eq!(late.next().await["message"], n);
    }
}

#[tokio::test(start_paused = true)]
async fn a_blocked_connection_still_hears_kick() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut stuck = Client::connect_as(&rooms, Admission::anonymous(), 100).await;
    stuck.say(json!({"event": "enter", "message": "stuck", "roomId": "r"})).await;
    assert_eq!(ann.next().await["name"], "stuck");
    for _ in 0..20 {
        ann.say(json!({"event": "message", "message": "x"})).await;
        ann.next().await;
    }
    let id = rooms.members("r").iter().find(|m| m.name.as_str() == "stuck").unwrap().connection;
    assert!(rooms.kick(id));
    assert_eq!(ann.next().await, json!({"event": "out", "name": "stuck", "num": 1}));
    assert_eq!(stuck.closed().await, 4500);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_that_nobody_reads_the_answers_of_is_bounded() {
    use futures_util::SinkExt;
    let rooms = unhurried().build().unwrap();
    let mut eve = Client::connect_as(&rooms, Admission::anonymous(), 512).await;
    eve.say(json!({"event": "enter", "message": "eve", "roomId": "r"})).await;
    // All of them are read; the answers wait in a small lane, the latest replacing others.
    for n in 0..5000u16 {
        let mut payload = vec![7; 125];
        payload[..2].copy_from_slice(&n.to_be_bytes());
        let ping = tokio_tungstenite::tungstenite::Message::Ping(payload.into());
        eve.ws.feed(ping).await.unwrap();
        futures_util::SinkExt::flush(&mut eve.ws).await.unwrap();
    }
    let mut answers = 0;
    loop {
        match eve.ws.next().await.unwrap().unwrap() {
            tokio_tungstenite::tungstenite::Message::Pong(payload) => {
                answers += 1;
                if payload[..2] == 4999u16.to_be_bytes() {
                    break;
                }
            }
            other => assert!(other.is_text(), "{other:?}"),
        }
    }
    assert!(answers < 50, "{answers}");
    eve.leave().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn who_fills_a_room_faster_than_it_empties_waits() {
    let rooms = ChatRooms::builder()
        .limits(
            Limits::default()
                .max_message_bytes(8 * 1024)
                .max_queue_bytes(16 * 1024)
                .max_queue_frames(usize::MAX),
        )
        .rate_limits(RateLimits::default().max_bytes_per_second(usize::MAX))
        .build()
        .unwrap();
    let mut ann = Client::connect_as(&rooms, Admission::anonymous(), 1 << 20).await;
    ann.say(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    ann.next().await;
    for n in 0..60 {
        ann.say(json!({"event": "message", "message": n, "pad": "x".repeat(4000)})).await;
    }
    for n in 0..60 {
        assert_eq!(ann.next().await["message"], n);
    }
}

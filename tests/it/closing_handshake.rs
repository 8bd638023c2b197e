//! The closing handshake, begun by either side, and its time limit (RFC 6455 §7).

use std::time::Duration;

use axum::Router;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower_chat_rooms::{Admission, ChatRooms, Timeouts};

use crate::support::{
    Client, HANDSHAKE, assert_empty, builder, close_code_of, close_frame, default_rooms, frame,
    rooms_with_log, serve, serve_axum, server_frames, text_frame,
};

const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

const ENTER: &str = r#"{"event":"enter","message":"ann","roomId":"r"}"#;

/// A member that speaks bytes, over a pipe that holds this many in each direction.
async fn enter(buffer: usize) -> (ChatRooms, DuplexStream, JoinHandle<()>) {
    let rooms = builder().timeouts(Timeouts::default().close_timeout(CLOSE_TIMEOUT)).build().unwrap();
    let (mut io, task) = serve(&rooms, Admission::anonymous(), buffer);
    io.write_all(&text_frame(ENTER)).await.unwrap();
    while rooms.members("r").is_empty() {
        tokio::task::yield_now().await;
    }
    (rooms, io, task)
}

/// The code of the last frame, which must be a close frame and the only one.
fn last_close_code(bytes: &[u8]) -> u16 {
    let frames = server_frames(bytes);
    let position = frames.iter().position(|frame| close_code_of(frame).is_some());
    assert_eq!(position, Some(frames.len() - 1), "{frames:?}");
    close_code_of(&frames[frames.len() - 1]).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_server_answers_a_close_and_ends_the_connection_first() {
    let (rooms, mut io, task) = enter(4096).await;
    let begin = Instant::now();
    io.write_all(&close_frame(1000)).await.unwrap();
    // The client keeps its side open, as §7.1.1 asks.
    let mut received = Vec::new();
    io.read_to_end(&mut received).await.unwrap();
    assert_eq!(last_close_code(&received), 1000);
    assert_eq!(begin.elapsed(), Duration::ZERO);
    task.await.unwrap();
    assert!(begin.elapsed() <= CLOSE_TIMEOUT);
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_and_reads_nothing_is_dropped_after_the_timeout() {
    let (rooms, mut io, task) = enter(16).await;
    let begin = Instant::now();
    io.write_all(&close_frame(1000)).await.unwrap();
    // The membership ends at once. Only the connection is still there.
    while !rooms.members("r").is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
    task.await.unwrap();
    assert!(begin.elapsed() <= CLOSE_TIMEOUT, "{:?}", begin.elapsed());
    assert_empty(&rooms);
    drop(io);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_a_close_ends_at_once() {
    let (rooms, mut io, task) = enter(4096).await;
    let begin = Instant::now();
    assert!(rooms.kick(rooms.members("r")[0].connection));
    let mut received = Vec::new();
    while !server_frames(&received).iter().any(|frame| close_code_of(frame).is_some()) {
        assert_ne!(io.read_buf(&mut received).await.unwrap(), 0);
    }
    assert_eq!(last_close_code(&received), 4500);
    io.write_all(&close_frame(1000)).await.unwrap();
    io.read_to_end(&mut Vec::new()).await.unwrap();
    drop(io);
    task.await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_a_close_is_dropped_after_the_timeout() {
    let (rooms, mut io, task) = enter(4096).await;
    let begin = Instant::now();
    assert!(rooms.kick(rooms.members("r")[0].connection));
    // Other frames do not prolong the time.
    let sender = tokio::spawn(async move {
        let pong = text_frame(r#"{"event":"heartbeat","message":"pong"}"#);
        while io.write_all(&pong).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        io
    });
    task.await.unwrap();
    assert_eq!(begin.elapsed(), CLOSE_TIMEOUT);
    let mut received = Vec::new();
    sender.await.unwrap().read_to_end(&mut received).await.unwrap();
    assert_eq!(last_close_code(&received), 4500);
    assert_empty(&rooms);
}

/// The answer to a close used to overtake the send queue, as other control frames do.
#[tokio::test(start_paused = true)]
async fn no_frame_follows_the_close_frame() {
    let rooms = default_rooms();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let (mut io, _task) = serve(&rooms, Admission::anonymous(), 300);
    io.write_all(&text_frame(ENTER)).await.unwrap();
    assert_eq!(bob.next().await["name"], "ann");
    // More than the pipe holds.
    for n in 0..20 {
        bob.send(json!({"event": "message", "message": n})).await;
        assert_eq!(bob.next().await["message"], n);
    }
    io.write_all(&close_frame(1000)).await.unwrap();
    assert_eq!(bob.next().await["event"], "out");
    let mut received = Vec::new();
    io.read_to_end(&mut received).await.unwrap();
    assert_eq!(last_close_code(&received), 1000);
}

/// The answer to a close used to be left out if it did not fit into the send queue.
#[tokio::test(start_paused = true)]
async fn a_close_after_unread_pongs_is_answered() {
    let (rooms, log) = rooms_with_log();
    let (mut io, task) = serve(&rooms, Admission::anonymous(), 512);
    io.write_all(&text_frame(ENTER)).await.unwrap();
    for _ in 0..100 {
        io.write_all(&frame(0x89, &[7; 125])).await.unwrap();
    }
    io.write_all(&close_frame(1000)).await.unwrap();
    let begin = Instant::now();
    let mut received = Vec::new();
    io.read_to_end(&mut received).await.unwrap();
    drop(io);
    task.await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(last_close_code(&received), 1000);
    assert_eq!(log.take(), ["+ ann r 1", "- ann r 0 closed by the client"]);
}

/// A socket that is closed while bytes are unread is reset, and its client may never read the close frame.
#[tokio::test]
async fn a_client_that_sends_on_after_its_close_frame_sees_a_clean_end() {
    let rooms = default_rooms();
    let address = serve_axum(Router::new().route_service("/chat", rooms.service())).await;
    for more in [0, 1, 4096, 5000, 20_000] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{HANDSHAKE}\r\n").as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let bytes = [close_frame(1000), vec![0x81; more]].concat();
        stream.write_all(&bytes).await.unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap_or_else(|error| panic!("{more} more bytes: {error}"));
        assert_eq!(last_close_code(&received), 1000);
    }
}

//! The closing handshake, by either side, and for how long it is waited for (RFC 6455 §7).

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower_chat_rooms::{Admission, ChatRooms, Timeouts};

use crate::client::assert_empty;

const LIMIT: Duration = Duration::from_secs(2);

/// A close frame with code 1000, masked by zeros.
const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 3, 232];

async fn enter(buffer: usize) -> (ChatRooms, DuplexStream, JoinHandle<()>) {
    let rooms = ChatRooms::builder().timeouts(Timeouts::default().close_timeout(LIMIT)).build().unwrap();
    let (theirs, mut io) = tokio::io::duplex(buffer);
    let serving = rooms.clone();
    let task = tokio::spawn(async move { serving.serve(theirs, Admission::anonymous()).await });
    let enter = br#"{"event":"enter","message":"ann","roomId":"r"}"#;
    io.write_all(&[0x81, 0x80 | enter.len() as u8, 0, 0, 0, 0]).await.unwrap();
    io.write_all(enter).await.unwrap();
    while rooms.members("r").is_empty() {
        tokio::task::yield_now().await;
    }
    (rooms, io, task)
}

/// What comes up to the end, and when that is.
async fn rest(mut io: DuplexStream) -> (Vec<u8>, DuplexStream) {
    let mut rest = Vec::new();
    io.read_to_end(&mut rest).await.unwrap();
    (rest, io)
}

fn ends_with_close(bytes: &[u8], code: u16) -> bool {
    let close = [&[0x88][..], &code.to_be_bytes()].concat();
    (0..bytes.len()).any(|at| bytes[at] == close[0] && bytes.get(at + 2..at + 4) == Some(&close[1..]))
}

#[tokio::test(start_paused = true)]
async fn who_closes_is_answered_and_the_server_ends_the_connection() {
    let (rooms, mut io, task) = enter(4096).await;
    let begin = Instant::now();
    io.write_all(&CLOSE).await.unwrap();
    // The client keeps its side open, as it should: the server goes first (§7.1.1).
    let (heard, _io) = rest(io).await;
    assert!(heard.ends_with(&[0x88, 2, 3, 232]), "{heard:?}");
    assert_eq!(begin.elapsed(), Duration::ZERO);
    task.await.unwrap();
    assert!(begin.elapsed() <= LIMIT);
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn who_closes_and_reads_nothing_is_waited_for_no_longer_than_the_limit() {
    let (rooms, mut io, task) = enter(16).await;
    let begin = Instant::now();
    io.write_all(&CLOSE).await.unwrap();
    // He is out at once, and only his connection lingers.
    while !rooms.members("r").is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
    task.await.unwrap();
    assert!(begin.elapsed() <= LIMIT, "{:?}", begin.elapsed());
    assert_empty(&rooms);
    drop(io);
}

#[tokio::test(start_paused = true)]
async fn who_is_closed_and_answers_ends_at_once() {
    let (rooms, mut io, task) = enter(4096).await;
    let begin = Instant::now();
    assert!(rooms.kick(rooms.members("r")[0].connection));
    let mut heard = Vec::new();
    while !ends_with_close(&heard, 4500) {
        assert_ne!(io.read_buf(&mut heard).await.unwrap(), 0);
    }
    io.write_all(&CLOSE).await.unwrap();
    let (_, io) = rest(io).await;
    drop(io);
    task.await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn who_is_closed_and_does_not_answer_is_cut_off_at_the_limit() {
    let (rooms, mut io, task) = enter(4096).await;
    let begin = Instant::now();
    assert!(rooms.kick(rooms.members("r")[0].connection));
    // What else he says does not prolong it.
    let talk = tokio::spawn(async move {
        let pong = br#"{"event":"heartbeat","message":"pong"}"#;
        let frame = [&[0x81, 0x80 | pong.len() as u8, 0, 0, 0, 0][..], pong].concat();
        while io.write_all(&frame).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        io
    });
    task.await.unwrap();
    assert_eq!(begin.elapsed(), LIMIT);
    let (heard, _) = rest(talk.await.unwrap()).await;
    assert!(ends_with_close(&heard, 4500), "{heard:?}");
    assert_empty(&rooms);
}

//! The write timeout: clients that answer heartbeats, and whose sockets take nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;
use tower_chat_rooms::{Admission, ChatRooms, Timeouts};

use crate::support::{EventLog, builder, serve, text_frame};

const SECOND: Duration = Duration::from_secs(1);

/// A member that sends pongs, and reads at most this many bytes every half second. Returns whether it is still
/// connected at the end.
async fn stays(rooms: &ChatRooms, bytes_per_read: usize, seconds: usize) -> bool {
    let (mut io, task) = serve(rooms, Admission::anonymous(), 64);
    io.write_all(&text_frame(r#"{"event":"enter","message":"ann","roomId":"r"}"#)).await.unwrap();
    for _ in 0..2 * seconds {
        sleep(SECOND / 2).await;
        let pong = text_frame(r#"{"event":"heartbeat","message":"pong"}"#);
        if task.is_finished() || io.write_all(&pong).await.is_err() {
            return false;
        }
        if bytes_per_read > 0 && io.read(&mut vec![0; bytes_per_read]).await.is_err() {
            return false;
        }
    }
    !task.is_finished() && rooms.stats().entered > rooms.stats().left
}

async fn wait_until_empty(rooms: &ChatRooms) {
    while rooms.stats().connections > 0 {
        sleep(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_for_the_write_timeout_is_closed() {
    let log = EventLog::default();
    let rooms = builder()
        .timeouts(Timeouts::default().write_timeout(20 * SECOND))
        .events(log.hook())
        .build()
        .unwrap();
    // Nothing is sent that could fill its queue.
    assert!(stays(&rooms, 0, 19).await);
    wait_until_empty(&rooms).await;
    log.take();
    assert_eq!(rooms.stats().write_timeouts, 0);
    assert!(!stays(&rooms, 0, 30).await);
    wait_until_empty(&rooms).await;
    assert_eq!(log.take(), ["+ ann r 1", "- ann r 0 too slow"]);
    assert_eq!((rooms.stats().write_timeouts, rooms.stats().slow), (1, 1));
    // One byte at a time is enough.
    assert!(stays(&rooms, 1, 100).await);
    assert_eq!(rooms.stats().write_timeouts, 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_write_timeout_a_client_that_takes_nothing_stays() {
    let rooms = builder().timeouts(Timeouts::default().write_timeout(Duration::MAX)).build().unwrap();
    assert!(stays(&rooms, 0, 300).await);
}

//! Draining: clients are told to come back elsewhere, one after the other.

use std::time::Duration;

use futures_util::FutureExt;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower_chat_rooms::{Admission, ChatRooms, Drain, Health, Timeouts};

use crate::support::{
    Client, LogCapture, assert_empty, builder, default_rooms, events_arrive, handshake_with_headers,
    rooms_with_log, run_other_tasks, v1_admission,
};

const WINDOW: Duration = Duration::from_secs(10);

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Answers heartbeats until the connection is closed. Returns when that was, and the code.
async fn until_closed(mut client: Client, begin: Instant) -> (Duration, u16) {
    let code = client.close_code().await;
    (begin.elapsed(), code)
}

#[tokio::test(start_paused = true)]
async fn connections_are_closed_evenly_in_random_order() {
    const CLIENTS: u64 = 20;
    let rooms = default_rooms();
    let begin = Instant::now();
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let client = match n % 2 {
            0 => Client::enter(&rooms, &format!("m{n}"), "r").await,
            _ => Client::enter_v1(&rooms, Admission::anonymous()).await.0,
        };
        clients.spawn(async move { (until_closed(client, begin).await, n) });
    }
    assert!(!rooms.is_draining());
    let draining = rooms.drain(Drain::over(WINDOW));
    assert!(rooms.is_draining());
    assert_eq!(rooms.health(), Health::Draining);
    let progress = draining.progress();
    assert_eq!((progress.connections, progress.closed), (CLIENTS as usize, 0));

    sleep(secs(5) + Duration::from_millis(100)).await;
    let progress = draining.progress();
    assert_eq!((progress.connections, progress.closed), (9, 11));
    let drained = draining.await;
    assert_eq!((drained.closed, drained.kept, drained.open), (CLIENTS as usize, 0, 0));
    assert!((Duration::from_millis(9500)..secs(10)).contains(&drained.took), "{drained:?}");
    assert_empty(&rooms);

    let (mut closed, mut order) = (clients.join_all().await, Vec::new());
    closed.sort();
    for (at, ((time, code), n)) in closed.into_iter().enumerate() {
        let expected = Duration::from_millis(500) * at as u32;
        assert!((expected..expected + Duration::from_millis(50)).contains(&time), "{at}: {time:?}");
        assert_eq!(code, 1012);
        order.push(n);
    }
    assert!(!order.is_sorted(), "the order is random");
    rooms.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn no_connection_is_closed_during_the_ready_delay() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let begin = Instant::now();
    let draining = rooms.drain(Drain::over(secs(1)).ready_delay(secs(5)));
    // The load balancer does not know yet.
    let (status, head) = refused(&rooms).await;
    assert_eq!(status, 503);
    assert!(head.contains("\r\nretry-after: 1\r\n"), "{head}");
    ann.send(json!({"event": "message", "message": "still here"})).await;
    assert_eq!(ann.next().await["message"], "still here");
    let closed = tokio::spawn(until_closed(ann, begin));
    assert_eq!(draining.await.closed, 1);
    let (time, code) = closed.await.unwrap();
    assert!((secs(5)..secs(6)).contains(&time), "{time:?}");
    assert_eq!(code, 1012);
    // Also without connections, so that the load balancer knows before the process ends.
    let rooms = default_rooms();
    assert_eq!(rooms.drain(Drain::over(secs(1)).ready_delay(secs(5))).await.took, secs(5));
}

/// The status and the head of the answer to an upgrade request.
async fn refused(rooms: &ChatRooms) -> (u16, String) {
    let response = handshake_with_headers(rooms, "").await;
    (response.status, response.head)
}

#[tokio::test(start_paused = true)]
async fn clients_get_what_was_published_before() {
    let rooms = default_rooms();
    let (mut ann, _) = Client::enter_v1(&rooms, Admission::anonymous()).await;
    let (mut bob, _) = Client::enter_v1(&rooms, Admission::anonymous()).await;
    assert_eq!(ann.next().await["event"], "enter");
    rooms.send("r", &json!({"event": "last"})).unwrap();
    events_arrive().await;
    // The flush task has had no turn.
    let draining = rooms.drain(Drain::over(Duration::ZERO));
    for client in [&mut ann, &mut bob] {
        let (frames, code) = client.frames_until_close().await;
        assert_eq!((&frames[0]["event"], code), (&json!("last"), 1012));
    }
    assert_eq!(draining.await.closed, 2);
    rooms.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn members_leave_when_their_connections_are_closed() {
    let (rooms, log) = rooms_with_log();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    assert_eq!(ann.next().await["name"], "bob");
    let draining = rooms.drain(Drain::over(secs(2)));
    let leaves = [ann.frames_until_close(), bob.frames_until_close()].map(|closed| closed.boxed());
    let mut leaves = futures_util::future::join_all(leaves).await;
    // It is random who is the first one.
    leaves.sort_by_key(|(frames, _)| frames.len());
    assert_eq!(leaves[0], (vec![], 1012));
    assert_eq!((&leaves[1].0[0]["event"], leaves[1].1), (&json!("out"), 1012));
    assert_eq!(draining.await.closed, 2);
    let moves = log.take_moves();
    assert_eq!(moves.iter().filter(|line| line.ends_with("server shutdown")).count(), 2, "{moves:?}");
    assert_empty(&rooms);
    rooms.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_cuts_a_drain_short() {
    let rooms = default_rooms();
    let mut clients = JoinSet::new();
    let begin = Instant::now();
    for n in 0..10 {
        let client = Client::enter(&rooms, &format!("m{n}"), "r").await;
        clients.spawn(until_closed(client, begin));
    }
    let draining = rooms.drain(Drain::over(WINDOW));
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(rooms.drain(Drain::over(secs(99))).progress(), draining.progress(), "it is the same one");
    rooms.shutdown().await;
    assert_eq!(begin.elapsed(), Duration::from_millis(2500));
    assert_eq!(rooms.health(), Health::ShuttingDown);
    let drained = draining.clone().await;
    assert_eq!((drained.closed, drained.open), (3, 7));
    assert_eq!(draining.await, drained);
    assert!(clients.join_all().await.into_iter().all(|(_, code)| code == 1012));
    assert_empty(&rooms);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    // After a shutdown there is nothing to drain.
    let late = default_rooms();
    late.shutdown().await;
    assert_eq!(late.drain(Drain::over(WINDOW)).await.closed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_closing_handshakes() {
    let rooms = builder().timeouts(Timeouts::default().close_timeout(secs(2))).build().unwrap();
    // Its pipe does not hold even the close frame.
    let slow = Client::connect_as(&rooms, v1_admission(), 16).await;
    let silent = Client::connect(&rooms).await;
    run_other_tasks().await;
    let begin = Instant::now();
    let drained = rooms.drain(Drain::over(Duration::ZERO)).await;
    assert_eq!((drained.closed, begin.elapsed()), (2, secs(2)));
    assert_empty(&rooms);
    drop((slow, silent));
    rooms.shutdown().await;
}

/// A host can drain before it has had a client, and outside of a runtime.
#[test]
fn a_drain_needs_no_runtime() {
    let rooms = ChatRooms::builder().build().unwrap();
    let draining = rooms.drain(Drain::over(WINDOW));
    assert!(rooms.is_draining());
    assert_eq!(draining.now_or_never().unwrap().closed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_goes_on_if_nobody_waits_for_it() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    drop(rooms.drain(Drain::over(WINDOW)));
    assert_eq!(ann.close_code().await, 1012);
    run_other_tasks().await;
    assert_empty(&rooms);
    rooms.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_beginning_and_the_end_are_logged() {
    let log = LogCapture::default();
    let _guard = log.listen("info");
    let rooms = default_rooms();
    let mut clients = JoinSet::new();
    for n in 0..4 {
        let client = Client::enter(&rooms, &format!("m{n}"), "r").await;
        clients.spawn(until_closed(client, Instant::now()));
    }
    rooms.drain(Drain::over(secs(4)).ready_delay(secs(1))).await;
    let text = log.text();
    for expected in [
        "draining: no more connections are accepted connections=4 over=4s ready_delay=1s",
        "drained; all connections are closed closed=4 kept=0 took=4",
    ] {
        assert_eq!(text.matches(expected).count(), 1, "{text}");
    }
    rooms.shutdown().await;
}

//! Shutting down: clients are told, callbacks are called, and no task is left.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::json;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tower_chat_rooms::{Admission, ChatRooms, Recovery, RoomEvent, Timeouts};

use crate::support::{Client, assert_empty, builder, default_rooms, events_arrive, text_frame, unlimited};

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_no_task_is_left() {
    let rooms = default_rooms();
    let mut clients = Vec::new();
    for n in 0..30 {
        clients.push(Client::enter(&rooms, &format!("m{n}"), &format!("r{}", n % 4)).await);
    }
    let mut outside = Client::connect(&rooms).await;
    outside.send(json!({"event": "message"})).await;
    assert_eq!(outside.next().await["code"], "not_entered");
    clients.push(outside);
    rooms.send("r0", &json!({"event": "last"})).unwrap();
    events_arrive().await;
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                let (frames, code) = client.frames_until_close().await;
                (frames.iter().any(|f| f["event"] == "last"), code)
            })
        })
        .collect();
    rooms.shutdown().await;
    assert_empty(&rooms);
    let mut received = 0;
    for reader in readers {
        let (last, code) = reader.await.unwrap();
        assert_eq!(code, 1012);
        received += usize::from(last);
    }
    assert_eq!(received, 8);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    // No further connection is accepted.
    let mut late = Client::connect(&rooms).await;
    assert_eq!(late.close_code().await, 1006);
    assert_eq!(rooms.stats().refused, 1);
    rooms.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_the_close_delays_the_shutdown_briefly() {
    let rooms =
        builder().timeouts(Timeouts::default().close_timeout(Duration::from_secs(2))).build().unwrap();
    // Its pipe does not hold even the close frame.
    let mut slow = Client::connect_as(&rooms, Admission::anonymous(), 16).await;
    slow.send(json!({"event": "enter", "message": "slow"})).await;
    let silent = Client::connect(&rooms).await;
    let begin = Instant::now();
    rooms.shutdown().await;
    assert_eq!(begin.elapsed(), Duration::from_secs(1), "shutdown_timeout");
    assert_empty(&rooms);
    drop((slow, silent));
}

/// A shutdown used to be over while the `left` of a dropped connection was still to come.
#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_the_callback_of_a_dropped_connection() {
    let host: Arc<Mutex<Option<ChatRooms>>> = Arc::default();
    let (hook, shut_down) = (host.clone(), Arc::new(Mutex::new(Vec::new())));
    let seen = shut_down.clone();
    let rooms = builder()
        .events(move |event: RoomEvent<'_>| {
            if let RoomEvent::Left(_) = event {
                let host = hook.lock().unwrap().take().unwrap();
                seen.lock().unwrap().push(host.shutdown().now_or_never().is_some());
            }
        })
        .build()
        .unwrap();
    *host.lock().unwrap() = Some(rooms.clone());
    let (server_io, mut client_io) = tokio::io::duplex(1024);
    let enter = text_frame(r#"{"event":"enter","message":"ann","roomId":"r"}"#);
    tokio::io::AsyncWriteExt::write_all(&mut client_io, &enter).await.unwrap();
    let mut serve = Box::pin(rooms.serve(server_io, Admission::anonymous()));
    while rooms.stats().entered == 0 {
        assert!(futures_util::poll!(serve.as_mut()).is_pending());
        events_arrive().await;
    }
    // The shutdown ends every connection but this one, which is not polled.
    assert!(rooms.shutdown().now_or_never().is_none());
    sleep(Duration::from_secs(1)).await;
    drop(serve);
    assert_eq!(*shut_down.lock().unwrap(), [false]);
    rooms.shutdown().await;
    assert_empty(&rooms);
}

/// A shutdown used to wait for the whole `close_timeout` of a connection that was being closed already.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_being_closed_does_not_delay_the_shutdown() {
    let rooms = default_rooms();
    let silent = Client::connect(&rooms).await;
    let closing = Client::enter(&rooms, "closing", "r").await;
    assert_eq!(rooms.close_room("r"), 1);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rooms.stats().connections, 2, "its close frame is not answered");
    let begin = Instant::now();
    rooms.shutdown().await;
    assert_eq!(begin.elapsed(), Duration::from_secs(1), "shutdown_timeout");
    assert_empty(&rooms);
    drop((silent, closing));
}

/// All sessions used to end in one turn, which kept every other task waiting.
#[tokio::test(start_paused = true)]
async fn other_tasks_get_a_turn_while_many_sessions_end() {
    const SESSIONS: usize = 1000;
    let recovery = Recovery::default().resume_window(Duration::from_secs(60));
    let rooms = unlimited().recovery(recovery).build().unwrap();
    for n in 0..SESSIONS {
        let (mut client, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        client.send(json!({"event": "enter", "message": "ann", "roomId": n % 10})).await;
        assert_eq!(client.next().await["event"], "entered");
        client.disconnect().await;
    }
    assert_eq!(rooms.stats().absent, SESSIONS);
    let watched = rooms.clone();
    let watching = tokio::spawn(async move {
        let (mut before, mut most) = (SESSIONS, 0);
        while before > 0 {
            let left = watched.stats().absent;
            most = most.max(before - left);
            before = left;
            yield_now().await;
        }
        most
    });
    rooms.shutdown().await;
    assert!((1..=64).contains(&watching.await.unwrap()));
    assert_empty(&rooms);
}

/// Rooms are closed before all clients are told of the shutdown. `denied` would make them stay away.
#[tokio::test(start_paused = true)]
async fn a_client_that_enters_during_a_shutdown_is_told_to_come_back() {
    let rooms = unlimited().build().unwrap();
    let _member = Client::enter(&rooms, "ann", "r").await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(Client::connect_v1(&rooms, Admission::anonymous()).await.0);
    }
    // Not all of them are told in its first turn.
    assert!(rooms.shutdown().now_or_never().is_none());
    for client in &mut clients {
        client.send(json!({"event": "enter", "message": "bob", "roomId": "r"})).await;
    }
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| tokio::spawn(async move { client.frames_until_close().await }))
        .collect();
    rooms.shutdown().await;
    for reader in readers {
        assert_eq!(reader.await.unwrap(), (Vec::new(), 1012));
    }
}

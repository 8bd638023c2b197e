//! The host's callback for messages: what it is told, and in which order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, LeaveReason, Message, RoomEvent, User};

use crate::support::{Client, V1Client, builder, enter_frame, skip_with_broker, unlimited};

/// What a hook was told, by room.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<HashMap<String, Vec<Message>>>>);

impl Told {
    fn add(&self, message: &Message) {
        self.0.lock().unwrap().entry(message.room.to_string()).or_default().push(message.clone());
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().values().map(Vec::len).sum()
    }

    fn of(&self, room: &str) -> Vec<Message> {
        self.0.lock().unwrap().get(room).cloned().unwrap_or_default()
    }
}

/// Blocks a callback. The other tasks of its thread go on in another one.
fn wait_for(go_on: &Mutex<mpsc::Receiver<()>>) {
    let limit = Duration::from_secs(60);
    tokio::task::block_in_place(|| go_on.lock().unwrap().recv_timeout(limit).unwrap());
}

/// Waits for something that other threads do.
async fn until(is_so: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never happens");
}

#[tokio::test(start_paused = true)]
async fn the_host_learns_the_id_and_the_position_and_the_sender() {
    let told = Told::default();
    let hook = told.clone();
    let rooms = builder()
        .events(move |event: RoomEvent<'_>| {
            if let RoomEvent::Message(message) = event {
                hook.add(message);
            }
        })
        .build()
        .unwrap();
    let user = User::new("u-ann");
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::user(user)).await;
    ann.send(enter_frame("ann", "r")).await;
    let epoch = ann.next_of("entered").await["epoch"].clone();
    ann.send(json!({"event": "note", "message": "hi", "cid": "c"})).await;
    let mine = ann.next_of("note").await;
    rooms.send("r", &json!({"event": "notice", "message": 1})).unwrap();
    let of_host = ann.next_of("notice").await;
    let told = told.of("r");
    assert_eq!(told.len(), 2);
    for (message, frame) in told.iter().zip([&mine, &of_host]) {
        assert_eq!(json!(message.id), frame["id"]);
        assert_eq!(message.time, message.id.time());
        assert_eq!(
            (json!(message.position.seq()), json!(message.position.epoch().to_string())),
            (frame["seq"].clone(), epoch.clone())
        );
        assert_eq!(json!(message.event), frame["event"]);
        assert_eq!(serde_json::from_str::<Value>(&message.body).unwrap()["message"], frame["message"]);
    }
    let sender = told[0].sender.as_ref().unwrap();
    assert_eq!((sender.name.as_str(), sender.user.as_ref().unwrap().id()), ("ann", "u-ann"));
    assert_eq!((told[0].cid.as_deref(), told[1].cid.as_deref()), (Some("c"), None));
    assert!(told[1].sender.is_none(), "the host");
}

/// Callbacks of different connections used to overtake each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callbacks_of_a_room_come_in_its_order_and_one_at_a_time() {
    skip_with_broker!("they come in the order in which the broker has answered the node");
    const EACH: usize = 60;
    let (told, calling) = (Told::default(), Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]));
    let hook = told.clone();
    let rooms = unlimited()
        .events(move |event: RoomEvent<'_>| {
            let RoomEvent::Message(message) = event else { return };
            let calls = &calling[usize::from(message.room.as_str() == "s")];
            assert_eq!(calls.fetch_add(1, Ordering::SeqCst), 0, "two calls for a room at the same time");
            for _ in 0..20 {
                std::thread::yield_now();
            }
            hook.add(message);
            calls.fetch_sub(1, Ordering::SeqCst);
        })
        .build()
        .unwrap();
    let mut clients = Vec::new();
    for n in 0..6 {
        let room = ["r", "s"][n % 2];
        // Its heartbeats leave a busy machine enough time.
        let (mut client, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        client.send(enter_frame(&format!("m{n}"), room)).await;
        client.next_of("entered").await;
        clients.push(client);
    }
    let tasks = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            for n in 0..EACH {
                client.send(json!({"event": "message", "message": n})).await;
                tokio::task::yield_now().await;
            }
            client
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for n in 0..EACH {
        rooms.send("r", &json!({"event": "notice", "message": n})).unwrap();
        tokio::task::yield_now().await;
    }
    until(|| told.len() == 7 * EACH).await;
    for room in ["r", "s"] {
        let messages = told.of(room);
        assert!(messages.is_sorted_by(|a, b| a.position.seq() < b.position.seq()), "{room}");
        assert!(messages.is_sorted_by(|a, b| a.id < b.id), "{room}");
    }
    for task in tasks {
        task.await.unwrap().close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_callback_that_takes_long_does_not_delay_other_rooms() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (may_go_on, seen) = (Mutex::new(may_go_on), Told::default());
    let hook = seen.clone();
    let rooms = builder()
        .events(move |event: RoomEvent<'_>| {
            let RoomEvent::Message(message) = event else { return };
            if message.body.contains("slow") {
                wait_for(&may_go_on);
            }
            hook.add(message);
        })
        .build()
        .unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let mut cat = Client::enter(&rooms, "cat", "s").await;
    ann.next_of("enter").await;
    ann.send(json!({"event": "message", "message": "slow"})).await;
    assert_eq!(bob.next().await["message"], "slow");
    // The members get the next message, but its callback waits.
    bob.send(json!({"event": "message", "message": "next"})).await;
    assert_eq!(bob.next().await["message"], "next");
    cat.send(json!({"event": "message", "message": "elsewhere"})).await;
    until(|| seen.of("s").len() == 1).await;
    assert_eq!(seen.of("r").len(), 0);
    go_on.send(()).unwrap();
    until(|| seen.of("r").len() == 2).await;
    assert!(seen.of("r")[1].body.contains("next"));
}

/// A panic ends the sender's connection, even if its callback had to wait for another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_panic_ends_only_the_connection_of_the_sender() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (may_go_on, told, left) = (Mutex::new(may_go_on), Told::default(), Arc::new(Mutex::new(Vec::new())));
    let (hook, hook_left) = (told.clone(), left.clone());
    let rooms = builder()
        .events(move |event: RoomEvent<'_>| match event {
            RoomEvent::Message(message) if message.body.contains("panic") => panic!("on purpose"),
            RoomEvent::Message(message) => {
                if message.body.contains("slow") {
                    wait_for(&may_go_on);
                }
                hook.add(message);
            }
            RoomEvent::Left(left) => hook_left.lock().unwrap().push((left.name.to_string(), left.reason)),
            _ => {}
        })
        .build()
        .unwrap();
    let mut ann = V1Client::enter(&rooms, "ann").await;
    let mut bob = V1Client::enter(&rooms, "bob").await;
    ann.expect_message("bob").await;
    ann.send_message("slow").await;
    bob.expect_message("slow").await;
    bob.send_message("panic").await;
    bob.expect_message("panic").await;
    go_on.send(()).unwrap();
    assert_eq!(bob.connection.close_code().await, 1011);
    until(|| left.lock().unwrap().len() == 1).await;
    assert_eq!(*left.lock().unwrap(), [("bob".to_owned(), LeaveReason::HookFailed)]);
    ann.send_message("still here").await;
    until(|| told.len() == 2).await;
    assert!(told.of("r")[1].body.contains("still here"));
}

#[tokio::test(start_paused = true)]
async fn a_callback_may_send_to_its_own_room() {
    let (host, told): (Arc<OnceLock<ChatRooms>>, Told) = Default::default();
    let (handle, hook, depth) = (host.clone(), told.clone(), AtomicUsize::new(0));
    let rooms = builder()
        .events(move |event: RoomEvent<'_>| {
            let RoomEvent::Message(message) = event else { return };
            assert_eq!(depth.fetch_add(1, Ordering::SeqCst), 0, "a call inside of another one");
            if message.sender.is_some() {
                let rooms = handle.get().unwrap();
                for room in ["r", "s"] {
                    rooms.send(room, &json!({"event": "notice"})).unwrap();
                }
            }
            hook.add(message);
            depth.fetch_sub(1, Ordering::SeqCst);
        })
        .build()
        .unwrap();
    host.set(rooms.clone()).unwrap();
    let mut bob = Client::enter(&rooms, "bob", "s").await;
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    ann.send(json!({"event": "message"})).await;
    for event in ["message", "notice"] {
        assert_eq!(ann.next().await["event"], event);
    }
    assert_eq!(bob.next().await["event"], "notice");
    until(|| told.len() == 3).await;
    let events: Vec<String> = told.of("r").into_iter().map(|message| message.event).collect();
    assert_eq!(events, ["message", "notice"]);
}

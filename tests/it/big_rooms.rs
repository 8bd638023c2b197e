//! Rooms that are so large that several worker threads deliver a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tower_chat_rooms::{Admission, ChatRooms, History, Presence, Recovery};

use crate::support::{
    Client, Next, Random, TestIo, assert_empty, enter_frame, enter_since, has_shared_broker, leave_frame,
    message_frame, skip_with_broker, unlimited, v1_admission,
};

const LISTENERS: usize = 700;
const SPEAKERS: usize = 3;
const MESSAGES: usize = 20;

async fn enter(rooms: &ChatRooms) -> (Client, u64) {
    let (mut client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
    client.send(enter_frame("ann", "r")).await;
    let entered = client.next_of("entered").await;
    (client, entered["seq"].as_u64().unwrap())
}

/// The next message of the room. Each must follow the one before.
async fn next_message(client: &mut Client, seq: &mut u64) -> Value {
    let message = client.next_of("message").await;
    *seq += 1;
    assert_eq!(message["seq"], *seq, "{message}");
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_members_get_all_messages_in_order_while_others_enter_and_leave() {
    let rooms = unlimited().presence(Presence::Count).build().unwrap();
    let mut members = Vec::new();
    for _ in 0..LISTENERS + SPEAKERS {
        members.push(enter(&rooms).await);
    }
    let all = (SPEAKERS * MESSAGES) as u64;
    let listen = |(mut client, mut seq): (Client, u64), is_speaker: bool| async move {
        for n in 0..all as usize {
            if is_speaker && n < MESSAGES {
                client.send(message_frame("r", "hi")).await;
            }
            next_message(&mut client, &mut seq).await;
        }
        client
    };
    let clients: Vec<_> = members
        .into_iter()
        .enumerate()
        .map(|(n, member)| tokio::spawn(listen(member, n >= LISTENERS)))
        .collect();
    // Members enter and leave while the batches are being delivered. No member sees a gap.
    for _ in 0..50 {
        let (mut client, mut seq) = enter(&rooms).await;
        if seq < all {
            next_message(&mut client, &mut seq).await;
        }
        client.close().await;
    }
    for client in clients {
        client.await.unwrap().close().await;
    }
    assert_eq!(rooms.position("r"), None);
    assert_empty(&rooms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_frames_of_the_host_reach_all_members_too() {
    let rooms = unlimited().presence(Presence::Count).build().unwrap();
    let mut members = Vec::new();
    for _ in 0..LISTENERS {
        members.push(enter(&rooms).await.0);
    }
    rooms.send("r", &json!({"event": "notice", "n": 1})).unwrap().await.unwrap();
    for client in &mut members {
        assert_eq!(client.next_of("notice").await["n"], 1);
    }
    assert_eq!(rooms.close_room("r"), LISTENERS);
    for mut client in members {
        client.next_of("left").await;
    }
}

/// How long a member that comes and goes waits for a frame at most.
const MOMENT: Duration = Duration::from_millis(20);

/// A member that enters and leaves in all ways while batches are being delivered.
struct Visitor {
    rooms: ChatRooms,
    random: Random,
    errors: Vec<String>,
}

impl Visitor {
    /// Reads some messages. Returns whether the connection is still open.
    async fn read(&mut self, client: &mut Client, seq: &mut u64, max: u64) -> bool {
        for _ in 0..max {
            match timeout(MOMENT, client.next_or_close()).await {
                Err(_) => return true,
                Ok(Next::Closed(_)) => return false,
                Ok(Next::Frame(frame)) if frame["event"] == "message" => {
                    *seq += 1;
                    if frame["seq"] != *seq {
                        self.errors.push(format!("{seq} expected: {frame}"));
                    }
                }
                Ok(Next::Frame(_)) => {}
            }
        }
        true
    }

    /// Reads up to the frame with this event. Returns it, and the frames of the room before it; `None` if the connection
    /// has ended.
    async fn until(client: &mut Client, event: &str) -> Option<(Vec<Value>, Value)> {
        let mut before = Vec::new();
        loop {
            match client.next_or_close().await {
                Next::Closed(_) => return None,
                Next::Frame(frame) if frame["event"] == event => return Some((before, frame)),
                Next::Frame(frame) => before.push(frame),
            }
        }
    }

    async fn visit(&mut self) {
        let (mut client, welcome) = Client::connect_v1(&self.rooms, Admission::anonymous()).await;
        client.send(enter_frame("eve", "r")).await;
        let Some((_, entered)) = Visitor::until(&mut client, "entered").await else { return };
        let mut seq = entered["seq"].as_u64().unwrap();
        let max = self.random.below(5);
        if !self.read(&mut client, &mut seq, max).await {
            return;
        }
        match self.random.below(5) {
            0 => drop(client.ws.close(None).await),
            1 => client.task.abort(),
            2 => {
                // After the answer to the leave, no frame of the room comes, not even before those of another room.
                client.send(leave_frame("r")).await;
                if Visitor::until(&mut client, "left").await.is_none() {
                    return;
                }
                client.send(enter_frame("eve", "q")).await;
                let Some((before, _)) = Visitor::until(&mut client, "entered").await else { return };
                self.errors
                    .extend(before.iter().filter(|f| f["roomId"] == "r").map(|f| format!("after left: {f}")));
            }
            _ => {
                let since = json!({"epoch": entered["epoch"], "seq": seq});
                drop(client);
                let (mut client, _) = Client::connect_v1(&self.rooms, Admission::anonymous()).await;
                client.send(json!({"event": "resume", "message": [welcome["resume"]]})).await;
                client.send(enter_since("eve", "r", &since)).await;
                let Some((_, again)) = Visitor::until(&mut client, "entered").await else { return };
                if again["recovered"] != true {
                    self.errors.push(format!("not recovered: {again}"));
                }
                let max = 2 + self.random.below(5);
                self.read(&mut client, &mut seq, max).await;
            }
        }
    }
}

/// Kicks visitors until it is told to stop.
async fn kick_visitors(rooms: ChatRooms, stop: Arc<AtomicBool>) {
    let mut random = Random::new(7);
    while !stop.load(Ordering::Relaxed) {
        let visitors: Vec<_> = rooms.members("r").into_iter().filter(|m| m.name.as_str() == "eve").collect();
        if !visitors.is_empty() {
            rooms.kick(visitors[random.below(visitors.len() as u64) as usize].connection);
        }
        sleep(Duration::from_millis(3)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn visitors_that_resume_are_kicked_or_have_faulty_io_disturb_nobody() {
    let recovery = Recovery::default().resume_window(Duration::from_millis(200)).history(History::last(1000));
    let rooms = unlimited().presence(Presence::Count).recovery(recovery).build().unwrap();
    let mut members = Vec::new();
    for _ in 0..LISTENERS + SPEAKERS {
        members.push(enter(&rooms).await);
    }
    let mut faulty = Vec::new();
    for n in 0..20 {
        let (mut writes, panics_at) = (0, 5 + n);
        let io = |io| {
            TestIo::new(io, move |_, bytes| {
                writes += 1;
                assert!(writes < panics_at, "on purpose");
                // Every other one takes nothing any more, and never will.
                if writes > 3 && n % 2 == 0 { Poll::Pending } else { Poll::Ready(bytes.len()) }
            })
        };
        let mut client = Client::connect_through(&rooms, v1_admission(), io).await;
        client.send(enter_frame("bad", "r")).await;
        faulty.push(client);
    }
    let all = (SPEAKERS * MESSAGES * 2) as u64;
    let listen = |(mut client, mut seq): (Client, u64), is_speaker: bool| async move {
        let mut sent = 0;
        for _ in 0..all {
            if is_speaker && sent < MESSAGES * 2 {
                sent += 1;
                client.send(message_frame("r", "hi")).await;
                yield_now().await;
            }
            next_message(&mut client, &mut seq).await;
        }
        client
    };
    let stop = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> = (0..8)
        .map(|seed| {
            let (rooms, stop) = (rooms.clone(), stop.clone());
            tokio::spawn(async move {
                let mut visitor = Visitor { rooms, random: Random::new(seed), errors: Vec::new() };
                while !stop.load(Ordering::Relaxed) {
                    visitor.visit().await;
                }
                visitor.errors
            })
        })
        .collect();
    let kicking = tokio::spawn(kick_visitors(rooms.clone(), stop.clone()));
    let clients: Vec<_> = members
        .into_iter()
        .enumerate()
        .map(|(n, member)| tokio::spawn(listen(member, n >= LISTENERS)))
        .collect();
    let mut listeners = Vec::new();
    for client in clients {
        listeners.push(client.await.unwrap());
    }
    stop.store(true, Ordering::Relaxed);
    kicking.await.unwrap();
    for visitor in visitors {
        assert_eq!(visitor.await.unwrap(), Vec::<String>::new());
    }
    // What the host sends comes before the end of the room, and nothing after it.
    let notices: Vec<_> =
        (0..5).map(|n| rooms.send("r", &json!({"event": "notice", "n": n})).unwrap()).collect();
    if has_shared_broker() {
        for notice in notices {
            notice.await.unwrap();
        }
    }
    rooms.close_room("r");
    for mut client in listeners {
        for n in 0..5 {
            assert_eq!(client.next_of("notice").await["n"], n);
        }
        client.next_of("left").await;
        client.send(enter_frame("ann", "q")).await;
        while let Some(Ok(Message::Text(text))) = client.ws.next().await {
            let frame: Value = serde_json::from_str(&text).unwrap();
            assert_ne!(frame["roomId"], "r", "{frame}");
            if frame["event"] == "entered" {
                break;
            }
        }
    }
    drop(faulty);
    rooms.shutdown().await;
    assert_empty(&rooms);
}

/// A batch used to be lost for the members that the flush task had not come to.
#[test]
fn members_get_what_a_runtime_that_has_ended_did_not_deliver() {
    skip_with_broker!("the broker runs on the runtime that ends");
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rooms = unlimited().presence(Presence::Count).build().unwrap();
    let (first, second) = (runtime(), runtime());
    let (mut bob, _) = first.block_on(enter(&rooms));
    let mut others = Vec::new();
    for _ in 0..300 {
        others.push(second.block_on(enter(&rooms)));
    }
    first.block_on(async {
        bob.send(message_frame("r", "one")).await;
        // When bob has it, the members of the second chunk have not.
        bob.next_of("message").await;
    });
    drop(first);
    second.block_on(async {
        others[0].0.send(message_frame("r", "two")).await;
        for (client, seq) in &mut others {
            for text in ["one", "two"] {
                assert_eq!(next_message(client, seq).await["message"], text);
            }
        }
    });
}

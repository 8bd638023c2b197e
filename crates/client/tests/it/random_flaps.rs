//! Chats that join rooms, send and leave at random, over connections that break at random, against a real server. What
//! each member receives is compared with what an observer has received.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tower_chat_rooms::{ChatRooms, History, Recovery};
use tower_chat_rooms_client::{Chat, Client, ClientError, ClientEvent, ClientSender, Sending};

use crate::scripted_server::PATIENCE;
use crate::support::{Replaceable, assert_empty, unlimited};

const ROOMS: [&str; 4] = ["a", "b", "c", "d"];
const CHATS: u64 = 3;

const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const LONGEST_BACKOFF: Duration = Duration::from_millis(200);

/// How many things each chat does.
const STEPS: u64 = 120;

/// Pseudo-random numbers (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    /// Other numbers.
    pub(crate) fn fork(&mut self) -> Random {
        Random::new(self.below(u64::MAX >> 11))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    pub(crate) async fn pause(&mut self, millis: u64) {
        sleep(Duration::from_millis(self.below(millis))).await;
    }
}

/// The frames of a room that a client has received, by `seq`, as text.
type Frames = BTreeMap<u64, String>;

/// Takes all events of a client until it has left. No frame may be missing or come twice.
async fn collect(mut client: Client) -> Frames {
    let mut frames = Frames::new();
    while let Some(event) = timeout(PATIENCE, client.recv()).await.expect("no event") {
        match event {
            ClientEvent::Enter(frame) | ClientEvent::Out(frame) | ClientEvent::Message(frame) => {
                let seq = frame.seq().unwrap();
                let text = format!("{} {} {}", frame.event(), frame.name().unwrap(), frame.message());
                let last = frames.last_key_value().map(|(last, _)| *last);
                assert!(last.is_none_or(|last| seq == last + 1), "{seq} after {last:?}: {text}");
                frames.insert(seq, text);
            }
            ClientEvent::Gap { .. } | ClientEvent::Overflow { .. } | ClientEvent::Error(_) => {
                panic!("{event:?}")
            }
            _ => {}
        }
    }
    frames
}

/// A chat's stay in a room.
struct Stay {
    room: &'static str,
    sender: ClientSender,
    frames: JoinHandle<Frames>,
}

/// What is to be checked once a chat has done everything.
#[derive(Default)]
struct Results {
    /// By room: what the chat received during a stay.
    received: Vec<(&'static str, Frames)>,
    /// By room: the text of each message and the result of sending it.
    sent: Vec<(&'static str, String, Result<u64, ClientError>)>,
    /// The rooms that the chat is in at the end.
    rooms: Vec<&'static str>,
}

/// Joins, sends and leaves at random.
async fn wander(chat: &Chat, name: String, mut random: Random) -> (Vec<Stay>, Results) {
    let mut stays: Vec<Stay> = Vec::new();
    let mut sendings: Vec<(&'static str, String, Sending)> = Vec::new();
    let mut results = Results::default();
    for step in 0..STEPS {
        let room = ROOMS[random.below(ROOMS.len() as u64) as usize];
        let at = stays.iter().position(|stay| stay.room == room);
        match (random.below(10), at) {
            (0..2, None) => {
                let client = timeout(PATIENCE, chat.join(room, &name)).await.expect("not joined").unwrap();
                stays.push(Stay { room, sender: client.sender(), frames: tokio::spawn(collect(client)) });
            }
            (0, Some(at)) => {
                let Stay { sender, frames, .. } = stays.swap_remove(at);
                timeout(PATIENCE, sender.leave()).await.expect("not left");
                results.received.push((room, frames.await.unwrap()));
            }
            (2..8, Some(at)) => {
                let text = format!("{name} {step}");
                sendings.push((room, text.clone(), stays[at].sender.send(&text)));
            }
            _ => random.pause(200).await,
        }
    }
    for (room, text, sending) in sendings {
        let result = timeout(PATIENCE, sending).await.expect("no result");
        results.sent.push((room, text, result));
    }
    results.rooms = stays.iter().map(|stay| stay.room).collect();
    (stays, results)
}

/// Breaks a network at random.
pub(crate) async fn flap(server: Replaceable, mut random: Random) {
    loop {
        random.pause(800).await;
        server.cut();
        random.pause(400).await;
        server.mend();
    }
}

fn names(rooms: &ChatRooms, room: &str) -> Vec<String> {
    let mut names: Vec<String> = rooms.members(room).iter().map(|member| member.name.to_string()).collect();
    names.sort();
    names
}

async fn run(seed: u64) {
    let recovery = Recovery::default().resume_window(PATIENCE).history(History::last(10_000));
    let rooms = unlimited().recovery(recovery).build().unwrap();
    let observer = Replaceable::new(rooms.clone()).chat().await.unwrap();
    let mut observers = Vec::new();
    for room in ROOMS {
        let client = observer.join(room, "observer").await.unwrap();
        observers.push((room, tokio::spawn(collect(client))));
    }
    let mut wandering = Vec::new();
    for n in 0..CHATS {
        let server = Replaceable::new(rooms.clone());
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n + 1).wrapping_mul(0x2545_f491_4f6c_dd1d);
        let flapping = tokio::spawn(flap(server.clone(), Random::new(seed)));
        wandering.push(tokio::spawn(async move {
            let chat = server.chat().first_timeout(PATIENCE).backoff(FIRST_BACKOFF, LONGEST_BACKOFF);
            let chat = chat.await.unwrap();
            let (stays, results) = wander(&chat, format!("n{n}"), Random::new(seed)).await;
            flapping.abort();
            server.mend();
            // After this, the server has handled everything before.
            let last = chat.join("last", "n").await.unwrap();
            last.leave().await;
            (chat, stays, results)
        }));
    }
    let (mut chats, mut all, mut stays) = (Vec::new(), Vec::new(), Vec::new());
    let mut expected: BTreeMap<&str, Vec<String>> =
        ROOMS.iter().map(|room| (*room, vec!["observer".to_owned()])).collect();
    for (n, chat) in wandering.into_iter().enumerate() {
        let (chat, last_stays, results) = chat.await.unwrap();
        for room in &results.rooms {
            expected.get_mut(room).unwrap().push(format!("n{n}"));
        }
        chats.push(chat);
        all.push(results);
        stays.push(last_stays);
    }
    for (room, mut members) in expected {
        members.sort();
        assert_eq!(names(&rooms, room), members, "members of {room}");
    }
    let report = rooms.check_consistency();
    assert_eq!((report.sessions, report.faults), (CHATS as usize + 1, Vec::new()));

    for (results, stays) in all.iter_mut().zip(stays) {
        for Stay { room, sender, frames } in stays {
            sender.leave().await;
            results.received.push((room, frames.await.unwrap()));
        }
    }
    for chat in chats {
        chat.close().await;
    }
    observer.close().await;
    let mut logs = BTreeMap::new();
    for (room, frames) in observers {
        logs.insert(room, frames.await.unwrap());
    }
    all.iter().for_each(|results| check(results, &logs));
    rooms.shutdown().await;
    assert_empty(&rooms);
}

/// Compares what a chat has sent and received with what the observer has received.
fn check(results: &Results, logs: &BTreeMap<&str, Frames>) {
    for (room, received) in &results.received {
        let log = &logs[room];
        received.iter().for_each(|(seq, text)| assert_eq!(log.get(seq), Some(text), "{seq} in {room}"));
    }
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for (room, text, result) in &results.sent {
        let suffix = format!(r#" "{text}""#);
        let mut places = logs[room].iter().filter(|(_, frame)| frame.ends_with(&suffix));
        let place = places.next().map(|(seq, _)| *seq);
        assert_eq!(places.next(), None, "{text} was published twice");
        match result {
            Ok(seq) => assert_eq!(place, Some(*seq), "{text}"),
            // The room was left before the acknowledgement.
            Err(error) => assert!(matches!(error, ClientError::Closed { .. }), "{text}: {error}"),
        }
        if let Some(place) = place {
            let before = last.insert(room, place);
            assert!(before < Some(place), "{text} at {place} after {before:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_message_is_delivered_once_and_in_order_and_no_ghost_remains() {
    for seed in 1..=20 {
        println!("seed {seed}");
        run(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_break_all_the_time_do_not_end_the_session_of_a_client_with_the_default_backoff() {
    let recovery = Recovery::default().resume_window(Duration::from_secs(10));
    let server = Replaceable::new(ChatRooms::builder().recovery(recovery).build().unwrap());
    let mut client = server.client().name("ann").await.unwrap();
    let breaking = tokio::spawn(async move {
        let mut random = Random::new(1);
        loop {
            sleep(Duration::from_millis(200)).await;
            random.pause(1800).await;
            server.cut();
            // Some attempts fail.
            random.pause(150).await;
            server.mend();
        }
    });
    let mut stays = 0;
    let _ = timeout(PATIENCE, async {
        while let Some(event) = client.recv().await {
            match event {
                ClientEvent::Entered { resumed, .. } => {
                    assert!(resumed || stays == 0, "the session has ended after {stays} stays");
                    stays += 1;
                }
                ClientEvent::Gap { .. } => panic!("{event:?}"),
                _ => {}
            }
        }
    })
    .await;
    assert!(stays > 50, "{stays}");
    breaking.abort();
}

//! Rooms with clients while Postgres crashes, restarts and stops answering.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tower_chat_rooms::store::{MessageStore, PageRange, StoredMessage};
use tower_chat_rooms::{
    ChatRooms, Keep, MessageId, MessageRequest, RateLimits, RoomId, RoomPolicy, Timeouts, Verdict,
};
use tower_chat_rooms_client::{Client, ClientEvent, ClientSender};
use tower_chat_rooms_store::{Error, PostgresStore};

use crate::PATIENCE;
use crate::faults::all;
use crate::server::Server;

const ROOMS: [&str; 3] = ["a", "b", "c"];

/// Messages of this room are not stored.
const LIVE: &str = "live";

/// Clients of a room.
const CLIENTS: usize = 3;

/// What the last message of a room says.
const END: &str = "end";

struct NeverInLive;

impl RoomPolicy for NeverInLive {
    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        Verdict::allow().keep(if request.room().as_str() == LIVE { Keep::Never } else { Keep::First })
    }
}

/// Notes which messages the database may have although their append has failed. If a client sends such a message again,
/// it keeps its id, so it may come after messages with higher ids.
#[derive(Clone)]
struct Noting {
    store: PostgresStore,
    doubtful: Arc<Mutex<HashSet<(RoomId, MessageId)>>>,
    /// Appends that have failed, or that the engine has given up.
    failures: watch::Sender<u64>,
}

/// Counts an append as a failure when it is dropped, unless it has succeeded.
struct Attempt<'a> {
    failures: &'a watch::Sender<u64>,
    is_ok: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_ok {
            self.failures.send_modify(|failures| *failures += 1);
        }
    }
}

impl MessageStore for Noting {
    type Error = Error;

    async fn append(&self, room: &RoomId, messages: &[StoredMessage]) -> Result<Vec<MessageId>, Error> {
        // Before the call, which the engine may drop.
        let mut new: Vec<_> = messages.iter().map(|message| (room.clone(), message.id())).collect();
        {
            let mut doubtful = self.doubtful.lock().unwrap();
            new.retain(|message| doubtful.insert(message.clone()));
        }
        let mut attempt = Attempt { failures: &self.failures, is_ok: false };
        let ids = self.store.append(room, messages).await?;
        attempt.is_ok = true;
        let mut doubtful = self.doubtful.lock().unwrap();
        for message in &new {
            doubtful.remove(message);
        }
        Ok(ids)
    }

    async fn page(&self, room: &RoomId, range: PageRange, limit: usize) -> Result<Vec<StoredMessage>, Error> {
        self.store.page(room, range, limit).await
    }
}

/// A message as a client receives it: its text and its id.
type Received = (String, MessageId);

/// Clients that send and read.
struct Load {
    senders: Vec<(&'static str, ClientSender)>,
    /// For each client, its room, and what it receives until the last message of the room.
    readers: Vec<(&'static str, JoinHandle<Vec<Received>>)>,
    /// They return the room and the texts of acknowledged messages.
    writers: JoinSet<(&'static str, Vec<String>)>,
    acknowledged: watch::Sender<u64>,
    is_over: watch::Sender<bool>,
}

impl Load {
    async fn start(url: &str) -> Load {
        let (mut senders, mut readers) = (Vec::new(), Vec::new());
        for room in ROOMS {
            for n in 0..CLIENTS {
                let client = enter(url, room, &format!("{n}")).await;
                senders.push((room, client.sender()));
                readers.push((room, tokio::spawn(read(client))));
            }
        }
        let (acknowledged, is_over) = (watch::Sender::new(0), watch::Sender::new(false));
        let mut writers = JoinSet::new();
        // All clients have entered before the first message.
        for (n, (room, sender)) in senders.iter().cloned().enumerate() {
            writers.spawn(write(n, room, sender, acknowledged.clone(), is_over.subscribe()));
        }
        Load { senders, readers, writers, acknowledged, is_over }
    }

    /// Waits for so many more acknowledgements.
    async fn until_acknowledged(&self, more: u64, when: &str) {
        until(&self.acknowledged, more, when).await;
    }

    /// Ends it, and checks what clients have received and what is stored.
    async fn check(self, store: &Noting) {
        self.is_over.send_replace(true);
        let mut sent: HashMap<&str, Vec<String>> = HashMap::new();
        for (room, texts) in self.writers.join_all().await {
            sent.entry(room).or_default().extend(texts);
        }
        for (room, sender) in self.senders.iter().step_by(CLIENTS) {
            send(sender, END).await;
            sent.entry(room).or_default().push(END.to_owned());
        }
        let mut received: HashMap<&str, Vec<Received>> = HashMap::new();
        for (room, reader) in self.readers {
            let messages = timeout(PATIENCE, reader).await.unwrap().unwrap();
            let others = received.entry(room).or_insert_with(|| messages.clone());
            assert_eq!(*others, messages, "the clients of a room receive the same");
        }
        for (room, messages) in received {
            let stored: Vec<Received> = all(&store.store, &room.into())
                .await
                .iter()
                .map(|message| (text(message), message.id()))
                .collect();
            let mut by_id = messages.clone();
            by_id.sort_by_key(|(_, id)| *id);
            assert_eq!(by_id, stored, "room {room}: what is received is what is stored");
            let mut texts: Vec<String> = stored.into_iter().map(|(text, _)| text).collect();
            texts.sort_unstable();
            let mut sent = sent.remove(room).unwrap_or_default();
            sent.sort_unstable();
            assert_eq!(texts, sent, "room {room}: each message is stored once");
            let doubtful = store.doubtful.lock().unwrap();
            let in_order: Vec<MessageId> = messages
                .iter()
                .map(|(_, id)| *id)
                .filter(|id| !doubtful.contains(&(room.into(), *id)))
                .collect();
            assert!(in_order.is_sorted_by(|a, b| a < b), "room {room}: the order is that of the ids");
            println!(
                "room {room}: {} messages, {} of them in doubt",
                messages.len(),
                messages.len() - in_order.len()
            );
        }
    }
}

/// Sends messages one after another to the room whose messages are not stored, and measures how long each takes.
struct Probe {
    task: JoinHandle<()>,
    times: watch::Sender<Vec<Duration>>,
}

impl Probe {
    async fn start(url: &str) -> Probe {
        let mut client = enter(url, LIVE, "probe").await;
        let times = watch::Sender::new(Vec::new());
        let measured = times.clone();
        let task = tokio::spawn(async move {
            let sender = client.sender();
            let reading = async { while client.recv().await.is_some() {} };
            let sending = async {
                loop {
                    let begin = Instant::now();
                    send(&sender, "hi").await;
                    measured.send_modify(|times| times.push(begin.elapsed()));
                    sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! { () = reading => {}, () = sending => {} }
        });
        Probe { task, times }
    }

    /// The median of the next messages.
    async fn median(&self) -> Duration {
        self.times.send_modify(Vec::clear);
        let mut times = self.times.subscribe();
        let times = timeout(PATIENCE, times.wait_for(|times| times.len() >= 50)).await;
        let mut times = times.expect("messages are acknowledged in time").unwrap().clone();
        times.sort_unstable();
        times[times.len() / 2]
    }
}

/// Waits until a number has risen by so much.
async fn until(number: &watch::Sender<u64>, more: u64, when: &str) {
    let goal = *number.borrow() + more;
    let mut number = number.subscribe();
    timeout(PATIENCE, number.wait_for(|number| *number >= goal)).await.expect(when).unwrap();
}

async fn enter(url: &str, room: &str, name: &str) -> Client {
    let client = Client::connect(url).name(name).room(room);
    timeout(PATIENCE, client.open()).await.expect("it enters in time").unwrap()
}

async fn send(sender: &ClientSender, text: &str) {
    let sending = sender.send(text);
    timeout(PATIENCE, sending)
        .await
        .expect("it is acknowledged in time")
        .expect("it is not refused for good");
}

async fn write(
    writer: usize,
    room: &'static str,
    sender: ClientSender,
    acknowledged: watch::Sender<u64>,
    is_over: watch::Receiver<bool>,
) -> (&'static str, Vec<String>) {
    let mut texts = Vec::new();
    while !*is_over.borrow() {
        // Several at a time, so that some wait while others are stored.
        let new: Vec<String> = (0..4).map(|n| format!("{writer}-{}", texts.len() + n)).collect();
        let sendings: Vec<_> = new.iter().map(|text| sender.send(text)).collect();
        for sending in sendings {
            let result = timeout(PATIENCE, sending).await.expect("it is acknowledged in time");
            result.expect("it is not refused for good");
            acknowledged.send_modify(|acknowledged| *acknowledged += 1);
        }
        texts.extend(new);
    }
    (room, texts)
}

/// Reads until the last message of the room.
async fn read(mut client: Client) -> Vec<Received> {
    let mut messages = Vec::new();
    loop {
        match client.recv().await.expect("the client stays") {
            ClientEvent::Message(frame) => {
                let text = frame.message().as_str().expect("a text").to_owned();
                let id = frame.id().and_then(MessageId::from_u64).expect("it has an id");
                let is_end = text == END;
                messages.push((text, id));
                if is_end {
                    return messages;
                }
            }
            event @ (ClientEvent::Gap { .. } | ClientEvent::Overflow { .. } | ClientEvent::Error(_)) => {
                panic!("{event:?}");
            }
            _ => {}
        }
    }
}

/// The text of a message as [`ClientSender::send`] sends it.
fn text(message: &StoredMessage) -> String {
    let text = message.body().rsplit_once("\"message\":\"").and_then(|(_, rest)| rest.split_once('"'));
    text.expect("a text").0.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_lose_no_message_while_postgres_fails() {
    let mut server = Server::start().await;
    let store =
        Noting { store: server.store().await, doubtful: Arc::default(), failures: watch::Sender::new(0) };
    let unlimited = RateLimits::default()
        .max_messages_per_second(u32::MAX)
        .max_bytes_per_second(usize::MAX)
        .max_new_rooms_per_minute(u32::MAX);
    let rooms = ChatRooms::builder()
        .store(store.clone())
        .policy(NeverInLive)
        // Shorter than Postgres is frozen below, so that clients have to send again.
        .timeouts(Timeouts::default().store_timeout(Duration::from_secs(1)))
        .rate_limits(unlimited)
        .build()
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let app = Router::new().route_service("/", rooms.service());
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let (load, probe) = (Load::start(&url).await, Probe::start(&url).await);

    for _ in 0..2 {
        load.until_acknowledged(100, "before a crash").await;
        server.kill();
        until(&store.failures, 3, "in a crash").await;
        server.spawn().await;
    }
    load.until_acknowledged(100, "after the crashes").await;
    server.begin_shutdown().await;
    server.end_shutdown();
    until(&store.failures, 3, "after a shutdown").await;
    server.spawn().await;
    load.until_acknowledged(100, "after a restart").await;

    let before = probe.median().await;
    let frozen = server.freeze();
    let (while_frozen, ()) = tokio::join!(probe.median(), sleep(Duration::from_secs(3)));
    drop(frozen);
    println!("a message that is not stored takes {before:?}, and {while_frozen:?} while Postgres is frozen");
    // If it waited for the store, it would take as long as the store's timeout.
    assert!(while_frozen < 10 * before + Duration::from_millis(500), "{before:?}, {while_frozen:?}");
    load.until_acknowledged(100, "after it was frozen").await;

    load.check(&store).await;
    assert_eq!(all(&store.store, &LIVE.into()).await, []);
    assert_eq!(rooms.check_consistency().faults, []);
    probe.task.abort();
    serving.abort();
}

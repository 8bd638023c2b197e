//! Clients that send and read messages of a room while servers, Redis or the database crash.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tower_chat_rooms::MessageId;
use tower_chat_rooms::store::{MAX_PAGE, MessageStore, PageRange, StoredMessage};
use tower_chat_rooms_client::{Client, ClientEvent, ClientSender};

use crate::PATIENCE;
use crate::standalone::Standalone;

pub(crate) const ROOM: &str = "r";

/// What the last messages of the room begin with.
const END: &str = "end";

/// Flags that remove the rate limits.
pub(crate) const UNLIMITED: [&str; 6] = [
    "--max-messages-per-second=0",
    "--max-enters-per-minute=0",
    "--max-new-rooms-per-minute=0",
    "--max-connects-per-minute-per-ip=0",
    "--max-enters-per-minute-per-ip=0",
    "--max-new-rooms-per-minute-per-ip=0",
];

/// What may happen in addition to lost connections.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Allowed {
    /// A client misses messages, and learns of the gap.
    pub(crate) gaps: bool,
    /// A message is refused and sent again, so that it arrives after later messages of its sender.
    pub(crate) refusals: bool,
}

/// What a client has received: the text and the id of each message, and the number of gaps.
#[derive(Default)]
struct Heard {
    messages: Vec<(String, u64)>,
    gaps: u64,
}

/// Clients that read messages. Some of them also send numbered messages.
pub(crate) struct Load {
    /// For each client, its name and what it has received.
    heard: Vec<(String, watch::Receiver<Heard>)>,
    /// The tasks that send. They return how many messages were acknowledged.
    writers: Vec<JoinHandle<u64>>,
    /// The sender of a writer.
    sender: ClientSender,
    acknowledged: watch::Sender<u64>,
    is_over: watch::Sender<bool>,
    /// The tasks that read. They are aborted when this is dropped.
    reading: JoinSet<()>,
}

/// A client that enters the room, and comes back quickly.
pub(crate) async fn client(server: &Standalone, name: &str) -> Client {
    let url = server.url().replacen("http", "ws", 1);
    let backoff = (Duration::from_millis(5), Duration::from_millis(50));
    let client = Client::connect(url).name(name).room(ROOM).backoff(backoff.0, backoff.1).max_events(100_000);
    timeout(PATIENCE, client.open()).await.expect("it enters in time").expect("it enters")
}

/// All messages of the room, as the database has them.
pub(crate) async fn stored(store: &impl MessageStore) -> Vec<StoredMessage> {
    let (mut messages, mut last) = (Vec::new(), MessageId::from_u64(0).expect("it is an id"));
    loop {
        let page = store.page(&ROOM.into(), PageRange::After(last), MAX_PAGE).await;
        let page = page.ok().expect("the database can be read");
        let Some(end) = page.last() else { return messages };
        last = end.id();
        messages.extend(page);
    }
}

impl Load {
    /// Begins to send. All clients must be in the room.
    pub(crate) fn start(readers: Vec<Client>, writers: Vec<Client>) -> Load {
        let (acknowledged, is_over) = (watch::Sender::new(0), watch::Sender::new(false));
        let (mut heard, mut tasks, mut reading) = (Vec::new(), Vec::new(), JoinSet::new());
        let sender = writers.first().expect("there is a writer").sender();
        for (n, client) in writers.iter().enumerate() {
            tasks.push(tokio::spawn(write(client.sender(), n, is_over.subscribe(), acknowledged.clone())));
        }
        let readers = readers.into_iter().enumerate().map(|(n, client)| (format!("reader {n}"), client));
        let writers = writers.into_iter().enumerate().map(|(n, client)| (format!("writer {n}"), client));
        for (name, client) in readers.chain(writers) {
            let (received, hearing) = watch::channel(Heard::default());
            reading.spawn(read(client, received));
            heard.push((name, hearing));
        }
        Load { heard, writers: tasks, sender, acknowledged, is_over, reading }
    }

    /// Waits until this many more messages are acknowledged.
    pub(crate) async fn until_acknowledged(&self, more: u64, when: &str) {
        let mut acknowledged = self.acknowledged.subscribe();
        let goal = *acknowledged.borrow() + more;
        let reached = timeout(PATIENCE, acknowledged.wait_for(|acknowledged| *acknowledged >= goal)).await;
        drop(reached.unwrap_or_else(|_| panic!("nothing is acknowledged {when}")));
    }

    /// Stops sending, waits until all clients have all messages, and checks that each acknowledged message is stored once,
    /// and that each client has received each stored message once, and no others. Returns how many messages there were.
    pub(crate) async fn check(mut self, store: &impl MessageStore, allowed: Allowed) -> String {
        self.is_over.send_replace(true);
        let mut sent = Vec::new();
        for writer in std::mem::take(&mut self.writers) {
            sent.push(writer.await.expect("it writes"));
        }
        self.until_all_have_the_last_message().await;
        let stored = stored(store).await;
        let ids: BTreeMap<u64, String> =
            stored.iter().map(|message| (message.id().as_u64(), text(message))).collect();
        check_stored(ids.values(), &sent, allowed);
        for (name, heard) in &self.heard {
            let Heard { messages, gaps } = &*heard.borrow();
            let (mut seen, mut latest, mut late) = (HashSet::new(), 0, 0);
            for (text, id) in messages {
                assert_eq!(ids.get(id), Some(text), "{name} has received what is not stored");
                assert!(seen.insert(*id), "{name} has received {text} twice");
                late += u64::from(*id < latest);
                latest = latest.max(*id);
            }
            assert!(*gaps == 0 || allowed.gaps, "{name} has gaps");
            let missed: Vec<&String> =
                ids.iter().filter(|(id, _)| !seen.contains(id)).map(|(_, text)| text).collect();
            println!(
                "{name}: {} received, {late} of them after later ones, {gaps} gaps, missed: {missed:?}",
                messages.len()
            );
            assert!(*gaps > 0 || missed.is_empty(), "{name} has missed {missed:?}");
        }
        format!("{} messages stored, {sent:?} acknowledged", stored.len())
    }

    /// Sends a last message, and waits until all clients have it. If a client learns meanwhile that it has missed messages,
    /// it may have missed this one, so another message follows.
    async fn until_all_have_the_last_message(&mut self) {
        for n in 0.. {
            let gaps = self.gaps();
            let end = format!("{END}-{n}");
            let sent = timeout(PATIENCE, self.sender.send(&end)).await;
            sent.expect("the last message is acknowledged in time").expect("it is sent");
            for ((name, heard), gaps) in self.heard.iter_mut().zip(&gaps) {
                let has_end = |heard: &Heard| {
                    heard.gaps > *gaps || heard.messages.last().is_some_and(|(text, _)| *text == end)
                };
                let ended = timeout(PATIENCE, heard.wait_for(has_end)).await;
                let ended = ended.unwrap_or_else(|_| panic!("{name} has not received the last message"));
                assert!(ended.is_ok(), "{name} is closed");
            }
            if self.gaps() == gaps {
                break;
            }
        }
        self.reading.abort_all();
    }

    fn gaps(&self) -> Vec<u64> {
        self.heard.iter().map(|(_, heard)| heard.borrow().gaps).collect()
    }
}

/// Checks that the stored messages of each writer are numbered from 0, in order, and include all acknowledged ones.
fn check_stored<'a>(texts: impl Iterator<Item = &'a String>, sent: &[u64], allowed: Allowed) {
    let mut numbers: HashMap<&str, Vec<u64>> = HashMap::new();
    for text in texts.filter(|text| !text.starts_with(END)) {
        let (writer, number) = text.split_once('-').expect("two numbers");
        numbers.entry(writer).or_default().push(number.parse().expect("a number"));
    }
    for (writer, count) in sent.iter().enumerate() {
        let mut numbers = numbers.remove(&*writer.to_string()).unwrap_or_default();
        if allowed.refusals {
            numbers.sort_unstable();
        }
        let expected: Vec<u64> = (0..*count).collect();
        assert_eq!(numbers, expected, "writer {writer}: each once, in order");
    }
}

/// Sends numbered messages until it is told to stop. Returns how many were acknowledged.
async fn write(
    sender: ClientSender,
    writer: usize,
    is_over: watch::Receiver<bool>,
    acknowledged: watch::Sender<u64>,
) -> u64 {
    let mut sent = 0;
    while !*is_over.borrow() {
        // Several at a time, so that some wait while the server stores others.
        let sendings: Vec<_> = (0..4).map(|n| sender.send(&format!("{writer}-{}", sent + n))).collect();
        for sending in sendings {
            timeout(PATIENCE, sending).await.expect("it is acknowledged in time").expect("it is sent");
            sent += 1;
            acknowledged.send_modify(|acknowledged| *acknowledged += 1);
        }
    }
    sent
}

async fn read(mut client: Client, received: watch::Sender<Heard>) {
    while let Some(event) = client.recv().await {
        match event {
            ClientEvent::Message(frame) => {
                let text = frame.message().as_str().expect("a text").to_owned();
                let id = frame.id().expect("it has an id");
                received.send_modify(|heard| heard.messages.push((text, id)));
            }
            ClientEvent::Gap { .. } | ClientEvent::Overflow { .. } => {
                received.send_modify(|heard| heard.gaps += 1);
            }
            _ => {}
        }
    }
}

fn text(message: &StoredMessage) -> String {
    let body: serde_json::Value = serde_json::from_str(message.body()).expect("an object");
    body["message"].as_str().expect("a text").to_owned()
}

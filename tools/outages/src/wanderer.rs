//! A client that joins rooms, sends, changes its state and leaves at random.

use std::net::SocketAddr;
use std::time::Duration;

use flaps::{Inbox, Network, Random};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tower_chat_rooms_client::{Chat, ChatHandle, ClientError, Sending};

use crate::ROOMS;
use crate::stay::{Changes, Shared, Stay};

/// The longest time for anything that a client waits for, faults included.
const PATIENCE: Duration = Duration::from_secs(240);

/// The longest pause between two things that a client does.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// Times between two attempts to connect.
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// Messages that may wait during the longest fault.
const MAX_UNSENT: usize = 10_000;

pub(crate) struct Wanderer {
    pub(crate) name: String,
    pub(crate) stays: Vec<Stay>,
    pub(crate) inbox: Inbox,
    network: Network,
    chat: ChatHandle,
    collecting: JoinHandle<()>,
    random: Random,
    /// The number of clients.
    clients: u64,
    sent: u64,
}

/// What a client has done in one round.
#[derive(Default)]
pub(crate) struct Results {
    /// The room and what was received there, for each room that the client has left.
    pub(crate) left: Vec<(usize, Shared)>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) directs: Vec<SentDirect>,
    pub(crate) faults: Vec<String>,
}

/// A message to a room.
pub(crate) struct Sent {
    pub(crate) room: usize,
    pub(crate) text: String,
    pub(crate) at: Instant,
    /// Up to the moment when it was sent.
    pub(crate) before: Changes,
    pub(crate) stay: Shared,
    pub(crate) result: Result<u64, ClientError>,
}

/// A message to a user.
pub(crate) struct SentDirect {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) text: String,
    pub(crate) at: Instant,
    pub(crate) result: Result<u64, ClientError>,
}

/// Messages that have no result yet.
#[derive(Default)]
struct Unanswered {
    messages: Vec<(Sent, Sending)>,
    directs: Vec<(SentDirect, Sending)>,
}

impl Wanderer {
    pub(crate) async fn new(
        n: u64,
        clients: u64,
        server: SocketAddr,
        seed: u64,
    ) -> Result<Wanderer, ClientError> {
        let network = Network::new(server);
        let dialed = network.clone();
        let name = format!("n{n}");
        let chat = Chat::over("ws://outages/chat", move || dialed.clone().dial())
            .token(&name)
            .first_timeout(PATIENCE)
            .max_unsent(MAX_UNSENT)
            .backoff(BACKOFF[0], BACKOFF[1])
            .await?;
        let (handle, inbox) = (chat.handle(), Inbox::with_gaps());
        let collecting = tokio::spawn(inbox.clone().collect(chat));
        let random = Random::new(seed);
        let stays = Vec::new();
        Ok(Wanderer { name, stays, inbox, network, chat: handle, collecting, random, clients, sent: 0 })
    }

    /// Does things at random until this time, while the network breaks. Afterwards the network works.
    pub(crate) async fn wander(&mut self, until: Instant) -> Results {
        let mut results = Results::default();
        let mut unanswered = Unanswered::default();
        let network = self.network.clone();
        let seed = Random::new(self.random.below(u64::MAX));
        tokio::select! {
            () = network.flap(seed) => {}
            () = async {
                while Instant::now() < until {
                    self.step(&mut results, &mut unanswered).await;
                }
            } => {}
        }
        self.network.mend();
        let latest = Instant::now() + PATIENCE;
        for (mut sent, sending) in unanswered.messages {
            match timeout_at(latest, sending).await {
                Ok(result) => {
                    sent.result = result;
                    results.sent.push(sent);
                }
                Err(_) => results.faults.push(format!("no result for {}", sent.text)),
            }
        }
        for (mut sent, sending) in unanswered.directs {
            match timeout_at(latest, sending).await {
                Ok(result) => {
                    sent.result = result;
                    results.directs.push(sent);
                }
                Err(_) => results.faults.push(format!("no result for {} to {}", sent.text, sent.to)),
            }
        }
        results
    }

    async fn step(&mut self, results: &mut Results, unanswered: &mut Unanswered) {
        let room = self.random.below(ROOMS as u64) as usize;
        let at = self.stays.iter().position(|stay| stay.room == room);
        match (self.random.below(30), at) {
            (0..4, None) => match timeout(PATIENCE, self.chat.join(room.to_string(), &self.name)).await {
                Ok(Ok(client)) => self.stays.push(Stay::new(room, client)),
                failed => results.faults.push(format!("{} can't join {room}: {failed:?}", self.name)),
            },
            (0, Some(at)) => {
                let stay = self.stays.swap_remove(at);
                match timeout(PATIENCE, stay.leave()).await {
                    Ok(received) => results.left.push((room, received)),
                    Err(_) => results.faults.push(format!("{} can't leave {room}", self.name)),
                }
            }
            (1..16, Some(at)) => {
                let text = self.text();
                let stay = self.stays[at].received().clone();
                let before = stay.lock().changes;
                let sending = self.stays[at].sender.send(&text);
                let sent = Sent { room, text, at: Instant::now(), before, stay, result: Ok(0) };
                unanswered.messages.push((sent, sending));
            }
            (16..18, Some(at)) => {
                self.sent += 1;
                if let Err(error) = self.stays[at].sender.set_state(&self.sent) {
                    results.faults.push(format!("{}: {error}", self.name));
                }
            }
            (18..20, Some(_)) => {
                let (to, text) = (format!("n{}", self.random.below(self.clients)), self.text());
                let sending = self.chat.send_to_user(to.clone(), &text);
                let (from, at, result) = (self.name.clone(), Instant::now(), Ok(0));
                unanswered.directs.push((SentDirect { from, to, text, at, result }, sending));
            }
            _ => sleep(self.random.time(LONGEST_PAUSE)).await,
        }
    }

    /// A text that was not sent before. Later ones have higher numbers.
    fn text(&mut self) -> String {
        self.sent += 1;
        format!("{} {}", self.name, self.sent)
    }

    /// Leaves all rooms and closes the connection.
    pub(crate) async fn end(self) {
        for stay in self.stays {
            stay.leave().await;
        }
        self.chat.close().await;
        let _ = self.collecting.await;
    }
}

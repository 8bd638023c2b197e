//! A client that joins rooms, sends, changes its state and leaves at random.

use std::time::Duration;

use flaps::{Inbox, Network, Random};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tower_chat_rooms_client::{Chat, ChatHandle, ClientError, Sending};

use crate::ROOMS;
use crate::stay::{Received, Stay};

/// The longest time for anything that a client waits for, faults of the network included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The longest pause between two things that a client does.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// Times between two attempts to connect.
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

pub(crate) struct Wanderer {
    pub(crate) name: String,
    pub(crate) stays: Vec<Stay>,
    pub(crate) inbox: Inbox,
    network: Network,
    chat: ChatHandle,
    random: Random,
    /// The number of clients.
    clients: u64,
    sent: u64,
}

/// What a client has done in one round.
#[derive(Default)]
pub(crate) struct Results {
    /// The room and what was received there, for each room that the client has left.
    pub(crate) left: Vec<(usize, Received)>,
    /// The room, the text and the result of each message.
    pub(crate) sent: Vec<(usize, String, Result<u64, ClientError>)>,
    /// Sender, recipient, text and result of each direct message.
    pub(crate) directs: Vec<(String, String, String, Result<u64, ClientError>)>,
    pub(crate) faults: Vec<String>,
}

/// Messages that have no result yet.
#[derive(Default)]
struct Unanswered {
    messages: Vec<(usize, String, Sending)>,
    directs: Vec<(String, String, Sending)>,
}

impl Wanderer {
    pub(crate) async fn new(n: u64, clients: u64, network: Network) -> Result<Wanderer, ClientError> {
        let dialed = network.clone();
        let name = format!("n{n}");
        let chat = Chat::over("ws://flaps/", move || dialed.clone().dial())
            .token(&name)
            .first_timeout(PATIENCE)
            .backoff(BACKOFF[0], BACKOFF[1])
            .await?;
        let (handle, inbox) = (chat.handle(), Inbox::default());
        tokio::spawn(inbox.clone().collect(chat));
        let random = Random::new(n + 1);
        Ok(Wanderer { name, stays: Vec::new(), inbox, network, chat: handle, random, clients, sent: 0 })
    }

    /// Does things at random until this time, while the network breaks. Afterwards the network works, and everything
    /// that was sent has a result.
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
        for (room, text, sending) in unanswered.messages {
            match timeout_at(latest, sending).await {
                Ok(result) => results.sent.push((room, text, result)),
                Err(_) => results.faults.push(format!("no result for {text}")),
            }
        }
        for (to, text, sending) in unanswered.directs {
            match timeout_at(latest, sending).await {
                Ok(result) => results.directs.push((self.name.clone(), to, text, result)),
                Err(_) => results.faults.push(format!("no result for {text} to {to}")),
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
                unanswered.messages.push((room, text.clone(), self.stays[at].sender.send(&text)));
            }
            (16..18, Some(at)) => {
                self.sent += 1;
                if let Err(error) = self.stays[at].sender.set_state(&self.sent) {
                    results.faults.push(format!("{}: {error}", self.name));
                }
            }
            (18..20, Some(_)) => {
                let (to, text) = (format!("n{}", self.random.below(self.clients)), self.text());
                unanswered.directs.push((to.clone(), text.clone(), self.chat.send_to_user(to, &text)));
            }
            _ => sleep(self.random.time(LONGEST_PAUSE)).await,
        }
    }
    /// A text that was not sent before. Later ones have higher numbers.
    fn text(&mut self) -> String {
        self.sent += 1;
        format!("{} {}", self.name, self.sent)
    }
}

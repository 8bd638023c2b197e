//! A client that joins rooms, sends and leaves at random.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};
use tower_chat_rooms_client::{Chat, ClientError, Sending};

use crate::ROOMS;
use crate::network::Network;
use crate::random::Random;
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
    network: Network,
    chat: Chat,
    random: Random,
    sent: u64,
}

/// What a client has done in one round.
#[derive(Default)]
pub(crate) struct Results {
    /// The room and what was received there, for each room that the client has left.
    pub(crate) left: Vec<(usize, Received)>,
    /// The room, the text and the result of each message.
    pub(crate) sent: Vec<(usize, String, Result<u64, ClientError>)>,
    pub(crate) faults: Vec<String>,
}

impl Wanderer {
    pub(crate) async fn new(n: u64, network: Network) -> Result<Wanderer, ClientError> {
        let dialed = network.clone();
        let chat = Chat::over("ws://flaps/", move || dialed.clone().dial())
            .first_timeout(PATIENCE)
            .backoff(BACKOFF[0], BACKOFF[1])
            .await?;
        Ok(Wanderer {
            name: format!("n{n}"),
            stays: Vec::new(),
            network,
            chat,
            random: Random::new(n + 1),
            sent: 0,
        })
    }

    /// Does things at random until this time, while the network breaks. Afterwards the network works, and everything
    /// that was sent has a result.
    pub(crate) async fn wander(&mut self, until: Instant) -> Results {
        let mut results = Results::default();
        let mut sending: Vec<(usize, String, Sending)> = Vec::new();
        let network = self.network.clone();
        let seed = Random::new(self.random.below(u64::MAX));
        tokio::select! {
            () = network.flap(seed) => {}
            () = async {
                while Instant::now() < until {
                    self.step(&mut results, &mut sending).await;
                }
            } => {}
        }
        self.network.mend();
        let latest = Instant::now() + PATIENCE;
        for (room, text, sending) in sending {
            match timeout_at(latest, sending).await {
                Ok(result) => results.sent.push((room, text, result)),
                Err(_) => results.faults.push(format!("no result for {text}")),
            }
        }
        results
    }

    async fn step(&mut self, results: &mut Results, sending: &mut Vec<(usize, String, Sending)>) {
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
            (1..20, Some(at)) => {
                self.sent += 1;
                let text = format!("{} {}", self.name, self.sent);
                sending.push((room, text.clone(), self.stays[at].sender.send(&text)));
            }
            _ => sleep(self.random.time(LONGEST_PAUSE)).await,
        }
    }
}

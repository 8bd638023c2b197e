//! Direct messages between clients that lose their connections at random: each arrives once and in order.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tower_chat_rooms::{ChatRooms, DirectRequest, Recovery, RoomPolicy, Verdict};

use crate::support::{DirectClient, Got, RESUME_WINDOW, assert_empty, builder};

struct AllowAll;

impl RoomPolicy for AllowAll {
    fn may_send_direct(&self, request: &DirectRequest<'_>) -> Verdict {
        match request.text().as_deref() {
            Some("later") => Verdict::later(async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Verdict::allow()
            }),
            _ => Verdict::allow(),
        }
    }
}

/// A step of a run. Clients 0 and 1 are of the same user, to whom client 2 sends messages.
#[derive(Debug, Clone)]
enum Step {
    /// The host sends a message to the user.
    SendAsHost,
    /// Client 2 sends a message. The policy may decide later.
    Send { later: bool },
    /// A client reads up to this many of the frames that have arrived.
    Read(usize, usize),
    /// A client's connection is lost with everything in it.
    Disconnect(usize),
    /// A client connects again, whether or not the server has noticed that the old connection is lost. It may get frames
    /// of the new connection's own session before it resumes.
    Connect { client: usize, sends_meanwhile: bool },
    /// Milliseconds pass.
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::SendAsHost),
        4 => any::<bool>().prop_map(|later| Step::Send { later }),
        3 => (0usize..3, 0usize..4).prop_map(|(client, max)| Step::Read(client, max)),
        2 => (0usize..3).prop_map(Step::Disconnect),
        3 => (0usize..3, any::<bool>())
            .prop_map(|(client, sends_meanwhile)| Step::Connect { client, sends_meanwhile }),
        1 => (0u64..100).prop_map(Step::Wait),
    ]
}

struct Run {
    rooms: ChatRooms,
    clients: [DirectClient; 3],
    /// How many messages the host has sent.
    of_host: u64,
    /// The messages of client 2.
    messages: Vec<Value>,
}

impl Run {
    async fn new() -> Run {
        let recovery = Recovery::default().resume_window(RESUME_WINDOW);
        let rooms = builder().policy(AllowAll).recovery(recovery).build().unwrap();
        let clients = [
            DirectClient::connect(&rooms, "u").await,
            DirectClient::connect(&rooms, "u").await,
            DirectClient::connect(&rooms, "a").await,
        ];
        Run { rooms, clients, of_host: 0, messages: Vec::new() }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::SendAsHost => self.send_as_host(),
            Step::Send { later } => {
                let text = if later { "later" } else { "now" };
                let cid = format!("c{}", self.messages.len());
                let message = json!({"event": "direct", "message": text, "to": "u", "cid": cid});
                self.messages.push(message.clone());
                if self.clients[2].is_open {
                    self.clients[2].connection.send(message).await;
                }
            }
            Step::Read(client, max) => self.clients[client].read_up_to(max).await,
            Step::Disconnect(client) if self.clients[client].is_open => {
                self.clients[client].disconnect().await
            }
            Step::Disconnect(_) => {}
            Step::Connect { client, sends_meanwhile } => self.connect(client, sends_meanwhile).await,
            Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
    }

    fn send_as_host(&mut self) {
        self.of_host += 1;
        self.rooms.send_to_user("u", &json!({"event": "x", "message": self.of_host})).unwrap();
    }

    async fn connect(&mut self, client: usize, sends_meanwhile: bool) {
        self.clients[client].open(&self.rooms).await;
        if sends_meanwhile {
            self.send_as_host();
            self.clients[client].read_up_to(1).await;
        }
        self.clients[client].send_resume().await;
        if client == 2 {
            for message in self.unacknowledged() {
                self.clients[2].connection.send(message).await;
            }
        }
    }

    /// The messages of client 2 that it has to send again.
    fn unacknowledged(&self) -> Vec<Value> {
        let acks = &self.clients[2].others;
        let is_open = |message: &&Value| !acks.iter().any(|ack| ack["cid"] == message["cid"]);
        self.messages.iter().filter(is_open).cloned().collect()
    }

    /// Lets all clients connect and read.
    async fn finish(&mut self) {
        for client in 0..3 {
            self.connect(client, false).await;
        }
        // As many milliseconds as the policy may take for all messages together.
        tokio::time::sleep(Duration::from_millis(20 * self.messages.len() as u64 + 20)).await;
        for client in &mut self.clients {
            client.read().await;
        }
    }
}

fn is_of_host(frame: &Value) -> bool {
    frame["event"] == "x"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn each_direct_message_arrives_once_and_in_order(steps in prop::collection::vec(any_step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut run = Run::new().await;
            for step in steps {
                run.take(step).await;
            }
            run.finish().await;
            assert_eq!(run.unacknowledged(), [] as [Value; 0]);
            for client in &run.clients[..2] {
                let frames = client.got.iter().map(|got| match got {
                    Got::Direct(frame) => frame.clone(),
                    lost => panic!("{lost:?}"),
                });
                let (of_host, of_client): (Vec<_>, Vec<_>) = frames.partition(is_of_host);
                assert!(of_host.iter().map(|frame| frame["message"].as_u64().unwrap()).eq(1..=run.of_host));
                let cids = |frames: &[Value]| frames.iter().map(|frame| frame["cid"].clone()).collect::<Vec<_>>();
                assert_eq!(cids(&of_client), cids(&run.messages));
            }
            assert_eq!(run.clients[2].got, []);
            for client in run.clients {
                client.connection.close().await;
            }
            assert_empty(&run.rooms);
        });
    }
}

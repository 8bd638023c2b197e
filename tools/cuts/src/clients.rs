//! The clients, in this process or in another one.

use std::net::SocketAddr;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc;
use tower_chat_rooms_client::{Client, ClientEvent, ClientSender};

use crate::Failure;
use crate::event::{Event, What};
use crate::server::run;

const ROOM: &str = "cuts";

/// The clients, and the member that sends.
pub(crate) enum Clients {
    /// Clients of `tower-chat-rooms-client`.
    OfCrate(ClientSender),
    /// Clients in another program, which is killed when this is dropped.
    OfProgram(ChildStdin, #[expect(dead_code, reason = "it is killed when this is dropped")] Child),
}

impl Clients {
    pub(crate) async fn of_crate(
        server: SocketAddr,
        addresses: Vec<SocketAddr>,
        report: mpsc::UnboundedSender<Event>,
    ) -> Result<Clients, Failure> {
        let mut sending = Client::connect(format!("ws://{server}/")).room(ROOM).name("sender").await?;
        let sender = sending.sender();
        tokio::spawn(async move { while sending.recv().await.is_some() {} });
        for (n, address) in addresses.into_iter().enumerate() {
            let client = Client::connect(format!("ws://{address}/")).room(ROOM).name(format!("n{n}")).await?;
            tokio::spawn(watch(n, client, report.clone()));
        }
        Ok(Clients::OfCrate(sender))
    }

    pub(crate) fn of_program(
        command: &str,
        server: SocketAddr,
        addresses: &[SocketAddr],
        report: mpsc::UnboundedSender<Event>,
    ) -> Result<Clients, Failure> {
        let mut program = run(command)?;
        program.arg(server.to_string()).args(addresses.iter().map(SocketAddr::to_string));
        let mut process = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = process.stdin.take().ok_or("no standard input")?;
        let output = process.stdout.take().ok_or("no standard output")?;
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if report.send(Event::parse(&line)).is_err() {
                    return;
                }
            }
        });
        Ok(Clients::OfProgram(input, process))
    }

    /// Sends a message to the room.
    pub(crate) async fn send(&mut self, number: u64) -> Result<(), Failure> {
        match self {
            Clients::OfCrate(sender) => {
                let sending = sender.send(&number);
                tokio::spawn(async move {
                    if let Err(error) = sending.await {
                        println!("{number} was not sent: {error}");
                    }
                });
                Ok(())
            }
            Clients::OfProgram(input, _) => {
                Ok(input.write_all(format!("send {number}\n").as_bytes()).await?)
            }
        }
    }
}

async fn watch(n: usize, mut client: Client, report: mpsc::UnboundedSender<Event>) {
    while let Some(event) = client.recv().await {
        let what = match event {
            ClientEvent::Entered { resumed, .. } => What::Entered { resumed },
            ClientEvent::Message(frame) => match frame.message().as_u64() {
                Some(number) => What::Got(number),
                None => What::Note(format!("client {n}: not a number")),
            },
            ClientEvent::Gap { .. } | ClientEvent::Overflow { .. } | ClientEvent::Error(_) => {
                What::Note(format!("client {n}: {event:?}"))
            }
            _ => continue,
        };
        if report.send(Event::now(n, what)).is_err() {
            return;
        }
    }
}

//! `examples/cluster/run`: all servers are replaced, one after the other, and nobody notices.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tower_chat_rooms_client::{Client, ClientEvent, ClientState};

/// How long it may take to replace all servers, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// Each server has some of them.
const CLIENTS: usize = 9;

/// The script.
struct Cluster {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl Cluster {
    async fn start(balancer: &str) -> Cluster {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster/run");
        let port = free_ports().await;
        let mut process = Command::new(script)
            .env("PORT", port.to_string())
            .env("BALANCER", balancer)
            .env("DRAIN", "1s")
            .env("STANDALONE", env!("CARGO_BIN_EXE_standalone"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the script starts");
        let output = BufReader::new(process.stdout.take().expect("stdout is a pipe")).lines();
        let mut cluster = Cluster { process, output, url: format!("ws://127.0.0.1:{port}/") };
        cluster.until("The logs are in").await;
        cluster
    }

    async fn type_line(&mut self, line: &str) {
        let stdin = self.process.stdin.as_mut().expect("stdin is a pipe");
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("the script reads");
    }

    /// Waits until the script prints a line that begins with this.
    async fn until(&mut self, start: &str) {
        let printed = async {
            while let Some(line) = self.output.next_line().await.expect("its output is text") {
                if line.starts_with(start) {
                    return;
                }
            }
            panic!("the script has ended");
        };
        timeout(PATIENCE, printed).await.unwrap_or_else(|_| panic!("it does not print {start:?}"));
    }

    async fn end(mut self) {
        let id = self.process.id().expect("it is running");
        let _ = std::process::Command::new("sh").arg("-c").arg(format!("kill {id}")).status();
        timeout(PATIENCE, self.process.wait()).await.expect("it ends in time").expect("it can be waited for");
    }
}

/// The first of four ports in a row that nothing listens on.
async fn free_ports() -> u16 {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let mut is_free = port < u16::MAX - 3;
        for next in port + 1..port.saturating_add(4) {
            is_free &= TcpListener::bind((Ipv4Addr::LOCALHOST, next)).await.is_ok();
        }
        if is_free {
            return port;
        }
    }
}

/// What a client has noticed.
#[derive(Debug, Default, PartialEq)]
struct Noticed {
    numbers: Vec<u64>,
    /// How often it has lost its connection, with the codes.
    codes: Vec<u16>,
    other: Vec<String>,
}

/// Watches a room until the message `end`.
async fn watch(mut client: Client) -> Noticed {
    let mut noticed = Noticed::default();
    while let Some(event) = client.recv().await {
        match event {
            ClientEvent::Message(frame) if frame.message() == "end" => break,
            ClientEvent::Message(frame) => noticed.numbers.extend(frame.message().as_u64()),
            ClientEvent::State(ClientState::Reconnecting { reason, .. }) => match reason {
                tower_chat_rooms_client::ClientError::Lost { code, .. } => noticed.codes.push(code),
                // A load balancer needs a moment to find out.
                other => drop(other),
            },
            ClientEvent::State(_) | ClientEvent::Presence(_) => {}
            ClientEvent::Entered { resumed: true, .. } => {}
            other => noticed.other.push(format!("{other:?}")),
        }
    }
    noticed
}

async fn check(balancer: &str) {
    let mut cluster = Cluster::start(balancer).await;
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let client = Client::connect(&cluster.url).room("tea").name(format!("n{n}"));
        clients.push(timeout(PATIENCE, client.open()).await.expect("in time").expect("it enters"));
    }
    // All of them have seen the last enter.
    for client in &mut clients {
        let last = format!("n{}", CLIENTS - 1);
        let entered = async {
            while let Some(event) = client.recv().await {
                if matches!(event, ClientEvent::Enter(frame) if frame.name() == Some(&last)) {
                    return;
                }
            }
        };
        timeout(PATIENCE, entered).await.expect("it sees the others");
    }
    let sender = clients[0].sender();
    let watching: Vec<_> = clients.into_iter().map(|client| tokio::spawn(watch(client))).collect();
    let (end, mut has_ended) = oneshot::channel::<()>();
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        while has_ended.try_recv().is_err() {
            sender.send(&sent).await.expect("it is acknowledged");
            sent += 1;
            sleep(Duration::from_millis(50)).await;
        }
        sender.send("end").await.expect("it is acknowledged");
        sent
    });

    cluster.type_line("r").await;
    for n in 1..=3 {
        cluster.until(&format!("server {n} is running again")).await;
    }
    end.send(()).expect("messages are being sent");
    let sent = timeout(PATIENCE, sending).await.expect("in time").expect("all are acknowledged");
    let mut moves = 0;
    for watching in watching {
        let noticed = timeout(PATIENCE, watching).await.expect("all have all messages").expect("it watches");
        assert!(noticed.numbers.iter().copied().eq(0..sent), "{noticed:?}");
        assert!(noticed.codes.iter().all(|code| *code == 1012), "{noticed:?}");
        assert!(noticed.other.is_empty(), "{noticed:?}");
        moves += noticed.codes.len();
    }
    assert!(moves >= CLIENTS, "all of them were on a server that was replaced: {moves}");
    cluster.end().await;
}

#[tokio::test]
async fn servers_behind_haproxy_are_replaced_and_nobody_notices() {
    check("haproxy").await;
}

#[tokio::test]
async fn servers_behind_nginx_are_replaced_and_nobody_notices() {
    check("nginx").await;
}

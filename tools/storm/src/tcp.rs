//! Clients that lose their connections and come back over TCP, to a server in a process of its own.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::frames::Frames;
use crate::serve::Server;
use crate::{Options, report};

/// Handshakes at the same time, so that no queue of the kernel overflows.
const HANDSHAKES: usize = 256;

type Failure = Box<dyn Error + Send + Sync>;

/// What a client needs to come back.
struct Session {
    room: String,
    name: String,
    token: String,
    epoch: String,
    seq: u64,
}

/// A client in its room.
struct Member {
    connection: Connection,
    session: Session,
}

/// A client that has come back, and has received everything up to the last message.
struct Returned {
    after: Duration,
    resumed: bool,
    numbers: Vec<u64>,
    /// It stays open. Otherwise, the others would be told that the client is gone.
    _connection: Connection,
}

struct Connection {
    frames: Frames<TcpStream>,
    token: String,
}

/// The parts of a frame that a client reads.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Frame {
    event: String,
    resume: String,
    epoch: String,
    seq: u64,
    resumed: bool,
    /// The text of a message.
    message: Option<serde_json::Value>,
}

/// Measures what it costs the server when all clients come back.
pub(crate) async fn measure(options: &Options) -> Result<(), Failure> {
    let server = Server::start(options).await?;
    let (address, clients) = (server.address, options.members);
    let per = |cpu: Duration| format!("{:.0?} of CPU time per client", cpu / clients as u32);
    println!("{clients} clients in {} rooms", options.rooms);

    let mut senders = Vec::new();
    for room in 0..options.rooms {
        senders.push(Member::enter(address, room.to_string(), "sender".into()).await?);
    }
    let before = server.idle().await?;
    let mut members =
        at_once(clients, |n| Member::enter(address, (n % options.rooms).to_string(), format!("n{n}")))
            .await?;
    println!("enter: {}", per(server.idle().await? - before));

    // With this message, all clients know their positions.
    send(&mut senders, 0, options).await?;
    for member in &mut members {
        member.read_to(0).await?;
    }
    let before = server.idle().await?;
    let mut sessions = Vec::new();
    for member in members {
        sessions.push(Some(member.lose()?));
    }
    println!("lose their connections: {}", per(server.idle().await? - before));

    for number in 1..=options.missed {
        send(&mut senders, number, options).await?;
    }
    let (missed, before) = (options.missed, server.idle().await?);
    let begun = Instant::now();
    let returned = at_once(clients, |n| {
        let session = sessions[n].take();
        async move { session.ok_or("no session")?.come_back(address, missed, begun).await }
    })
    .await?;
    println!("come back: {}", per(server.cpu()? - before));

    report("until everything has arrived", returned.iter().map(|returned| returned.after).collect());
    let resumed = returned.iter().filter(|returned| returned.resumed).count();
    let (mut lost, mut wrong) = (0, 0);
    for Returned { numbers, .. } in &returned {
        let different = numbers.iter().collect::<BTreeSet<_>>().len();
        lost += options.missed as usize - different;
        wrong += usize::from(!numbers.is_sorted()) + numbers.len() - different;
    }
    println!("sessions resumed: {resumed}; messages lost: {lost}, duplicated or out of order: {wrong}");
    if resumed < clients || lost + wrong > 0 {
        return Err("messages or sessions were lost".into());
    }
    Ok(())
}

/// Sends a number to each room, and waits until it has been delivered.
async fn send(senders: &mut [Member], number: u64, options: &Options) -> Result<(), Failure> {
    let text = format!("{number} {}", "x".repeat(options.message));
    for sender in &mut *senders {
        let room = &sender.session.room;
        let message = json!({"event": "message", "message": text, "roomId": room});
        sender.connection.frames.send(&message).await?;
    }
    for sender in senders {
        sender.read_to(number).await?;
    }
    Ok(())
}

/// All clients do the same at the same time.
async fn at_once<T: Send + 'static, F>(
    clients: usize,
    mut task: impl FnMut(usize) -> F,
) -> Result<Vec<T>, Failure>
where
    F: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let (mut all, permits) = (JoinSet::new(), Arc::new(Semaphore::new(HANDSHAKES)));
    for n in 0..clients {
        let (task, permits) = (task(n), permits.clone());
        all.spawn(async move {
            let _permit = permits.acquire_owned().await?;
            task.await
        });
    }
    let mut done = Vec::new();
    while let Some(result) = all.join_next().await {
        done.push(result??);
    }
    Ok(done)
}

impl Member {
    async fn enter(server: SocketAddr, room: String, name: String) -> Result<Member, Failure> {
        let mut connection = Connection::open(server).await?;
        let enter = json!({"event": "enter", "message": name, "roomId": room});
        connection.frames.send(&enter).await?;
        let entered = connection.read("entered").await?;
        let token = connection.token.clone();
        let session = Session { room, name, token, epoch: entered.epoch, seq: entered.seq };
        Ok(Member { connection, session })
    }

    /// Reads up to the message with this number.
    async fn read_to(&mut self, number: u64) -> Result<(), Failure> {
        loop {
            let frame = self.connection.next().await?;
            self.session.seq = self.session.seq.max(frame.seq);
            if frame.number() == Some(number) {
                return Ok(());
            }
        }
    }

    /// The connection is reset.
    fn lose(self) -> Result<Session, Failure> {
        self.connection.frames.into_io().set_zero_linger()?;
        Ok(self.session)
    }
}

impl Session {
    async fn come_back(self, server: SocketAddr, missed: u64, begun: Instant) -> Result<Returned, Failure> {
        let mut connection = Connection::open(server).await?;
        let since = json!({"epoch": self.epoch, "seq": self.seq});
        connection.frames.send(&json!({"event": "resume", "message": [self.token]})).await?;
        let enter = json!({"event": "enter", "message": self.name, "roomId": self.room, "since": since});
        connection.frames.send(&enter).await?;
        let resumed = connection.read("entered").await?.resumed;
        let mut numbers = Vec::new();
        while numbers.last() != Some(&missed) {
            numbers.extend(connection.next().await?.number());
        }
        let after = begun.elapsed();
        Ok(Returned { after, resumed, numbers, _connection: connection })
    }
}

impl Connection {
    async fn open(server: SocketAddr) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut frames = Frames::new(stream);
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             Sec-WebSocket-Protocol: chat-rooms.v1\r\n\r\n"
        );
        frames.send_head(&request).await?;
        let head = frames.read_head().await?;
        if !head.starts_with(b"HTTP/1.1 101 ") {
            return Err(String::from_utf8_lossy(&head).into());
        }
        let mut connection = Connection { frames, token: String::new() };
        connection.token = connection.read("welcome").await?.resume;
        Ok(connection)
    }

    /// Reads up to the next frame of an event.
    async fn read(&mut self, event: &str) -> Result<Frame, Failure> {
        loop {
            let frame = self.next().await?;
            if frame.event == event {
                return Ok(frame);
            }
        }
    }

    async fn next(&mut self) -> Result<Frame, Failure> {
        Ok(serde_json::from_slice(&self.frames.next().await?)?)
    }
}

impl Frame {
    /// The number at the beginning of a message.
    fn number(&self) -> Option<u64> {
        let text = self.message.as_ref().filter(|_| self.event == "message")?.as_str()?;
        text.split(' ').next()?.parse().ok()
    }
}

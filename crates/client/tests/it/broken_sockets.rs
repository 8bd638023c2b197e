//! Client and server over real sockets that break at any byte.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower_chat_rooms::{ChatRooms, History, Limits, Recovery, RoomEvent};
use tower_chat_rooms_client::{Client, ClientBuilder, ClientEvent};

use crate::support::{assert_empty, unlimited};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often each name has entered and left, by the host's callbacks.
#[derive(Clone, Default)]
struct Visits(Arc<Mutex<HashMap<String, (usize, usize)>>>);

impl Visits {
    fn hook(&self) -> impl Fn(RoomEvent<'_>) + Send + Sync + 'static {
        let visits = self.clone();
        move |event| {
            let mut visits = visits.0.lock().unwrap();
            match event {
                RoomEvent::Entered(e) => visits.entry(e.name.to_string()).or_default().0 += 1,
                RoomEvent::Left(e) => visits.entry(e.name.to_string()).or_default().1 += 1,
                _ => {}
            }
        }
    }

    fn of(&self, name: &str) -> (usize, usize) {
        self.0.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

/// Chat rooms with a resume window and a room log, on a port of their own.
async fn server() -> (ChatRooms, Visits, SocketAddr) {
    let visits = Visits::default();
    let history = History::last(2000).max_bytes(1 << 20);
    let recovery = Recovery::default().resume_window(PATIENCE).history(history);
    let limits = Limits::default().max_queue_frames(4000).max_queue_bytes(2 << 20);
    let rooms = unlimited().events(visits.hook()).recovery(recovery).limits(limits).build().unwrap();
    let app = Router::new().route_service("/chat", rooms.service());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (rooms, visits, address)
}

/// After how many bytes each connection breaks: to the server, and to the client.
type Breaks = Arc<Mutex<Vec<(u64, u64)>>>;

/// Forwards connections. The first ones break, and later ones hold.
async fn breaking_proxy(server: SocketAddr, breaks: &Breaks) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let breaks = breaks.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (to_server, to_client) = breaks.lock().unwrap().pop().unwrap_or((u64::MAX, u64::MAX));
            tokio::spawn(async move {
                let server = TcpStream::connect(server).await.unwrap();
                let (client_read, client_write) = client.into_split();
                let (server_read, server_write) = server.into_split();
                // Whichever ends first ends both.
                tokio::select! {
                    () = forward(client_read, server_write, to_server) => {}
                    () = forward(server_read, client_write, to_client) => {}
                }
            });
        }
    });
    address
}

async fn forward(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, limit: u64) {
    let mut left = limit;
    let mut chunk = [0; 4096];
    while left > 0 {
        let most = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Ok(n @ 1..) = from.read(&mut chunk[..most]).await else { return };
        if to.write_all(&chunk[..n]).await.is_err() {
            return;
        }
        left -= n as u64;
    }
}

fn client(address: SocketAddr, name: &str, room: &str) -> ClientBuilder {
    Client::connect(format!("ws://{address}/chat"))
        .name(name)
        .room(room)
        .backoff(Duration::from_millis(2), Duration::from_millis(20))
        .first_timeout(PATIENCE)
}

/// Takes events until this many messages have arrived, of all members or its own. Returns the name and
/// message of each.
async fn receive(mut client: Client, messages: usize, own: bool) -> Vec<(String, Value)> {
    let mut received = Vec::new();
    while received.len() < messages {
        let event = timeout(PATIENCE, client.recv()).await.expect("no more events");
        match event.expect("the client has ended") {
            ClientEvent::Message(frame) if frame.is_own() || !own => {
                received.push((frame.name().unwrap().into(), frame.message().clone()));
            }
            ClientEvent::Gap { missed, .. } => panic!("missed {missed:?} after {}", received.len()),
            _ => {}
        }
    }
    client.leave().await;
    received
}

/// Sends the numbers from 0, up to 20 at the same time. Each is acknowledged once.
async fn count(client: Client, messages: usize) {
    let sender = client.sender();
    let receiving = tokio::spawn(receive(client, messages, true));
    let mut under_way = VecDeque::new();
    for n in 0..messages {
        under_way.push_back(sender.send(&n));
        if under_way.len() == 20 {
            timeout(PATIENCE, under_way.pop_front().unwrap()).await.unwrap().unwrap();
        }
    }
    for sending in under_way {
        timeout(PATIENCE, sending).await.unwrap().unwrap();
    }
    receiving.await.unwrap();
}

/// Random numbers, different at every run. The seed is shown where a test fails.
fn random() -> impl FnMut(u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    let mut state = RandomState::new().hash_one(0) | 1;
    println!("random seed {state}");
    move |bound| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    }
}

#[tokio::test]
async fn twenty_broken_connections_lose_nothing_and_go_unnoticed() {
    let (rooms, visits, address) = server().await;
    let bob = client(address, "bob", "r").await.unwrap();
    let mut random = random();
    // 500 messages are 40 kB to the server and more than 100 kB to the client. The handshake is 250
    // bytes, so some connections break within it.
    let breaks: Breaks = Arc::new(Mutex::new((0..20).map(|_| (random(3000), random(6000))).collect()));
    let proxy = breaking_proxy(address, &breaks).await;
    let ann = client(proxy, "ann", "r").await.unwrap();

    let receiving = tokio::spawn(receive(bob, 500, false));
    count(ann, 500).await;
    let received = receiving.await.unwrap();
    let expected: Vec<(String, Value)> = (0..500).map(|n| ("ann".into(), n.into())).collect();
    assert_eq!(received, expected);
    assert!(breaks.lock().unwrap().is_empty());
    assert_eq!((visits.of("ann"), visits.of("bob")), ((1, 1), (1, 1)));
    rooms.shutdown().await;
    assert_empty(&rooms);
}

#[tokio::test]
async fn fifty_clients_lose_connections_at_once() {
    const MESSAGES: usize = 20;
    let (rooms, visits, address) = server().await;
    let mut random = random();
    // Rooms of five, each with one more member that only receives.
    let mut tasks = Vec::new();
    for room in 0..10 {
        let room = format!("r{room}");
        let observer = client(address, "observer", &room).await.unwrap();
        let receiving = tokio::spawn(receive(observer, 5 * MESSAGES, false));
        for n in 0..5 {
            let breaks: Breaks = Arc::new(Mutex::new((0..4).map(|_| (random(1500), random(3000))).collect()));
            let proxy = breaking_proxy(address, &breaks).await;
            let (name, room) = (format!("{room}.{n}"), room.clone());
            let counting = async move {
                let client = client(proxy, &name, &room).await.unwrap();
                count(client, MESSAGES).await;
            };
            tasks.push(tokio::spawn(counting));
        }
        tasks.push(tokio::spawn(async move {
            let mut received: HashMap<String, Vec<Value>> = HashMap::new();
            for (name, message) in receiving.await.unwrap() {
                received.entry(name).or_default().push(message);
            }
            let expected: Vec<Value> = (0..MESSAGES).map(Value::from).collect();
            assert_eq!(received.len(), 5);
            received.iter().for_each(|(name, messages)| assert_eq!(messages, &expected, "{name}"));
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    rooms.shutdown().await;
    for name in (0..10).flat_map(|room| (0..5).map(move |n| format!("r{room}.{n}"))) {
        assert_eq!(visits.of(&name), (1, 1), "{name}");
    }
    assert_empty(&rooms);
}

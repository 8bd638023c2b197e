//! Floods a room in which most members read nothing, and measures what that costs the server and the
//! other members: `cargo run --release -p flood`.
//!
//! The server is a process of its own on a free port of 127.0.0.1, so that its memory can be measured
//! (Linux). The run ends by itself within two minutes.

use std::convert::Infallible;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tower::{ServiceBuilder, service_fn};
use tower_chat_rooms::{ChatRooms, Heartbeat, RateLimits, SlowConsumer};

type Failure = Box<dyn Error + Send + Sync>;

/// Size of the socket buffers, which are the kernel's memory and not counted.
const SOCKET_BYTES: u32 = 16 * 1024;
/// `max_queue_bytes`.
const QUEUE_BYTES: usize = 256 * 1024;
/// A generous bound for a connection's own memory, including its send queue's pointers.
const BASE_BYTES: usize = 40 * 1024;
/// An answer to a heartbeat as a masked frame, with a mask of zeros.
const PONG: &[u8] = b"\x81\xa6\0\0\0\0{\"event\":\"heartbeat\",\"message\":\"pong\"}";
/// Most time for the whole run.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Floods a room in which most members read nothing.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Members of the flooded room that read nothing
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    stuck: u16,

    /// Members of the flooded room, and of another room, that read everything
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    healthy: u16,

    /// Messages per second in each of the two rooms
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rate: u16,

    /// Bytes of a message
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u16).range(1..=60_000))]
    size: u16,

    /// Seconds of each phase
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=40))]
    seconds: u16,

    /// Slow-consumer policy: close, drop-oldest, drop-newest, latest
    #[arg(long, default_value = "drop-oldest", value_parser = slow_consumer)]
    slow: SlowConsumer,

    /// Run the server
    #[arg(long, hide = true)]
    serve: bool,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let done = async { if options.serve { serve(options.slow).await } else { run(&options).await } };
    match timeout(TIME_LIMIT, done).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => fail(&error.to_string()),
        Err(_) => fail("the run took too long"),
    }
}

fn fail(text: &str) -> ! {
    eprintln!("flood: {text}");
    std::process::exit(1)
}

async fn run(options: &Options) -> Result<(), Failure> {
    let mut server = Server::start(options)?;
    let counters = Arc::new(Counters::default());
    let mut healthy = JoinSet::new();
    for room in ["flooded", "other"] {
        for n in 0..options.healthy {
            let ws = enter(server.address, room, &format!("{room} {n}"), None).await?;
            healthy.spawn(receive(ws, counters.clone()));
        }
    }
    println!("{} members read everything, half of them in the other room", 2 * options.healthy);
    let before = server.resident();
    phase("before", options, &server, &counters).await?;

    let mut stuck = Vec::new();
    for n in 0..options.stuck {
        let ws = enter(server.address, "flooded", &format!("stuck {n}"), Some(SOCKET_BYTES)).await?;
        stuck.push(ws.into_inner());
    }
    println!("{} members that read nothing have entered", options.stuck);
    // They still answer heartbeats, so that the server doesn't take them for dead.
    let alive = tokio::spawn(async move {
        loop {
            sleep(Duration::from_secs(5)).await;
            for stream in &mut stuck {
                let _ = stream.write_all(PONG).await;
            }
        }
    });
    let with_all = server.resident();
    let most = phase("flooded", options, &server, &counters).await?;
    alive.abort();
    let _ = alive.await;
    let connections = usize::from(options.stuck) + 2 * usize::from(options.healthy);
    let bound = before as usize + connections * (QUEUE_BYTES + BASE_BYTES);
    println!(
        "server's memory: {} KiB before, {} KiB with all members, {} KiB at most",
        kib(before),
        kib(with_all),
        kib(most)
    );
    println!(
        "bound: {} KiB = {connections} x ({QUEUE_BYTES} + {BASE_BYTES}) bytes and the memory before",
        bound / 1024
    );
    println!("server: {}", server.stop()?);
    let lost = counters.expected.load(Relaxed) - counters.received.load(Relaxed);
    println!("healthy members received {} messages and missed {lost}", counters.received.load(Relaxed));
    healthy.shutdown().await;
    if most as usize > bound || lost > 0 {
        return Err("memory exceeded the bound, or a healthy member missed a message".into());
    }
    Ok(())
}

/// Sends to both rooms for a time. Returns the most memory that the server used.
async fn phase(name: &str, options: &Options, server: &Server, counters: &Counters) -> Result<u64, Failure> {
    // The senders also receive their messages, which are not counted.
    let mut senders = Vec::new();
    for room in ["flooded", "other"] {
        senders.push(enter(server.address, room, "sender", None).await?.split());
    }
    let mut tick = interval(Duration::from_secs(1) / u32::from(options.rate));
    let (begin, mut most) = (Instant::now(), 0);
    let pad = "x".repeat(options.size.into());
    while begin.elapsed() < Duration::from_secs(options.seconds.into()) {
        tick.tick().await;
        for (sender, receiver) in &mut senders {
            let sent = counters.start.elapsed().as_nanos() as u64;
            let text = json!({"event": "message", "message": pad, "sent": sent}).to_string();
            sender.send(Message::text(text)).await?;
            counters.expected.fetch_add(options.healthy.into(), Relaxed);
            while let Ok(Some(_)) = timeout(Duration::ZERO, receiver.next()).await {}
        }
        most = most.max(server.resident());
    }
    let waiting = Instant::now();
    while counters.received.load(Relaxed) < counters.expected.load(Relaxed) && waiting.elapsed().as_secs() < 5
    {
        sleep(Duration::from_millis(10)).await;
    }
    let mut times = std::mem::take(&mut *counters.times.lock().unwrap_or_else(|e| e.into_inner()));
    times.sort_unstable();
    let at = |share: f64| match times.len() {
        0 => f64::NAN,
        n => times[((n - 1) as f64 * share) as usize] as f64 / 1e6,
    };
    println!(
        "{name}: {} deliveries, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(most)
}

/// What the healthy members receive.
struct Counters {
    start: Instant,
    expected: AtomicU64,
    received: AtomicU64,
    times: std::sync::Mutex<Vec<u64>>,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            start: Instant::now(),
            expected: AtomicU64::new(0),
            received: AtomicU64::new(0),
            times: Default::default(),
        }
    }
}

async fn receive(mut ws: WebSocketStream<TcpStream>, counters: Arc<Counters>) {
    while let Some(Ok(message)) = ws.next().await {
        let Message::Text(text) = message else { continue };
        let Ok(frame) = serde_json::from_str::<Value>(&text) else { continue };
        if frame["event"] == "heartbeat" {
            let pong = r#"{"event":"heartbeat","message":"pong"}"#;
            if ws.send(Message::text(pong)).await.is_err() {
                return;
            }
        }
        if let Some(sent) = frame["sent"].as_u64() {
            let time = (counters.start.elapsed().as_nanos() as u64).saturating_sub(sent);
            counters.times.lock().unwrap_or_else(|e| e.into_inner()).push(time);
            counters.received.fetch_add(1, Relaxed);
        }
    }
}

async fn enter(
    address: SocketAddr,
    room: &str,
    name: &str,
    buffer: Option<u32>,
) -> Result<WebSocketStream<TcpStream>, Failure> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut ws, _) = tokio_tungstenite::client_async(format!("ws://{address}/"), stream).await?;
    ws.send(Message::text(json!({"event": "enter", "message": name, "roomId": room}).to_string())).await?;
    Ok(ws)
}

/// The server's process, killed when this is dropped.
struct Server {
    process: Child,
    out: BufReader<std::process::ChildStdout>,
    address: SocketAddr,
}

impl Server {
    fn start(options: &Options) -> Result<Server, Failure> {
        let slow = match options.slow {
            SlowConsumer::DropOldest => "drop-oldest",
            SlowConsumer::DropNewest => "drop-newest",
            SlowConsumer::Latest => "latest",
            _ => "close",
        };
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--serve", "--slow", slow])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut out = BufReader::new(process.stdout.take().ok_or("the server has no output")?);
        let mut line = String::new();
        out.read_line(&mut line)?;
        Ok(Server { process, out, address: line.trim().parse()? })
    }

    /// Resident memory in bytes; 0 if unknown.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Stops it and returns its statistics.
    fn stop(&mut self) -> Result<String, Failure> {
        self.process.stdin.take().ok_or("stopped before")?.write_all(b"\n")?;
        let mut line = String::new();
        self.out.read_line(&mut line)?;
        Ok(line.trim().into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn serve(slow: SlowConsumer) -> Result<(), Failure> {
    let rooms = ChatRooms::builder()
        .slow_consumer(slow)
        // Members that read nothing must not miss heartbeats.
        .heartbeat(Heartbeat::wide_internet())
        .rate_limits(RateLimits::default().max_messages_per_second(u32::MAX).max_bytes_per_second(usize::MAX))
        .build()?;
    let socket = TcpSocket::new_v4()?;
    socket.set_send_buffer_size(SOCKET_BYTES)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener = socket.listen(1024)?;
    println!("{}", listener.local_addr()?);
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Also ends if the parent process does.
        let _ = std::io::stdin().lock().read_line(&mut String::new());
        let _ = stop.send(());
    });
    let service = ServiceBuilder::new().layer(rooms.layer("/")).service(service_fn(|_| async {
        Ok::<_, Infallible>(http::Response::new(Full::<bytes::Bytes>::default()))
    }));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = &mut stopped => break,
        };
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
    println!("{:?}", rooms.stats());
    Ok(())
}

fn slow_consumer(text: &str) -> Result<SlowConsumer, String> {
    match text {
        "close" => Ok(SlowConsumer::Close),
        "drop-oldest" => Ok(SlowConsumer::DropOldest),
        "drop-newest" => Ok(SlowConsumer::DropNewest),
        "latest" => Ok(SlowConsumer::Latest),
        _ => Err("use close, drop-oldest, drop-newest or latest".into()),
    }
}

fn kib(bytes: u64) -> u64 {
    bytes / 1024
}

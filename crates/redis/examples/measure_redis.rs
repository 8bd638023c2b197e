//! Measures a node with a local server:
//! `cargo run --release -p tower-chat-rooms-redis --example measure_redis`.
//!
//! Compare numbers of one run only, for example with those of `PING`.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{InfoDict, cmd};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tower_chat_rooms_redis::{Event, Events, NewMember, Node, Settings};

const BODY: &[u8] = &[b'x'; 150];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::start()?;
    let mut connection = server.connect().await?;
    let (sender, mut own_events) = Node::connect(Settings::new(server.url())).await?;
    let (listener, mut events) = Node::connect(Settings::new(server.url())).await?;
    sender.enter("room", NewMember::new("ann"), None).await?;
    listener.enter("room", NewMember::new("bob"), None).await?;
    tokio::spawn(async move { while own_events.recv().await.is_some() {} });

    ping(&mut connection).await?;
    latency(&sender, &mut events).await?;
    commands(&sender, &mut connection).await?;
    drain(&mut events).await;
    let delivered = count(events);
    throughput(&sender, &mut connection, delivered).await?;
    memberships(&sender).await?;
    Ok(())
}

/// What the server and the way to it can do.
async fn ping(connection: &mut MultiplexedConnection) -> redis::RedisResult<()> {
    let mut times = Vec::new();
    for _ in 0..2000 {
        let begin = Instant::now();
        cmd("PING").query_async::<()>(connection).await?;
        times.push(begin.elapsed());
    }
    report("PING, one at a time", times);
    Ok(())
}

/// From the call to its answer, and to the event on another node.
async fn latency(sender: &Node, events: &mut Events) -> Result<(), Box<dyn std::error::Error>> {
    drain(events).await;
    let (mut answered, mut delivered) = (Vec::new(), Vec::new());
    for _ in 0..2000 {
        let begin = Instant::now();
        let (published, ()) = tokio::join!(
            async {
                let published = sender.publish("room", Some("ann"), None, BODY).await;
                answered.push(begin.elapsed());
                published
            },
            async {
                while !matches!(events.recv().await, Some(Event::Room(_)) | None) {}
                delivered.push(begin.elapsed());
            },
        );
        published?;
    }
    report("publish to answer", answered);
    report("publish to event on another node", delivered);
    Ok(())
}

/// Commands that the server runs for a message, those in the script included.
async fn commands(
    sender: &Node,
    connection: &mut MultiplexedConnection,
) -> Result<(), Box<dyn std::error::Error>> {
    const MESSAGES: u64 = 1000;
    cmd("CONFIG").arg("RESETSTAT").query_async::<()>(connection).await?;
    for _ in 0..MESSAGES {
        sender.publish("room", Some("ann"), None, BODY).await?;
    }
    let info: String = cmd("INFO").arg("commandstats").query_async(connection).await?;
    println!("commands for {MESSAGES} messages:");
    for line in info.lines().filter_map(|line| line.strip_prefix("cmdstat_")) {
        let Some((name, rest)) = line.split_once(":calls=") else { continue };
        let Some((calls, _)) = rest.split_once(',') else { continue };
        if calls.parse::<u64>()? >= MESSAGES / 2 {
            let time = rest.split("usec_per_call=").nth(1).and_then(|time| time.split(',').next());
            println!("  {name}: {calls}, {} µs each", time.unwrap_or("?"));
        }
    }
    Ok(())
}

/// Messages per second with so many calls under way.
async fn throughput(
    sender: &Node,
    connection: &mut MultiplexedConnection,
    mut delivered: mpsc::UnboundedReceiver<()>,
) -> Result<(), Box<dyn std::error::Error>> {
    const MESSAGES: usize = 40_000;
    for at_once in [1, 16, 64, 256] {
        let messages = if at_once == 1 { MESSAGES / 10 } else { MESSAGES };
        let before = cpu(connection).await?;
        let begin = Instant::now();
        let workers = (0..at_once).map(|_| async {
            for _ in 0..messages / at_once {
                sender.publish("room", Some("ann"), None, BODY).await?;
            }
            Ok::<_, tower_chat_rooms_redis::PublishError>(())
        });
        for result in join_all(workers).await {
            result?;
        }
        let published = begin.elapsed();
        for _ in 0..messages / at_once * at_once {
            delivered.recv().await;
        }
        let all = begin.elapsed();
        let busy = cpu(connection).await? - before;
        println!(
            "{at_once} calls at a time: {:.0} publishes/s, delivered on 2 nodes {:.0}/s, server {:.1} µs CPU each",
            messages as f64 / published.as_secs_f64(),
            2.0 * messages as f64 / all.as_secs_f64(),
            busy * 1e6 / messages as f64,
        );
    }

    let begin = Instant::now();
    let pings = (0..64).map(|_| {
        let mut connection = connection.clone();
        async move {
            for _ in 0..MESSAGES / 64 {
                cmd("PING").query_async::<()>(&mut connection).await?;
            }
            Ok::<_, redis::RedisError>(())
        }
    });
    for result in join_all(pings).await {
        result?;
    }
    println!("64 PINGs at a time: {:.0}/s", MESSAGES as f64 / begin.elapsed().as_secs_f64());
    Ok(())
}

/// Enters and leaves per second.
async fn memberships(node: &Node) -> Result<(), Box<dyn std::error::Error>> {
    let ids: Vec<_> = (0..5000).map(|n| format!("m{n}")).collect();
    let begin = Instant::now();
    for result in join_all(ids.iter().map(|id| node.enter("hall", NewMember::new(&**id), None))).await {
        result?;
    }
    println!("enters: {:.0}/s", ids.len() as f64 / begin.elapsed().as_secs_f64());
    let begin = Instant::now();
    join_all(ids.iter().map(|id| node.leave("hall", id, Some("bye".into())))).await;
    println!("leaves: {:.0}/s", ids.len() as f64 / begin.elapsed().as_secs_f64());
    Ok(())
}

/// CPU seconds that the server has used.
async fn cpu(connection: &mut MultiplexedConnection) -> redis::RedisResult<f64> {
    let info: InfoDict = cmd("INFO").arg("cpu").query_async(connection).await?;
    Ok(["used_cpu_sys", "used_cpu_user"].iter().filter_map(|name| info.get::<f64>(name)).sum())
}

async fn drain(events: &mut Events) {
    while tokio::time::timeout(Duration::from_millis(100), events.recv()).await.is_ok() {}
}

/// Tells of each event of a room.
fn count(mut events: Events) -> mpsc::UnboundedReceiver<()> {
    let (sender, delivered) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                Event::Room(_) => drop(sender.send(())),
                Event::Reset { .. } => println!("(the listener was too slow: a reset)"),
                _ => {}
            }
        }
    });
    delivered
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: f64| times[(times.len() as f64 * part) as usize];
    println!("{what}: p50 {:?}, p99 {:?}", at(0.5), at(0.99));
}

/// A server on a port of its own.
struct Server {
    process: Child,
}

const PORT: &str = "7391";

impl Server {
    fn start() -> std::io::Result<Server> {
        let process = Command::new("redis-server")
            .args(["--port", PORT, "--bind", "127.0.0.1", "--save", ""])
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Server { process })
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{PORT}")
    }

    async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let client = redis::Client::open(self.url())?;
        loop {
            match client.get_multiplexed_async_connection().await {
                Ok(connection) => return Ok(connection),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

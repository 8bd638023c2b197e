//! Connections over TCP, from a second process, so that each end counts against the open files of its own process.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::runtime::Builder;
use tokio::time::{Duration, sleep};
use tower_chat_rooms::{Admission, ChatRooms, Heartbeat};

use crate::Failure;
use crate::frames::{self, Frames, PONG};
use crate::kernel::Kernel;
use crate::measure::phase;
use crate::options::Options;
use crate::tally::Tallies;

/// What the second process prints when all its clients have entered.
const ENTERED: &str = "entered";

/// What it prints when all its clients have received a broadcast.
const NEWS: &str = "news";

/// Connections that are opened at the same time: fewer than a listener's backlog.
const CONNECTING: usize = 256;

/// The kernel frees some of its memory a moment later.
const REST: Duration = Duration::from_secs(3);

/// Returns the number of faults.
pub(crate) fn run(options: &Options, count: usize) -> Result<usize, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let rooms = ChatRooms::builder()
        .heartbeat(Heartbeat::every(options.heartbeat).with_timeout(options.heartbeat * 4 / 5))
        .limits(crate::run::limits(options))
        .build()?;
    println!("\n{count} connections over TCP in rooms of {}, plain", options.members);
    let before = Kernel::now()?;
    let (clients, cost) = phase(&runtime, enter(&rooms, options, count));
    let (_process, mut lines) = clients?;
    cost.print("all enter", count as u64, "clients");
    let each = |bytes: i64| bytes as f64 / count as f64;
    println!("  heap {:.0} bytes each, resident memory {:.0}", each(cost.heap), each(cost.resident));
    runtime.block_on(async { sleep(REST).await });
    Kernel::now()?.growth(&before).print();

    if options.heartbeats > 0 {
        let ((), cost) = phase(&runtime, async { sleep(options.heartbeat * options.heartbeats).await });
        let sent = count as u64 * u64::from(options.heartbeats);
        cost.print("heartbeats", sent, "heartbeats with their answers");
    }
    let news = json!({"event": "news", "message": "x".repeat(options.message)});
    let (reached, cost) = phase(&runtime, async {
        let reached = rooms.broadcast(&news).await?;
        wait_for(&mut lines, NEWS).await?;
        Ok::<_, Failure>(reached)
    });
    cost.print("broadcast", count as u64, "clients");

    let tallies = Tallies::default();
    tallies.faults.check("clients that a broadcast has reached", reached?, count);
    let stats = rooms.stats();
    tallies.faults.check("connections", stats.connections, count);
    tallies.faults.check("rooms", stats.rooms, count.div_ceil(options.members));
    Ok(tallies.faults.print())
}

/// Starts the second process, and waits until its clients have entered.
async fn enter(
    rooms: &ChatRooms,
    options: &Options,
    count: usize,
) -> Result<(Child, Lines<BufReader<ChildStdout>>), Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let mut process = Command::new(std::env::current_exe()?)
        .arg(format!("--sockets={count}"))
        .arg(format!("--members={}", options.members))
        .arg(format!("--clients={}", options.members))
        .arg(format!("--connect={}", listener.local_addr()?))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    for _ in 0..count {
        let (stream, _) = listener.accept().await?;
        let rooms = rooms.clone();
        tokio::spawn(async move { rooms.serve(stream, Admission::anonymous()).await });
    }
    let mut lines = BufReader::new(process.stdout.take().ok_or("no output")?).lines();
    wait_for(&mut lines, ENTERED).await?;
    Ok((process, lines))
}

async fn wait_for(lines: &mut Lines<BufReader<ChildStdout>>, line: &str) -> Result<(), Failure> {
    match lines.next_line().await? {
        Some(next) if next == line => Ok(()),
        other => Err(format!("the clients say {other:?} instead of {line}").into()),
    }
}

/// Runs in the second process, until the first one ends it.
pub(crate) fn be_clients(options: &Options, server: SocketAddr, count: usize) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tallies = Arc::new(Tallies::default());
        for number in 0..count {
            let (of_all, room) = (tallies.clone(), number / options.members);
            let stream = TcpStream::connect(server).await?;
            tokio::spawn(async move {
                if let Err(error) = talk(stream, number as u32, room as u32, &of_all).await {
                    eprintln!("client {number}: {error}");
                }
            });
            if (number + 1) % CONNECTING == 0 || number + 1 == count {
                tallies.entered.until(number as u64 + 1).await?;
            }
        }
        println!("{ENTERED}");
        tallies.broadcasts.until(count as u64).await?;
        println!("{NEWS}");
        std::future::pending::<Result<(), Failure>>().await
    })
}

async fn talk(mut stream: TcpStream, number: u32, room: u32, tallies: &Tallies) -> std::io::Result<()> {
    stream.write_all(&frames::enter(number, room)).await?;
    let (mut bytes, mut is_in) = (Vec::new(), false);
    while stream.read_buf(&mut bytes).await? > 0 {
        let mut frames = Frames::new(&bytes);
        for frame in &mut frames {
            match frames::event(frame.payload) {
                Some(b"enter") if !std::mem::replace(&mut is_in, true) => tallies.entered.add(),
                Some(b"heartbeat") => stream.write_all(PONG).await?,
                Some(b"news") => tallies.broadcasts.add(),
                _ => {}
            }
        }
        // An empty one needs no memory.
        bytes = frames.rest().to_vec();
    }
    Ok(())
}

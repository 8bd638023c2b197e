//! Measures what single calls cost, with a Redis server of its own.

mod server;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::iter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tower_chat_rooms_redis::{Events, NewMember, Node, Session, Settings};

use crate::Failure;
use crate::measure::server::{Server, Usage};

/// The body of an enter or a message.
const BODY: &[u8] = &[b'x'; 150];

/// Calls that are under way at a time.
const AT_ONCE: usize = 64;

const MESSAGES: usize = 20_000;
const ROOMS: usize = 5_000;
const MEMBERS: usize = 10;

/// How long sessions are kept without their node.
const WINDOW: Duration = Duration::from_secs(600);

/// A lease with which a lost node is noticed soon.
const SHORT_LEASE: Duration = Duration::from_secs(2);

pub(crate) async fn all() -> Result<(), Failure> {
    let server = Server::start()?;
    publish(&server).await?;
    spread(&server).await?;
    lives(&server).await?;
    outage(&server).await?;
    resume(&server).await?;
    idle(&server).await?;
    subscriptions(&server).await?;
    for reapers in [1, 2, 4, 8] {
        reap(&server, reapers).await?;
    }
    for sessions in [1000, 4000] {
        keep(&server, sessions).await?;
    }
    Ok(())
}

/// A node, whose events are dropped.
async fn node(server: &Server, prefix: &str, lease: Duration) -> Result<Node, Failure> {
    let settings = Settings::new(server.url()).prefix(prefix).lease(lease);
    let (node, events) = Node::connect(settings).await?;
    tokio::spawn(drop_all(events));
    Ok(node)
}

async fn drop_all(mut events: Events) {
    while events.recv().await.is_some() {}
}

/// Runs calls, several at a time, and returns the CPU time of the server for each of them in µs.
async fn each<F: Future<Output = Result<(), Failure>>>(
    server: &Server,
    count: usize,
    call: impl Fn(usize) -> F,
) -> Result<f64, Failure> {
    let before = server.usage().await?;
    let mut calls = iter((0..count).map(call)).buffer_unordered(AT_ONCE);
    while let Some(result) = calls.next().await {
        result?;
    }
    Ok(server.usage().await?.cpu_since(&before) * 1e6 / count as f64)
}

/// A message to different numbers of nodes.
async fn publish(server: &Server) -> Result<(), Failure> {
    let node = &node(server, "publish", Duration::from_secs(10)).await?;
    node.enter("r", NewMember::new("ann"), None).await?;
    let mut nodes = 1;
    for more in [0, 4, 15, 30, 50] {
        for _ in 0..more {
            server.listen("{publish}:ch:r").await?;
        }
        nodes += more;
        let cost = each(server, MESSAGES, async |_| {
            node.publish("r", Some("ann"), None, BODY).await?;
            Ok(())
        });
        println!("a message to {nodes} nodes: {:.1} µs", cost.await?);
    }
    node.close().await?;
    Ok(())
}

/// Messages of ten nodes in many rooms, each of which reaches some of fifty other nodes.
async fn spread(server: &Server) -> Result<(), Failure> {
    const LISTENERS: usize = 50;
    const SENDERS: usize = 10;
    const SPREAD_ROOMS: usize = 500;
    let owner = node(server, "spread", Duration::from_secs(10)).await?;
    for room in 0..SPREAD_ROOMS {
        owner.enter(&format!("r{room}"), NewMember::new("ann"), None).await?;
    }
    let mut senders = Vec::new();
    for _ in 0..SENDERS {
        senders.push(node(server, "spread", Duration::from_secs(10)).await?);
    }
    let mut reached = 1;
    for step in [4, 5] {
        for listener in 0..LISTENERS {
            let rooms = (0..SPREAD_ROOMS).filter(|room| (room * 7 + listener) % LISTENERS < step);
            let rooms = rooms.map(|room| format!("{{spread}}:ch:r{}", (room + 11 * step) % SPREAD_ROOMS));
            server.listen(&Vec::from_iter(rooms).join(" ")).await?;
        }
        reached += step;
        let cost = each(server, MESSAGES, async |n| {
            senders[n % SENDERS].publish(&format!("r{}", n % SPREAD_ROOMS), None, None, BODY).await?;
            Ok(())
        });
        println!("a message of one of {SENDERS} nodes to {reached} of many: {:.1} µs", cost.await?);
    }
    Ok(())
}

fn session(n: usize) -> Session {
    Session::new(format!("{n:064}"), format!("session {n}"), WINDOW)
}

fn member(n: usize) -> NewMember {
    NewMember::new(format!("m{n}")).body(BODY).leave_body(BODY).session(&session(n))
}

async fn enter(node: &Node, n: usize, room: usize) -> Result<(), Failure> {
    node.open_session(session(n)).await?;
    node.enter(&format!("r{room}"), member(n), None).await?;
    Ok(())
}

/// Members with sessions that enter and leave.
async fn lives(server: &Server) -> Result<(), Failure> {
    let node = &node(server, "lives", Duration::from_secs(10)).await?;
    let (count, before) = (ROOMS * MEMBERS, server.usage().await?);
    let opened = each(server, count, async |n| Ok(node.open_session(session(n)).await?)).await?;
    let sessions = server.usage().await?;
    let entered = each(server, count, async |n| {
        node.enter(&format!("r{}", n % ROOMS), member(n), None).await?;
        Ok(())
    });
    let entered = entered.await?;
    let members = server.usage().await?;
    let left = each(server, count, async |n| {
        node.leave(&format!("r{}", n % ROOMS), &format!("m{n}"), Some(BODY.into())).await;
        Ok(())
    });
    let left = left.await?;
    let closed = each(server, count, async |n| {
        node.close_session(&format!("session {n}"), 1).await?;
        Ok(())
    });
    println!("a session begins: {opened:.1} µs, ends: {:.1} µs", closed.await?);
    println!("a member enters: {entered:.1} µs, leaves: {left:.1} µs");
    let bytes = |from: &Usage, to: &Usage, n: usize| (to.memory - from.memory) / n as f64;
    println!("a session: {:.0} bytes", bytes(&before, &sessions, count));
    println!(
        "a room with {MEMBERS} members and their enters: {:.0} bytes",
        bytes(&sessions, &members, ROOMS)
    );
    node.close().await?;
    Ok(())
}

/// A node that subscribes to its rooms again and reads their logs.
async fn outage(server: &Server) -> Result<(), Failure> {
    let node = node(server, "outage", Duration::from_secs(10)).await?;
    each(server, ROOMS, async |n| enter(&node, n, n).await).await?;
    let before = server.usage().await?;
    server.command("CLIENT KILL TYPE pubsub").await?;
    let cost = server.until_quiet().await?.cpu_since(&before) * 1e6 / ROOMS as f64;
    println!("after an outage, for each room of each node with one member and its session: {cost:.1} µs");
    node.close().await?;
    Ok(())
}

/// Sessions that another node takes over, each in a room that this node does not know.
async fn resume(server: &Server) -> Result<(), Failure> {
    let (old, new) = (
        node(server, "resume", Duration::from_secs(10)).await?,
        node(server, "resume", Duration::from_secs(10)).await?,
    );
    each(server, ROOMS, async |n| enter(&old, n, n).await).await?;
    let cost = each(server, ROOMS, async |n| {
        new.resume(&format!("{n:064}"), &format!("{:064}", n + ROOMS), "").await?;
        Ok(())
    });
    println!("a session is resumed on another node, with its room: {:.1} µs", cost.await?);
    new.close().await?;
    old.close().await?;
    Ok(())
}

/// Nodes without members.
async fn idle(server: &Server) -> Result<(), Failure> {
    const SECONDS: u32 = 10;
    let (mut nodes, count) = (Vec::new(), 50);
    for _ in 0..count {
        nodes.push(node(server, "idle", Duration::from_secs(10)).await?);
    }
    let before = server.usage().await?;
    sleep(Duration::from_secs(SECONDS.into())).await;
    let after = server.usage().await?;
    let seconds = f64::from(SECONDS) * count as f64;
    println!(
        "a node without members: {:.0} µs and {:.1} calls per second",
        after.cpu_since(&before) * 1e6 / seconds,
        (after.calls - before.calls) / seconds
    );
    Ok(())
}

async fn subscriptions(server: &Server) -> Result<(), Failure> {
    const CHANNELS: usize = 50_000;
    for what in ["first node", "second node"] {
        let before = server.usage().await?;
        let mut connection = TcpStream::connect(server.address()).await?;
        for batch in 0..CHANNELS / 500 {
            let names: Vec<_> = (0..500).map(|n| format!("{{chat}}:ch:room-{}", batch * 500 + n)).collect();
            connection.write_all(format!("SUBSCRIBE {}\r\n", names.join(" ")).as_bytes()).await?;
        }
        // Reads all confirmations.
        let (mut found, mut bytes) = (0, vec![0; 1 << 16]);
        while found < CHANNELS {
            let n = connection.read(&mut bytes).await?;
            found += bytes[..n].iter().filter(|byte| **byte == b'*').count();
        }
        let after = server.usage().await?;
        let each = |value: f64| value / CHANNELS as f64;
        println!(
            "a subscription of the {what}: {:.1} µs, {:.0} bytes",
            each(after.cpu_since(&before) * 1e6),
            each(after.memory - before.memory)
        );
        std::mem::forget(connection);
    }
    Ok(())
}

/// A node is lost, and other nodes remove its members, each of which is in a different room.
async fn reap(server: &Server, reapers: usize) -> Result<(), Failure> {
    const LOST: usize = 1000;
    let prefix = format!("reap{reapers}");
    let (lost, mut others) = (node(server, &prefix, SHORT_LEASE).await?, Vec::new());
    for _ in 0..reapers {
        others.push(node(server, &prefix, SHORT_LEASE).await?);
    }
    for n in 0..LOST {
        let (room, member) = (format!("r{n}"), NewMember::new(format!("m{n}")).leave_body(BODY));
        lost.enter(&room, member, None).await?;
        others[n % reapers].enter(&room, NewMember::new("other"), None).await?;
    }
    drop(lost);
    let (before, begun) = (server.usage().await?, Instant::now());
    while others.iter().map(|node| node.stats().lost_members).sum::<u64>() < LOST as u64 {
        sleep(Duration::from_millis(20)).await;
    }
    let took = begun.elapsed();
    let after = server.until_quiet().await?;
    println!(
        "{reapers} nodes remove the {LOST} members of a lost one: {:.1} µs and {:.1} calls for each, in {took:.1?}",
        after.cpu_since(&before) * 1e6 / LOST as f64,
        (after.calls - before.calls) / LOST as f64,
    );
    Ok(())
}

/// A lost node with sessions that can be resumed: what the other nodes cost until the sessions end.
async fn keep(server: &Server, sessions: usize) -> Result<(), Failure> {
    const SECONDS: u32 = 5;
    let prefix = format!("keep{sessions}");
    let (lost, other) =
        (node(server, &prefix, SHORT_LEASE).await?, node(server, &prefix, SHORT_LEASE).await?);
    each(server, sessions, async |n| enter(&lost, n, n).await).await?;
    drop(lost);
    // The nodes have looked at all rooms once.
    sleep(SHORT_LEASE * 4).await;
    let before = server.usage().await?;
    sleep(Duration::from_secs(SECONDS.into())).await;
    let after = server.usage().await?;
    let looks = f64::from(SECONDS) / (SHORT_LEASE / 10).mul_f64(0.75).as_secs_f64();
    println!(
        "{sessions} sessions of a lost node: {:.2} µs for each whenever another node looks ({:.1} % of a core)",
        after.cpu_since(&before) * 1e6 / looks / sessions as f64,
        100.0 * after.cpu_since(&before) / f64::from(SECONDS),
    );
    drop(other);
    Ok(())
}

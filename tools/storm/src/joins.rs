//! All clients enter an empty room at the same time, and read everything that they get.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tower_chat_rooms::{ChatRooms, Heartbeat, Limits, Presence};

use crate::client::{Connection, ROOM};
use crate::{Options, at_once};

/// If nothing arrives for this long, everything has arrived. This is longer than the interval at which the number of
/// members is sent.
const QUIET: Duration = Duration::from_secs(2);

/// Measures what it costs when all clients enter.
pub(crate) async fn measure(options: &Options, name: &str, presence: Presence) {
    let rooms = build(options, presence);
    let connecting = (0..options.members).map(|_| Connection::open(rooms.clone(), options.buffer));
    let connections = at_once(connecting).await;
    let received = Arc::new(AtomicU64::new(0));
    let (start, started) = watch::channel(false);
    let readers: Vec<AbortHandle> = connections
        .into_iter()
        .enumerate()
        .map(|(n, connection)| {
            let (received, mut started) = (received.clone(), started.clone());
            let entering = async move {
                started.wait_for(|started| *started).await.expect("a start");
                connection.enter_and_read(format!("n{n}"), &received).await;
            };
            tokio::spawn(entering).abort_handle()
        })
        .collect();
    let (begun, cpu) = (Instant::now(), ProcessTime::now());
    start.send_replace(true);
    let mut last = (begun, 0);
    while last.0.elapsed() < QUIET {
        sleep(QUIET / 20).await;
        let now = received.load(Ordering::Relaxed);
        if now != last.1 {
            last = (Instant::now(), now);
        }
    }
    let (took, cpu, bytes) = (last.0 - begun, cpu.elapsed(), last.1);
    let online = rooms.rooms().iter().find(|room| room.id.as_str() == ROOM).map_or(0, |room| room.online);
    assert_eq!(online, options.members, "all are in the room");
    let mean = bytes / options.members as u64;
    println!("{name}: {took:.1?}, {cpu:.1?} of CPU time, {bytes} bytes, {mean} for each client");
    for reader in readers {
        reader.abort();
    }
    rooms.shutdown().await;
}

fn build(options: &Options, presence: Presence) -> ChatRooms {
    let limits = Limits::default()
        .max_room_members(options.members)
        .max_connections(options.members)
        .max_pending(options.members)
        .max_queue_frames(usize::MAX)
        .max_queue_bytes(64 * 1024 * 1024);
    // Heartbeats would be counted as well.
    let heartbeat = Heartbeat::every(Duration::from_secs(3600));
    let builder = ChatRooms::builder().presence(presence).limits(limits).v1_heartbeat(heartbeat);
    builder.build().expect("valid settings")
}

//! Several nodes with one database, which share their rooms through Redis.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::PATIENCE;
use crate::standalone::Standalone;
use crate::store::{Database, Gaps, check, client, read, start, write};

const NODES: usize = 3;

/// A server of Redis that writes each command to its disk before it answers.
struct Redis {
    process: Child,
    folder: String,
}

impl Redis {
    fn start(database: &Database) -> Redis {
        let folder = database.0.display().to_string();
        Redis { process: Redis::launch(&folder), folder }
    }

    fn launch(folder: &str) -> Child {
        let binary = std::env::var("CHAT_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let flags = ["--port", "0", "--unixsocket", "redis", "--save", "", "--appendonly", "yes"];
        let mut command = Command::new(binary);
        command.args(flags).args(["--appendfsync", "always"]).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("redis-server starts")
    }

    fn url(&self) -> String {
        format!("redis+unix://{}/redis", self.folder)
    }

    fn restart(&mut self, data: Data) {
        self.process.kill().expect("it is running");
        self.process.wait().expect("it can be waited for");
        if data == Data::Lost {
            std::fs::remove_dir_all(format!("{}/appendonlydir", self.folder)).expect("it has data");
        }
        self.process = Redis::launch(&self.folder);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Data {
    Kept,
    Lost,
}

/// What is killed at random moments, in turn.
#[derive(Clone, Copy)]
enum Crash {
    Node(usize),
    Redis(Data),
}

async fn run(name: &str, turns: &[Crash]) {
    let crashes: u64 = std::env::var("CHAT_CRASHES").map_or(50, |crashes| crashes.parse().expect("a number"));
    let database = Database::new(name);
    let mut redis = Redis::start(&database);
    let url = redis.url();
    let flags = ["--redis", &url];
    let mut nodes: Vec<Standalone> = Vec::new();
    for _ in 0..NODES {
        nodes.push(start("127.0.0.1:0", &database, &flags).await);
    }
    let (is_over, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (mut readers, mut clients) = (Vec::new(), Vec::new());
    for (n, node) in nodes.iter().enumerate() {
        let reader = client(node, &format!("reader {n}")).await;
        readers.push((format!("reader {n}"), tokio::spawn(read(reader, is_over.clone()))));
        clients.push(client(node, &format!("writer {n}")).await);
    }
    // All of them are there before the first message.
    let writers = clients.into_iter().zip(0..);
    let writers = writers
        .map(|(client, n)| tokio::spawn(write(client, n, is_over.clone(), acknowledged.clone())))
        .collect();
    let mut random = 1_u64;
    for crash in 1..=crashes {
        let before = acknowledged.load(Ordering::Relaxed);
        let start_of_wait = Instant::now();
        while acknowledged.load(Ordering::Relaxed) < before + 9 {
            assert!(start_of_wait.elapsed() < PATIENCE, "nothing is acknowledged after crash {}", crash - 1);
            sleep(Duration::from_millis(1)).await;
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sleep(Duration::from_micros(random >> 33 & 0x3ffff)).await;
        match turns[crash as usize % turns.len()] {
            Crash::Node(n) => {
                let address = nodes[n].address().to_string();
                nodes[n].signal("KILL");
                nodes[n].wait().await;
                nodes[n] = start(&address, &database, &flags).await;
            }
            Crash::Redis(data) => redis.restart(data),
        }
    }
    sleep(Duration::from_secs(5)).await;
    // When Redis is started again, clients learn that messages may be missing.
    let is_node = |crash: &Crash| matches!(crash, Crash::Node(_));
    let gaps = if turns.iter().all(is_node) { Gaps::Never } else { Gaps::IfTold };
    let counts = check(&database, is_over, readers, writers, gaps).await;
    println!("{crashes} crashes, {counts}");
}

/// Nodes are killed at random moments while clients send on all of them. Each acknowledged message is stored once, in the order
/// of its sender, and no client receives a message that is not stored, or one twice, or misses one.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; CHAT_CRASHES is the number of crashes"]
async fn no_acknowledged_message_is_lost_when_nodes_crash() {
    run("nodes", &[Crash::Node(0), Crash::Node(1), Crash::Node(2)]).await;
}

/// As above, but Redis is killed as well, and comes back with its data. A client may be told of a gap.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; CHAT_CRASHES is the number of crashes"]
async fn no_acknowledged_message_is_lost_when_redis_crashes() {
    let redis = Crash::Redis(Data::Kept);
    run("redis", &[redis, Crash::Node(0), redis, Crash::Node(1)]).await;
}

/// As above, but Redis comes back without its data.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; CHAT_CRASHES is the number of crashes"]
async fn no_acknowledged_message_is_lost_when_redis_loses_its_data() {
    let redis = Crash::Redis(Data::Lost);
    run("data", &[redis, Crash::Node(0), Crash::Redis(Data::Kept), Crash::Node(1)]).await;
}

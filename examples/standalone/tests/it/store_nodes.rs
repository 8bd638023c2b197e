//! Several nodes with one database, which share their rooms through Redis.

use crate::load::{Allowed, Load, client};
use crate::redis::{Data, Redis};
use crate::standalone::Standalone;
use crate::store::{Database, Random, start};

const NODES: usize = 3;

/// What is killed at random moments, in turn.
#[derive(Clone, Copy)]
enum Crash {
    Node(usize),
    Redis(Data),
}

async fn run(name: &str, turns: &[Crash]) {
    let crashes: u64 = std::env::var("CHAT_CRASHES").map_or(50, |crashes| crashes.parse().expect("a number"));
    let database = Database::new(name);
    let mut redis = Redis::start(&database.0);
    let url = redis.url();
    let flags = ["--redis", &url];
    let mut nodes: Vec<Standalone> = Vec::new();
    for _ in 0..NODES {
        nodes.push(start("127.0.0.1:0", &database, &flags).await);
    }
    let (mut readers, mut writers) = (Vec::new(), Vec::new());
    for (n, node) in nodes.iter().enumerate() {
        readers.push(client(node, &format!("reader {n}")).await);
        writers.push(client(node, &format!("writer {n}")).await);
    }
    let load = Load::start(readers, writers);
    let mut random = Random::new();
    for crash in 1..=crashes {
        load.until_acknowledged(9, &format!("after crash {}", crash - 1)).await;
        random.moment(262_144).await;
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
    // When Redis is started again, clients learn that messages may be missing.
    let is_node = |crash: &Crash| matches!(crash, Crash::Node(_));
    let allowed = Allowed { gaps: !turns.iter().all(is_node), ..Allowed::default() };
    let counts = load.check(&database.store().await, allowed).await;
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

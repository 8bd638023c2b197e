//! Several nodes that share their rooms through Redis and use one Postgres database.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tower_chat_rooms_store::sqlx::{self, Connection, PgConnection};

use crate::PATIENCE;
use crate::load::{Allowed, Load, UNLIMITED, client};
use crate::redis::Redis;
use crate::server::Server;
use crate::standalone::Standalone;

const NODES: usize = 3;

/// Longer than a node's turn to store messages, but shorter than the timeout of its store. So the node continues to store
/// them when its turn is over.
const SHORT: Duration = Duration::from_secs(4);

/// Longer than the lease of a node, so that it counts as lost for the others.
const LONG: Duration = Duration::from_secs(12);

/// What happens to a node while the database works on its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It is stopped for this long, and the database stores the messages meanwhile.
    Pause(Duration),
    /// It is stopped for this long, and the database loses the connection before it has stored the messages.
    PauseAndDisconnect(Duration),
    Kill,
}

struct Cluster {
    postgres: Server,
    redis: Redis,
    nodes: Vec<Standalone>,
}

impl Cluster {
    async fn start() -> Cluster {
        let postgres = Server::start().await;
        let redis = Redis::start(postgres.directory());
        let mut cluster = Cluster { postgres, redis, nodes: Vec::new() };
        for n in 0..NODES {
            let node = cluster.node("127.0.0.1:0", n).await;
            cluster.nodes.push(node);
        }
        cluster
    }

    async fn node(&self, listen: &str, n: usize) -> Standalone {
        let store = format!("{}&application_name={}", self.postgres.url("postgres"), name(n));
        let redis = self.redis.url();
        let flags = [&["--store", &store, "--redis", &redis], &UNLIMITED[..]].concat();
        Standalone::start_at(listen, &flags).await
    }

    /// Holds the database until one of the nodes stores messages, and then applies the fault to this node.
    async fn strike(&mut self, fault: Fault, load: &Load) {
        let mut locking = self.connect().await;
        let mut lock = locking.begin().await.unwrap();
        sqlx::query("LOCK TABLE chat_rooms_messages IN EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
        let (n, process) = self.storing().await;
        println!("{fault:?} of {}", name(n));
        self.nodes[n].signal(if fault == Fault::Kill { "KILL" } else { "STOP" });
        let stopped = Instant::now();
        if matches!(fault, Fault::PauseAndDisconnect(_)) {
            let terminate = sqlx::query("SELECT pg_terminate_backend($1)").bind(process);
            terminate.execute(&mut self.connect().await).await.unwrap();
        }
        lock.commit().await.unwrap();
        match fault {
            Fault::Pause(pause) | Fault::PauseAndDisconnect(pause) => {
                sleep(pause.saturating_sub(stopped.elapsed())).await;
                self.nodes[n].signal("CONT");
            }
            Fault::Kill => {
                load.until_acknowledged(100, "by the other nodes").await;
                self.nodes[n].wait().await;
                let address = self.nodes[n].address().to_string();
                self.nodes[n] = self.node(&address, n).await;
            }
        }
        load.until_acknowledged(100, "by all nodes").await;
    }

    /// Waits until a node stores messages. Returns the node, and the process of the database.
    async fn storing(&self) -> (usize, i32) {
        let mut connection = self.connect().await;
        let begin = Instant::now();
        loop {
            let waiting: Option<(String, i32)> = sqlx::query_as(
                "SELECT application_name, pid FROM pg_stat_activity \
                 WHERE wait_event_type = 'Lock' AND application_name LIKE 'node-%' AND query LIKE 'INSERT%'",
            )
            .fetch_optional(&mut connection)
            .await
            .unwrap();
            if let Some((application, process)) = waiting {
                let node = (0..NODES).find(|n| name(*n) == application);
                return (node.unwrap(), process);
            }
            assert!(begin.elapsed() < PATIENCE, "no node stores messages");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.postgres.url("postgres")).await.unwrap()
    }
}

/// The name of a node for the database.
fn name(n: usize) -> String {
    format!("node-{n}")
}

/// Each acknowledged message is stored once. Each client receives each stored message once, and no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_message_is_lost_when_a_node_stops_while_it_stores_messages() {
    let mut cluster = Cluster::start().await;
    let (mut readers, mut writers) = (Vec::new(), Vec::new());
    for (n, node) in cluster.nodes.iter().enumerate() {
        readers.push(client(node, &format!("reader {n}")).await);
        writers.push(client(node, &format!("writer {n}")).await);
    }
    let load = Load::start(readers, writers);
    load.until_acknowledged(100, "at first").await;
    for pause in [SHORT, LONG] {
        for fault in [Fault::Pause(pause), Fault::PauseAndDisconnect(pause), Fault::Kill] {
            cluster.strike(fault, &load).await;
        }
    }
    println!(
        "{}",
        load.check(&cluster.postgres.store().await, Allowed { refusals: true, ..Allowed::default() }).await
    );
}

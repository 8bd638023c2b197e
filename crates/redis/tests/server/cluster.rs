//! A Redis Cluster of three masters.

use std::time::Duration;

use tokio::time::sleep;
use tower_chat_rooms_redis::{ConnectErrorKind, Event, NodeStats, Publisher, Settings};

use crate::login::{check, refused};
use crate::support::{Server, TestNode, free_port, member};

const SLOTS: u32 = 16384;

struct Cluster {
    servers: Vec<Server>,
    ports: Vec<u16>,
}

impl Cluster {
    async fn start() -> Cluster {
        let (mut servers, mut ports) = (Vec::new(), Vec::new());
        for n in 0..3 {
            let (port, bus) = (free_port(), free_port());
            let options = format!(
                "--port {port} --cluster-port {bus} --cluster-enabled yes --cluster-node-timeout 1000 \
                 --cluster-require-full-coverage no"
            );
            let server = Server::start_with_options(&options).await;
            let (first, last) = (n * SLOTS / 3, (n + 1) * SLOTS / 3 - 1);
            server.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
            // Otherwise two servers might be at the same point of their history.
            server.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]).await;
            if let Some(first) = servers.first() {
                let meet = ["CLUSTER", "MEET", "127.0.0.1", &port.to_string(), &bus.to_string()];
                Server::command::<()>(first, &meet).await;
            }
            servers.push(server);
            ports.push(port);
        }
        let cluster = Cluster { servers, ports };
        for server in &cluster.servers {
            loop {
                let info: String = server.command(&["CLUSTER", "INFO"]).await;
                if info.contains("cluster_state:ok") && info.contains("cluster_size:3") {
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        cluster
    }

    fn url(&self, order: [usize; 3]) -> String {
        let hosts = order.map(|n| format!("127.0.0.1:{}", self.ports[n]));
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// Moves a slot with its keys, as `redis-cli --cluster reshard` does.
    async fn move_slot(&self, slot: u32, from: usize, to: usize) {
        let slot = &*slot.to_string();
        let id_of = async |n: usize| self.servers[n].command::<String>(&["CLUSTER", "MYID"]).await;
        let (source, target) = (id_of(from).await, id_of(to).await);
        self.servers[to].command::<()>(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &source]).await;
        self.servers[from].command::<()>(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &target]).await;
        loop {
            let keys: Vec<String> =
                self.servers[from].command(&["CLUSTER", "GETKEYSINSLOT", slot, "10"]).await;
            if keys.is_empty() {
                break;
            }
            let port = self.ports[to].to_string();
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.iter().map(|key| &**key));
            self.servers[from].command::<()>(&migrate).await;
        }
        for n in [to, from] {
            self.servers[n].command::<()>(&["CLUSTER", "SETSLOT", slot, "NODE", &target]).await;
        }
    }
}

#[tokio::test]
async fn nodes_follow_the_slot_of_their_prefix() {
    let cluster = Cluster::start().await;
    let slot: u32 = cluster.servers[0].command(&["CLUSTER", "KEYSLOT", "chat"]).await;
    let owner = (0..3).find(|n| slot < (n + 1) * SLOTS / 3).unwrap() as usize;
    let (next, last) = ((owner + 1) % 3, (owner + 2) % 3);
    let settings = |order| Settings::new(cluster.url(order)).lease(Duration::from_secs(3));
    // Each of them asks another server first.
    let a = TestNode::connect(settings([owner, next, last])).await;
    let b = TestNode::connect(settings([next, last, owner])).await;
    let publisher = Publisher::connect(settings([last, owner, next])).await.unwrap();
    a.enter("r", member("ann"), None).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    publisher.publish("r", None, b"hello").await.unwrap().unwrap();
    a.until_body("r", "hello").await;
    b.until_body("r", "hello").await;
    assert_eq!(a.stats().reconnects, NodeStats::default().reconnects);

    cluster.move_slot(slot, owner, next).await;
    let after = loop {
        match b.publish("r", Some("bob"), Some("id"), b"after").await {
            Ok(published) => break published,
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(after.stamp.num, 2);
    for node in [&a, &b] {
        let is_reset =
            |event: &Event| matches!(event, Event::Reset { stamp, .. } if stamp.epoch == after.stamp.epoch);
        node.until("a new epoch", |heard| heard.iter().any(is_reset)).await;
    }
    let end = publisher.publish("r", None, b"end").await.unwrap().unwrap();
    for node in [&a, &b] {
        node.until_heard("r", end.stamp).await;
        node.until("that it works", |_| node.outage().is_none()).await;
    }
    assert!(a.stats().reconnects > 0);
    let object = r#"{"event":"x"}"#;
    let call = ["FCALL", "chat_publish", "1", "chat", "r", object];
    assert_eq!(cluster.servers[next].command::<u64>(&call).await, 2);

    let single = Settings::new(format!("redis://127.0.0.1:{}", cluster.ports[0]));
    check(&refused(single).await, ConnectErrorKind::Settings, "belongs to a cluster; use a URL like");
}

//! Several processes, each a node that enters, leaves and publishes at random, while nodes and server are killed,
//! stopped and cut off. Each node writes what it hears to a file; the checker replays all files.

mod checker;
mod record;
mod run;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::sleep;

use self::checker::{Expected, Found};
use self::record::Record;
use crate::support::{Data, Server, send_signal};

/// Nodes in processes of their own, and their server.
struct Cluster {
    server: Server,
    directory: PathBuf,
    nodes: Vec<Process>,
    started: u64,
}

/// A node in a process of its own.
struct Process {
    child: Child,
    records: PathBuf,
    /// How long it ran, for the checker: those that were killed have not written all.
    was_killed: bool,
}

impl Cluster {
    async fn start(nodes: usize, data: Data) -> Cluster {
        let server = Server::start_with(data).await;
        let directory = server.directory().join("records");
        fs::create_dir_all(&directory).unwrap();
        let mut cluster = Cluster { server, directory, nodes: Vec::new(), started: 0 };
        for _ in 0..nodes {
            cluster.add_node();
        }
        sleep(Duration::from_millis(1500)).await;
        cluster
    }

    fn add_node(&mut self) {
        self.started += 1;
        let name = format!("n{}", self.started);
        let records = self.directory.join(&name);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::run::node_process", "--ignored", "--nocapture"])
            .env("CHAT_NODE", &name)
            .env("CHAT_NODE_URL", self.server.url())
            .env("CHAT_NODE_RECORDS", &records)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.nodes.push(Process { child, records, was_killed: false });
    }

    fn live(&mut self, number: usize) -> &mut Process {
        self.nodes.iter_mut().filter(|node| !node.was_killed).nth(number).unwrap()
    }

    fn kill_node(&mut self, number: usize) {
        let node = self.live(number);
        node.child.kill().unwrap();
        node.child.wait().unwrap();
        node.was_killed = true;
    }

    async fn stop_node(&mut self, number: usize, time: Duration) {
        let process = self.live(number).child.id();
        send_signal(process, "STOP");
        sleep(time).await;
        send_signal(process, "CONT");
    }

    /// Lets all nodes stop, and checks what they have heard and what is in Redis.
    async fn check(mut self, expected: Expected) -> Found {
        // A closed stdin is the sign to stop.
        for node in &mut self.nodes {
            drop(node.child.stdin.take());
        }
        let mut records = Vec::new();
        for node in &mut self.nodes {
            if !node.was_killed {
                let status = node.child.wait().unwrap();
                assert!(status.success(), "a node has failed");
            }
            let text = fs::read_to_string(&node.records).unwrap_or_default();
            let of_node: Vec<Record> = text.lines().filter_map(Record::parse).collect();
            records.push((of_node, node.was_killed));
        }
        let found = checker::check(&records, expected);
        let keys = self.server.lasting_keys().await;
        assert_eq!(keys, [] as [&str; 0], "keys are left after all members have left");
        found
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn nodes_that_work_agree() {
    let cluster = Cluster::start(3, Data::Nothing).await;
    sleep(3 * SECOND).await;
    let found = cluster.check(Expected::default()).await;
    assert_eq!((found.resets, found.lost_members), (0, 0), "{found:?}");
}

#[tokio::test]
async fn nodes_that_are_killed_leave_nobody_behind() {
    let mut cluster = Cluster::start(3, Data::Nothing).await;
    for _ in 0..2 {
        cluster.kill_node(0);
        sleep(SECOND / 2).await;
        cluster.add_node();
        sleep(5 * SECOND / 2).await;
    }
    let found = cluster.check(Expected::default()).await;
    assert!(found.lost_members > 0, "{found:?}");
}

#[tokio::test]
async fn nodes_that_are_stopped_come_back() {
    let mut cluster = Cluster::start(3, Data::Nothing).await;
    cluster.stop_node(0, 3 * SECOND).await;
    sleep(SECOND).await;
    cluster.stop_node(1, 3 * SECOND).await;
    sleep(2 * SECOND).await;
    let found = cluster.check(Expected::default()).await;
    assert!(found.lost_members > 0, "{found:?}");
}

#[tokio::test]
async fn a_frozen_server_removes_nobody() {
    let cluster = Cluster::start(3, Data::Nothing).await;
    cluster.server.freeze();
    sleep(4 * SECOND).await;
    cluster.server.thaw();
    sleep(3 * SECOND).await;
    let found = cluster.check(Expected::default()).await;
    assert_eq!(found.lost_members, 0, "{found:?}");
}

#[tokio::test]
async fn a_server_that_is_killed_comes_back_with_almost_everything() {
    let mut cluster = Cluster::start(3, Data::AlmostEverything).await;
    for _ in 0..2 {
        cluster.server.kill();
        sleep(SECOND).await;
        cluster.server.spawn().await;
        sleep(3 * SECOND).await;
    }
    let found = cluster.check(Expected { loses_data: true }).await;
    assert!(found.resets > 0, "{found:?}");
}

#[tokio::test]
async fn a_server_that_is_killed_comes_back_with_nothing() {
    let mut cluster = Cluster::start(3, Data::Nothing).await;
    for _ in 0..2 {
        cluster.server.kill();
        sleep(SECOND).await;
        cluster.server.spawn().await;
        sleep(3 * SECOND).await;
    }
    let found = cluster.check(Expected { loses_data: true }).await;
    assert!(found.resets > 0, "{found:?}");
}

#[tokio::test]
async fn connections_that_are_cut_lose_nothing() {
    let cluster = Cluster::start(3, Data::Nothing).await;
    for kind in ["pubsub", "normal"].into_iter().cycle().take(12) {
        let _: u32 = cluster.server.command(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).await;
        sleep(SECOND / 3).await;
    }
    sleep(SECOND).await;
    let found = cluster.check(Expected::default()).await;
    assert_eq!((found.resets, found.lost_members), (0, 0), "{found:?}");
}

#[tokio::test]
async fn everything_fails_in_turn() {
    let mut cluster = Cluster::start(4, Data::AlmostEverything).await;
    for round in 0..2 {
        cluster.kill_node(0);
        cluster.add_node();
        let _: u32 = cluster.server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        cluster.stop_node(round, 2 * SECOND).await;
        cluster.server.kill();
        sleep(SECOND / 2).await;
        cluster.server.spawn().await;
        sleep(SECOND).await;
        cluster.server.freeze();
        sleep(3 * SECOND).await;
        cluster.server.thaw();
        sleep(SECOND).await;
    }
    let found = cluster.check(Expected { loses_data: true }).await;
    assert!(found.resets > 0 && found.lost_members > 0, "{found:?}");
}

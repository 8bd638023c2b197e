//! A node that does random things. It runs in a process of its own: the test binary, called with its name.

use std::collections::BTreeSet;
use std::env;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower_chat_rooms_redis::{Node, PublishError, Settings};

use super::record::Record;
use crate::support::member;

const ROOMS: [&str; 3] = ["r0", "r1", "r2"];
const WORKERS: u64 = 4;

type Records = Arc<Mutex<File>>;

fn write(records: &Records, record: &Record) {
    // One call, so that a kill does not leave half a line in front of another.
    let line = record.to_line() + "\n";
    records.lock().unwrap().write_all(line.as_bytes()).unwrap();
}

/// Not a test: what the processes run.
#[tokio::test]
#[ignore = "what the processes of the other tests run"]
async fn node_process() {
    let Ok(name) = env::var("CHAT_NODE") else { return };
    let records = Arc::new(Mutex::new(File::create(env::var("CHAT_NODE_RECORDS").unwrap()).unwrap()));
    let settings = Settings::new(env::var("CHAT_NODE_URL").unwrap())
        .node_name(&name)
        .lease(Duration::from_secs(1))
        .log_length(20_000);
    let (node, mut events) = Node::connect(settings).await.unwrap();
    let node = Arc::new(node);
    let of_events = records.clone();
    let listener = tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let Some(record) = Record::of_event(event) {
                write(&of_events, &record);
            }
        }
    });

    let (stop, is_stopped) = watch::channel(false);
    let mut workers = JoinSet::new();
    for number in 0..WORKERS {
        let worker = Worker {
            node: node.clone(),
            records: records.clone(),
            name: format!("{name}.{number}"),
            members: BTreeSet::new(),
            next: 0,
            random: RandomState::new().hash_one(number),
        };
        workers.spawn(worker.run(is_stopped.clone()));
    }
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    stop.send_replace(true);
    let left: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    for (room, member) in &left {
        write(&records, &Record::Member { room: room.to_string(), member: member.clone() });
    }

    // All nodes are stopping now. Those that were killed are removed meanwhile.
    sleep(Duration::from_secs(4)).await;
    for room in ROOMS {
        let roster = loop {
            match node.roster(room, 0, 10_000).await {
                Ok(roster) => break roster,
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        };
        for entry in roster.members {
            let num = roster.stamp.unwrap().num;
            write(&records, &Record::Listed { room: room.to_owned(), member: entry.member.into(), num });
        }
    }
    // Nobody leaves before all have read the rosters.
    sleep(Duration::from_secs(2)).await;
    Arc::into_inner(node).unwrap().close().await.unwrap();
    listener.await.unwrap();
}

struct Worker {
    node: Arc<Node>,
    records: Records,
    name: String,
    members: BTreeSet<(&'static str, String)>,
    next: u64,
    random: u64,
}

impl Worker {
    /// Does random things until it is told to stop, and returns the members that are left.
    async fn run(mut self, is_stopped: watch::Receiver<bool>) -> BTreeSet<(&'static str, String)> {
        while !*is_stopped.borrow() {
            let room = ROOMS[self.below(ROOMS.len() as u64) as usize];
            match self.below(10) {
                0..3 if self.members.len() < 8 => self.enter(room).await,
                3..5 => self.leave().await,
                _ => self.publish().await,
            }
            sleep(Duration::from_millis(self.below(6))).await;
        }
        self.members
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    fn any_member(&mut self) -> Option<(&'static str, String)> {
        let at = self.below(self.members.len().max(1) as u64) as usize;
        self.members.iter().nth(at).cloned()
    }

    async fn enter(&mut self, room: &'static str) {
        self.next += 1;
        let id = format!("{}.{}", self.name, self.next);
        if self.node.enter(room, member(&id), None).await.is_ok() {
            self.members.insert((room, id));
        }
    }

    async fn leave(&mut self) {
        let Some((room, id)) = self.any_member() else { return };
        self.node.leave(room, &id, Some(format!("-{id}").into())).await;
        self.members.remove(&(room, id));
    }

    async fn publish(&mut self) {
        let Some((room, member)) = self.any_member() else { return };
        self.next += 1;
        let id = format!("{}.{}", self.name, self.next);
        let give_up = Instant::now() + Duration::from_secs(20);
        while Instant::now() < give_up {
            match self.node.publish(room, Some(&member), Some(&id), id.as_bytes()).await {
                Ok(published) => {
                    let record = Record::Acknowledged { room: room.to_owned(), id, stamp: published.stamp };
                    return write(&self.records, &record);
                }
                Err(PublishError::Unavailable) => {}
                // Redis has lost its data, and the node is entering its members again.
                Err(PublishError::NoRoom | PublishError::NotMember) => sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("{id} could not be published for 20 s");
    }
}

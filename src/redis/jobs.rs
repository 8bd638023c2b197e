//! Calls that nobody waits for, and that may get lost. They wait in queues of limited length.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tower_chat_rooms_redis as redis;

use crate::ids::RoomId;

/// Transient frames are spread over this many queues, by their rooms.
const QUEUES: usize = 16;

/// Transient frames that may wait in a queue.
const QUEUE_LENGTH: usize = 256;

/// The same for calls to other nodes.
const NODE_QUEUE_LENGTH: usize = 1024;

/// A call that nobody waits for, and that may get lost.
pub(super) enum Job {
    Transient {
        room: RoomId,
        body: Bytes,
    },
    ToAll {
        body: Bytes,
    },
    ToNode {
        node: u32,
        body: Bytes,
    },
    /// To the other nodes on which the user has sessions.
    ToUser {
        user: Box<str>,
        body: Bytes,
    },
}

/// The jobs of a node. Each queue has a task that does its jobs, until this is dropped.
pub(super) struct Jobs {
    /// Queues of transient frames.
    transient: [mpsc::Sender<Job>; QUEUES],
    /// Queues of calls to other nodes.
    for_nodes: [mpsc::Sender<Job>; QUEUES],
    hasher: RandomState,
    /// Jobs that were dropped because a queue was full.
    dropped: AtomicU64,
}

impl Jobs {
    pub(super) fn new(node: &Arc<redis::Node>, runtime: &Handle) -> Jobs {
        let queues = |length| {
            std::array::from_fn(|_| {
                let (queue, jobs) = mpsc::channel(length);
                runtime.spawn(work(node.clone(), jobs));
                queue
            })
        };
        let (transient, for_nodes) = (queues(QUEUE_LENGTH), queues(NODE_QUEUE_LENGTH));
        Jobs { transient, for_nodes, hasher: RandomState::new(), dropped: AtomicU64::new(0) }
    }

    /// Jobs with the same key are done in order.
    pub(super) fn enqueue(&self, job: Job, key: impl Hash) {
        let queues = match job {
            Job::Transient { .. } => &self.transient,
            Job::ToAll { .. } | Job::ToNode { .. } | Job::ToUser { .. } => &self.for_nodes,
        };
        let queue = &queues[self.hasher.hash_one(key) as usize % QUEUES];
        if let Err(error) = queue.try_send(job) {
            let job = error.into_inner().name();
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            // The first, the second, the fourth and so on.
            if dropped.is_power_of_two() {
                tracing::warn!(
                    job,
                    dropped,
                    "too much is waiting for Redis; dropping a job that may get lost"
                );
            }
        }
    }
}

impl Job {
    fn name(&self) -> &'static str {
        match self {
            Job::Transient { .. } => "transient frame",
            Job::ToAll { .. } => "call for all nodes",
            Job::ToNode { .. } => "call for a node",
            Job::ToUser { .. } => "call for a user's nodes",
        }
    }
}

async fn work(node: Arc<redis::Node>, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.recv().await {
        // They may get lost.
        match job {
            Job::Transient { room, body } => {
                let _ = node.send_transient(room.as_str(), &body).await;
            }
            Job::ToAll { body } => warn_if_lost(&node, node.send_to_all(&body).await),
            Job::ToNode { node: number, body } => {
                warn_if_lost(&node, node.send_to_number(number, &body).await)
            }
            Job::ToUser { user, body } => warn_if_lost(&node, send_to_user(&node, &user, &body).await),
        }
    }
}

async fn send_to_user(node: &redis::Node, user: &str, body: &[u8]) -> Result<(), redis::Unavailable> {
    let sessions = node.user_sessions(user).await?;
    let others = sessions.iter().filter(|session| session.is_live && session.node != node.number());
    for other in others.map(|session| session.node).collect::<BTreeSet<u32>>() {
        node.send_to_number(other, body).await?;
    }
    Ok(())
}

fn warn_if_lost(node: &redis::Node, sent: Result<(), redis::Unavailable>) {
    match sent {
        Ok(()) => {}
        // The log has a line about the outage.
        Err(_) if node.outage().is_some() => tracing::debug!("other nodes miss a call of this node"),
        Err(_) => tracing::warn!("Redis cannot be reached; other nodes miss a call of this node"),
    }
}

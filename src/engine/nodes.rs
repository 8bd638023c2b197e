//! The other nodes: tells them what to do, and waits for their answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::broker::commands::{Answer, Command, Message};
use crate::broker::{RemoteBroker, RemoteMember, RemoteSession, Unavailable};
use crate::ids::RoomId;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, lock};

/// How long nodes have to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// As [`ANSWER_WAIT`], for calls that may take a node longer.
const LONG_ANSWER_WAIT: Duration = Duration::from_secs(5);

/// The nodes that share a broker with this one.
pub(crate) struct Nodes {
    broker: Arc<dyn RemoteBroker>,
    next_question: AtomicU64,
    asked: Mutex<HashMap<u64, Asked>>,
}

/// A question that nodes have yet to answer.
struct Asked {
    /// The nodes that have not answered.
    left: Vec<u32>,
    answers: Vec<Answer>,
    /// Sent to when there is no such node any more.
    done: Option<oneshot::Sender<()>>,
}

/// Forgets a question.
struct Asking<'a> {
    nodes: &'a Nodes,
    question: u64,
}

/// What several nodes have answered.
#[derive(Debug)]
pub(crate) struct Sum {
    pub(crate) answers: Vec<Answer>,
    /// Whether all of them have answered in time.
    is_complete: bool,
}

impl Sum {
    /// The numbers of all answers.
    pub(crate) fn number(&self) -> u64 {
        self.answers.iter().map(|answer| answer.number).sum()
    }

    /// Fails unless all nodes have answered.
    pub(crate) fn complete(self) -> Result<Sum, Unavailable> {
        if self.is_complete { Ok(self) } else { Err(Unavailable) }
    }
}

impl Nodes {
    pub(crate) fn new(broker: Arc<dyn RemoteBroker>) -> Nodes {
        Nodes { broker, next_question: AtomicU64::new(1), asked: Mutex::default() }
    }

    /// The number of this node.
    pub(crate) fn own(&self) -> u32 {
        self.broker.node()
    }

    pub(crate) fn broker(&self) -> &Arc<dyn RemoteBroker> {
        &self.broker
    }

    /// Has all other nodes do something. Nobody waits for it.
    pub(crate) fn tell_others(&self, command: Command<'_>) {
        self.broker.send_to_all(self.message(0, command));
    }

    /// Has the other nodes do something on which a user has sessions. Nobody waits for it.
    pub(crate) fn tell_nodes_of(&self, user: &str, command: Command<'_>) {
        self.broker.send_to_user(user, self.message(0, command));
    }

    /// Answers another node.
    pub(crate) fn answer(&self, node: u32, question: u64, answer: Answer) {
        self.broker.send_to_node(node, self.message(question, Command::Answer(answer)));
    }

    /// Another node has answered.
    pub(crate) fn answered(&self, node: u32, question: u64, answer: Answer) {
        let mut asked = lock(&self.asked);
        let Some(question) = asked.get_mut(&question) else { return };
        let Some(at) = question.left.iter().position(|left| *left == node) else { return };
        question.left.swap_remove(at);
        question.answers.push(answer);
        if question.left.is_empty()
            && let Some(done) = question.done.take()
        {
            let _ = done.send(());
        }
    }

    /// The numbers of all nodes, this one included.
    pub(crate) async fn all(&self) -> Result<Vec<u32>, Unavailable> {
        within(ANSWER_WAIT, self.broker.nodes()).await
    }

    /// The sessions of a user on all nodes.
    pub(crate) async fn sessions_of(&self, user: &str) -> Result<Vec<RemoteSession>, Unavailable> {
        within(ANSWER_WAIT, self.broker.user_sessions(user)).await
    }

    /// The other nodes on which a user has sessions. Nodes that are gone are not among them.
    pub(crate) async fn other_nodes_of(&self, user: &str) -> Result<Vec<u32>, Unavailable> {
        let sessions = self.sessions_of(user).await?;
        let live = sessions.iter().filter(|session| session.is_live && session.node != self.own());
        let mut nodes: Vec<u32> = live.map(|session| session.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        Ok(nodes)
    }

    /// The rooms that have members on any node, with their numbers of members.
    pub(crate) async fn rooms(&self) -> Result<Vec<(RoomId, u64)>, Unavailable> {
        within(LONG_ANSWER_WAIT, self.broker.rooms()).await
    }

    /// The members of a room on all nodes.
    pub(crate) async fn members(&self, room: &RoomId) -> Result<Vec<RemoteMember>, Unavailable> {
        let members = self.broker.members(room);
        within(LONG_ANSWER_WAIT, async { members.await.ok_or(Unavailable) }).await
    }

    /// Asks some other nodes.
    pub(crate) async fn ask(&self, nodes: Vec<u32>, command: Command<'_>) -> Sum {
        let to = nodes.clone();
        self.ask_by(nodes, ANSWER_WAIT, command, |body| {
            for node in to {
                self.broker.send_to_node(node, body.clone());
            }
        })
        .await
    }

    /// Asks all other nodes.
    pub(crate) async fn ask_others(&self, command: Command<'_>) -> Result<Sum, Unavailable> {
        let mut nodes = within(ANSWER_WAIT, self.broker.nodes()).await?;
        nodes.retain(|node| *node != self.own());
        Ok(self.ask_by(nodes, LONG_ANSWER_WAIT, command, |body| self.broker.send_to_all(body)).await)
    }

    async fn ask_by(
        &self,
        nodes: Vec<u32>,
        wait: Duration,
        command: Command<'_>,
        send: impl FnOnce(Bytes),
    ) -> Sum {
        if nodes.is_empty() {
            return Sum { answers: Vec::new(), is_complete: true };
        }
        let question = self.next_question.fetch_add(1, Ordering::Relaxed);
        let (done, is_done) = oneshot::channel();
        lock(&self.asked).insert(question, Asked { left: nodes, answers: Vec::new(), done: Some(done) });
        let asking = Asking { nodes: self, question };
        send(self.message(question, command));
        let is_complete = timeout(wait, is_done).await.is_ok();
        Sum { answers: asking.finish(), is_complete }
    }

    /// A call for other nodes.
    pub(crate) fn message(&self, question: u64, command: Command<'_>) -> Bytes {
        Message { node: self.own(), question, command }.encode()
    }
}

impl Asking<'_> {
    fn finish(self) -> Vec<Answer> {
        let asked = lock(&self.nodes.asked).remove(&self.question);
        asked.map(|asked| asked.answers).unwrap_or_default()
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        lock(&self.nodes.asked).remove(&self.question);
    }
}

/// Waits for the broker, but not for long.
async fn within<T>(
    wait: Duration,
    answer: impl Future<Output = Result<T, Unavailable>>,
) -> Result<T, Unavailable> {
    timeout(wait, answer).await.unwrap_or(Err(Unavailable))
}

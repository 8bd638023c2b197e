//! A broker within one process, for tests of several nodes.

mod batches;
mod node;
mod order;
mod sessions;
mod users;

use std::fmt;
use std::sync::Arc;

use crate::broker::{BrokerNode, RemoteEvent, Stamp};
use crate::health::Health;
use crate::ids::RoomId;
use crate::sync::{Mutex, MutexGuard, lock};
use node::SharedNode;
use order::{Hearer, Shared};

/// A broker in memory, for tests in which several [`ChatRooms`](crate::ChatRooms) in one process share their rooms.
///
/// ```
/// use tower_chat_rooms::{ChatRooms, SharedBroker};
///
/// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// let broker = SharedBroker::new();
/// let one = ChatRooms::builder().broker(broker.node()).build()?;
/// let other = ChatRooms::builder().broker(broker.node()).build()?;
/// # drop((one, other));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct SharedBroker(Arc<Mutex<Shared>>);

impl SharedBroker {
    /// Creates a broker without rooms.
    pub fn new() -> SharedBroker {
        SharedBroker::default()
    }

    /// Creates another node.
    pub fn node(&self) -> BrokerNode {
        let mut shared = self.lock();
        shared.last_node += 1;
        let number = shared.last_node;
        shared.nodes.insert(number, Hearer::default());
        let node = || SharedNode { number, shared: self.clone() };
        BrokerNode { broker: Arc::new(node()), events: Box::new(node()) }
    }

    /// Returns the number of members in all rooms.
    pub fn members(&self) -> usize {
        self.lock().rooms.values().map(|room| room.members.len()).sum()
    }

    /// Sets whether the broker can be reached. While it cannot, calls wait.
    pub fn set_available(&self, is_available: bool) {
        let mut shared = self.lock();
        shared.outage = (!is_available).then(|| Health::degraded_now("the shared broker is not available"));
        if is_available {
            for call in std::mem::take(&mut shared.waiting) {
                call(&mut shared);
            }
        }
    }

    /// Sets whether events arrive at the nodes. While they do not, calls are answered, and events wait.
    pub fn set_delivering(&self, is_delivering: bool) {
        for hearer in self.lock().nodes.values_mut() {
            hearer.is_deaf = !is_delivering;
            hearer.wake();
        }
    }

    /// Sets whether events arrive at one node.
    pub fn set_delivering_to(&self, node: u32, is_delivering: bool) {
        if let Some(hearer) = self.lock().nodes.get_mut(&node) {
            hearer.is_deaf = !is_delivering;
            hearer.wake();
        }
    }

    /// Loses the next event for a node.
    pub fn lose_next_event(&self, node: u32) {
        if let Some(hearer) = self.lock().nodes.get_mut(&node) {
            hearer.loses_next = true;
        }
    }

    /// Begins a new epoch in all rooms, as if the broker had been restarted.
    pub fn restart(&self) {
        let mut shared = self.lock();
        let rooms: Vec<RoomId> = shared.rooms.keys().cloned().collect();
        for id in rooms {
            let epoch = shared.next_epoch();
            let Some(room) = shared.rooms.get_mut(&id) else { continue };
            room.latest = Stamp { num: room.latest.num, ..Stamp::start(epoch) };
            room.log.clear();
            let stamp = room.latest;
            shared.tell(&id, |room| RemoteEvent::Reset { room, stamp });
        }
    }

    /// Removes a node that has crashed, with its members and the sessions of its users. Members of sessions that can be
    /// resumed stay until [`SharedBroker::end_resume_windows`]. The first of the other nodes is told who was lost.
    pub fn remove_node(&self, node: u32) {
        self.lock().remove_node(node);
    }

    /// Ends the resume windows of all nodes that have crashed: their last members leave, and their last users go offline.
    pub fn end_resume_windows(&self) {
        self.lock().end_lost_sessions();
    }

    /// Returns the number of sessions that can be resumed on any node.
    pub fn sessions(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Makes the other nodes take a running node for gone. The first of the other nodes is told which members and users
    /// were lost, and the node itself is told that they have come back. Nothing happens in the rooms.
    pub fn suspect_node(&self, node: u32) {
        self.lock().suspect(node);
    }

    /// Removes the members of a node, as if it had been cut off and other members had taken their names in between.
    pub fn evict_members(&self, node: u32) {
        let mut shared = self.lock();
        for (entry, lost) in shared.remove_members(node, |_| true) {
            if let Some(hearer) = shared.nodes.get_mut(&node) {
                hearer.push(RemoteEvent::Evicted { room: lost.room, entry });
            }
        }
    }

    /// Removes the members of a running node, as if it had been cut off. The node does not enter them again.
    pub fn lose_members(&self, node: u32) {
        self.lock().remove_members(node, |_| true);
    }

    /// Ends the sessions of a running node, as if it had been cut off for longer than the resume window.
    pub fn remove_sessions(&self, node: u32) {
        self.lock().remove_sessions(node);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.0)
    }
}

impl BrokerNode {
    /// Returns the number of a node of a [`SharedBroker`], which the broker's methods take. Get it before you pass the
    /// node to [`ChatRoomsBuilder::broker`](crate::ChatRoomsBuilder::broker).
    pub fn number(&self) -> u32 {
        self.broker.node()
    }
}

impl fmt::Debug for SharedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBroker").finish_non_exhaustive()
    }
}

//! Applies the events of other nodes and of this one, in the order in which the broker delivers them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

use crate::broker::{RemoteEvent, RemoteEvents, RoomEvent, Stamp, TakenSession};
use crate::delivery::{Applied, Rooms};
use crate::engine::Engine;
use crate::engine::lost::Lost;
use crate::engine::nodes::Nodes;
use crate::health::Health;
use crate::hooks::guard;
use crate::hooks::policy::ErasedPolicy;
use crate::ids::RoomId;
use crate::protocol::close::LeaveReason;
use crate::protocol::subprotocol::Subprotocol;
use crate::stats::{BrokerStats, Hook};
use crate::sync::{Mutex, lock};
use crate::tasks::Tasks;

/// After this many events, the other tasks get a turn.
const EVENTS_PER_TURN: usize = 32;

/// While the broker cannot be reached, it is asked for members and history this often.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) struct Applier {
    nodes: Arc<Nodes>,
    /// While the task is not running.
    events: Arc<Mutex<Option<Box<dyn RemoteEvents>>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// The events of a task. If it ends with its runtime, the next connection starts another with them.
struct Hearing {
    events: Option<Box<dyn RemoteEvents>>,
    idle: Arc<Mutex<Option<Box<dyn RemoteEvents>>>>,
    tasks: Arc<Tasks>,
}

impl Applier {
    pub(super) fn new(nodes: Arc<Nodes>, events: Box<dyn RemoteEvents>) -> Applier {
        Applier { nodes, events: Arc::new(Mutex::new(Some(events))), task: Mutex::default() }
    }

    /// Starts the task, if it is not running. It does not keep the engine alive. A shutdown waits for it after all others,
    /// because these still need the broker.
    pub(super) fn start(&self, engine: &Arc<Engine>) {
        let Some(events) = lock(&self.events).take() else { return };
        let hearing =
            Hearing { events: Some(events), idle: self.events.clone(), tasks: engine.tasks.clone() };
        let task = apply_all(hearing, Arc::downgrade(engine), engine.tasks.clone());
        *lock(&self.task) = Some(tokio::spawn(task));
    }

    pub(super) fn health(&self) -> Health {
        self.nodes.broker().health()
    }

    pub(super) fn stats(&self) -> BrokerStats {
        self.nodes.broker().stats()
    }

    pub(super) fn nodes(&self) -> &Arc<Nodes> {
        &self.nodes
    }

    /// Closes the node, and ends the task. If the broker cannot be reached within this time, other nodes find that this
    /// one is gone.
    pub(super) async fn close(&self, limit: Duration) {
        let is_closed = timeout(limit, self.nodes.broker().close()).await.is_ok();
        let task = lock(&self.task).take();
        if let Some(task) = task {
            if !is_closed {
                task.abort();
            }
            let _ = task.await;
        }
    }
}

impl Hearing {
    /// The next event; `None` after the node was closed.
    async fn next(&mut self) -> Option<RemoteEvent> {
        let event = self.events.as_mut()?.next().await;
        if event.is_none() {
            self.events = None;
        }
        event
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        if !self.tasks.is_closing() {
            *lock(&self.idle) = self.events.take();
        }
    }
}

async fn apply_all(mut hearing: Hearing, engine: Weak<Engine>, tasks: Arc<Tasks>) {
    let mut applied = 0_usize;
    while let Some(event) = hearing.next().await {
        let Some(engine) = engine.upgrade() else { return };
        let rooms = engine.rooms.clone();
        match event {
            RemoteEvent::Room(event) => apply(&rooms, &event, &tasks).await,
            RemoteEvent::Transient { room, body } => rooms.apply_transient(&room, &body),
            RemoteEvent::Reset { room, stamp } => {
                // Most likely, all rooms are reset.
                engine.context.spread_restart(engine.admission.connections(), true);
                follow(&rooms, &room, stamp, &tasks).await;
            }
            RemoteEvent::Evicted { room, entry } => tasks.spawn(async move { engine.evict(&room, entry) }),
            RemoteEvent::Command { body } => engine.obey(body),
            RemoteEvent::SessionMoved(taken) => arrive(&engine, &taken, &tasks).await,
            RemoteEvent::SessionTaken { session, generation } => {
                engine.sessions.taken(session, generation, LeaveReason::Replaced);
            }
            // The client may not have another connection.
            RemoteEvent::SessionGone { session, generation } => {
                engine.sessions.taken(session, generation, LeaveReason::Unavailable);
            }
            RemoteEvent::MemberLost(lost) => engine.tell_of_lost(Lost::Member(lost)),
            RemoteEvent::EnteredAgain { room, connection } => {
                engine.tell_of_lost(Lost::EnteredAgain { room, connection });
            }
            RemoteEvent::UserOffline { user } => engine.tell_of_lost(Lost::Offline(user)),
            RemoteEvent::UserOnline { user } => engine.tell_of_lost(Lost::Online(user)),
        }
        applied += 1;
        if applied.is_multiple_of(EVENTS_PER_TURN) {
            yield_now().await;
        }
    }
}

async fn apply(rooms: &Rooms, event: &RoomEvent, tasks: &Tasks) {
    let mut applied = rooms.apply(event);
    if applied == Applied::Beyond {
        follow(rooms, &event.room, event.stamp.before(event.kind), tasks).await;
        applied = rooms.apply(event);
    }
    if applied == Applied::Unreadable {
        follow(rooms, &event.room, event.stamp, tasks).await;
    }
}

/// Builds a session that this node has taken over.
async fn arrive(engine: &Arc<Engine>, taken: &TakenSession, tasks: &Tasks) {
    let Some(session) = engine.sessions.begin_arrival(taken) else { return };
    engine.start(Subprotocol::V1);
    for member in &taken.members {
        let times = &engine.context.counters.hooks;
        let ask =
            |policy: &dyn ErasedPolicy| guard::call(times, Hook::Presence, || policy.presence(&member.room));
        let presence = engine.policy().and_then(|policy| ask(policy).ok().flatten());
        if engine.sessions.arrive_in(&session, member, presence).is_some() {
            follow(&engine.rooms, &member.room, member.stamp, tasks).await;
        }
    }
    engine.sessions.finish_arrival(session, &taken.token);
}

/// Follows a room from this event on, with the history before it. The members are asked for afterwards, so later events
/// may repeat some of them.
async fn follow(rooms: &Rooms, id: &RoomId, stamp: Stamp, tasks: &Tasks) {
    loop {
        let Some(room) = rooms.get(id.as_str()) else { return };
        if let Some(members) = rooms.members_on_all_nodes(id).await
            && let Some(log) = rooms.log_on_all_nodes(id, stamp).await
        {
            return rooms.follow(&room, stamp, &members, &log);
        }
        if tasks.is_closing_within(RETRY_INTERVAL).await {
            return;
        }
    }
}

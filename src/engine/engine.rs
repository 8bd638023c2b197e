//! The engine's parts, and the operations that need several of them.

use std::pin::pin;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::runtime::Handle;
use tokio::task::yield_now;

use crate::admission::Admission;
use crate::broker::BrokerNode;
use crate::config::Config;
use crate::context::Context;
use crate::delivery::Rooms;
use crate::engine::applier::Applier;
use crate::engine::direct::RecentDirects;
use crate::engine::drain::DrainSlot;
use crate::engine::lost::LostQueue;
use crate::engine::nodes::Nodes;
use crate::engine::stall::StallDetector;
use crate::engine::{expiry, sweep};
use crate::health::Health;
use crate::hooks::auth::ErasedAuth;
use crate::hooks::events::RoomEvents;
use crate::hooks::guard;
use crate::hooks::policy::ErasedPolicy;
use crate::ids::ConnectionId;
use crate::protocol::close::LeaveReason;
use crate::protocol::subprotocol::Subprotocol;
use crate::session::Sessions;
use crate::stats::{Hook, Stats};
use crate::store::erased::ErasedStore;
use crate::tasks::Tasks;

/// A shutdown yields to other tasks after this many sessions, because leaving a large room takes long.
const SESSIONS_PER_TURN: usize = if cfg!(all(test, shuttle)) { 1 } else { 64 };

/// What the host supplies.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) auth: Option<Box<dyn ErasedAuth>>,
    pub(crate) policy: Option<Box<dyn ErasedPolicy>>,
    pub(crate) events: Option<Arc<dyn RoomEvents>>,
    pub(crate) store: Option<Arc<dyn ErasedStore>>,
}

pub(crate) struct Engine {
    pub(crate) context: Arc<Context>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) sessions: Arc<Sessions>,
    auth: Option<Box<dyn ErasedAuth>>,
    policy: Option<Box<dyn ErasedPolicy>>,
    /// Present if a broker is shared with other nodes.
    applier: Option<Applier>,
    lost: LostQueue,
    recent_directs: RecentDirects,
    drain: DrainSlot,
    stall: StallDetector,
    plain_heartbeats: sweep::Running,
    v1_heartbeats: sweep::Running,
    expiry: sweep::Running,
}

impl Engine {
    pub(crate) fn new(config: Config, hooks: Hooks, node: Option<BrokerNode>) -> Engine {
        let context = Arc::new(Context::new(config));
        let tasks = Arc::new(Tasks::default());
        let admission = Arc::new(Admission::new(context.clone(), tasks.clone()));
        let (remote, events) = node.map(|node| (node.broker, node.events)).unzip();
        if let Some(broker) = &remote {
            broker.keep_logs(&context.config.recovery);
        }
        let (events_hook, store) = (hooks.events.clone(), hooks.store);
        let rooms = Arc::new(Rooms::new(
            &context.config,
            context.clock,
            &context.counters,
            tasks.clone(),
            events_hook,
            store,
            remote.clone(),
        ));
        let nodes = remote.map(|broker| Arc::new(Nodes::new(broker)));
        let first_id = match &nodes {
            Some(nodes) => ConnectionId::of_node(nodes.own(), 0),
            // The store has the ids of connections of earlier runs.
            None if rooms.has_store() => ConnectionId::first_of_run(SystemTime::now()),
            None => ConnectionId(0),
        };
        let sessions = Sessions::new(
            context.clone(),
            rooms.clone(),
            admission.clone(),
            hooks.events,
            first_id,
            tasks.clone(),
        );
        let applier = nodes.zip(events).map(|(nodes, events)| Applier::new(nodes, events));
        Engine {
            context,
            tasks,
            admission,
            rooms,
            sessions,
            auth: hooks.auth,
            policy: hooks.policy,
            applier,
            lost: LostQueue::default(),
            recent_directs: RecentDirects::default(),
            drain: DrainSlot::default(),
            stall: StallDetector::default(),
            plain_heartbeats: sweep::Running::default(),
            v1_heartbeats: sweep::Running::default(),
            expiry: sweep::Running::default(),
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.context.config
    }

    pub(crate) fn auth(&self) -> Option<&dyn ErasedAuth> {
        self.auth.as_deref()
    }

    pub(crate) fn policy(&self) -> Option<&dyn ErasedPolicy> {
        self.policy.as_deref()
    }

    /// Starts the tasks that run while there are sessions that speak this subprotocol.
    pub(crate) fn start(self: &Arc<Engine>, subprotocol: Subprotocol) {
        self.tasks.remember_runtime();
        self.start_hearing();
        sweep::ensure(self, subprotocol);
        if subprotocol == Subprotocol::V1 && !self.config().recovery.resume_window.is_zero() {
            expiry::ensure(self);
        }
    }

    /// Starts the task that hears what happens on other nodes, if there is a runtime.
    pub(crate) fn start_hearing(self: &Arc<Engine>) {
        if let Some(applier) = &self.applier
            && Handle::try_current().is_ok()
        {
            applier.start(self);
        }
    }

    /// Whether the whole process has stalled, or did a moment ago.
    pub(crate) fn has_stalled(&self) -> bool {
        self.stall.has_stalled(self.context.clock.now(), sweep::longest_tick(&self.context))
    }

    /// Waits for a closing handshake, but no longer than a shutdown waits for it.
    pub(crate) async fn finish(&self, handshake: impl Future<Output = ()>) {
        let mut handshake = pin!(handshake);
        if self.admission.unless_closing(handshake.as_mut()).await.is_none() {
            let _ = tokio::time::timeout(self.config().timeouts.shutdown_timeout, handshake).await;
        }
    }

    /// A shutdown has begun: sets when clients come back.
    pub(super) fn spread_restart(&self) {
        self.context.spread_restart(self.sessions.table().len(), self.rooms.is_remote());
    }

    /// Ends all sessions, or leaves them to other nodes, and waits until no task of the engine is left.
    pub(crate) async fn shutdown(&self) {
        let (start, connections) = (self.context.clock.now(), self.admission.connections());
        self.admission.close();
        self.tasks.close();
        self.rooms.close_all();
        self.spread_restart();
        for (n, session) in self.sessions.table().all().enumerate() {
            if n > 0 && n % SESSIONS_PER_TURN == 0 {
                yield_now().await;
            }
            self.sessions.close(&session, LeaveReason::Shutdown);
        }
        self.tasks.wait().await;
        if let Some(applier) = &self.applier {
            applier.close(self.config().timeouts.shutdown_timeout).await;
            self.call_for_lost();
        }
        if let Some(events) = self.sessions.events() {
            // No connection is left that a panic could end.
            let _ = guard::call(&self.context.counters.hooks, Hook::Ended, || events.ended());
        }
        let took = self.context.clock.now().saturating_sub(start);
        tracing::info!(connections, ?took, "chat rooms shut down; all connections are closed");
    }

    pub(crate) fn stats(&self) -> Stats {
        let (connections, kept_rooms) = (self.admission.connections(), self.rooms.empty());
        let is_draining = self.admission.is_draining();
        Stats {
            connections,
            pending: self.admission.pending(),
            rooms: self.rooms.len().saturating_sub(kept_rooms),
            kept_rooms,
            sessions: self.sessions.table().len(),
            users: self.sessions.users().len(),
            absent: self.admission.absent(),
            draining: if is_draining { connections } else { 0 },
            is_draining,
            broker: self.applier.as_ref().map(Applier::stats),
            ..self.context.counters.read()
        }
    }

    pub(crate) fn health(&self) -> Health {
        if self.admission.is_closing() {
            return Health::ShuttingDown;
        }
        if self.admission.is_draining() {
            return Health::Draining;
        }
        match self.applier.as_ref().map(Applier::health) {
            None | Some(Health::Healthy) => self.rooms.store_health(),
            Some(health) => health,
        }
    }

    /// The other nodes, if a broker is shared with them.
    pub(crate) fn nodes(&self) -> Option<&Arc<Nodes>> {
        self.applier.as_ref().map(Applier::nodes)
    }

    pub(super) fn lost(&self) -> &LostQueue {
        &self.lost
    }

    pub(super) fn recent_directs(&self) -> &RecentDirects {
        &self.recent_directs
    }

    pub(super) fn drain_slot(&self) -> &DrainSlot {
        &self.drain
    }

    pub(super) fn stall(&self) -> &StallDetector {
        &self.stall
    }

    pub(super) fn plain_heartbeats(&self) -> &sweep::Running {
        &self.plain_heartbeats
    }

    pub(super) fn v1_heartbeats(&self) -> &sweep::Running {
        &self.v1_heartbeats
    }

    pub(super) fn expiry(&self) -> &sweep::Running {
        &self.expiry
    }
}

//! What the host needs to operate chat rooms: statistics, health, drain and shutdown.

use crate::chat_rooms::ChatRooms;
use crate::config::Drain;
use crate::engine::Draining;
#[cfg(feature = "test-util")]
use crate::engine::consistency::ConsistencyReport;
use crate::health::Health;
use crate::stats::Stats;

impl ChatRooms {
    /// Returns current numbers and counters.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Returns whether the chat rooms can do their work, for example for a readiness endpoint.
    ///
    /// ```
    /// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// use http::StatusCode;
    /// use tower_chat_rooms::{ChatRooms, Health};
    ///
    /// /// The answer to a load balancer that asks whether to send clients here.
    /// fn readiness(rooms: &ChatRooms) -> (StatusCode, String) {
    ///     match rooms.health() {
    ///         Health::Healthy => (StatusCode::OK, "healthy".to_owned()),
    ///         // Its connections stay open, and all other nodes are probably in the same state. The reason is for you, not
    ///         // for clients.
    ///         Health::Degraded { since, .. } => {
    ///             (StatusCode::OK, format!("degraded for {} s", since.elapsed().as_secs()))
    ///         }
    ///         // Draining or shutting down.
    ///         _ => (StatusCode::SERVICE_UNAVAILABLE, "stopping".to_owned()),
    ///     }
    /// }
    /// # let rooms = ChatRooms::builder().build()?;
    /// # assert_eq!(readiness(&rooms).0, StatusCode::OK);
    /// # Ok(())
    /// # }
    /// ```
    pub fn health(&self) -> Health {
        self.engine.health()
    }

    /// Compares members, counts, sessions, users and resume tokens with each other, for tests.
    ///
    /// While the engine is idle, the report has no faults. While members enter and leave, it can have transient ones.
    ///
    /// ```
    /// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// let rooms = tower_chat_rooms::ChatRooms::builder().build()?;
    /// assert!(rooms.check_consistency().faults.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "test-util")]
    #[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
    pub fn check_consistency(&self) -> ConsistencyReport {
        self.engine.check_consistency()
    }

    /// Drains this process: moves its clients to other processes before it stops. Use it for rolling deployments.
    ///
    /// From now on, [`is_draining`](ChatRooms::is_draining) returns true, [`health`](ChatRooms::health) returns
    /// [`Health::Draining`](crate::Health::Draining), and upgrades are refused with 503 and `Retry-After`. After the
    /// [`ready_delay`](Drain::ready_delay), the connections are closed with 1012, evenly over the time of the drain and
    /// in random order. Each client first gets the frames in its send queue, and is told to come back within a second.
    /// The drain ends when all connections have ended. Then call [`shutdown`](ChatRooms::shutdown). If you call
    /// `shutdown` earlier, it cuts the drain short.
    ///
    /// With a [broker](crate::ChatRoomsBuilder::broker), the sessions of clients that can resume are kept. Their members stay
    /// in their rooms, no callback is called, and the clients resume on other nodes. A session that is not resumed ends
    /// after the [`resume_window`](crate::Recovery::resume_window). This node ends it while it is running. After that,
    /// another node ends it, with [`LeaveReason::NodeLost`](crate::LeaveReason::NodeLost). All other members leave when
    /// their connection is closed.
    ///
    /// If no other process takes over the clients, call `shutdown` without a drain.
    ///
    /// The drain runs in the background. The returned [`Draining`] reports its progress, and is a future that completes
    /// at its end. A drain cannot be undone. If a drain is already running, the call returns that drain and ignores its
    /// argument.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// use std::time::Duration;
    /// use tower_chat_rooms::{ChatRooms, Drain};
    ///
    /// let rooms = ChatRooms::builder().build()?;
    /// let draining = rooms.drain(Drain::over(Duration::from_secs(30)));
    /// println!("{} connections to close", draining.progress().connections);
    /// let drained = draining.await;
    /// println!("{} connections closed in {:?}", drained.closed, drained.took);
    /// rooms.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn drain(&self, drain: Drain) -> Draining {
        self.engine.drain(drain)
    }

    /// Returns whether [`drain`](ChatRooms::drain) or [`shutdown`](ChatRooms::shutdown) was called.
    pub fn is_draining(&self) -> bool {
        self.engine.admission.is_draining()
    }

    /// Shuts down: refuses further upgrades, closes every connection with 1012, which tells clients to reconnect, and
    /// waits until all have ended.
    ///
    /// This takes at most about [`shutdown_timeout`](crate::Timeouts::shutdown_timeout). Afterwards,
    /// [`left`](crate::RoomEvents::left) has been called for every member, and no task is left. Clients are told to
    /// reconnect at different times, after two seconds at the earliest. A shutdown cannot be undone.
    ///
    /// With a [broker](crate::ChatRoomsBuilder::broker), the sessions of clients that can resume are kept, as in a
    /// [`drain`](ChatRooms::drain). Their members stay in their rooms, and `left` is not called for them. Their clients
    /// resume on other nodes, or on this one if it is started again in time. Sessions that are not resumed within the
    /// [`resume_window`](crate::Recovery::resume_window) are ended by another node.
    ///
    /// The shutdown yields to other tasks while it ends many sessions. If you drop the future before it completes, some
    /// clients may not have been told to reconnect. Call it again then.
    pub async fn shutdown(&self) {
        self.engine.shutdown().await;
    }
}

//! What single calls cost: the inputs of the calculation.

use clap::Args;

/// Times are CPU time of the main thread of Redis in µs. The defaults were measured with --measure (Redis 7.0, two cores
/// with other work), unless an input says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Args)]
pub(crate) struct Costs {
    /// A message, without its deliveries to nodes
    #[arg(long, default_value_t = 22.5)]
    pub(crate) message: f64,

    /// An event's delivery to one node, under load
    #[arg(long, default_value_t = 1.2)]
    pub(crate) delivery: f64,

    /// A client begins its session, enters a room, leaves it and ends its session, without the deliveries
    #[arg(long, default_value_t = 91.0)]
    pub(crate) enter_and_leave: f64,

    /// A session is resumed on another node, with one room that this node subscribes to
    #[arg(long, default_value_t = 61.0)]
    pub(crate) resume: f64,

    /// A node for a second: its leases and probes, and its checks for lost nodes
    #[arg(long, default_value_t = 268.0)]
    pub(crate) node: f64,

    /// A subscription, again after an outage
    #[arg(long, default_value_t = 1.2)]
    pub(crate) subscribe: f64,

    /// A read of a room's log after an outage
    #[arg(long, default_value_t = 17.0)]
    pub(crate) read: f64,

    /// A look at a session after an outage
    #[arg(long, default_value_t = 12.0)]
    pub(crate) put: f64,

    /// A member of a lost node is removed
    #[arg(long, default_value_t = 60.0)]
    pub(crate) reap: f64,

    /// A look at a room of a lost node that has no members to remove
    #[arg(long, default_value_t = 29.0)]
    pub(crate) look: f64,

    /// A look at a session of a lost node. One call looks at all of them, at the fence and when they end (measured when all
    /// nodes looked again and again)
    #[arg(long, default_value_t = 4.0)]
    pub(crate) keep: f64,

    /// Bytes of a member with its enter in the log
    #[arg(long, default_value_t = 1036.0)]
    pub(crate) member_bytes: f64,

    /// Bytes of a session
    #[arg(long, default_value_t = 492.0)]
    pub(crate) session_bytes: f64,

    /// Bytes of a subscription
    #[arg(long, default_value_t = 140.0)]
    pub(crate) subscription_bytes: f64,

    /// Bytes of an event on the way to a node
    #[arg(long, default_value_t = 300.0)]
    pub(crate) event_bytes: f64,

    /// CPU time of a node for a delivery to a client (docs/benchmarks.md, "load")
    #[arg(long, default_value_t = 8.3)]
    pub(crate) client_delivery: f64,

    /// CPU time of a node for an event that it receives from Redis
    #[arg(long, default_value_t = 25.0)]
    pub(crate) node_event: f64,

    /// CPU time of a node for a heartbeat and its answer (docs/benchmarks.md, "A million connections")
    #[arg(long, default_value_t = 15.0)]
    pub(crate) heartbeat: f64,
}

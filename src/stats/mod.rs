//! Numbers for the host: what the engine has done, and its current state.

mod counter;
mod counters;
mod histogram;
mod hooks;
mod reasons;

use std::collections::BTreeMap;

pub(crate) use counters::Counters;
pub use histogram::Histogram;
pub(crate) use histogram::LiveHistogram;
pub(crate) use hooks::{Hook, HookTimes};
pub use reasons::ReasonCounts;

/// Current numbers of an engine, and counters since it was built.
///
/// They are read one after the other, not at one instant. Created by [`ChatRooms::stats`](crate::ChatRooms::stats).
/// [`to_open_metrics`](Stats::to_open_metrics) turns them into text for Prometheus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that are open or being opened now.
    pub connections: usize,
    /// Connections that have not entered a room yet.
    pub pending: usize,
    /// Rooms that have members now.
    pub rooms: usize,
    /// Empty rooms that are kept for their [history](crate::Recovery::history).
    pub kept_rooms: usize,
    /// Sessions that have a connection, or that are kept for their clients to resume (`absent`).
    pub sessions: usize,
    /// Different users who have sessions on this node.
    pub users: usize,
    /// Connections that a [drain](crate::ChatRooms::drain) or a shutdown still has to close. 0 before it.
    pub draining: usize,
    /// Whether a drain or a shutdown has begun.
    pub is_draining: bool,
    /// Upgrades that became connections.
    pub accepted: u64,
    /// Refused upgrades: all of the following, and those refused during a shutdown.
    pub refused: u64,
    /// Upgrades refused because the request was not a valid WebSocket handshake.
    pub refused_handshake: u64,
    /// Upgrades refused because of the page's origin ([`Origins`](crate::Origins)).
    pub refused_origin: u64,
    /// Upgrades refused by the auth hook, or because it failed. They include those of `chat-rooms.v1` clients, whose
    /// connection is opened only to tell them.
    pub refused_auth: u64,
    /// Upgrades refused because of [`max_connections`](crate::Limits::max_connections) or
    /// [`max_pending`](crate::Limits::max_pending).
    pub refused_full: u64,
    /// Upgrades refused because their address has reached
    /// [`max_connections_per_ip`](crate::Limits::max_connections_per_ip), or connects or fails to authenticate too
    /// often ([`RateLimits`](crate::RateLimits)).
    pub refused_per_ip: u64,
    /// Why connections have ended.
    pub closed: ReasonCounts,
    /// Memberships that have begun. Subtract `left` to get the number of members that this node has now.
    pub entered: u64,
    /// Memberships that have ended, or continue on another node.
    pub left: u64,
    /// Why memberships have ended.
    pub left_by_reason: ReasonCounts,
    /// Memberships that continue on another node, because their clients have resumed their sessions there.
    pub moved_away: u64,
    /// Messages of members that were published.
    pub messages: u64,
    /// Frames of rooms, each counted once for every member of this node that it was for. A member whose client is
    /// absent counts, too. Transient frames, `presence` frames and replays do not.
    pub deliveries: u64,
    /// Bytes of WebSocket frames that were received. Each connection adds its bytes at its next heartbeat, and at its end.
    pub received_bytes: u64,
    /// Bytes of WebSocket frames that sockets have accepted. Each connection adds its bytes at its next heartbeat, and at
    /// its end.
    pub sent_bytes: u64,
    /// Bytes that wait in send queues now, replays included.
    pub queued_bytes: u64,
    /// Connections whose send queues are not empty now.
    pub behind: u64,
    /// How long it took from the receipt of a message until it was written to the last member of its room on this node.
    /// A message in a send queue counts as written. One in [`MESSAGES_PER_SAMPLE`](Stats::MESSAGES_PER_SAMPLE) is
    /// measured.
    pub delivery: Histogram,
    /// How long your hooks took: those that were called, by the names of their methods.
    pub hooks: BTreeMap<&'static str, Histogram>,
    /// `error` and `noAuth` frames sent.
    pub errors: u64,
    /// Connections closed because nothing was received within the heartbeat's timeout.
    pub heartbeats_missed: u64,
    /// Connections closed because they read too slowly.
    pub slow: u64,
    /// Sessions that have no connection now and are kept for their clients to resume.
    pub absent: usize,
    /// Sessions that were resumed.
    pub resumed: u64,
    /// Requests to resume a session that found no session.
    pub not_resumed: u64,
    /// Requests to resume a session that failed because the [broker](crate::ChatRoomsBuilder::broker) could not be reached.
    pub resume_unavailable: u64,
    /// Earlier frames that were sent to clients that had missed them or had asked for the history.
    pub replayed: u64,
    /// Frames that exceeded a rate ([`RateLimits`](crate::RateLimits)).
    pub rate_limited: u64,
    /// Connections closed because they continued to exceed a rate.
    pub flooded: u64,
    /// Connections closed because of too many failed authentications.
    pub auth_failed: u64,
    /// Frames of rooms that slow consumers have missed ([`SlowConsumer`](crate::SlowConsumer)).
    pub lagged: u64,
    /// Connections closed because of the [`write_timeout`](crate::Timeouts::write_timeout). `slow` includes them.
    pub write_timeouts: u64,
    /// Connections closed because of [`max_lifetime`](crate::Timeouts::max_lifetime).
    pub lifetime_over: u64,
    /// [Transient frames](crate::ChatRoomsBuilder::transient_events) that were dropped: because a member's send queue was
    /// not empty, counted for each member, or because too many were waiting in their room.
    pub transient_dropped: u64,
    /// Messages, enters and requests for messages that were refused because the
    /// [broker](crate::ChatRoomsBuilder::broker) or the [store](crate::ChatRoomsBuilder::store) failed or did not answer.
    pub unavailable: u64,
    /// How long the [store](crate::ChatRoomsBuilder::store) took to store a batch of messages, with all attempts.
    pub store_append: Histogram,
    /// How long the store took to read a page of messages.
    pub store_page: Histogram,
    /// Calls of the store that failed or did not answer in time.
    pub store_failures: u64,
    /// How long it took until a member's enter was confirmed by a [broker](crate::ChatRoomsBuilder::broker) that other
    /// nodes share, or failed.
    pub broker_enter: Histogram,
    /// How long it took until a member's message was confirmed by this broker, or failed.
    pub broker_publish: Histogram,
    /// The age of messages when they arrived at this node from this broker. It includes the difference between the two
    /// clocks. Ages below 0 count as 0.
    pub broker_lag: Histogram,
    /// What the node has done at the broker. `None` without a broker that other nodes share.
    pub broker: Option<BrokerStats>,
}

/// What a node has done at a [broker](crate::ChatRoomsBuilder::broker) since it connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStats {
    /// Whether the broker can be reached.
    pub is_available: bool,
    /// Connections to the broker that were lost and opened again.
    pub reconnects: u64,
    /// Events of rooms, transient frames and commands that this node has received, including its own.
    pub events: u64,
    /// Messages that this node has received but could not read. If this is not 0, nodes with different versions
    /// are running together.
    pub dropped_messages: u64,
    /// Members of lost nodes that this node has removed from their rooms.
    pub lost_members: u64,
    /// Frames that are being published now, or that wait for the broker.
    pub waiting: usize,
}

impl Stats {
    /// [`delivery`](Stats::delivery) measures one in this many messages of each connection.
    pub const MESSAGES_PER_SAMPLE: u8 = 16;

    /// The members that rooms have on this node now. A client in two rooms counts twice.
    pub fn members(&self) -> u64 {
        // `left` is read later.
        self.entered.saturating_sub(self.left)
    }
}

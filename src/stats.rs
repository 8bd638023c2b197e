//! Counters of what the engine has done.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that many tasks add to.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    pub(crate) refused_handshake: Counter,
    pub(crate) refused_origin: Counter,
    pub(crate) refused_auth: Counter,
    pub(crate) refused_full: Counter,
    pub(crate) refused_per_ip: Counter,
    pub(crate) entered: Counter,
    pub(crate) left: Counter,
    pub(crate) messages: Counter,
    pub(crate) errors: Counter,
    pub(crate) heartbeats_missed: Counter,
    pub(crate) slow: Counter,
    pub(crate) resumed: Counter,
    pub(crate) rate_limited: Counter,
    pub(crate) flooded: Counter,
    pub(crate) auth_failed: Counter,
    pub(crate) lagged: Counter,
    pub(crate) write_timeouts: Counter,
    pub(crate) lifetime_over: Counter,
    pub(crate) transient_dropped: Counter,
    pub(crate) unavailable: Counter,
}

/// Current numbers of an engine, and counters since it was built.
///
/// They are read one after the other, not at one instant. Created by [`ChatRooms::stats`](crate::ChatRooms::stats).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that are open or being opened now.
    pub connections: usize,
    /// Connections that have not entered a room yet.
    pub pending: usize,
    /// Rooms that have members now.
    pub rooms: usize,
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
    /// Upgrades refused because their address has [`max_connections_per_ip`](crate::Limits::max_connections_per_ip), or
    /// connects or fails to authenticate too often ([`RateLimits`](crate::RateLimits)).
    pub refused_per_ip: u64,
    /// Memberships that have begun.
    pub entered: u64,
    /// Memberships that have ended.
    pub left: u64,
    /// Messages of members that were published.
    pub messages: u64,
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
    /// Frames that exceeded a rate ([`RateLimits`](crate::RateLimits)).
    pub rate_limited: u64,
    /// Connections closed because they continued to exceed a rate.
    pub flooded: u64,
    /// Connections closed because of too many failed authentications.
    pub auth_failed: u64,
    /// Room frames that slow consumers have missed ([`SlowConsumer`](crate::SlowConsumer)).
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
    /// What the node has done at the broker. `None` without a broker that other nodes share.
    pub broker: Option<BrokerStats>,
}

/// What a node has done at a [broker](crate::ChatRoomsBuilder::broker) since it connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStats {
    /// Connections to the broker that were lost and opened again.
    pub reconnects: u64,
    /// Events of rooms, transient frames and commands that this node has received, including its own.
    pub events: u64,
    /// Messages that this node has received but could not read. If this is not 0, nodes of different versions are
    /// running together.
    pub dropped_messages: u64,
    /// Members of lost nodes that this node has removed from their rooms.
    pub lost_members: u64,
    /// Frames that are being published now, or that wait for the broker.
    pub waiting: usize,
}

impl Counters {
    /// The counters. The engine adds the current numbers.
    pub(crate) fn read(&self) -> Stats {
        Stats {
            accepted: self.accepted.read(),
            refused: self.refused.read(),
            refused_handshake: self.refused_handshake.read(),
            refused_origin: self.refused_origin.read(),
            refused_auth: self.refused_auth.read(),
            refused_full: self.refused_full.read(),
            refused_per_ip: self.refused_per_ip.read(),
            entered: self.entered.read(),
            left: self.left.read(),
            messages: self.messages.read(),
            errors: self.errors.read(),
            heartbeats_missed: self.heartbeats_missed.read(),
            slow: self.slow.read(),
            resumed: self.resumed.read(),
            rate_limited: self.rate_limited.read(),
            flooded: self.flooded.read(),
            auth_failed: self.auth_failed.read(),
            lagged: self.lagged.read(),
            write_timeouts: self.write_timeouts.read(),
            lifetime_over: self.lifetime_over.read(),
            transient_dropped: self.transient_dropped.read(),
            unavailable: self.unavailable.read(),
            ..Stats::default()
        }
    }
}

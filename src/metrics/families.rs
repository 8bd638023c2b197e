//! The names of the metrics, and where their numbers come from. `docs/metrics.md` lists them, too.

use crate::stats::{BrokerStats, Histogram, ReasonCounts, Stats};

/// A metric with all its labels.
pub(super) struct Family {
    /// Without the suffix of counters.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The name ends with it.
    pub(super) unit: Option<&'static str>,
    pub(super) help: &'static str,
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

pub(super) struct Sample {
    pub(super) label: Option<Label>,
    pub(super) value: Value,
}

/// A label and its value. Both are names that need no escaping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Label {
    pub(super) name: &'static str,
    pub(super) value: &'static str,
}

pub(super) enum Value {
    Number(u64),
    Times(Box<Histogram>),
}

pub(super) const BYTES: &str = "bytes";
const SECONDS: &str = "seconds";

/// All metrics, in the order of the documentation.
pub(super) fn of(stats: &Stats) -> Vec<Family> {
    let mut families = Vec::new();
    add_state(stats, &mut families);
    add_connections(stats, &mut families);
    add_messages(stats, &mut families);
    add_sessions(stats, &mut families);
    add_hooks_and_store(stats, &mut families);
    if let Some(broker) = &stats.broker {
        add_broker(stats, broker, &mut families);
    }
    families
}

/// What there is now.
fn add_state(stats: &Stats, families: &mut Vec<Family>) {
    let active = stats.connections.saturating_sub(stats.pending);
    let attached = stats.sessions.saturating_sub(stats.absent);
    families.extend([
        gauge("chat_rooms_connections", "Open connections; pending: without a room and without a user.")
            .by("state", [("pending", stats.pending as u64), ("active", active as u64)]),
        gauge("chat_rooms_rooms", "Rooms; kept: empty, and kept for their history.")
            .by("state", [("occupied", stats.rooms as u64), ("kept", stats.kept_rooms as u64)]),
        gauge("chat_rooms_members", "Members of rooms.").is(stats.members()),
        gauge("chat_rooms_sessions", "Sessions; absent: without a connection, and kept to be resumed.")
            .by("state", [("attached", attached as u64), ("absent", stats.absent as u64)]),
        gauge("chat_rooms_users", "Different users who have sessions.").is(stats.users as u64),
        gauge("chat_rooms_send_queue_bytes", "Bytes that wait in send queues.")
            .in_unit(BYTES)
            .is(stats.queued_bytes),
        gauge("chat_rooms_connections_behind", "Connections whose send queues are not empty.")
            .is(stats.behind),
        gauge("chat_rooms_draining", "1 if a drain or a shutdown has begun, otherwise 0.")
            .is(stats.is_draining.into()),
        gauge("chat_rooms_drain_connections", "Connections that a drain or a shutdown still has to close.")
            .is(stats.draining as u64),
    ]);
}

fn add_connections(stats: &Stats, families: &mut Vec<Family>) {
    let known = stats.refused_handshake
        + stats.refused_origin
        + stats.refused_auth
        + stats.refused_full
        + stats.refused_per_ip;
    families.extend([
        counter("chat_rooms_connections_accepted", "Upgrades that became connections.").is(stats.accepted),
        counter("chat_rooms_connections_refused", "Refused upgrades.").by(
            "reason",
            [
                ("handshake", stats.refused_handshake),
                ("origin", stats.refused_origin),
                ("auth", stats.refused_auth),
                ("full", stats.refused_full),
                ("address", stats.refused_per_ip),
                ("stopping", stats.refused.saturating_sub(known)),
            ],
        ),
        counter("chat_rooms_connections_closed", "Connections that have ended.")
            .by("reason", by_reason(&stats.closed)),
        counter(
            "chat_rooms_write_timeouts",
            "Connections closed because their sockets accepted nothing for too long.",
        )
        .is(stats.write_timeouts),
        counter("chat_rooms_received_bytes", "Bytes of WebSocket frames that were received.")
            .in_unit(BYTES)
            .is(stats.received_bytes),
        counter("chat_rooms_sent_bytes", "Bytes of WebSocket frames that sockets have accepted.")
            .in_unit(BYTES)
            .is(stats.sent_bytes),
    ]);
}

fn add_messages(stats: &Stats, families: &mut Vec<Family>) {
    families.extend([
        counter("chat_rooms_messages", "Messages of members that were published.").is(stats.messages),
        counter(
            "chat_rooms_deliveries",
            "Frames of rooms, counted once for each member that they are sent to.",
        )
        .is(stats.deliveries),
        histogram("chat_rooms_delivery_seconds", "Time from the receipt of a message to the last write.")
            .took([(None, stats.delivery)]),
        counter("chat_rooms_frames_dropped", "Frames of rooms that clients have missed.")
            .by("kind", [("room", stats.lagged), ("transient", stats.transient_dropped)]),
        counter("chat_rooms_frames_rate_limited", "Frames that exceeded a rate.").is(stats.rate_limited),
        counter("chat_rooms_errors", "Error frames that were sent to clients.").is(stats.errors),
        counter(
            "chat_rooms_unavailable",
            "Requests that were refused because of a failure of the broker or the store.",
        )
        .is(stats.unavailable),
    ]);
}

fn add_sessions(stats: &Stats, families: &mut Vec<Family>) {
    let left = by_reason(&stats.left_by_reason).chain([("moved_away", stats.moved_away)]);
    families.extend([
        counter("chat_rooms_members_entered", "Memberships that have begun.").is(stats.entered),
        counter("chat_rooms_members_left", "Memberships that have ended.").by("reason", left),
        counter("chat_rooms_resumes", "Requests to resume a session.").by(
            "result",
            [
                ("resumed", stats.resumed),
                ("not_found", stats.not_resumed),
                ("unavailable", stats.resume_unavailable),
            ],
        ),
        counter(
            "chat_rooms_frames_replayed",
            "Earlier frames that were sent to clients that had missed them or asked for them.",
        )
        .is(stats.replayed),
    ]);
}

fn add_hooks_and_store(stats: &Stats, families: &mut Vec<Family>) {
    let hooks = stats.hooks.iter();
    families.extend([
        histogram("chat_rooms_hook_seconds", "How long hooks took.")
            .took(hooks.map(|(hook, times)| (Some(Label { name: "hook", value: hook }), *times))),
        histogram("chat_rooms_store_seconds", "How long the store took.")
            .took([called("append", stats.store_append), called("page", stats.store_page)]),
        counter("chat_rooms_store_failures", "Calls of the store that failed or took too long.")
            .is(stats.store_failures),
    ]);
}

fn add_broker(stats: &Stats, broker: &BrokerStats, families: &mut Vec<Family>) {
    families.extend([
        gauge("chat_rooms_broker_available", "1 if the broker can be reached, otherwise 0.")
            .is(broker.is_available.into()),
        histogram("chat_rooms_broker_seconds", "How long the broker took.")
            .took([called("enter", stats.broker_enter), called("publish", stats.broker_publish)]),
        histogram("chat_rooms_broker_lag_seconds", "The age of messages when they arrived from the broker.")
            .took([(None, stats.broker_lag)]),
        gauge("chat_rooms_broker_waiting", "Frames that are being published or wait for the broker.")
            .is(broker.waiting as u64),
        counter("chat_rooms_broker_reconnects", "Lost connections to the broker that were opened again.")
            .is(broker.reconnects),
        counter("chat_rooms_broker_events", "Events that were received from the broker.").is(broker.events),
        counter("chat_rooms_broker_unreadable", "Received events that could not be read.")
            .is(broker.dropped_messages),
        counter("chat_rooms_broker_reaped", "Members of lost nodes that were removed from their rooms.")
            .is(broker.lost_members),
    ]);
}

fn by_reason(counts: &ReasonCounts) -> impl Iterator<Item = (&'static str, u64)> {
    counts.iter().map(|(reason, count)| (reason.label(), count))
}

fn called(call: &'static str, times: Histogram) -> (Option<Label>, Histogram) {
    (Some(Label { name: "call", value: call }), times)
}

fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, unit: None, help, samples: Vec::new() }
}

fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { kind: Kind::Gauge, ..counter(name, help) }
}

fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { kind: Kind::Histogram, unit: Some(SECONDS), ..counter(name, help) }
}

impl Family {
    fn in_unit(self, unit: &'static str) -> Family {
        Family { unit: Some(unit), ..self }
    }

    fn is(self, number: u64) -> Family {
        Family { samples: vec![Sample { label: None, value: Value::Number(number) }], ..self }
    }

    fn by(self, label: &'static str, numbers: impl IntoIterator<Item = (&'static str, u64)>) -> Family {
        let samples = numbers.into_iter().map(|(value, number)| Sample {
            label: Some(Label { name: label, value }),
            value: Value::Number(number),
        });
        Family { samples: samples.collect(), ..self }
    }

    fn took(self, times: impl IntoIterator<Item = (Option<Label>, Histogram)>) -> Family {
        let sample = |(label, times)| Sample { label, value: Value::Times(Box::new(times)) };
        Family { samples: times.into_iter().map(sample).collect(), ..self }
    }
}

#[cfg(test)]
mod tests;

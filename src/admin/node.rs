//! What can be looked at, as JSON: the nodes, and the numbers of this one.

use serde_json::{Map, Value, json};

use crate::admin::actions::Actions;
use crate::admin::answer::Refused;
use crate::admin::query::Query;
use crate::engine::Engine;
use crate::health::Health;
use crate::stats::{BrokerStats, Stats};

/// This node, the others that the broker knows, and what the view may do.
pub(super) async fn nodes(engine: &Engine, actions: &Actions, query: Query) -> Result<Value, Refused> {
    query.finish()?;
    let own = engine.nodes().map(|nodes| nodes.own());
    let (nodes, is_complete) = match engine.nodes() {
        // This node is known even if the broker does not answer.
        Some(nodes) => nodes.all().await.map_or_else(|_| (vec![nodes.own()], false), |nodes| (nodes, true)),
        None => (Vec::new(), true),
    };
    Ok(json!({
        "own": own,
        "nodes": nodes,
        "is_complete": is_complete,
        "health": health(&engine.health()),
        "up_seconds": engine.context.clock.now().as_secs(),
        "version": env!("CARGO_PKG_VERSION"),
        "actions": actions.names(),
    }))
}

fn health(health: &Health) -> Value {
    match health {
        Health::Healthy => json!({ "state": "healthy" }),
        Health::Degraded { since, reason } => json!({
            "state": "degraded",
            "reason": reason,
            "for_seconds": since.elapsed().as_secs(),
        }),
        Health::Draining => json!({ "state": "draining" }),
        Health::ShuttingDown => json!({ "state": "shutting_down" }),
    }
}

/// The numbers of [`Stats`], under the names of its fields.
pub(super) fn stats(engine: &Engine, query: Query) -> Result<Value, Refused> {
    query.finish()?;
    let stats = engine.stats();
    let Stats { connections, pending, rooms, absent, .. } = stats;
    let now = [("connections", connections), ("pending", pending), ("rooms", rooms), ("absent", absent)];
    let counters = [
        ("accepted", stats.accepted),
        ("refused", stats.refused),
        ("refused_handshake", stats.refused_handshake),
        ("refused_origin", stats.refused_origin),
        ("refused_auth", stats.refused_auth),
        ("refused_full", stats.refused_full),
        ("refused_per_ip", stats.refused_per_ip),
        ("entered", stats.entered),
        ("left", stats.left),
        ("messages", stats.messages),
        ("errors", stats.errors),
        ("heartbeats_missed", stats.heartbeats_missed),
        ("slow", stats.slow),
        ("resumed", stats.resumed),
        ("rate_limited", stats.rate_limited),
        ("flooded", stats.flooded),
        ("auth_failed", stats.auth_failed),
        ("lagged", stats.lagged),
        ("write_timeouts", stats.write_timeouts),
        ("lifetime_over", stats.lifetime_over),
        ("transient_dropped", stats.transient_dropped),
        ("unavailable", stats.unavailable),
    ];
    Ok(json!({
        "now": now.map(|(name, n)| (name.to_owned(), n.into())).into_iter().collect::<Map<_, _>>(),
        "total": counters.map(|(name, n)| (name.to_owned(), n.into())).into_iter().collect::<Map<_, _>>(),
        "broker": stats.broker.map(broker),
    }))
}

fn broker(stats: BrokerStats) -> Value {
    json!({
        "reconnects": stats.reconnects,
        "events": stats.events,
        "dropped_messages": stats.dropped_messages,
        "lost_members": stats.lost_members,
        "waiting": stats.waiting,
    })
}

//! What can be looked at, as JSON: the nodes, and the numbers of this one.

use serde_json::{Map, Value, json};

use crate::admin::actions::Actions;
use crate::admin::answer::Refused;
use crate::admin::query::Query;
use crate::engine::Engine;
use crate::health::Health;
use crate::stats::{BrokerStats, Histogram, ReasonCounts, Stats};

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

/// All numbers of [`Stats`], under the names of its fields.
pub(super) fn stats(engine: &Engine, query: Query) -> Result<Value, Refused> {
    query.finish()?;
    Ok(stats_json(engine.stats()))
}

/// The compiler reports a field that is not used here.
fn stats_json(stats: Stats) -> Value {
    let Stats {
        connections,
        pending,
        rooms,
        kept_rooms,
        sessions,
        users,
        draining,
        is_draining,
        accepted,
        refused,
        refused_handshake,
        refused_origin,
        refused_auth,
        refused_full,
        refused_per_ip,
        closed,
        entered,
        left,
        left_by_reason,
        moved_away,
        messages,
        deliveries,
        received_bytes,
        sent_bytes,
        queued_bytes,
        behind,
        delivery,
        hooks,
        errors,
        heartbeats_missed,
        slow,
        absent,
        resumed,
        not_resumed,
        resume_unavailable,
        replayed,
        rate_limited,
        flooded,
        auth_failed,
        lagged,
        write_timeouts,
        lifetime_over,
        transient_dropped,
        unavailable,
        store_append,
        store_page,
        store_failures,
        broker_enter,
        broker_publish,
        broker_lag,
        broker,
    } = stats;
    json!({
        "now": {
            "connections": connections,
            "pending": pending,
            "rooms": rooms,
            "kept_rooms": kept_rooms,
            "sessions": sessions,
            "absent": absent,
            "users": users,
            "queued_bytes": queued_bytes,
            "behind": behind,
            "draining": draining,
            "is_draining": is_draining,
        },
        "total": {
            "accepted": accepted,
            "refused": refused,
            "refused_handshake": refused_handshake,
            "refused_origin": refused_origin,
            "refused_auth": refused_auth,
            "refused_full": refused_full,
            "refused_per_ip": refused_per_ip,
            "entered": entered,
            "left": left,
            "moved_away": moved_away,
            "messages": messages,
            "deliveries": deliveries,
            "received_bytes": received_bytes,
            "sent_bytes": sent_bytes,
            "errors": errors,
            "heartbeats_missed": heartbeats_missed,
            "slow": slow,
            "resumed": resumed,
            "not_resumed": not_resumed,
            "resume_unavailable": resume_unavailable,
            "replayed": replayed,
            "rate_limited": rate_limited,
            "flooded": flooded,
            "auth_failed": auth_failed,
            "lagged": lagged,
            "write_timeouts": write_timeouts,
            "lifetime_over": lifetime_over,
            "transient_dropped": transient_dropped,
            "unavailable": unavailable,
            "store_failures": store_failures,
        },
        "reasons": { "closed": reasons(&closed), "left_by_reason": reasons(&left_by_reason) },
        "times": {
            "delivery": times(&delivery),
            "hooks": hooks.iter().map(|(hook, took)| ((*hook).to_owned(), times(took))).collect::<Map<_, _>>(),
            "store_append": times(&store_append),
            "store_page": times(&store_page),
            "broker_enter": times(&broker_enter),
            "broker_publish": times(&broker_publish),
            "broker_lag": times(&broker_lag),
        },
        "broker": broker.map(broker_json),
    })
}

fn reasons(counts: &ReasonCounts) -> Map<String, Value> {
    counts.iter().map(|(reason, count)| (reason.label().to_owned(), count.into())).collect()
}

fn times(times: &Histogram) -> Value {
    json!({ "count": times.count(), "sum_seconds": times.sum().as_secs_f64() })
}

fn broker_json(stats: BrokerStats) -> Value {
    let BrokerStats { is_available, reconnects, events, dropped_messages, lost_members, waiting } = stats;
    json!({
        "is_available": is_available,
        "reconnects": reconnects,
        "events": events,
        "dropped_messages": dropped_messages,
        "lost_members": lost_members,
        "waiting": waiting,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of all fields, at any depth.
    fn names(value: &Value) -> Vec<&str> {
        let Value::Object(fields) = value else { return Vec::new() };
        fields.iter().flat_map(|(name, value)| [vec![name.as_str()], names(value)].concat()).collect()
    }

    #[test]
    fn all_fields_are_in_the_json() {
        let stats = Stats { broker: Some(BrokerStats::default()), ..Stats::default() };
        // On lines of its own, each field begins with its name.
        let debug = format!("{stats:#?}");
        let json = stats_json(stats);
        let names = names(&json);
        let mut count = 0;
        for line in debug.lines() {
            let field = line.trim_start();
            if line.len() - field.len() == 4
                && let Some((name, _)) = field.split_once(": ")
            {
                count += 1;
                assert!(names.contains(&name), "{name} is missing in {json:#}");
            }
        }
        assert!(count > 40, "{debug}");
    }
}

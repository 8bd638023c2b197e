//! Checks whether settings can work together.

use std::time::Duration;

use crate::config::{Config, EventNames, Heartbeat, Limits, RateLimits, SlowConsumer};
use crate::error::BuildError;
use crate::protocol::inbound::{self, MAX_DEPTH};

const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// Options that may be zero. A zero in any other one makes the server useless, so it is treated as a mistake.
const MAY_BE_ZERO: [&str; 5] =
    ["max_room_id_bytes", "max_room_id_chars", "token_warning", "resume_window", "history"];

/// Returns the first contradiction as an error that says what to change.
pub(super) fn check(config: &Config) -> Result<(), BuildError> {
    let Config {
        heartbeat,
        v1_heartbeat,
        limits,
        rate_limits,
        timeouts,
        recovery,
        slow_consumer,
        events,
        ..
    } = config;
    check_heartbeat("heartbeat", heartbeat)?;
    check_heartbeat("v1_heartbeat", v1_heartbeat)?;
    check_zeros("Limits", limits.zeros())?;
    check_zeros("RateLimits", rate_limits.zeros())?;
    check_zeros("Timeouts", timeouts.zeros())?;
    check_zeros("Recovery", recovery.zeros())?;
    check_events(events)?;
    check_depth(limits)?;
    check_enter(limits)?;
    check_message(limits, rate_limits)?;
    check_burst(limits, rate_limits, slow_consumer)
}

/// Checks what belongs to a store.
pub(super) fn check_store(config: &Config, has_store: bool) -> Result<(), BuildError> {
    if config.keep.is_some() && !has_store {
        return refuse(
            "ChatRoomsBuilder::keep needs a store; set one with ChatRoomsBuilder::store".to_owned(),
        );
    }
    Ok(())
}

fn check_heartbeat(setter: &str, heartbeat: &Heartbeat) -> Result<(), BuildError> {
    let (interval, timeout) = (heartbeat.interval(), heartbeat.timeout());
    if interval < MIN_INTERVAL {
        return refuse(format!(
            "the interval of ChatRoomsBuilder::{setter} is {interval:?}; use at least {MIN_INTERVAL:?}"
        ));
    }
    if timeout.is_zero() || timeout > interval {
        return refuse(format!(
            "the timeout of ChatRoomsBuilder::{setter} is {timeout:?}; use more than zero and at most its \
             interval, {interval:?}"
        ));
    }
    Ok(())
}

fn check_zeros(options: &str, zeros: impl Iterator<Item = &'static str>) -> Result<(), BuildError> {
    for name in zeros {
        if !MAY_BE_ZERO.contains(&name) {
            return refuse(format!(
                "{options}::{name} is zero, which allows nothing; for no limit use its type's `MAX`, as text \
                 `unlimited`"
            ));
        }
    }
    Ok(())
}

fn check_events(events: &EventNames) -> Result<(), BuildError> {
    for (setter, names) in [("transient_events", &events.transient), ("host_events", &events.host)] {
        for name in names {
            if name.is_empty() {
                return refuse(format!("an event of ChatRoomsBuilder::{setter} is empty; give it a name"));
            }
            if inbound::is_of_protocol(name) {
                return refuse(format!(
                    "the event {name:?} of ChatRoomsBuilder::{setter} belongs to the protocol; use another name"
                ));
            }
        }
    }
    if events.is_transient("message") {
        return refuse(
            "the event \"message\" of ChatRoomsBuilder::transient_events is the one that clients expect to be \
             acknowledged; use another name"
                .into(),
        );
    }
    if let Some(name) = events.transient.iter().find(|name| events.is_of_host(name)) {
        return refuse(format!(
            "the event {name:?} is in ChatRoomsBuilder::transient_events, which members send, and in \
             ChatRoomsBuilder::host_events; use two names"
        ));
    }
    Ok(())
}

fn check_depth(limits: &Limits) -> Result<(), BuildError> {
    if limits.max_depth > MAX_DEPTH {
        return refuse(format!(
            "Limits::max_depth is more than common JSON parsers accept; use at most {MAX_DEPTH}"
        ));
    }
    Ok(())
}

/// Whether a client can enter a room with the longest name and room id.
fn check_enter(limits: &Limits) -> Result<(), BuildError> {
    if limits.max_name_bytes == usize::MAX || limits.max_room_id_bytes == usize::MAX {
        return Ok(());
    }
    let needed = limits.max_name_bytes.saturating_add(limits.max_room_id_bytes).saturating_add(64);
    if limits.max_message_bytes < needed {
        return refuse(format!(
            "Limits::max_message_bytes is {}, too small to enter with a name of max_name_bytes ({}) and a \
             room id of max_room_id_bytes ({}); use at least {needed}",
            limits.max_message_bytes, limits.max_name_bytes, limits.max_room_id_bytes
        ));
    }
    Ok(())
}

/// Whether a message of the maximum size can be sent and delivered.
fn check_message(limits: &Limits, rate_limits: &RateLimits) -> Result<(), BuildError> {
    let message = limits.max_message_bytes;
    let frame = message.saturating_add(limits.overhead());
    if limits.max_queue_bytes < frame {
        return refuse(format!(
            "Limits::max_queue_bytes is {}, too small for one message of Limits::max_message_bytes \
             ({message}) with its sender's name; use at least {frame}",
            limits.max_queue_bytes
        ));
    }
    if rate_limits.max_bytes_per_second.saturating_mul(2) < message {
        return refuse(format!(
            "RateLimits::max_bytes_per_second is {}, too small for one message of \
             Limits::max_message_bytes ({message}), which may take two seconds' worth; use at least {}",
            rate_limits.max_bytes_per_second,
            message.div_ceil(2)
        ));
    }
    Ok(())
}

/// Whether what one member may send in one burst fits into the other members' send queues. Otherwise a member that
/// keeps to its rate could get steady readers closed as slow.
fn check_burst(
    limits: &Limits,
    rate_limits: &RateLimits,
    slow_consumer: &SlowConsumer,
) -> Result<(), BuildError> {
    let rate = rate_limits.max_bytes_per_second;
    // A token bucket may let twice its burst of two seconds' worth pass.
    let burst = rate.saturating_mul(4);
    // A host that lifts the rate trusts its senders.
    if *slow_consumer == SlowConsumer::Close && rate < usize::MAX && limits.max_queue_bytes < burst {
        return refuse(format!(
            "Limits::max_queue_bytes is {}, too small for what a member may send at once by \
             RateLimits::max_bytes_per_second ({rate}), up to four seconds' worth; use at least {burst}",
            limits.max_queue_bytes
        ));
    }
    Ok(())
}

fn refuse(text: String) -> Result<(), BuildError> {
    Err(BuildError::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_together() {
        assert_eq!(check(&Config::default()), Ok(()));
    }

    #[test]
    fn events_that_cannot_be_declared_are_refused() {
        let with = |transient: &[&str], host: &[&str]| {
            let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let events = EventNames { transient: own(transient), host: own(host) };
            check(&Config { events, ..Config::default() })
        };
        assert_eq!(with(&["typing", "typing", "pointer"], &["notice", "message"]), Ok(()));
        for (transient, host, named) in [
            (vec![""], vec![], "transient_events is empty"),
            (vec![], vec!["x", ""], "host_events is empty"),
            (vec!["message"], vec![], "\"message\""),
            (vec!["a", "b"], vec!["c", "b"], "\"b\""),
            (vec!["out"], vec![], "\"out\" of ChatRoomsBuilder::transient_events belongs"),
            (vec![], vec!["resume"], "\"resume\" of ChatRoomsBuilder::host_events belongs"),
            (vec![], vec!["enter"], "belongs"),
            (vec!["auth"], vec![], "belongs"),
            (vec!["leave"], vec![], "belongs"),
        ] {
            let error = with(&transient, &host).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn what_a_member_may_send_at_once_must_fit_the_others_queues() {
        let with = |queue, rate, slow_consumer| {
            check(&Config {
                limits: Limits::default().max_queue_bytes(queue),
                rate_limits: RateLimits::default().max_bytes_per_second(rate),
                slow_consumer,
                ..Config::default()
            })
        };
        const KIB: usize = 1024;
        let error = with(512 * KIB, 256 * KIB, SlowConsumer::Close).unwrap_err().to_string();
        assert!(error.contains("Limits::max_queue_bytes") && error.contains("1048576"), "{error}");
        for (queue, rate, slow) in [
            (512 * KIB, 128 * KIB, SlowConsumer::Close),
            (512 * KIB, usize::MAX, SlowConsumer::Close),
            (512 * KIB, 256 * KIB, SlowConsumer::DropOldest),
        ] {
            assert_eq!(with(queue, rate, slow), Ok(()), "{queue} {rate} {slow:?}");
        }
    }
}

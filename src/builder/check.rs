//! Whether settings can work, and go together.

use std::time::Duration;

use crate::config::{Heartbeat, Limits, Recovery};
use crate::error::BuildError;

/// The first thing that is wrong, with what to give instead.
pub(super) fn check(heartbeat: &Heartbeat, limits: &Limits, recovery: &Recovery) -> Result<(), BuildError> {
    let refuse = |text: String| Err(BuildError::new(text));
    if heartbeat.interval() < Duration::from_millis(50) {
        return refuse(format!(
            "the heartbeat's interval is {:?}; at least 50 ms are needed",
            heartbeat.interval()
        ));
    }
    if heartbeat.timeout().is_zero() || heartbeat.timeout() > heartbeat.interval() {
        return refuse(format!(
            "the heartbeat's timeout is {:?} and must be more than zero and at most its interval of {:?}",
            heartbeat.timeout(),
            heartbeat.interval()
        ));
    }
    for (name, value) in [
        ("max_message_bytes", limits.max_message_bytes),
        ("max_depth", limits.max_depth),
        ("max_name_bytes", limits.max_name_bytes),
        ("max_name_chars", limits.max_name_chars),
        ("max_room_members", limits.max_room_members),
        ("max_rooms", limits.max_rooms),
        ("max_connections", limits.max_connections),
        ("max_connections_per_ip", limits.max_connections_per_ip),
        ("max_pending", limits.max_pending),
        ("max_queue_frames", limits.max_queue_frames),
        ("max_bad_frames", limits.max_bad_frames as usize),
        ("max_failed_auths", limits.max_failed_auths as usize),
        ("max_messages_per_second", limits.max_messages_per_second as usize),
        ("max_enters_per_minute", limits.max_enters_per_minute as usize),
        ("max_new_rooms_per_minute", limits.max_new_rooms_per_minute as usize),
        ("max_excess", limits.max_excess as usize),
    ] {
        if value == 0 {
            return refuse(format!("{name} is 0, so nothing would work; for no limit give the type's MAX"));
        }
    }
    for (name, value) in [
        ("enter_timeout", limits.enter_timeout),
        ("auth_timeout", limits.auth_timeout),
        ("hook_timeout", limits.hook_timeout),
        ("close_timeout", limits.close_timeout),
        ("write_timeout", limits.write_timeout),
        ("max_lifetime", limits.max_lifetime),
    ] {
        if value.is_zero() {
            return refuse(format!(
                "{name} is zero, so nobody could be in time; for no limit give Duration::MAX"
            ));
        }
    }
    let frame = limits.max_message_bytes.saturating_add(limits.overhead());
    if limits.max_queue_bytes < frame {
        return refuse(format!(
            "max_queue_bytes is {} and too small for one message of max_message_bytes ({}) with its \
             sender's name: give at least {frame}",
            limits.max_queue_bytes, limits.max_message_bytes
        ));
    }
    if limits.max_bytes_per_second.saturating_mul(2) < limits.max_message_bytes {
        return refuse(format!(
            "max_bytes_per_second is {} and too small for one message of max_message_bytes ({}), which may \
             be two seconds' worth: give at least {}",
            limits.max_bytes_per_second,
            limits.max_message_bytes,
            limits.max_message_bytes.div_ceil(2)
        ));
    }
    for (name, kept, max) in recovery.history.iter().flat_map(|history| {
        [
            ("max_queue_frames", history.frames(), limits.max_queue_frames),
            ("max_queue_bytes", history.bytes(), limits.max_queue_bytes),
        ]
    }) {
        if kept > max / 2 {
            return refuse(format!(
                "{name} is {max} and the history's bound {kept}, so that a replay could fill the queue of \
                 who comes back and have him closed as too slow: give at least twice the history's"
            ));
        }
    }
    let enter = limits.max_name_bytes.saturating_add(limits.max_room_id_bytes).saturating_add(64);
    if limits.max_message_bytes < enter
        && limits.max_name_bytes != usize::MAX
        && limits.max_room_id_bytes != usize::MAX
    {
        return refuse(format!(
            "max_message_bytes is {} and too small to enter with a name of max_name_bytes ({}) and a room \
             of max_room_id_bytes ({}): give at least {enter}",
            limits.max_message_bytes, limits.max_name_bytes, limits.max_room_id_bytes
        ));
    }
    Ok(())
}

//! What the engine counts while it works.

use crate::protocol::close::LeaveReason;
use crate::stats::Stats;
use crate::stats::counter::{Counter, Gauge, Striped};
use crate::stats::histogram::LiveHistogram;
use crate::stats::hooks::HookTimes;
use crate::stats::reasons::ReasonCounters;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: Counter,
    pub(crate) refused_handshake: Counter,
    pub(crate) refused_origin: Counter,
    pub(crate) refused_auth: Counter,
    pub(crate) refused_full: Counter,
    pub(crate) refused_per_ip: Counter,
    /// During a drain or a shutdown.
    pub(crate) refused_stopping: Counter,
    /// Why connections have ended.
    pub(crate) closed: ReasonCounters,
    pub(crate) entered: Counter,
    /// Why memberships have ended.
    pub(crate) left: ReasonCounters,
    /// Memberships that have continued on another node.
    pub(crate) moved_away: Counter,
    pub(crate) messages: Counter,
    pub(crate) deliveries: Striped,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) queued_bytes: Gauge,
    pub(crate) behind: Gauge,
    pub(crate) errors: Counter,
    pub(crate) resumed: Counter,
    pub(crate) not_resumed: Counter,
    pub(crate) resume_unavailable: Counter,
    pub(crate) replayed: Counter,
    pub(crate) rate_limited: Counter,
    pub(crate) lagged: Counter,
    pub(crate) write_timeouts: Counter,
    pub(crate) transient_dropped: Counter,
    pub(crate) unavailable: Counter,
    pub(crate) delivery: LiveHistogram,
    pub(crate) hooks: HookTimes,
    pub(crate) store_append: LiveHistogram,
    pub(crate) store_page: LiveHistogram,
    pub(crate) store_failures: Counter,
    pub(crate) broker_enter: LiveHistogram,
    pub(crate) broker_publish: LiveHistogram,
    pub(crate) broker_lag: LiveHistogram,
}

impl Counters {
    /// What was counted. The engine adds the current numbers.
    pub(crate) fn read(&self) -> Stats {
        let (closed, left_by_reason, moved_away) =
            (self.closed.read(), self.left.read(), self.moved_away.read());
        let [refused_handshake, refused_origin, refused_auth, refused_full, refused_per_ip, refused_stopping] =
            [
                &self.refused_handshake,
                &self.refused_origin,
                &self.refused_auth,
                &self.refused_full,
                &self.refused_per_ip,
                &self.refused_stopping,
            ]
            .map(Counter::read);
        Stats {
            accepted: self.accepted.read(),
            // The sum, so that the difference of it and its parts never falls.
            refused: refused_handshake
                + refused_origin
                + refused_auth
                + refused_full
                + refused_per_ip
                + refused_stopping,
            refused_handshake,
            refused_origin,
            refused_auth,
            refused_full,
            refused_per_ip,
            entered: self.entered.read(),
            left: left_by_reason.total() + moved_away,
            left_by_reason,
            moved_away,
            messages: self.messages.read(),
            deliveries: self.deliveries.read(),
            received_bytes: self.received_bytes.read(),
            sent_bytes: self.sent_bytes.read(),
            queued_bytes: self.queued_bytes.read(),
            behind: self.behind.read(),
            errors: self.errors.read(),
            heartbeats_missed: closed.of(LeaveReason::HeartbeatMissed),
            slow: closed.of(LeaveReason::Slow),
            resumed: self.resumed.read(),
            not_resumed: self.not_resumed.read(),
            resume_unavailable: self.resume_unavailable.read(),
            replayed: self.replayed.read(),
            rate_limited: self.rate_limited.read(),
            flooded: closed.of(LeaveReason::Flooded),
            auth_failed: closed.of(LeaveReason::AuthFailed),
            lagged: self.lagged.read(),
            write_timeouts: self.write_timeouts.read(),
            lifetime_over: closed.of(LeaveReason::LifetimeOver),
            transient_dropped: self.transient_dropped.read(),
            unavailable: self.unavailable.read() + closed.of(LeaveReason::Unavailable),
            closed,
            delivery: self.delivery.read(),
            hooks: self.hooks.read(),
            store_append: self.store_append.read(),
            store_page: self.store_page.read(),
            store_failures: self.store_failures.read(),
            broker_enter: self.broker_enter.read(),
            broker_publish: self.broker_publish.read(),
            broker_lag: self.broker_lag.read(),
            ..Stats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_the_sum_of_their_reasons_at_any_moment() {
        let counters = Counters::default();
        counters.refused_stopping.add(1);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..100_000).for_each(|_| counters.refused_origin.add(1)));
            for _ in 0..1000 {
                let stats = counters.read();
                assert_eq!(stats.refused - stats.refused_origin, 1);
            }
        });
    }
}

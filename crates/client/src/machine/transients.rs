//! Transient events: which ones there are, and how many may be sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Now;
use crate::incoming::Welcome;
use crate::token_bucket::TokenBucket;

/// The server has handled a frame after this time.
const HANDLED_AFTER: Duration = Duration::from_secs(5);

/// How many frames are remembered for as long.
const MAX_RECENT: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Transients {
    events: Arc<[String]>,
    /// `None` if the server sets no limit.
    bucket: Option<TokenBucket>,
    /// When the latest ones were sent on this connection.
    sent: VecDeque<Now>,
}

impl Transients {
    /// A connection has entered for the first time: sets the events and the limit of its server.
    pub(super) fn set_limits(&mut self, welcome: &Welcome, now: Now) {
        self.events = welcome.transient_events.clone();
        let rates = welcome.rates;
        self.bucket = rates.transient.map(|rate| TokenBucket::new(rate, rate * rates.burst, now));
        if rates.is_empty {
            self.bucket.iter_mut().for_each(|bucket| bucket.drain(now));
        }
    }

    /// The connection is lost.
    pub(super) fn stop(&mut self) {
        self.sent.clear();
    }

    /// The events that the server has declared.
    pub(super) fn events(&self) -> &Arc<[String]> {
        &self.events
    }

    /// Whether the server has declared this event as transient.
    pub(super) fn declares(&self, event: &str) -> bool {
        self.events.iter().any(|declared| declared == event)
    }

    /// Whether the server accepts a frame with this event now. If it does, the frame counts as sent.
    pub(super) fn send(&mut self, event: &str, now: Now) -> bool {
        if !self.declares(event)
            || self.bucket.as_mut().is_some_and(|bucket| !bucket.wait(1.0, now).is_zero())
        {
            return false;
        }
        self.bucket.iter_mut().for_each(|bucket| bucket.take(1.0));
        self.sent.push_back(now);
        if self.sent.len() > MAX_RECENT {
            self.sent.pop_front();
        }
        true
    }

    /// At most this many frames were sent and not handled by the server. It never says when it has handled one.
    pub(super) fn in_flight(&self, now: Now) -> usize {
        self.sent.iter().rev().take_while(|at| now.saturating_sub(**at) < HANDLED_AFTER).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incoming::Incoming;

    const START: Now = Now::ZERO;

    fn transients(rates: &str) -> Transients {
        let text = format!(r#"{{"event":"welcome","transient":["typing"],"rates":{rates}}}"#);
        let Incoming::Welcome(welcome) = Incoming::parse(&text) else { panic!() };
        let mut transients = Transients::default();
        transients.set_limits(&welcome, START);
        transients
    }

    /// How many of a hundred may be sent at once.
    fn burst(transients: &mut Transients, now: Now) -> usize {
        (0..100).filter(|_| transients.send("typing", now)).count()
    }

    #[test]
    fn declared_events_are_sent_within_the_rate() {
        let mut limited = transients(r#"{"burst":2,"transient":10}"#);
        assert!(!limited.send("pointer", START));
        assert_eq!(burst(&mut limited, START), 10, "half of what the server allows");
        assert_eq!(burst(&mut limited, Now::from_millis(500)), 5);
        assert_eq!(burst(&mut transients(r#"{"burst":2,"transient":10,"empty":true}"#), START), 0);
        assert_eq!(burst(&mut transients(r#"{"burst":2,"transient":null}"#), START), 100);
    }

    #[test]
    fn what_was_sent_long_ago_is_not_in_flight() {
        let mut transients = transients("{}");
        assert!(transients.send("typing", START));
        (0..200).for_each(|_| assert!(transients.send("typing", Now::from_secs(1))));
        assert_eq!(transients.in_flight(Now::from_secs(1)), MAX_RECENT);
        assert!(transients.send("typing", Now::from_secs(4)));
        assert_eq!(transients.in_flight(Now::from_secs(6)), 1);
        transients.stop();
        assert_eq!(transients.in_flight(Now::from_secs(6)), 0);
    }
}

//! Rates of what one address or one user may do over all its connections: reconnecting must not refill a
//! token bucket.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::admission::peers::Peer;
use crate::admission::token_bucket::{Rate, TokenBucket};
use crate::config::RateLimits;
use crate::context::Context;
use crate::sync::{Mutex, lock};

/// How many addresses and users are remembered. Further ones are let in without a rate of their own.
const MAX_KEYS: usize = 65_536;

/// This many connections of one address may start with full token buckets in one burst ...
const BURSTS: u32 = 256;

/// ... and this many more per minute. The others start with fewer tokens, enough to come back.
const BURSTS_PER_MINUTE: u32 = 30;

/// A refused client need not wait longer before it tries again.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Who a rate applies to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Peer(Peer),
    User(Box<str>),
}

/// The actions that have a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A connection is opened.
    Connect,
    /// A connection starts with full token buckets.
    Burst,
    Enter,
    NewRoom,
    /// A token was refused.
    FailedAuth,
}

const ACTIONS: [Action; 5] =
    [Action::Connect, Action::Burst, Action::Enter, Action::NewRoom, Action::FailedAuth];

pub(crate) struct SharedRates {
    context: Arc<Context>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    buckets: HashMap<Key, [SharedBucket; ACTIONS.len()]>,
    /// When the keys were last checked for ones that can be forgotten.
    cleaned: Duration,
}

/// A token bucket, and the clients that wait for it.
struct SharedBucket {
    tokens: TokenBucket,
    /// The latest time at which a refused client was told to try again.
    promised: Duration,
}

impl SharedRates {
    pub(crate) fn new(context: Arc<Context>) -> SharedRates {
        SharedRates { context, table: Mutex::default() }
    }

    /// Counts an action. The error says how long until it is allowed; in that case nothing is counted.
    pub(crate) fn take(&self, key: &Key, action: Action) -> Result<(), Duration> {
        let (limits, now) = (&self.context.config.rate_limits, self.context.clock.now());
        let mut table = lock(&self.table);
        let Some(buckets) = table.of(key, limits, now) else { return Ok(()) };
        buckets[action as usize].take(action.rate(limits), now)
    }

    /// Whether an action would be allowed now.
    pub(crate) fn is_allowed(&self, key: &Key, action: Action) -> bool {
        let (limits, now) = (&self.context.config.rate_limits, self.context.clock.now());
        match lock(&self.table).buckets.get_mut(key) {
            Some(buckets) => buckets[action as usize].tokens.has(1, action.rate(limits), now),
            None => true,
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.table).buckets.len()
    }
}

impl Table {
    /// The buckets of a key; `None` if there is no room for more keys.
    fn of(
        &mut self,
        key: &Key,
        limits: &RateLimits,
        now: Duration,
    ) -> Option<&mut [SharedBucket; ACTIONS.len()]> {
        if !self.buckets.contains_key(key) {
            if self.buckets.len() >= MAX_KEYS {
                self.clean(limits, now);
            }
            if self.buckets.len() >= MAX_KEYS {
                return None;
            }
            let full = ACTIONS.map(|action| SharedBucket::new(action.rate(limits), now));
            self.buckets.insert(key.clone(), full);
        }
        self.buckets.get_mut(key)
    }

    /// Forgets the keys whose buckets are full: a new bucket would be the same.
    fn clean(&mut self, limits: &RateLimits, now: Duration) {
        if now.saturating_sub(self.cleaned) < Duration::from_secs(1) {
            return;
        }
        self.cleaned = now;
        self.buckets.retain(|_, buckets| {
            ACTIONS.iter().any(|action| !buckets[*action as usize].tokens.is_full(action.rate(limits), now))
        });
    }
}

impl SharedBucket {
    fn new(rate: Rate, now: Duration) -> SharedBucket {
        SharedBucket { tokens: TokenBucket::new(rate, now), promised: Duration::ZERO }
    }

    /// Takes a token. The error says when to try again, which is another time for each client: if all came back for
    /// the next token, they would be refused again and again.
    fn take(&mut self, rate: Rate, now: Duration) -> Result<(), Duration> {
        self.tokens.take(1, rate, || now).map_err(|wait| {
            let next = (self.promised + rate.interval()).min(now + MAX_WAIT);
            self.promised = next.max(now + wait);
            self.promised - now
        })
    }
}

impl Action {
    fn rate(self, limits: &RateLimits) -> Rate {
        match self {
            Action::Connect => Rate::per_minute(limits.max_connects_per_minute_per_ip),
            Action::Burst => Rate::per_minute(BURSTS_PER_MINUTE).with_burst(BURSTS),
            Action::Enter => Rate::per_minute(limits.max_enters_per_minute_per_ip),
            Action::NewRoom => Rate::per_minute(limits.max_new_rooms_per_minute_per_ip),
            Action::FailedAuth => Rate::per_minute(limits.max_failed_auths_per_minute_per_ip),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn rates() -> SharedRates {
        SharedRates::new(Arc::new(Context::new(Config::default())))
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_and_a_user_have_rates_of_their_own() {
        let rates = rates();
        let peer = Key::Peer(Peer::of([192, 0, 2, 1].into()));
        let max = RateLimits::default().max_new_rooms_per_minute_per_ip;
        for _ in 0..max {
            assert_eq!(rates.take(&peer, Action::NewRoom), Ok(()));
        }
        assert!(rates.take(&peer, Action::NewRoom).is_err());
        assert!(!rates.is_allowed(&peer, Action::NewRoom));
        assert_eq!(rates.take(&peer, Action::Enter), Ok(()));
        assert_eq!(rates.take(&Key::User("ann".into()), Action::NewRoom), Ok(()));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(rates.is_allowed(&peer, Action::NewRoom));
    }

    /// All used to be told to come back for the same token.
    #[tokio::test(start_paused = true)]
    async fn clients_that_wait_as_long_as_told_are_refused_once() {
        let rates = rates();
        let peer = Key::Peer(Peer::of([192, 0, 2, 1].into()));
        for _ in 0..600 {
            assert_eq!(rates.take(&peer, Action::Enter), Ok(()));
        }
        let start = tokio::time::Instant::now();
        let waits: Vec<_> = (0..400).map(|_| rates.take(&peer, Action::Enter).unwrap_err()).collect();
        for wait in waits {
            tokio::time::advance(wait.saturating_sub(start.elapsed())).await;
            assert_eq!(rates.take(&peer, Action::Enter), Ok(()), "after {wait:?}");
        }
        assert_eq!(start.elapsed(), Duration::from_secs(40));
        // However many wait, the time has a limit.
        let longest = (0..10_000).filter_map(|_| rates.take(&peer, Action::Enter).err()).max();
        assert!(longest <= Some(MAX_WAIT), "{longest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_used_keys_are_forgotten() {
        let rates = rates();
        let key = |n: u32| Key::Peer(Peer::of(std::net::Ipv4Addr::from_bits(n).into()));
        for n in 0..MAX_KEYS as u32 + 10 {
            assert_eq!(rates.take(&key(n), Action::Connect), Ok(()));
        }
        assert_eq!(rates.len(), MAX_KEYS);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(rates.take(&key(u32::MAX), Action::Connect), Ok(()));
        assert_eq!(rates.len(), 1);
    }
}

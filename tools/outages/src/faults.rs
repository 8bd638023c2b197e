//! Breaks nodes, their ways to Redis, and Redis itself at random.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use flaps::{Condition, Random};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::Failure;
use crate::cluster::{Cluster, Node};

const SECOND: Duration = Duration::from_secs(1);

/// How often each fault has happened.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) kills: AtomicUsize,
    pub(crate) freezes: AtomicUsize,
    pub(crate) cuts: AtomicUsize,
    pub(crate) redis_restarts: AtomicUsize,
    pub(crate) redis_losses: AtomicUsize,
    pub(crate) redis_freezes: AtomicUsize,
    periods: Mutex<Vec<Period>>,
}

/// When something was broken that clients notice.
#[derive(Debug, Clone, Copy)]
struct Period {
    kind: Broken,
    from: Instant,
    until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Redis was started again.
    Restart,
    /// It has lost its data.
    Loss,
    /// A node was stopped or cut off for so long that other nodes have removed its members.
    LongFault,
}

impl Faults {
    /// How often nodes were killed, stopped or cut off.
    pub(crate) fn of_nodes(&self) -> usize {
        [&self.kills, &self.freezes, &self.cuts].map(|count| count.load(Ordering::Relaxed)).into_iter().sum()
    }

    /// How often Redis has lost its data.
    pub(crate) fn losses(&self) -> usize {
        self.redis_losses.load(Ordering::Relaxed)
    }

    /// Whether something was broken in this time.
    pub(crate) fn was(&self, kind: Broken, from: Instant, until: Instant) -> bool {
        let periods = self.periods.lock().unwrap_or_else(PoisonError::into_inner);
        periods.iter().any(|period| period.kind == kind && period.from <= until && period.until >= from)
    }

    fn note(&self, kind: Broken, from: Instant) {
        let period = Period { kind, from, until: Instant::now() };
        self.periods.lock().unwrap_or_else(PoisonError::into_inner).push(period);
    }

    fn note_fault(&self, menu: &Menu, from: Instant) {
        if from.elapsed() > menu.long_fault {
            self.note(Broken::LongFault, from);
        }
    }
}

/// What may happen.
#[derive(Debug, Clone)]
pub(crate) struct Menu {
    /// Whether Redis may lose its data.
    pub(crate) loses_data: bool,
    pub(crate) kills_nodes: bool,
    /// The longest time for which a node is stopped.
    pub(crate) longest_freeze: Duration,
    /// The longest time for which Redis is stopped, which is rarely reached.
    pub(crate) longest_redis_freeze: Duration,
    /// After this time, a node may have lost its members.
    pub(crate) long_fault: Duration,
    /// The longest time between two faults of a node.
    pub(crate) longest_pause: Duration,
}

/// Breaks things until this time. In the end, everything runs.
pub(crate) async fn run(
    cluster: &Arc<Cluster>,
    faults: &Arc<Faults>,
    menu: &Menu,
    until: Instant,
    random: &mut Random,
) -> Result<(), Failure> {
    let mut tasks = JoinSet::new();
    for n in 0..cluster.nodes.len() {
        let (cluster, faults, menu) = (cluster.clone(), faults.clone(), menu.clone());
        let random = Random::new(random.below(u64::MAX));
        tasks.spawn(async move { break_node(&cluster.nodes[n], &faults, &menu, until, random).await });
    }
    let (cluster, faults, menu) = (cluster.clone(), faults.clone(), menu.clone());
    let random = Random::new(random.below(u64::MAX));
    tasks.spawn(async move { break_redis(&cluster, &faults, &menu, until, random).await });
    while let Some(result) = tasks.join_next().await {
        result??;
    }
    Ok(())
}

async fn break_node(
    node: &Node,
    faults: &Faults,
    menu: &Menu,
    until: Instant,
    mut random: Random,
) -> Result<(), Failure> {
    loop {
        sleep_until((Instant::now() + random.time(menu.longest_pause)).min(until)).await;
        if Instant::now() >= until {
            return Ok(());
        }
        let begun = Instant::now();
        match random.below(8) {
            0..3 if menu.kills_nodes => {
                faults.kills.fetch_add(1, Ordering::Relaxed);
                node.kill().await?;
                sleep(random.time(4 * SECOND)).await;
                node.start().await?;
            }
            0..5 => {
                faults.freezes.fetch_add(1, Ordering::Relaxed);
                node.freeze(random.time(menu.longest_freeze)).await?;
            }
            5 => {
                faults.cuts.fetch_add(1, Ordering::Relaxed);
                node.network.cut();
            }
            kind => {
                faults.cuts.fetch_add(1, Ordering::Relaxed);
                node.network.set(if kind == 6 { Condition::Silent } else { Condition::Down });
                sleep(random.time(menu.longest_freeze)).await;
                // Some of the connections survive the silence.
                if random.below(2) == 0 {
                    node.network.cut();
                }
                node.network.mend();
            }
        }
        faults.note_fault(menu, begun);
    }
}

async fn break_redis(
    cluster: &Cluster,
    faults: &Faults,
    menu: &Menu,
    until: Instant,
    mut random: Random,
) -> Result<(), Failure> {
    loop {
        sleep_until((Instant::now() + random.time(4 * menu.longest_pause)).min(until)).await;
        if Instant::now() >= until {
            return Ok(());
        }
        let mut redis = cluster.redis.lock().await;
        let begun = Instant::now();
        match random.below(6) {
            0..3 => {
                faults.redis_restarts.fetch_add(1, Ordering::Relaxed);
                redis.kill().await?;
                let loses_data = menu.loses_data && random.below(3) == 0;
                if loses_data {
                    faults.redis_losses.fetch_add(1, Ordering::Relaxed);
                    redis.lose_data()?;
                }
                sleep(random.time(3 * SECOND)).await;
                redis.start_again().await?;
                faults.note(Broken::Restart, begun);
                if loses_data {
                    faults.note(Broken::Loss, begun);
                }
            }
            kind => {
                faults.redis_freezes.fetch_add(1, Ordering::Relaxed);
                let longest = if kind == 5 { menu.longest_redis_freeze } else { 4 * SECOND };
                redis.process()?.freeze().await?;
                sleep(random.time(longest)).await;
                redis.process()?.thaw().await?;
                faults.note_fault(menu, begun);
            }
        }
    }
}

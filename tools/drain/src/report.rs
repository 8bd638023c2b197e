//! What all clients have noticed together.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::client::{Room, Watched};

/// The close code with which clients are told to come back elsewhere.
const RESTART: u16 = 1012;

#[derive(Debug, Default)]
pub(crate) struct Report {
    clients: usize,
    restarts: usize,
    resets: usize,
    /// How often attempts to reconnect failed for each reason.
    failed: BTreeMap<String, usize>,
    /// The times for which clients were not in their rooms, sorted.
    away: Vec<Duration>,
    /// When the last one was back.
    all_back: Duration,
    not_back: usize,
    not_resumed: usize,
    gaps: usize,
    moves: usize,
    sent: u64,
    unacknowledged: u64,
    out_of_order: usize,
    other: Vec<String>,
}

impl Report {
    pub(crate) fn of(rooms: &[Arc<Room>], watched: &[Arc<Watched>], begun: Instant) -> Report {
        let mut report = Report { clients: watched.len(), ..Report::default() };
        for room in rooms {
            report.sent += room.sent();
            report.unacknowledged += room.unacknowledged.load(Ordering::SeqCst);
        }
        for client in watched {
            report.not_back += usize::from(!client.is_done());
            let seen = client.seen();
            let restarts = seen.codes.iter().filter(|code| **code == RESTART).count();
            report.restarts += restarts;
            report.resets += seen.codes.len() - restarts;
            for reason in &seen.failed {
                *report.failed.entry(reason.clone()).or_default() += 1;
            }
            for (away, back) in &seen.away {
                report.away.push(*away);
                report.all_back = report.all_back.max(back.saturating_duration_since(begun));
            }
            report.not_resumed += seen.not_resumed;
            report.gaps += seen.gaps;
            report.moves += seen.moves;
            report.out_of_order += seen.out_of_order;
            report.other.extend(seen.other.iter().cloned());
        }
        report.away.sort();
        report
    }

    pub(crate) fn faults(&self) -> usize {
        let Report {
            resets, not_back, not_resumed, gaps, moves, unacknowledged, out_of_order, other, ..
        } = self;
        resets + not_back + not_resumed + gaps + moves + *unacknowledged as usize + out_of_order + other.len()
    }

    fn away_at(&self, part: f64) -> Duration {
        let at = (self.away.len().saturating_sub(1) as f64 * part) as usize;
        self.away.get(at).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { clients, restarts, resets, failed, all_back, not_back, not_resumed, gaps, .. } = self;
        let Report { moves, sent, unacknowledged, out_of_order, other, .. } = self;
        let away = [0.5, 0.99, 1.0].map(|part| self.away_at(part));
        writeln!(
            f,
            "{clients} clients: {restarts} connections closed with 1012, {resets} with other codes or reset"
        )?;
        writeln!(
            f,
            "away: p50 {:.0?}, p99 {:.0?}, longest {:.0?}; all back after {all_back:.1?}",
            away[0], away[1], away[2]
        )?;
        let attempts: usize = failed.values().sum();
        writeln!(
            f,
            "{attempts} attempts to reconnect failed; {not_back} clients are not back or miss messages"
        )?;
        failed.iter().take(10).try_for_each(|(reason, times)| writeln!(f, "  {times} times: {reason}"))?;
        writeln!(f, "{not_resumed} sessions not resumed, {gaps} gaps, {moves} enters and leaves seen")?;
        write!(
            f,
            "{sent} messages acknowledged, {unacknowledged} not; {out_of_order} received out of order"
        )?;
        other.iter().take(10).try_for_each(|other| write!(f, "\nalso: {other}"))
    }
}

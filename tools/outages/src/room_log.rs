//! The logs of the rooms, put together from what all clients have received.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::plain::num_after;
use crate::stay::{Frame, Kind, Run};

/// The logs of a room, one for each epoch.
#[derive(Default)]
pub(crate) struct RoomLogs {
    logs: Vec<Log>,
    /// The log of each run.
    runs: HashMap<u64, usize>,
    /// Where each message is: the log and its `seq`.
    messages: HashMap<String, Vec<(usize, u64)>>,
}

#[derive(Default)]
struct Log {
    frames: BTreeMap<u64, Frame>,
    epochs: BTreeMap<String, usize>,
}

impl RoomLogs {
    /// Adds what a client has received. Returns what another client has received in its place.
    pub(crate) fn add(&mut self, run: Run) -> Vec<String> {
        let mut faults = Vec::new();
        if run.frames.is_empty() {
            return faults;
        }
        let epoch = epoch_of(&run.epochs);
        let mut found: Vec<usize> = self.runs.get(&run.id).copied().into_iter().collect();
        found.extend(
            (0..self.logs.len()).filter(|n| epoch.is_some() && epoch_of(&self.logs[*n].epochs) == epoch),
        );
        for (seq, frame) in &run.frames {
            let places = self.messages.get(&frame.text).into_iter().flatten();
            found.extend(
                places
                    .filter(|(log, place)| {
                        let log = &self.logs[*log];
                        let other = epoch_of(&log.epochs);
                        let may_be_same = epoch.is_none() || other.is_none() || epoch == other;
                        may_be_same && place == seq && log.frames.get(seq) == Some(frame)
                    })
                    .map(|(log, _)| *log),
            );
        }
        found.sort_unstable();
        found.dedup();
        let log = found.first().copied().unwrap_or_else(|| {
            self.logs.push(Log::default());
            self.logs.len() - 1
        });
        for other in found.into_iter().skip(1) {
            let other_log = std::mem::take(&mut self.logs[other]);
            self.runs.values_mut().filter(|n| **n == other).for_each(|n| *n = log);
            self.messages.values_mut().for_each(|places| places.retain(|(n, _)| *n != other));
            self.insert(log, other_log, &mut faults);
        }
        self.runs.insert(run.id, log);
        let added = Log { frames: run.frames.into_iter().collect(), epochs: run.epochs };
        self.insert(log, added, &mut faults);
        faults
    }

    fn insert(&mut self, log: usize, added: Log, faults: &mut Vec<String>) {
        for (epoch, count) in added.epochs {
            *self.logs[log].epochs.entry(epoch).or_default() += count;
        }
        for (seq, frame) in added.frames {
            if let Some(other) = self.logs[log].frames.get(&seq) {
                if *other != frame {
                    faults.push(format!(
                        "two clients have received different frames at {seq}: {frame:?} and {other:?}"
                    ));
                }
                continue;
            }
            if frame.kind == Kind::Message {
                self.messages.entry(frame.text.clone()).or_default().push((log, seq));
            }
            self.logs[log].frames.insert(seq, frame);
        }
    }

    /// Where a message is: the log and its `seq`.
    pub(crate) fn places(&self, text: &str) -> &[(usize, u64)] {
        self.messages.get(text).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn len(&self) -> usize {
        self.logs.iter().map(|log| log.frames.len()).sum()
    }

    /// Checks that events follow from each other. If `is_full`, all enters and leaves have frames.
    pub(crate) fn check(&self, is_full: bool) -> Vec<String> {
        let mut faults = Vec::new();
        for log in &self.logs {
            let (mut inside, mut outside) = (HashSet::new(), HashSet::new());
            let mut before: Option<(u64, &Frame)> = None;
            for (&seq, frame) in &log.frames {
                let mut fault = |what: &str| {
                    faults.push(format!("{what}: {frame:?} at {seq}, after {before:?}"));
                };
                match before {
                    Some((last, frame_before)) if last + 1 == seq => {
                        if is_full && num_after(frame_before.num, frame.kind) != Some(frame.num) {
                            fault("the count does not follow");
                        }
                    }
                    _ => {
                        inside.clear();
                        outside.clear();
                    }
                }
                if let (true, Some(member)) = (is_full, &frame.member) {
                    match frame.kind {
                        Kind::Enter => {
                            outside.remove(member);
                            if !inside.insert(member) {
                                fault("entered twice");
                            }
                        }
                        Kind::Out => {
                            inside.remove(member);
                            if !outside.insert(member) {
                                fault("left twice");
                            }
                        }
                        Kind::Message => {
                            if outside.contains(member) {
                                fault("published after its leave");
                            }
                        }
                    }
                }
                before = Some((seq, frame));
            }
        }
        faults
    }

    /// Checks what a plain client has received on one connection, as far as the logs have it.
    pub(crate) fn check_plain(&self, frames: &[Frame]) -> Option<String> {
        let (at, places) = frames.iter().enumerate().find_map(|(at, frame)| {
            let places = self.places(&frame.text);
            (!places.is_empty()).then_some((at, places))
        })?;
        let mut differences = places.iter().map(|(log, seq)| {
            frames.iter().enumerate().find_map(|(n, frame)| {
                let seq = (seq + n as u64).checked_sub(at as u64)?;
                let other = self.logs[*log].frames.get(&seq)?;
                let is_same = Frame { member: None, ..other.clone() } == *frame;
                (!is_same).then(|| format!("{frame:?} instead of {other:?} at {seq}"))
            })
        });
        // A message that is in two places may be either.
        let first = differences.next()??;
        differences.all(|difference| difference.is_some()).then_some(first)
    }
}

/// The epoch in which a client was often enough.
fn epoch_of(epochs: &BTreeMap<String, usize>) -> Option<&str> {
    let (epoch, count) = epochs.iter().max_by_key(|(_, count)| **count)?;
    (*count > 1).then_some(epoch)
}

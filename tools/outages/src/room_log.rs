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

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames from this `seq` on: `+a` and `-a` for the enter and the leave of a member, everything else is a message.
    fn run(id: u64, seq: u64, num: u64, frames: &[&str]) -> Run {
        let mut num = num;
        let frames = frames.iter().map(|text| {
            let (kind, member) = match text.split_at(1) {
                ("+", member) => (Kind::Enter, member),
                ("-", member) => (Kind::Out, member),
                _ => (Kind::Message, "x"),
            };
            num = num_after(num, kind).expect("there are members");
            let (member, name) = (Some(member.to_owned()), member.to_owned());
            Frame { kind, member, name, text: (*text).to_owned(), num }
        });
        Run { id, frames: (seq..).zip(frames).collect(), epochs: BTreeMap::new() }
    }

    fn logs(runs: impl IntoIterator<Item = Run>) -> (RoomLogs, Vec<String>) {
        let mut logs = RoomLogs::default();
        let faults = runs.into_iter().flat_map(|run| logs.add(run)).collect();
        (logs, faults)
    }

    fn in_epoch(epoch: &str, run: Run) -> Run {
        Run { epochs: BTreeMap::from([(epoch.to_owned(), 2)]), ..run }
    }

    #[test]
    fn what_clients_have_received_is_put_together() {
        let (logs, faults) = logs([
            run(0, 1, 0, &["+a", "one", "+b"]),
            run(1, 2, 1, &["one", "+b", "two", "-a"]),
            // Later, of the first client.
            run(0, 4, 2, &["two"]),
        ]);
        assert_eq!((faults, logs.check(true)), (vec![], vec![]));
        assert_eq!((logs.logs.len(), logs.len()), (1, 5));
        assert_eq!(logs.places("two"), [(0, 4)]);
    }

    #[test]
    fn logs_that_turn_out_to_be_the_same_are_joined() {
        let (logs, faults) = logs([
            run(0, 1, 0, &["+a", "one"]),
            run(1, 3, 1, &["two", "three"]),
            run(2, 2, 1, &["one", "two"]),
        ]);
        assert_eq!((faults, logs.check(true)), (vec![], vec![]));
        assert_eq!((logs.len(), logs.places("three")), (4, &[(0, 4)][..]));
    }

    #[test]
    fn epochs_are_told_apart() {
        let (logs, faults) =
            logs([in_epoch("e", run(0, 1, 0, &["+a", "one"])), in_epoch("f", run(1, 1, 0, &["+b", "two"]))]);
        assert_eq!((faults, logs.check(true)), (vec![], vec![]));
        assert_eq!(logs.len(), 4);
    }

    #[test]
    fn different_frames_in_one_place_are_found() {
        let (_, faults) = logs([run(0, 1, 0, &["+a", "one", "two"]), run(1, 2, 1, &["one", "three"])]);
        assert_eq!(faults.len(), 1, "{faults:?}");
        let (_, faults) =
            logs([in_epoch("e", run(0, 1, 0, &["+a", "one"])), in_epoch("e", run(1, 2, 1, &["two"]))]);
        assert_eq!(faults.len(), 1, "{faults:?}");
    }

    #[test]
    fn events_that_do_not_follow_are_found() {
        for (frames, found) in [
            (vec!["+a", "+b", "-a", "+a", "one"], 0),
            (vec!["+a", "+a"], 1),
            (vec!["+a", "+b", "-b", "-b"], 1),
        ] {
            let (logs, _) = logs([run(0, 1, 0, &frames)]);
            assert_eq!(logs.check(true).len(), found, "{frames:?}");
        }
        // A leave that has no frame.
        let (logs, _) = logs([run(0, 1, 0, &["+a", "+b", "one"]), run(0, 4, 1, &["two"])]);
        assert_eq!((logs.check(true).len(), logs.check(false).len()), (1, 0));
    }

    #[test]
    fn what_plain_clients_have_received_is_part_of_a_log() {
        let (logs, _) = logs([run(0, 1, 0, &["+a", "one", "+b", "two", "-a"])]);
        let plain = |seq, num, frames: &[&str]| {
            let frames = run(1, seq, num, frames).frames.into_iter();
            logs.check_plain(&frames.map(|(_, frame)| Frame { member: None, ..frame }).collect::<Vec<_>>())
        };
        assert_eq!(plain(2, 1, &["one", "+b", "two", "-a", "three"]), None);
        assert_eq!(plain(2, 1, &["other"]), None);
        assert!(plain(2, 1, &["one", "two"]).is_some());
        assert!(plain(3, 1, &["+c", "two"]).is_some());
    }
}

//! The direct frames of one session: their numbers, and the latest ones for a client that resumes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::protocol::direct::DirectFrame;

/// At most this many frames are kept.
pub(super) const MAX_FRAMES: usize = 64;

/// At most this many bytes are kept. The latest frame is kept even if it is longer.
const MAX_BYTES: usize = 64 * 1024;

/// Numbers the frames 1, 2, and so on, and keeps the latest ones.
#[derive(Debug, Default)]
pub(super) struct DirectFrames {
    /// The number of the latest frame; 0 if there was none.
    last: u64,
    /// The latest frames, without a gap.
    kept: VecDeque<Kept>,
    /// The total length of the kept frames.
    bytes: usize,
    /// Another node has numbered the frames before, so the client knows what the first number is.
    is_continued: bool,
}

#[derive(Debug)]
struct Kept {
    at: Duration,
    frame: Arc<DirectFrame>,
}

impl DirectFrames {
    /// Those of a session that was on another node.
    pub(super) fn of_other_node() -> DirectFrames {
        DirectFrames { is_continued: true, ..DirectFrames::default() }
    }

    /// Numbers the frames from after the last one that the client has received, if another node has numbered it. Leaves out
    /// a number, because the client may have missed frames there.
    pub(super) fn continue_after(&mut self, last: u64) {
        if std::mem::take(&mut self.is_continued) {
            self.last += last.saturating_add(1).min(u64::MAX / 2);
        }
    }

    /// Adds a frame, and returns its number. `None` if it is one of the kept frames.
    pub(super) fn add(&mut self, frame: &Arc<DirectFrame>, now: Duration) -> Option<u64> {
        if self.kept.iter().any(|kept| Arc::ptr_eq(&kept.frame, frame)) {
            return None;
        }
        self.last += 1;
        self.bytes += frame.len();
        self.kept.push_back(Kept { at: now, frame: frame.clone() });
        while self.kept.len() > 1 && (self.kept.len() > MAX_FRAMES || self.bytes > MAX_BYTES) {
            self.drop_first();
        }
        Some(self.last)
    }

    /// Drops the frames that are older than this age.
    pub(super) fn trim(&mut self, now: Duration, max_age: Duration) {
        while self.kept.front().is_some_and(|kept| now.saturating_sub(kept.at) > max_age) {
            self.drop_first();
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
    }

    /// Drops all frames.
    pub(super) fn clear(&mut self) {
        (self.kept, self.bytes) = (VecDeque::new(), 0);
    }

    /// The number of the latest frame; 0 if there was none.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Returns the kept frames after this number, with their numbers, and the number of the frame before them. If there
    /// was no frame with this number, all frames count as missed.
    pub(super) fn after(&self, number: u64) -> (u64, impl Iterator<Item = (u64, &Arc<DirectFrame>)>) {
        let number = if number > self.last { 0 } else { number };
        let before_kept = self.last - self.kept.len() as u64;
        let start = number.max(before_kept);
        let missed = self.kept.iter().skip((start - before_kept) as usize);
        (start, (start + 1..).zip(missed.map(|kept| &kept.frame)))
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.kept.pop_front() {
            self.bytes -= first.frame.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A frame of this many bytes, and of a few more.
    fn frame(bytes: usize) -> Arc<DirectFrame> {
        Arc::new(DirectFrame::of_host(&format!(r#"{{"event":"{}"}}"#, "x".repeat(bytes))))
    }

    /// The number before the frames, and their numbers.
    fn after(frames: &DirectFrames, number: u64) -> (u64, Vec<u64>) {
        let (start, missed) = frames.after(number);
        (start, missed.map(|(number, _)| number).collect())
    }

    #[test]
    fn missed_frames_are_replayed_in_order() {
        let mut frames = DirectFrames::default();
        assert_eq!(after(&frames, 0), (0, vec![]));
        assert_eq!(after(&frames, 9), (0, vec![]));
        for number in 1..=5 {
            assert_eq!(frames.add(&frame(1), Duration::ZERO), Some(number));
        }
        assert_eq!(after(&frames, 0), (0, vec![1, 2, 3, 4, 5]));
        assert_eq!(after(&frames, 3), (3, vec![4, 5]));
        assert_eq!(after(&frames, 5), (5, vec![]));
        // The number is of another session.
        assert_eq!(after(&frames, 6), (0, vec![1, 2, 3, 4, 5]));
    }

    #[test]
    fn a_frame_is_added_once() {
        let mut frames = DirectFrames::default();
        let (one, other) = (frame(1), frame(1));
        assert_eq!(frames.add(&one, Duration::ZERO), Some(1));
        assert_eq!(frames.add(&one, Duration::ZERO), None);
        assert_eq!(frames.add(&other, Duration::ZERO), Some(2));
        assert_eq!(frames.add(&one, Duration::ZERO), None);
    }

    #[test]
    fn old_frames_are_dropped() {
        let mut frames = DirectFrames::default();
        for second in 1..=5 {
            frames.add(&frame(1), SECOND * second);
        }
        frames.trim(SECOND * 9, SECOND * 5);
        assert_eq!(after(&frames, 1), (3, vec![4, 5]));
        frames.trim(SECOND * 60, SECOND * 5);
        assert_eq!((after(&frames, 1), frames.bytes, frames.kept.capacity()), ((5, vec![]), 0, 0));
        frames.add(&frame(1), SECOND * 60);
        assert_eq!(after(&frames, 1), (5, vec![6]));
        frames.clear();
        assert_eq!(after(&frames, 6), (6, vec![]));
        assert_eq!(after(&frames, 1), (6, vec![]));
    }

    #[test]
    fn the_latest_frame_is_kept_whatever_its_size() {
        let mut frames = DirectFrames::default();
        frames.add(&frame(1), Duration::ZERO);
        frames.add(&frame(2 * MAX_BYTES), Duration::ZERO);
        assert_eq!(after(&frames, 0), (1, vec![2]));
        frames.add(&frame(1), Duration::ZERO);
        assert_eq!(after(&frames, 0), (2, vec![3]));
    }

    proptest! {
        /// Whatever is added and trimmed, a client gets all frames after those that it has had, or is told how many it
        /// has missed.
        #[test]
        fn a_replay_has_no_gap(
            steps in prop::collection::vec((0usize..20_000, 0u64..3, any::<bool>()), 0..200),
            had in 0u64..250,
        ) {
            let (mut frames, mut now, mut count) = (DirectFrames::default(), Duration::ZERO, 0);
            for (bytes, seconds, trims) in steps {
                now += SECOND * seconds as u32;
                if trims {
                    frames.trim(now, SECOND * 20);
                }
                count += 1;
                prop_assert_eq!(frames.add(&frame(bytes % 3_000), now), Some(count));
                prop_assert!(frames.kept.len() <= MAX_FRAMES && frames.bytes <= MAX_BYTES);
                prop_assert_eq!(frames.bytes, frames.kept.iter().map(|kept| kept.frame.len()).sum::<usize>());
            }
            let (start, numbers) = after(&frames, had);
            let had = if had > count { 0 } else { had };
            prop_assert!(had <= start && start <= count);
            prop_assert!(numbers.into_iter().eq(start + 1..=count));
            let is_first_lost = start > had && frames.kept.len() < MAX_FRAMES;
            prop_assert!(!is_first_lost || frames.bytes + 3_100 > MAX_BYTES || now > SECOND * 20);
        }
    }
}

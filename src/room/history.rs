//! A room's latest frames, for those who come back. Bounded in frames, bytes and age.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::History;

/// The frames of one room, all of them up to its latest.
#[derive(Debug)]
pub(crate) struct Past {
    bounds: History,
    frames: VecDeque<Kept>,
    /// The frames one behind the other, as they go over the wire.
    bytes: VecDeque<u8>,
}

#[derive(Debug)]
struct Kept {
    at: Duration,
    len: u32,
}

impl Past {
    pub(crate) fn new(bounds: History) -> Past {
        Past { bounds, frames: VecDeque::new(), bytes: VecDeque::new() }
    }

    /// Keeps the room's next frame. One that alone is larger than the bound is forgotten at once,
    /// with all before it.
    pub(crate) fn push(&mut self, now: Duration, frame: &[u8]) {
        self.bytes.extend(frame);
        self.frames.push_back(Kept { at: now, len: frame.len() as u32 });
        self.trim(now);
    }

    /// Forgets what is beyond the bounds.
    pub(crate) fn trim(&mut self, now: Duration) {
        while let Some(oldest) = self.frames.front() {
            let is_old = now.saturating_sub(oldest.at) > self.bounds.age();
            if !is_old && self.frames.len() <= self.bounds.frames() && self.bytes.len() <= self.bounds.bytes()
            {
                return;
            }
            self.bytes.drain(..oldest.len as usize);
            self.frames.pop_front();
        }
        if self.bytes.capacity() > 0 {
            (self.frames, self.bytes) = Default::default();
        }
    }

    /// `n` frames, which end `after` frames before the latest; `None` if they are not all kept.
    pub(crate) fn frames(&self, n: u64, after: u64) -> Option<Vec<u8>> {
        let end = (self.frames.len() as u64).checked_sub(after)?;
        let begin = end.checked_sub(n)?;
        let len = |from: u64, to: u64| -> usize {
            self.frames.range(from as usize..to as usize).map(|kept| kept.len as usize).sum()
        };
        let (skipped, wanted) = (len(0, begin), len(begin, end));
        Some(self.bytes.range(skipped..skipped + wanted).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn past(bounds: History) -> Past {
        let mut past = Past::new(bounds);
        for (n, frame) in ["a", "bb", "ccc", "dddd"].into_iter().enumerate() {
            past.push(secs(n as u64), frame.as_bytes());
        }
        past
    }

    fn check(past: &Past, n: u64, after: u64, want: Option<&str>) {
        assert_eq!(past.frames(n, after).as_deref(), want.map(str::as_bytes), "{n} before {after}");
    }

    #[test]
    fn any_stretch_that_is_kept_can_be_had() {
        let past = past(History::last(10));
        check(&past, 0, 0, Some(""));
        check(&past, 2, 0, Some("cccdddd"));
        check(&past, 2, 1, Some("bbccc"));
        check(&past, 4, 0, Some("abbcccdddd"));
        check(&past, 5, 0, None);
        check(&past, 4, 1, None);
        check(&past, 0, 5, None);
    }

    #[test]
    fn frames_bytes_and_age_are_bounded() {
        let few = past(History::last(2));
        check(&few, 2, 0, Some("cccdddd"));
        check(&few, 3, 0, None);
        let small = past(History::last(10).max_bytes(8));
        check(&small, 2, 0, Some("cccdddd"));
        check(&small, 3, 0, None);
        let mut young = past(History::last(10).for_at_most(secs(2)));
        check(&young, 3, 0, Some("bbcccdddd"));
        check(&young, 4, 0, None);
        young.trim(secs(5));
        check(&young, 1, 0, Some("dddd"));
        check(&young, 2, 0, None);
        young.trim(secs(99));
        check(&young, 0, 0, Some(""));
        assert_eq!(young.bytes.capacity() + young.frames.capacity(), 0);
    }

    #[test]
    fn a_frame_beyond_the_bound_leaves_no_gap() {
        let mut past = past(History::last(10).max_bytes(12));
        past.push(secs(9), b"much too long");
        check(&past, 0, 0, Some(""));
        check(&past, 1, 0, None);
        past.push(secs(9), b"e");
        check(&past, 1, 0, Some("e"));
    }
}

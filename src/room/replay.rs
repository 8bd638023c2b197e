//! A room's latest frames, for returning members. Bounded in frames, bytes and age.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::config::History;

/// The frames of a room up to the latest one that was added, without gaps.
///
/// It keeps them in the chunks in which they were sent, so that adding and replaying copies nothing.
#[derive(Debug)]
pub(crate) struct ReplayBuffer {
    bounds: History,
    /// The length of the frame that begins a chunk.
    frame_len: fn(&[u8]) -> usize,
    chunks: VecDeque<Chunk>,
    /// The `seq` of the latest frame.
    end: u64,
    frames: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Chunk {
    /// Until when it is kept.
    until: Duration,
    frames: usize,
    bytes: Bytes,
    /// Bytes that the chunk keeps alive: more than `bytes.len()` once its front has been cut off.
    allocated: usize,
}

impl ReplayBuffer {
    pub(crate) fn new(bounds: History, frame_len: fn(&[u8]) -> usize) -> ReplayBuffer {
        ReplayBuffer { bounds, frame_len, chunks: VecDeque::new(), end: 0, frames: 0, bytes: 0 }
    }

    /// Forgets all frames, and continues after this `seq`.
    pub(crate) fn restart(&mut self, end: u64) {
        (self.chunks, self.frames, self.bytes, self.end) = (VecDeque::new(), 0, 0, end);
    }

    /// Adds the room's next frames, which end at this `seq`.
    pub(crate) fn push(&mut self, now: Duration, end: u64, bytes: Bytes) {
        self.push_old(now, Duration::ZERO, end, bytes);
    }

    /// As [`ReplayBuffer::push`], for frames that were published some time ago.
    #[inline]
    pub(crate) fn push_old(&mut self, now: Duration, age: Duration, end: u64, bytes: Bytes) {
        let frames = (end - self.end) as usize;
        self.end = end;
        self.frames += frames;
        self.bytes += bytes.len();
        let until = now.saturating_add(self.bounds.age().saturating_sub(age));
        self.chunks.push_back(Chunk { until, frames, allocated: bytes.len(), bytes });
        self.trim(now);
    }

    /// Drops what exceeds the bounds.
    pub(crate) fn trim(&mut self, now: Duration) {
        while let Some(oldest) = self.chunks.front_mut() {
            if oldest.until < now {
                self.frames -= oldest.frames;
                self.bytes -= oldest.bytes.len();
                self.chunks.pop_front();
                continue;
            }
            let mut cut = 0;
            while oldest.frames > 0
                && (self.frames > self.bounds.frames() || self.bytes > self.bounds.bytes())
            {
                let len = (self.frame_len)(&oldest.bytes[cut..]);
                (oldest.frames, self.frames, self.bytes) =
                    (oldest.frames - 1, self.frames - 1, self.bytes - len);
                cut += len;
            }
            if cut == 0 {
                return;
            }
            if oldest.frames == 0 {
                self.chunks.pop_front();
                continue;
            }
            oldest.bytes = oldest.bytes.slice(cut..);
            if oldest.bytes.len() < oldest.allocated / 2 {
                oldest.bytes = Bytes::copy_from_slice(&oldest.bytes);
                oldest.allocated = oldest.bytes.len();
            }
            return;
        }
        self.chunks = VecDeque::new();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// The `seq` before the oldest frame that is kept.
    pub(crate) fn start(&self) -> u64 {
        self.end - self.frames as u64
    }

    /// All frames after this `seq`, in chunks; `None` if they are not all kept, or if there was no frame with this `seq`
    /// yet.
    pub(crate) fn after(&self, seq: u64) -> Option<Vec<Bytes>> {
        if seq > self.end {
            return None;
        }
        let mut skip = seq.checked_sub(self.start())? as usize;
        let mut replay = Vec::new();
        for chunk in &self.chunks {
            if skip >= chunk.frames {
                skip -= chunk.frames;
                continue;
            }
            let mut cut = 0;
            for _ in 0..std::mem::take(&mut skip) {
                cut += (self.frame_len)(&chunk.bytes[cut..]);
            }
            replay.push(chunk.bytes.slice(cut..));
        }
        Some(replay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Frames that consist of a length byte and that many bytes.
    fn frame_len(bytes: &[u8]) -> usize {
        usize::from(bytes[0]) + 1
    }

    fn frames(lens: &[u8]) -> Bytes {
        lens.iter().flat_map(|len| std::iter::once(*len).chain(vec![*len; usize::from(*len)])).collect()
    }

    /// Frames of 2, 3, 4 and 5 bytes, one a second.
    fn buffer(bounds: History) -> ReplayBuffer {
        let mut buffer = ReplayBuffer::new(bounds, frame_len);
        for n in 1..=4 {
            buffer.push(secs(n.into()), n.into(), frames(&[n]));
        }
        buffer
    }

    fn check(buffer: &ReplayBuffer, seq: u64, want: Option<&[u8]>) {
        let got = buffer.after(seq).map(|chunks| chunks.concat());
        assert_eq!(got, want.map(|lens| frames(lens).to_vec()), "after {seq}");
    }

    #[test]
    fn frames_after_any_seq_that_is_kept() {
        let buffer = buffer(History::last(10));
        check(&buffer, 0, Some(&[1, 2, 3, 4]));
        check(&buffer, 2, Some(&[3, 4]));
        check(&buffer, 4, Some(&[]));
        check(&buffer, 5, None);
    }

    #[test]
    fn a_chunk_is_cut_at_a_frame() {
        let mut buffer = ReplayBuffer::new(History::last(3), frame_len);
        buffer.push(secs(0), 2, frames(&[1, 2]));
        buffer.push(secs(0), 5, frames(&[3, 4, 5]));
        check(&buffer, 1, None);
        check(&buffer, 2, Some(&[3, 4, 5]));
        check(&buffer, 3, Some(&[4, 5]));
        buffer.push(secs(0), 6, frames(&[6]));
        check(&buffer, 2, None);
        check(&buffer, 3, Some(&[4, 5, 6]));
    }

    #[test]
    fn frames_bytes_and_age_are_bounded() {
        let few = buffer(History::last(2));
        check(&few, 2, Some(&[3, 4]));
        check(&few, 1, None);
        let small = buffer(History::last(10).max_bytes(10));
        check(&small, 2, Some(&[3, 4]));
        check(&small, 1, None);
        let mut young = buffer(History::last(10).for_at_most(secs(2)));
        check(&young, 1, Some(&[2, 3, 4]));
        check(&young, 0, None);
        young.trim(secs(6));
        check(&young, 3, Some(&[4]));
        check(&young, 2, None);
        young.trim(secs(99));
        check(&young, 4, Some(&[]));
        check(&young, 3, None);
        assert_eq!(young.chunks.capacity(), 0);
    }

    #[test]
    fn old_frames_are_dropped_when_their_time_is_over() {
        let mut buffer = ReplayBuffer::new(History::last(10).for_at_most(secs(60)), frame_len);
        buffer.restart(7);
        // The buffer itself is younger than these.
        buffer.push_old(secs(1), secs(59), 8, frames(&[1]));
        buffer.push_old(secs(1), secs(30), 9, frames(&[2]));
        buffer.push(secs(1), 10, frames(&[3]));
        for (now, start) in [(2, 7), (3, 8), (31, 8), (32, 9), (61, 9), (62, 10)] {
            buffer.trim(secs(now));
            assert_eq!(buffer.start(), start, "after {now} s");
        }
    }

    #[test]
    fn a_frame_beyond_the_bound_leaves_no_hole() {
        let mut buffer = buffer(History::last(10).max_bytes(12));
        buffer.push(secs(9), 5, frames(&[20]));
        check(&buffer, 5, Some(&[]));
        check(&buffer, 4, None);
        buffer.push(secs(9), 6, frames(&[1]));
        check(&buffer, 5, Some(&[1]));
    }

    #[test]
    fn a_cut_chunk_keeps_at_most_twice_its_bytes() {
        let mut buffer = ReplayBuffer::new(History::last(3), frame_len);
        buffer.push(secs(0), 100, frames(&[9; 100]));
        let allocated: usize = buffer.chunks.iter().map(|chunk| chunk.allocated).sum();
        assert!(allocated <= 2 * buffer.bytes, "{allocated} for {}", buffer.bytes);
    }
}

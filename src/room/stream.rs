//! The frames of one room in their one order: those that wait to be delivered, and those that
//! are being delivered. Each has a number, its seq; a position is the number of the frame before.

use bytes::Bytes;

use crate::protocol::frame::{self, frame_len};
use crate::protocol::outbound::Head;
use crate::protocol::wire::Wire;

/// Frames that were gathered to be written to every member at once.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    plain: Run<Bytes>,
    v1: Run<Bytes>,
    end: u64,
}

/// Frames of one wire, one behind the other.
#[derive(Debug, Clone, Default)]
struct Run<B> {
    /// The seq before the first of them.
    start: u64,
    bytes: B,
}

/// How many members hear the room by which wire: frames are made for those who are there.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    plain: usize,
    v1: usize,
}

impl Audience {
    pub(crate) fn of(&mut self, wire: Wire) -> &mut usize {
        match wire {
            Wire::Plain => &mut self.plain,
            Wire::V1 => &mut self.v1,
        }
    }
}

impl Batch {
    /// The seq of its last frame.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Its frames by one wire, and how many bytes of them come before a position.
    pub(crate) fn frames(&self, position: u64, wire: Wire) -> (&Bytes, usize) {
        let run = match wire {
            Wire::Plain => &self.plain,
            Wire::V1 => &self.v1,
        };
        let mut skip = 0;
        for _ in run.start..position {
            if skip == run.bytes.len() {
                break;
            }
            skip += frame_len(&run.bytes[skip..]);
        }
        (&run.bytes, skip)
    }
}

/// The room's queue.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The seq of the latest frame.
    seq: u64,
    plain: Run<Vec<u8>>,
    v1: Run<Vec<u8>>,
    in_flight: Option<Batch>,
}

impl Stream {
    /// The seq of the latest frame.
    pub(crate) fn position(&self) -> u64 {
        self.seq
    }

    /// Bytes that wait for the flusher.
    pub(crate) fn pending(&self) -> usize {
        self.plain.bytes.len().max(self.v1.bytes.len())
    }

    /// Queues one frame for everybody in the audience. With `keep` it is also given away as it
    /// goes over v1.
    pub(crate) fn push(
        &mut self,
        head: &Head<'_>,
        num: usize,
        audience: &Audience,
        keep: Option<impl FnOnce(&[u8])>,
    ) {
        let mut digits = [0; 20];
        let num = decimal(num as u64, &mut digits);
        let before = self.seq;
        self.seq += 1;
        // A run has no gaps: once begun, it goes on until it is taken.
        if let Some(bytes) = self.plain.begin(before, audience.plain > 0) {
            frame::push_text(bytes, &[head.plain.as_bytes(), head.tail.as_bytes(), num, b"}"]);
        }
        let queued = self.v1.begin(before, audience.v1 > 0);
        if queued.is_none() && keep.is_none() {
            return;
        }
        let mut aside = Vec::new();
        let bytes = queued.unwrap_or(&mut aside);
        let from = bytes.len();
        let mut digits = [0; 20];
        let seq = decimal(self.seq, &mut digits);
        let parts = [head.v1.as_bytes(), head.tail.as_bytes(), num, b",\"seq\":", seq, b"}"];
        frame::push_text(bytes, &parts);
        if let Some(keep) = keep {
            keep(&bytes[from..]);
        }
    }

    /// What the flusher is to deliver next.
    pub(crate) fn take(&mut self) -> Batch {
        let batch = Batch { plain: self.plain.take(), v1: self.v1.take(), end: self.seq };
        self.in_flight = Some(batch.clone());
        batch
    }

    /// The batch is delivered. Returns whether that was all.
    pub(crate) fn finish_batch(&mut self) -> bool {
        self.in_flight = None;
        self.pending() == 0
    }

    /// All that is under way or waiting, for one member who can't wait for the flusher.
    pub(crate) fn unfinished(&self) -> Vec<Batch> {
        let mut all: Vec<Batch> = self.in_flight.iter().cloned().collect();
        if self.pending() > 0 {
            all.push(Batch { plain: self.plain.copy(), v1: self.v1.copy(), end: self.seq });
        }
        all
    }
}

impl Run<Vec<u8>> {
    /// Where to put the next frame, if there is somebody to hear it or the run has begun.
    fn begin(&mut self, before: u64, is_heard: bool) -> Option<&mut Vec<u8>> {
        if self.bytes.is_empty() {
            if !is_heard {
                return None;
            }
            self.start = before;
        }
        Some(&mut self.bytes)
    }

    fn take(&mut self) -> Run<Bytes> {
        if self.bytes.is_empty() {
            return Run::default();
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        // A slow member may keep it for long.
        if bytes.capacity() - bytes.len() > bytes.len() / 4 + 1024 {
            bytes.shrink_to_fit();
        }
        Run { start: self.start, bytes: bytes.into() }
    }

    fn copy(&self) -> Run<Bytes> {
        Run { start: self.start, bytes: Bytes::copy_from_slice(&self.bytes) }
    }
}

/// A number as decimal digits, without an allocation.
fn decimal(mut n: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            return &digits[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_KEPT: Option<fn(&[u8])> = None;

    fn head(text: &str) -> Head<'_> {
        Head { plain: text, v1: text, tail: ":" }
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        let (mut rest, mut texts) = (bytes, Vec::new());
        while !rest.is_empty() {
            let (frame, others) = rest.split_at(frame_len(rest));
            texts.push(String::from_utf8(frame[2..].to_vec()).unwrap());
            rest = others;
        }
        texts
    }

    fn after(batch: &Batch, position: u64, wire: Wire) -> &[u8] {
        let (frames, skip) = batch.frames(position, wire);
        &frames[skip..]
    }

    fn check(batch: &Batch, position: u64, wire: Wire, want: &[&str]) {
        assert_eq!(texts(after(batch, position, wire)), want, "{wire:?} after {position}");
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for n in [0, 7, 10, 99, 1234, u64::MAX] {
            assert_eq!(decimal(n, &mut [0; 20]), n.to_string().as_bytes());
        }
    }

    #[test]
    fn a_batch_is_cut_at_a_members_position() {
        let mut stream = Stream::default();
        let all = Audience { plain: 1, v1: 1 };
        stream.push(&head("one"), 7, &all, NOT_KEPT);
        let position = stream.position();
        stream.push(&head("two"), 7, &all, NOT_KEPT);
        let batch = stream.take();
        check(&batch, 0, Wire::Plain, &["one:7}", "two:7}"]);
        check(&batch, position, Wire::Plain, &["two:7}"]);
        check(&batch, position, Wire::V1, &["two:7,\"seq\":2}"]);
        assert!(after(&batch, batch.end(), Wire::Plain).is_empty());
        assert!(after(&batch, batch.end() + 9, Wire::V1).is_empty());
        stream.push(&head("three"), 7, &all, NOT_KEPT);
        let ends: Vec<u64> = stream.unfinished().iter().map(Batch::end).collect();
        assert_eq!(ends, [batch.end(), stream.position()]);
        assert!(!stream.finish_batch());
        assert_eq!(stream.take().end(), stream.position());
        assert!(stream.finish_batch());
        assert!(stream.unfinished().is_empty());
    }

    #[test]
    fn frames_are_made_for_who_is_there_and_without_gaps() {
        let mut stream = Stream::default();
        stream.push(&head("a"), 1, &Audience { plain: 1, v1: 0 }, NOT_KEPT);
        stream.push(&head("b"), 1, &Audience { plain: 1, v1: 1 }, NOT_KEPT);
        stream.push(&head("c"), 1, &Audience { plain: 1, v1: 0 }, NOT_KEPT);
        stream.push(&head("d"), 1, &Audience { plain: 0, v1: 1 }, NOT_KEPT);
        let batch = stream.take();
        check(&batch, 0, Wire::Plain, &["a:1}", "b:1}", "c:1}", "d:1}"]);
        check(&batch, 1, Wire::V1, &["b:1,\"seq\":2}", "c:1,\"seq\":3}", "d:1,\"seq\":4}"]);
        check(&batch, 3, Wire::V1, &["d:1,\"seq\":4}"]);
        stream.push(&head("e"), 1, &Audience { plain: 1, v1: 0 }, NOT_KEPT);
        check(&stream.take(), 4, Wire::V1, &[]);
    }

    #[test]
    fn what_is_kept_is_what_v1_gets() {
        for v1 in [0, 1] {
            let mut stream = Stream::default();
            let mut kept = Vec::new();
            let audience = Audience { plain: 1, v1 };
            stream.push(&head("a"), 1, &audience, Some(|frame: &[u8]| kept.extend_from_slice(frame)));
            assert_eq!(texts(&kept), ["a:1,\"seq\":1}"]);
        }
    }
}

//! The frames of one room in their one order: those that wait to be delivered, and those that
//! are being delivered. A position counts the bytes that the room has ever queued; it always
//! stands between two frames.

use bytes::Bytes;

use crate::protocol::frame;

/// Frames that were gathered to be written to every member at once.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    start: u64,
    bytes: Bytes,
}

impl Batch {
    /// The position after its last frame.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Its frames from a position on.
    pub(crate) fn after(&self, position: u64) -> Bytes {
        let skip = position.saturating_sub(self.start).min(self.bytes.len() as u64);
        self.bytes.slice(skip as usize..)
    }
}

/// The room's queue.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Position of the first pending byte.
    start: u64,
    pending: Vec<u8>,
    in_flight: Option<Batch>,
}

impl Stream {
    /// Where the next frame will stand.
    pub(crate) fn position(&self) -> u64 {
        self.start + self.pending.len() as u64
    }

    /// Bytes that wait for the flusher.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Queues one text frame of these parts.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) {
        frame::push_text(&mut self.pending, parts);
    }

    /// What the flusher is to deliver next.
    pub(crate) fn take(&mut self) -> Batch {
        let start = self.start;
        self.start = self.position();
        let batch = Batch { start, bytes: std::mem::take(&mut self.pending).into() };
        self.in_flight = Some(batch.clone());
        batch
    }

    /// The batch is delivered. Returns whether that was all.
    pub(crate) fn finish_batch(&mut self) -> bool {
        self.in_flight = None;
        self.pending.is_empty()
    }

    /// All that is under way or waiting, for one member who can't wait for the flusher.
    pub(crate) fn unfinished(&self) -> Vec<Batch> {
        let mut all: Vec<Batch> = self.in_flight.iter().cloned().collect();
        if !self.pending.is_empty() {
            all.push(Batch { start: self.start, bytes: Bytes::copy_from_slice(&self.pending) });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_at_a_members_position() {
        let mut stream = Stream::default();
        stream.push(&[b"one"]);
        let position = stream.position();
        stream.push(&[b"t", b"wo"]);
        let batch = stream.take();
        assert_eq!(&batch.after(0)[..], b"\x81\x03one\x81\x03two");
        assert_eq!(&batch.after(position)[..], b"\x81\x03two");
        assert!(batch.after(batch.end()).is_empty());
        assert!(batch.after(batch.end() + 9).is_empty());
        stream.push(&[b"three"]);
        let ends: Vec<u64> = stream.unfinished().iter().map(Batch::end).collect();
        assert_eq!(ends, [batch.end(), stream.position()]);
        assert!(!stream.finish_batch());
        assert_eq!(stream.take().end(), stream.position());
        assert!(stream.finish_batch());
        assert!(stream.unfinished().is_empty());
    }
}

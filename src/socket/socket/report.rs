//! What a socket contributes to the engine's numbers.
//!
//! Bytes are counted in the socket, and added to the engine's counters at heartbeats and at the end, so that no write
//! and no read touches memory that other sockets use.

use super::Socket;

/// What this socket has contributed so far.
#[derive(Debug, Default)]
pub(super) struct Reported {
    /// Of the bytes that the I/O has accepted, modulo 2^32.
    accepted: u32,
    queued: u32,
}

impl Socket {
    /// Adds the bytes that were read and written since the last call.
    pub(super) fn report_bytes(&mut self) {
        let counters = &self.context.counters;
        let accepted = self.outlet.accepted();
        let sent = accepted.wrapping_sub(self.reported.accepted);
        self.reported.accepted = accepted;
        counters.sent_bytes.add(sent.into());
        counters.received_bytes.add(self.reader.take_received_bytes().into());
    }

    /// Reports how much waits in the send queue.
    pub(super) fn report_queue(&mut self) {
        let queue = self.outlet.queue();
        let bytes =
            queue.size().bytes.saturating_add(queue.replay_bytes()).saturating_add(queue.control_len());
        self.report_queued(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    fn report_queued(&mut self, queued: u32) {
        let counters = &self.context.counters;
        let before = std::mem::replace(&mut self.reported.queued, queued);
        counters.queued_bytes.replace(before.into(), queued.into());
        counters.behind.replace(u64::from(before > 0), u64::from(queued > 0));
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.report_bytes();
        self.report_queued(0);
    }
}

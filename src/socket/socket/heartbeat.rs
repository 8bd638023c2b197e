//! Heartbeats, and the client's signs of life.

use super::Socket;
use crate::protocol::close::LeaveReason;
use crate::protocol::subprotocol::Subprotocol;
use crate::protocol::{frame, outbound};
use crate::socket::liveness::Liveness;

impl Socket {
    /// Sends a heartbeat that asks for a sign of life, unless the socket accepts nothing any more.
    pub(crate) fn beat(&mut self) {
        self.report_bytes();
        self.report_queue();
        if self.outlet.is_broken() && self.ended.is_none() && self.liveness == Liveness::Asked {
            // Its task has had enough time to read what the client sent before.
            return self.close(LeaveReason::Lost);
        }
        self.liveness.ask();
        if self.is_mute() || self.ended.is_some() {
            return;
        }
        if self.outlet.stuck_for(self.context.clock.now()) >= self.context.config.timeouts.write_timeout {
            self.context.counters.write_timeouts.add(1);
            return self.close(LeaveReason::Slow);
        }
        self.send_heartbeat();
    }

    /// Sends a heartbeat that does not ask for a sign of life yet.
    pub(crate) fn send_heartbeat(&mut self) {
        let mut heartbeat = Vec::with_capacity(64);
        self.push_heartbeat(&mut heartbeat, self.subscriptions.online());
        self.outlet.write_heartbeat(&heartbeat);
    }

    /// Checks whether a sign of life has arrived in time.
    pub(crate) fn check_alive(&mut self) {
        if self.liveness == Liveness::Asked && self.ended.is_none() {
            self.close(LeaveReason::HeartbeatMissed);
        }
    }

    /// Notes that the client is kept waiting, so its silence says nothing.
    pub(crate) fn keep_waiting(&mut self) {
        self.liveness = Liveness::Unread;
    }

    pub(super) fn push_heartbeat(&self, out: &mut Vec<u8>, online: usize) {
        match self.subprotocol {
            Subprotocol::Plain => frame::push_text(out, &[outbound::heartbeat(online).as_bytes()]),
            Subprotocol::V1 => frame::push_text(out, &[outbound::PING.as_bytes()]),
        }
    }
}

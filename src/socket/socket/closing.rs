//! The end of a connection: the closing handshake.

use std::task::{Context as Cx, Poll, ready};
use std::time::Duration;

use super::Socket;
use crate::protocol::close::LeaveReason;
use crate::protocol::frame;
use crate::socket::reader::Inbox;
use crate::socket::send_queue::SendQueue;

impl Socket {
    /// Ends the connection cleanly: queued frames, a close frame, the end of the stream, and the
    /// client's answers to these, all within `limit`.
    pub(crate) async fn finish(&mut self, reason: LeaveReason, limit: Duration) {
        if !self.begin_finish(reason) {
            return;
        }
        let end = std::future::poll_fn(|cx| self.poll_finish(cx));
        if tokio::time::timeout(limit, end).await.is_err() {
            tracing::debug!(%reason, ?limit, "the closing handshake took too long (close_timeout)");
        }
    }

    /// Whether there is anything to wait for.
    fn begin_finish(&mut self, reason: LeaveReason) -> bool {
        self.unsubscribe_all();
        self.is_closing = true;
        if let Some((code, text)) = reason.frame(self.context.restart()) {
            if reason == LeaveReason::Slow {
                self.outlet.queue_mut().drop_data();
            }
            self.outlet.queue_mut().push_last(frame::close(code, &text));
        }
        match reason {
            LeaveReason::Lost | LeaveReason::Dropped => false,
            LeaveReason::HeartbeatMissed => {
                // The peer is most likely gone: one try, no wait.
                self.drain();
                false
            }
            _ => !self.outlet.is_broken(),
        }
    }

    fn poll_finish(&mut self, cx: &mut Cx<'_>) -> Poll<()> {
        self.outlet.set_waker(cx.waker());
        self.drain();
        if self.outlet.is_broken() {
            return Poll::Ready(());
        }
        // A client that waits to be read does not read. A socket that is closed with unread bytes is reset, and the
        // close frame is lost. And some browsers treat a stream that ends before they have answered the close frame
        // as not cleanly closed.
        while !self.is_gone() && !self.is_unreadable {
            ready!(self.poll_rest(cx));
        }
        if self.ended == Some(LeaveReason::Closed) {
            // What it has sent after its close frame.
            self.outlet.discard_received(cx);
        }
        // The client has closed, and the TCP socket is dropped next. A shutdown would be an unnecessary system call.
        if self.is_gone() && self.outlet.ends_when_dropped() {
            return Poll::Ready(());
        }
        ready!(self.outlet.poll_shutdown(cx));
        // Its answer cannot be recognized any more, so the end of the stream has to do.
        if self.is_unreadable { self.outlet.poll_discard(cx) } else { Poll::Ready(()) }
    }

    /// Reads and discards what is left.
    fn poll_rest(&mut self, cx: &mut Cx<'_>) -> Poll<()> {
        // tungstenite's answer to the close frame is dropped: ours was sent already.
        let (mut unwanted, mut answers) = (Inbox::default(), SendQueue::default());
        let max_message_bytes = self.context.config.limits.max_message_bytes;
        let (io, _) = self.outlet.read_parts();
        match ready!(self.reader.poll_read(io, &mut answers, max_message_bytes, &mut unwanted, cx)) {
            Ok(_) => {}
            Err(reason @ (LeaveReason::Closed | LeaveReason::Lost)) => self.ended = Some(reason),
            Err(_) => self.is_unreadable = true,
        }
        Poll::Ready(())
    }
}

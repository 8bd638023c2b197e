//! The course of a conversation: what the client says, one thing after the other, to the end.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::conversation::{Conversation, End};
use crate::connection::lifetime::Step;
use crate::connection::saying::Said;
use crate::connection::seat::Turn;
use crate::protocol::close::LeaveReason;
use crate::protocol::inbound::Inbound;

/// How long a connection that the client closed during a stall is kept, so that what it has
/// opened instead is in use before it hears of the end.
const LATE_CLOSE: Duration = Duration::from_millis(250);

/// What comes next.
enum Due {
    Turn(Turn),
    /// The user's time is over in so long.
    Warning(Duration),
    /// It is over.
    Expiry,
}

/// What is left to do for a message.
type Rest<'a> = Pin<Box<dyn Future<Output = Result<(), End>> + Send + 'a>>;

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Conversation<IO> {
    /// Leads the conversation to its end, and returns why it ends.
    pub(crate) async fn run(&mut self) -> LeaveReason {
        loop {
            match self.turn().await {
                Due::Turn(Turn::Messages) => {}
                Due::Turn(Turn::End(reason)) => return reason,
                Due::Warning(left) => self.warn(left),
                Due::Expiry => {
                    if let Err(End(reason)) = self.expire() {
                        return reason;
                    }
                }
            }
            let others = std::mem::take(&mut self.inbox.others);
            if others > 0
                && let Err(End(reason)) = self.pay_others(others)
            {
                return reason;
            }
            while let Some(text) = self.inbox.texts.pop_front() {
                let done = match self.on_text(text.as_str()) {
                    Ok(None) => Ok(()),
                    Ok(Some(rest)) => rest.await,
                    Err(end) => Err(end),
                };
                if let Err(End(reason)) = done {
                    return reason;
                }
            }
            // A burst's worth of memory is not kept while idle.
            if self.inbox.texts.capacity() > 4 {
                self.inbox.texts = VecDeque::new();
            }
        }
    }

    /// Leaves the room, or has the seat kept there.
    pub(crate) fn end(&mut self, reason: LeaveReason) {
        match reason {
            LeaveReason::HeartbeatMissed => self.engine.counters.heartbeats_missed.add(1),
            LeaveReason::Slow => self.engine.counters.slow.add(1),
            LeaveReason::Flooded => self.engine.counters.flooded.add(1),
            LeaveReason::LifetimeOver => self.engine.counters.lifetime_over.add(1),
            _ => {}
        }
        if reason.keeps_seat() || (reason == LeaveReason::Closed && self.seat.means_to_return()) {
            self.stay.suspend(reason);
        } else {
            self.stay.leave(reason);
        }
        self.deadline = None;
        self.lifetime = None;
    }

    /// Closes the connection.
    pub(crate) async fn finish(&self, reason: LeaveReason) {
        if reason == LeaveReason::Closed && self.engine.has_stalled() {
            // After a stall the classic page's old connection ends while its new one opens. It
            // closes the new one then, and comes back only if that one has had a heartbeat.
            tokio::time::sleep(LATE_CLOSE).await;
        }
        // Boxed for the same reason as what `on_text` leaves.
        Box::pin(self.seat.finish(reason, self.engine.config.timeouts.close_timeout)).await;
    }

    async fn turn(&mut self) -> Due {
        let (seat, inbox) = (&self.seat, &mut self.inbox);
        let (deadline, lifetime) = (&mut self.deadline, &mut self.lifetime);
        std::future::poll_fn(|cx| {
            // First, for a flood must not postpone it.
            if let Some(deadline) = deadline
                && deadline.at.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Due::Turn(Turn::End(deadline.reason)));
            }
            if let Some(lifetime) = lifetime
                && let Poll::Ready(step) = lifetime.poll(cx)
            {
                return Poll::Ready(match step {
                    Step::Warn(left) => Due::Warning(left),
                    Step::Expire => Due::Expiry,
                });
            }
            seat.poll_turn(cx, inbox).map(Due::Turn)
        })
        .await
    }

    /// Does at once what can be done at once. What has to wait is boxed: it is rare, and every
    /// connection would have room for the largest of these futures.
    fn on_text<'a>(&'a mut self, text: &'a str) -> Result<Option<Rest<'a>>, End> {
        let inbound = Inbound::parse(text, self.engine.config.limits.max_depth);
        if matches!(inbound, Ok(Inbound::Pong)) {
            self.bad_frames = 0;
            return self.pay_others(1).map(|()| None);
        }
        let paid = self.pay_message(text.len());
        let inbound = match inbound {
            Ok(inbound) => inbound,
            Err(e) => return self.refuse(e).map(|()| None),
        };
        if let Err(too_much) = paid {
            return self.drop_excess(inbound, too_much).map(|()| None);
        }
        self.bad_frames = 0;
        match inbound {
            Inbound::Pong => Ok(None),
            Inbound::Auth(token) => Ok(Some(Box::pin(self.on_auth(token)))),
            _ if self.auth_first => {
                self.no_auth("authenticate first: send {\"event\":\"auth\",\"message\":TOKEN}");
                Ok(None)
            }
            Inbound::Enter(enter) => Ok(Some(Box::pin(self.on_enter(enter)))),
            Inbound::Say(say) => match self.on_say(text, say)? {
                Said::Done => Ok(None),
                Said::Crowded(message) => Ok(Some(Box::pin(self.say_later(text, message)))),
            },
        }
    }
}

//! Users whose sessions are on several nodes. The broker knows which session is the first and which the last one.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use crate::broker::{BoxFuture, RemoteBroker, Unavailable};
use crate::context::Context;
use crate::delivery::Recipient;
use crate::protocol::subprotocol::Subprotocol;
use crate::session::session::Session;
use crate::session::sessions::Sessions;
use crate::tasks::Tasks;

/// Tells the broker of the sessions of users.
pub(crate) struct RemoteUsers {
    broker: Arc<dyn RemoteBroker>,
    context: Arc<Context>,
    tasks: Arc<Tasks>,
    sessions: Weak<Sessions>,
}

/// What happens to a session of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Begin,
    End,
}

impl RemoteUsers {
    pub(crate) fn new(
        broker: Arc<dyn RemoteBroker>,
        context: Arc<Context>,
        tasks: Arc<Tasks>,
        sessions: Weak<Sessions>,
    ) -> RemoteUsers {
        RemoteUsers { broker, context, tasks, sessions }
    }

    /// Tells the broker. It answers whether it is the first or the last session of the user on any node. The future need
    /// not be polled.
    pub(super) fn tell(
        &self,
        session: &Session,
        user: &str,
        change: Change,
    ) -> BoxFuture<'static, Result<bool, Unavailable>> {
        match change {
            Change::Begin => self.broker.begin_user(user, session.id(), self.window_of(session)),
            Change::End => self.broker.end_user(user, session.id()),
        }
    }

    /// Tells the broker, and goes on with the callbacks of the session when it has answered. If the broker cannot be
    /// reached during a shutdown, the host is not told: another node does that when it finds that this one is gone.
    pub(super) fn ask(&self, session: &Arc<Session>, user: &str, change: Change) {
        let mut answer = self.tell(session, user, change);
        let (session, user, sessions) = (session.clone(), user.to_owned(), self.sessions.clone());
        let (tasks, limit) = (self.tasks.clone(), self.context.config.timeouts.shutdown_timeout);
        self.tasks.spawn(async move {
            let mut given_up = pin!(tasks.closing_for(limit));
            let is_first_or_last = poll_fn(|cx| match answer.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(answer.unwrap_or(false)),
                Poll::Pending => given_up.as_mut().poll(cx).map(|()| false),
            })
            .await;
            if let Some(sessions) = sessions.upgrade() {
                sessions.users().answered(&user, session.id(), is_first_or_last);
                // A panic has ended the session, and concerns nobody else.
                let _ = sessions.run_callbacks(&session);
            }
        });
    }

    /// How long the session is kept without its node.
    fn window_of(&self, session: &Session) -> Duration {
        match session.subprotocol() {
            Subprotocol::Plain => Duration::ZERO,
            Subprotocol::V1 => self.context.config.recovery.resume_window,
        }
    }
}

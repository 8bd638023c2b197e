//! Who the client is: he says so in band, says so anew, and his time ends.

use std::borrow::Cow;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::OnExpiry;
use crate::connection::conversation::{Conversation, End};
use crate::engine::recipient::Recipient;
use crate::hooks::policy::EnterRequest;
use crate::hooks::user::User;
use crate::protocol::close::LeaveReason;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::wire::Wire;
use crate::protocol::{frame, outbound};

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Conversation<IO> {
    pub(super) async fn on_auth(&mut self, token: Cow<'_, str>) -> Result<(), End> {
        let engine = self.engine.clone();
        let Some(auth) = &engine.hooks.auth else { return Ok(()) };
        match self.ask("on_token", async { auth.on_token(&token).await }).await? {
            Some(Ok(user)) => self.become_user(user).await,
            Some(Err(denied)) => {
                self.no_auth(denied.reason());
                self.count_failed_auth()
            }
            None => {
                self.no_auth("the token could not be checked; try again");
                Ok(())
            }
        }
    }

    async fn become_user(&mut self, user: User) -> Result<(), End> {
        if self.stay.standing.user.as_ref().is_some_and(|old| old.id() != user.id()) {
            self.no_auth("another user is authenticated on this connection; open a new one");
            return Ok(());
        }
        if user.time_left().is_some_and(|left| left.is_zero()) {
            self.no_auth("the token has expired; get a new one");
            return self.count_failed_auth();
        }
        self.stay.authenticate(user);
        self.start_lifetime();
        if std::mem::take(&mut self.auth_first) {
            self.start_deadline();
        }
        self.may_stay().await.map(|_| ())
    }

    /// May he stay in his room, as who he is now? If not, he is out of it, and knows.
    pub(super) async fn may_stay(&mut self) -> Result<bool, End> {
        let engine = self.engine.clone();
        let standing = &self.stay.standing;
        let (Some(policy), Some(m)) = (&engine.hooks.policy, &standing.membership) else { return Ok(true) };
        let (name, room, user) = (m.name.clone(), m.room.id().clone(), standing.user.clone());
        let request = EnterRequest {
            connection: standing.id,
            peer: standing.peer,
            user: user.as_deref(),
            name: &name,
            room: &room,
            from: None,
            is_renewal: true,
        };
        let error = match self.ask("may_enter", async { policy.may_enter(&request).await }).await? {
            Some(Ok(())) => return Ok(true),
            Some(Err(denied)) => PeerError::new(ErrorCode::Denied, denied.into_reason()),
            None => PeerError::new(ErrorCode::Internal, "the room's policy gave no answer; enter again"),
        };
        self.stay.leave_room(LeaveReason::Denied)?;
        self.engine.counters.errors.add(1);
        let room = (self.wire == Wire::V1).then_some(room.as_str());
        let text = outbound::put_out(error.code.as_str(), &error.text, room);
        self.seat.send(frame::text(text.as_bytes()));
        Ok(false)
    }

    /// His time is over soon.
    pub(super) fn warn(&self, left: Duration) {
        self.seat.send(frame::text(outbound::expiring(left).as_bytes()));
    }

    /// His time is over.
    pub(super) fn expire(&mut self) -> Result<(), End> {
        self.lifetime = None;
        if self.engine.config.on_expiry == OnExpiry::Close {
            self.no_auth("the token has expired; get a new one");
            return Err(End(LeaveReason::AuthExpired));
        }
        self.stay.leave_room(LeaveReason::AuthExpired)?;
        self.no_auth("the token has expired: send {\"event\":\"auth\",\"message\":TOKEN} with a new one");
        self.auth_first = true;
        self.start_deadline();
        Ok(())
    }
}

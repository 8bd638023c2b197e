//! A connection's hold on its session. When it is dropped, the connection is detached.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::config::SlowConsumer;
use crate::delivery::{Entered, Keeping, NotPublished, ReplayRequest};
use crate::hooks::guard::Panicked;
use crate::hooks::user::User;
use crate::ids::{ConnectionId, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::direct::{DirectFrame, LastDirect};
use crate::protocol::inbound::Body;
use crate::protocol::receipt::Receipt;
use crate::protocol::resume::ResumeToken;
use crate::session::direct::{self, DirectSent};
use crate::session::enter_answer::FromStore;
use crate::session::memberships::{CantEnter, EnterCommand, EnteredAgain, MessageCommand, Submission};
use crate::session::removal;
use crate::session::session::{Generation, Membership, Opening, Published, Session, Superseded};
use crate::session::sessions::Sessions;
use crate::session::submitted_enter::SubmittedEnter;
use crate::socket::{Inbox, Socket, Turn};

pub(crate) struct Attachment {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
    generation: Generation,
    is_detached: bool,
}

impl Attachment {
    /// Begins a session with its first connection.
    pub(crate) fn begin(sessions: Arc<Sessions>, opening: Opening) -> Attachment {
        let session = sessions.begin(opening);
        Attachment { sessions, session, generation: 0, is_detached: false }
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.session.id()
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Reads and writes as much as the socket allows.
    pub(crate) fn poll_turn(&self, cx: &mut Cx<'_>, inbox: &mut Inbox) -> Poll<Turn> {
        match self.session.with_socket_of(self.generation, |socket| socket.poll_turn(cx, inbox)) {
            Ok(turn) => turn,
            Err(Superseded) => Poll::Ready(Turn::End(LeaveReason::Replaced)),
        }
    }

    /// Writes frames that are for this client only and concern no room.
    pub(crate) fn send(&self, frames: &Bytes) {
        let _ = self.session.with_socket_of(self.generation, |socket| socket.send(None, frames));
    }

    /// Bytes of replays and rosters that the client has yet to read.
    pub(crate) fn replay_bytes(&self) -> usize {
        self.session.with_socket_of(self.generation, |socket| socket.replay_bytes()).unwrap_or(0)
    }

    /// How the client has ended the connection, if it has. Frames that it has sent before may still wait.
    pub(crate) fn gone(&self) -> Option<LeaveReason> {
        self.session.with_socket_of(self.generation, |socket| socket.gone()).ok().flatten()
    }

    /// Notes that the client is kept waiting, so its silence says nothing.
    pub(crate) fn keep_waiting(&self) {
        let _ = self.session.with_socket_of(self.generation, Socket::keep_waiting);
    }

    /// Tells this connection to end.
    pub(crate) fn close(&self, reason: LeaveReason) {
        self.sessions.close(&self.session, reason);
    }

    /// Sets the client's user. If there was one before, it must be the same. From now on, only that user can resume the
    /// session.
    pub(crate) fn set_user(&self, user: User) -> Result<(), Superseded> {
        self.sessions.set_user(&self.session, self.generation, user)
    }

    /// Notes that the user's authentication has expired.
    pub(crate) fn expire_user(&self) -> Result<(), Superseded> {
        self.sessions.expire_user(&self.session, self.generation)
    }

    /// The receipt of a message that was published before under this id.
    pub(crate) fn receipt_of(&self, cid: &str) -> Result<Option<Receipt>, Superseded> {
        let state = self.session.state_of(self.generation)?;
        Ok(state.message_ids.as_ref().and_then(|ids| ids.answer_to(cid)))
    }

    /// The membership in a room, even if it is inactive.
    pub(crate) fn membership(&self, room: &str) -> Option<Arc<Membership>> {
        self.session.state_of(self.generation).ok()?.memberships.find(room).cloned()
    }

    /// The active membership in a room or, if `room` is `None`, in the only room.
    pub(crate) fn active_membership(&self, room: Option<&str>) -> Option<Arc<Membership>> {
        self.session.state_of(self.generation).ok()?.memberships.active(room).cloned()
    }

    /// The memberships in all rooms.
    pub(crate) fn memberships(&self) -> Vec<Arc<Membership>> {
        self.session
            .state_of(self.generation)
            .map(|state| state.memberships.all().to_vec())
            .unwrap_or_default()
    }

    /// Whether the client is in a room.
    pub(crate) fn is_in_a_room(&self) -> bool {
        self.session.state_of(self.generation).is_ok_and(|state| !state.memberships.all().is_empty())
    }

    /// Whether the client has a membership in the room from a resumed session, but has not entered the room again yet.
    pub(crate) fn is_inactive(&self, room: &str) -> bool {
        self.session.state_of(self.generation).is_ok_and(|state| state.memberships.is_inactive(room))
    }

    /// Whether there is a room in which the client is inactive.
    pub(crate) fn is_inactive_anywhere(&self) -> bool {
        self.session.state_of(self.generation).is_ok_and(|state| state.memberships.is_inactive_anywhere())
    }

    /// Enters a room. A plain client leaves its previous room.
    pub(crate) fn enter(&self, enter: &EnterCommand<'_>) -> Result<Result<(), CantEnter>, Superseded> {
        let entered = self.sessions.memberships().enter(&self.session, self.generation, enter)?;
        Ok(entered.map(|entered| removal::check_closed(&self.sessions, &self.session, &entered.room)))
    }

    /// Submits an enter to the broker that several nodes share.
    pub(crate) fn submit_enter(
        &self,
        enter: &EnterCommand<'_>,
    ) -> Result<Result<SubmittedEnter, CantEnter>, Superseded> {
        let submitted = self.sessions.memberships().submit_enter(&self.session, self.generation, enter)?;
        let (sessions, session) = (self.sessions.clone(), self.session.clone());
        Ok(submitted.map(|enter| SubmittedEnter::new(sessions, session, enter)))
    }

    /// Notes that the client has entered a room after [`Attachment::submit_enter`].
    pub(crate) fn accept(
        &self,
        enter: &EnterCommand<'_>,
        mut submitted: SubmittedEnter,
        entered: Entered,
    ) -> Result<Result<(), CantEnter>, Superseded> {
        let memberships = self.sessions.memberships();
        let entered =
            memberships.accept(&self.session, self.generation, enter, submitted.entering(), entered)?;
        Ok(entered.map(|entered| removal::check_closed(&self.sessions, &self.session, &entered.room)))
    }

    /// Enters a room again. Sends the member the room's position and the requested frames.
    pub(crate) fn enter_again(
        &self,
        room: &RoomId,
        replay_request: Option<ReplayRequest>,
        from_store: FromStore<'_>,
        slow: SlowConsumer,
    ) -> Result<(), Superseded> {
        match self.begin_enter_again(room, replay_request)? {
            Some(again) => self.answer_enter_again(again, replay_request, from_store, slow),
            None => Ok(()),
        }
    }

    /// Enters a room again, unless the client is not in it. The room's frames wait until [`Attachment::answer_enter_again`].
    pub(crate) fn begin_enter_again(
        &self,
        room: &RoomId,
        replay_request: Option<ReplayRequest>,
    ) -> Result<Option<EnteredAgain>, Superseded> {
        self.sessions.memberships().enter_again(&self.session, self.generation, room, replay_request)
    }

    /// Sends the answer to the client, unless it was removed from the room meanwhile.
    pub(crate) fn answer_enter_again(
        &self,
        again: EnteredAgain,
        replay_request: Option<ReplayRequest>,
        from_store: FromStore<'_>,
        slow: SlowConsumer,
    ) -> Result<(), Superseded> {
        let memberships = self.sessions.memberships();
        let (session, generation) = (&self.session, self.generation);
        let answered =
            memberships.answer_enter_again(session, generation, again, replay_request, from_store, slow)?;
        if let Some(back) = answered {
            removal::check_closed(&self.sessions, &self.session, &back.room);
        }
        Ok(())
    }

    /// Sends the client the answer to a request for messages of a room.
    pub(crate) fn send_history(&self, membership: &Membership, frame: &Bytes) {
        let _ = self.session.with_socket_of(self.generation, |socket| socket.answer(&membership.room, frame));
    }

    /// Repeats a plain member's own enter to it.
    pub(crate) fn repeat_enter(&self, body: &Body<'_>, slow: SlowConsumer) -> Result<(), Superseded> {
        self.sessions.memberships().repeat_enter(&self.session, self.generation, body, slow)
    }

    /// Publishes a message. Returns `None` if the client is not in `room` or, if `room` is `None`, not in exactly one
    /// room.
    pub(crate) fn publish(
        &self,
        message: &MessageCommand<'_>,
    ) -> Result<Option<Result<Published, NotPublished>>, Superseded> {
        self.sessions.memberships().publish(&self.session, self.generation, message)
    }

    /// Has a message stored. Returns `None` if the client is not in the room of the message or, if that is `None`, not in
    /// exactly one room.
    pub(crate) fn keep(
        &self,
        message: &MessageCommand<'_>,
    ) -> Result<Option<Result<Keeping, NotPublished>>, Superseded> {
        self.sessions.memberships().keep(&self.session, self.generation, message)
    }

    /// Submits a message to the broker that several nodes share. Returns `None` if the client is not in `room` or, if
    /// `room` is `None`, not in exactly one room.
    pub(crate) fn submit(
        &self,
        message: &MessageCommand<'_>,
    ) -> Result<Option<Result<Submission, NotPublished>>, Superseded> {
        self.sessions.memberships().submit(&self.session, self.generation, message)
    }

    /// Notes that a message that was submitted has its place.
    pub(crate) fn accept_message(
        &self,
        membership: &Membership,
        message: &MessageCommand<'_>,
        receipt: Receipt,
        is_repeated: bool,
    ) -> Result<Published, Superseded> {
        let memberships = self.sessions.memberships();
        memberships.accept_message(&self.session, self.generation, membership, message, receipt, is_repeated)
    }

    /// Sends a transient frame. Returns `None` if the client is not in `room` or, if `room` is `None`, not in exactly one
    /// room.
    pub(crate) fn send_transient(
        &self,
        room: Option<&str>,
        event: &str,
        body: &Body<'_>,
    ) -> Result<Option<Result<(), NotPublished>>, Superseded> {
        self.sessions.memberships().send_transient(&self.session, self.generation, room, event, body)
    }

    /// Makes a message look as if it had been published, and returns its receipt; `None` if the client is not in this room
    /// or, without a room, not in exactly one.
    pub(crate) fn pretend_published(
        &self,
        room: Option<&str>,
        cid: Option<&str>,
    ) -> Result<Option<Receipt>, Superseded> {
        self.sessions.memberships().pretend_published(&self.session, self.generation, room, cid)
    }

    /// Ends the membership in a room, if there is one, and sends the client these frames; the connection stays.
    pub(crate) fn leave_room(
        &self,
        room: &RoomId,
        reason: LeaveReason,
        frames: &Bytes,
    ) -> Result<(), Superseded> {
        removal::leave_room(&self.sessions, &self.session, self.generation, room, reason, frames)
    }

    /// Calls the host's callbacks that are due.
    pub(crate) fn run_callbacks(&self) -> Result<(), Panicked> {
        self.sessions.run_callbacks(&self.session)
    }

    /// Resumes the session that one of these tokens belongs to, if there is one that can be resumed. The other tokens
    /// belong to other connections of the same client, which end. [`Attachment::answer_resume`] must follow.
    pub(crate) fn resume(&mut self, tokens: &[ResumeToken]) -> Result<bool, Superseded> {
        let mut has_resumed = false;
        for token in tokens {
            // The token may come to belong to another session before this one is told to end.
            while let Some(target) = self.sessions.by_token(token) {
                if Arc::ptr_eq(&target, &self.session) {
                    break;
                }
                if !has_resumed && self.attach_to(&target, *token)? {
                    has_resumed = true;
                } else if self.sessions.replace(&target, *token, self.session.user().as_deref(), has_resumed)
                {
                    break;
                }
            }
        }
        Ok(has_resumed)
    }

    /// Tells the client whether its session was resumed, and sends it the direct frames that it has missed.
    pub(crate) fn answer_resume(&self, has_resumed: bool, last: LastDirect) -> Result<(), Superseded> {
        direct::answer_resume(&self.session, self.generation, has_resumed, last)
    }

    /// The number of connections reached by the direct message that was sent before under this id, if there is one.
    pub(crate) fn reached_by(&self, cid: &str) -> Result<Option<u64>, Superseded> {
        direct::reached_by(&self.session, self.generation, cid)
    }

    /// Sends a message to all sessions of a user, unless it was sent before under the same id. If `frame` is `None`, it
    /// only looks to the sender as if the message had been sent.
    pub(crate) fn send_direct(
        &self,
        to: &str,
        frame: Option<&Arc<DirectFrame>>,
        cid: Option<&str>,
    ) -> Result<DirectSent, Superseded> {
        direct::send(&self.sessions, &self.session, self.generation, to, frame, cid)
    }

    /// Notes that a message was sent to the sessions of a user on all nodes.
    pub(crate) fn note_direct(&self, cid: Option<&str>, reached: u64) -> Result<(), Superseded> {
        direct::note_sent(&self.session, self.generation, cid, reached)
    }

    /// Moves this connection to another session, if it may resume that.
    fn attach_to(&mut self, target: &Arc<Session>, token: ResumeToken) -> Result<bool, Superseded> {
        let Some(generation) = self.sessions.attach(&self.session, self.generation, target, token)? else {
            return Ok(false);
        };
        (self.session, self.generation) = (target.clone(), generation);
        Ok(true)
    }

    /// Ends the connection: the session is kept if it may be resumed, or else ends. Then the socket is closed.
    pub(crate) async fn finish(mut self, reason: LeaveReason, delay: Duration, limit: Duration) {
        let socket = self.detach(reason);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if let Some(mut socket) = socket {
            socket.finish(reason, limit).await;
        }
    }

    fn detach(&mut self, reason: LeaveReason) -> Option<Box<Socket>> {
        if std::mem::replace(&mut self.is_detached, true) {
            return None;
        }
        self.sessions.context().counters.closed.add(reason);
        let wants_session_kept = reason == LeaveReason::Closed
            && self.session.with_socket_of(self.generation, |socket| socket.wants_session_kept()) == Ok(true);
        let _ = self.sessions.detach(&self.session, self.generation, reason, wants_session_kept);
        self.session.take_socket(self.generation)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self.detach(LeaveReason::Dropped))));
    }
}

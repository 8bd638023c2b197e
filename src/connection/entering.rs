//! A client enters a room: for the first time, from another one, or coming back.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::SlowConsumer;
use crate::connection::conversation::{Conversation, End};
use crate::engine::memberships::Newcomer;
use crate::engine::standing::Standing;
use crate::hooks::guard;
use crate::hooks::policy::EnterRequest;
use crate::ids::{IdError, Name, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::inbound::{Body, Enter, RoomField};
use crate::protocol::resume::{self, Secret};
use crate::protocol::wire::{Since, Wire};

/// What a v1 client was before.
#[derive(Default)]
struct Comeback {
    since: Option<Since>,
    secrets: Vec<Secret>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Conversation<IO> {
    pub(super) async fn on_enter(&mut self, enter: Enter<'_>) -> Result<(), End> {
        if let Err(too_much) = self.pay_enter() {
            return self.refuse_excess(too_much, None);
        }
        let comeback = match self.comeback(&enter) {
            Ok(comeback) => comeback,
            Err(e) => return self.refuse(e),
        };
        let (name, room, body) = match self.check_enter(enter) {
            Ok(checked) => checked,
            Err(e) => return self.refuse(e),
        };
        let slow = self.slow_consumer(&room)?;
        let is_back = self.stay.standing.membership.is_none() && self.take_over(&comeback.secrets).await?;
        if is_back {
            self.settle();
        }
        let is_there = self.is_in(&room, &name);
        // He has authenticated anew, if at all: his rights may have changed.
        if is_there && is_back && self.stay.standing.user.is_some() && !self.may_stay().await? {
            return Ok(());
        }
        if is_there && let Some(m) = &self.stay.standing.membership {
            match self.wire {
                Wire::Plain => self.engine.repeat(m, &body, &*self.seat),
                Wire::V1 => self.engine.resume(&self.newcomer(name, comeback.since, slow), m),
            }
            return Ok(());
        }
        if is_back && let Some(m) = &self.stay.standing.membership {
            // He wants to be elsewhere now, and goes there from where he was.
            self.engine.resume(&self.newcomer(m.name.clone(), None, slow), m);
        }
        let engine = self.engine.clone();
        if let Some(policy) = &engine.hooks.policy {
            let user = self.stay.standing.user.clone();
            let from = self.stay.standing.membership.as_ref().map(|m| m.room.id().clone());
            let request = EnterRequest {
                connection: self.stay.standing.id,
                peer: self.stay.standing.peer,
                user: user.as_deref(),
                name: &name,
                room: &room,
                from: from.as_ref(),
                is_renewal: false,
            };
            match self.ask("may_enter", async { policy.may_enter(&request).await }).await? {
                Some(Ok(())) => {}
                Some(Err(denied)) => {
                    return self.refuse(PeerError::new(ErrorCode::Denied, denied.into_reason()));
                }
                None => {
                    let text = "the room's policy gave no answer; try again";
                    return self.refuse(PeerError::new(ErrorCode::Internal, text));
                }
            }
        }
        if engine.room(room.as_str()).is_none()
            && let Err(too_much) = self.pay_room()
        {
            return self.refuse_excess(too_much, None);
        }
        self.enter(self.newcomer(name, comeback.since, slow), &room, &body)
    }

    fn is_in(&self, room: &RoomId, name: &Name) -> bool {
        let membership = self.stay.standing.membership.as_ref();
        membership.is_some_and(|m| m.name == *name && m.room.id() == room)
    }

    /// By what a v1 client comes back.
    fn comeback(&self, enter: &Enter<'_>) -> Result<Comeback, PeerError> {
        let mut comeback = Comeback::default();
        if self.wire == Wire::V1 {
            if let Some(since) = enter.since {
                comeback.since = resume::since(since)?;
            }
            if let Some(secrets) = enter.resume {
                comeback.secrets = resume::secrets(secrets)?;
            }
        }
        Ok(comeback)
    }

    /// Takes over the seat that one of these secrets is for. The other connections are the same
    /// client's, and end. Returns whether there was one.
    async fn take_over(&mut self, secrets: &[Secret]) -> Result<bool, End> {
        let engine = self.engine.clone();
        let own = self.stay.standing.secret;
        for secret in secrets.iter().filter(|secret| Some(**secret) != own) {
            let user = self.stay.standing.user.as_ref().map(|user| user.id());
            let Some(claim) = engine.tickets.redeem(secret, user) else { continue };
            match engine.table.get(claim.id) {
                Some(owner) => owner.close(LeaveReason::Replaced),
                None if engine.tickets.give_up(claim.id) => continue,
                None => {}
            }
            // Its task may be in a hook of the host's, which has so much time.
            let limit = engine.config.timeouts.hook_timeout;
            if let Ok(Ok(handover)) = self.watch(tokio::time::timeout(limit, claim.handover)).await? {
                // A second one goes back, and so does that of who has become somebody meanwhile.
                let user = self.stay.standing.user.as_ref().map(|user| user.id());
                if self.stay.standing.membership.is_none() && handover.user() == user {
                    self.stay.adopt(handover);
                }
            }
        }
        Ok(self.stay.standing.membership.is_some())
    }

    /// What is done if he reads this room too slowly.
    fn slow_consumer(&self, room: &RoomId) -> Result<SlowConsumer, End> {
        let own = match &self.engine.hooks.policy {
            Some(policy) => guard::call("slow_consumer", || policy.slow_consumer(room))?,
            None => None,
        };
        Ok(own.unwrap_or(self.engine.config.slow_consumer))
    }

    fn newcomer(&self, name: Name, since: Option<Since>, slow: SlowConsumer) -> Newcomer {
        let Standing { id, user, .. } = &self.stay.standing;
        Newcomer { id: *id, name, user: user.clone(), wire: self.wire, since, slow, link: self.seat.clone() }
    }

    /// Name and room within the limits; the user's own name counts more than the claimed one.
    fn check_enter<'a>(&self, enter: Enter<'a>) -> Result<(Name, RoomId, Body<'a>), PeerError> {
        let limits = &self.engine.config.limits;
        let bad_name = |why: &str| PeerError::new(ErrorCode::BadName, format!("the name {why}"));
        let claimed = enter.name.as_deref();
        let body = match self.wire {
            Wire::V1 if enter.since.or(enter.resume).is_some() => enter.body.without_comeback(),
            _ => enter.body,
        };
        let (name, body) = match self.stay.standing.user.as_ref().and_then(|u| u.name()) {
            Some(own) if claimed != Some(own) => (Some(own), body.with_message(own)),
            own => (own.or(claimed), body),
        };
        let name = name.ok_or_else(|| bad_name("must be a string, as \"message\""))?;
        let name = Name::parse(name, limits.name()).map_err(|e: IdError| bad_name(&e.to_string()))?;
        let bad_room = |why: &str| PeerError::new(ErrorCode::BadRoomId, format!("the room id {why}"));
        let RoomField::Id(room) = enter.room else {
            return Err(bad_room("must be a string or a number, as \"roomId\""));
        };
        let room = RoomId::parse(&room, limits.room_id()).map_err(|e: IdError| bad_room(&e.to_string()))?;
        Ok((name, room, body))
    }

    fn enter(&mut self, newcomer: Newcomer, room: &RoomId, body: &Body<'_>) -> Result<(), End> {
        let entered = self.engine.enter(newcomer, room, body, self.stay.standing.membership.as_ref());
        let (new, entry) = match entered {
            Ok(entered) => entered,
            Err(e) => return self.refuse(e),
        };
        let old = self.stay.standing.membership.replace(new);
        self.settle();
        if let Some(old) = old {
            let reason = if old.room.id() == room { LeaveReason::Renamed } else { LeaveReason::Moved };
            self.stay.tell_left(&old, reason, entry.left_online)?;
        }
        Ok(self.stay.tell_entered(entry.online)?)
    }
}

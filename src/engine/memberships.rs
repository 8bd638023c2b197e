//! Who is in which room, and what is said there. All of it happens at once: no hook is called
//! here, and no peer is waited for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::SlowConsumer;
use crate::engine::delivery::guarded;
use crate::engine::engine::Engine;
use crate::engine::recipient::Recipient;
use crate::engine::standing::Membership;
use crate::hooks::user::User;
use crate::ids::{ConnectionId, Name, RoomId};
use crate::protocol::close::LeaveReason;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::frame;
use crate::protocol::inbound::Body;
use crate::protocol::outbound::{self, EnteredFrame, Head};
use crate::protocol::wire::{Since, Wire};
use crate::room::registry::SharedRoom;
use crate::room::room::{JoinError, Member, Room};

type EngineRoom = Arc<SharedRoom<Arc<dyn Recipient>>>;

/// A connection on its way into a room.
pub(crate) struct Newcomer {
    pub(crate) id: ConnectionId,
    pub(crate) name: Name,
    pub(crate) user: Option<Arc<User>>,
    pub(crate) wire: Wire,
    /// Up to where he has been there before.
    pub(crate) since: Option<Since>,
    /// What is done if he reads the room too slowly.
    pub(crate) slow: SlowConsumer,
    pub(crate) link: Arc<dyn Recipient>,
}

/// Counts at the moment of an enter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// In the room that was entered.
    pub(crate) online: usize,
    /// In the room that was left for it.
    pub(crate) left_online: usize,
}

/// A room has as much queued as its members' queues may hold: it has to catch up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crowded;

impl Engine {
    /// Takes a newcomer in, out of the room he was in. If he can't come in, he stays where he is.
    ///
    /// Where there was an old membership, it has ended with this, and the caller only has to tell
    /// the host.
    pub(crate) fn enter(
        &self,
        new: Newcomer,
        id: &RoomId,
        body: &Body<'_>,
        old: Option<&Membership>,
    ) -> Result<(Membership, Entry), PeerError> {
        let tail = outbound::name_and_num(new.name.as_str());
        let name = new.name.clone();
        let frame = body.head(&tail);
        let (room, entry) = match old {
            Some(old) if old.room.id() == id => self.rename(new, old, &frame)?,
            Some(old) => self.change(new, id, old, &frame)?,
            None => self.join(new, id, &frame)?,
        };
        self.counters.entered.add(1);
        Ok((Membership { room, name, tail }, entry))
    }

    fn join(&self, new: Newcomer, id: &RoomId, frame: &Head<'_>) -> Result<(EngineRoom, Entry), PeerError> {
        let (max_rooms, max) = (self.config.limits.max_rooms, self.config.limits.max_room_members);
        let now = self.now();
        self.registry
            .open(id, max_rooms, |shared, room| {
                let position = room.join(new.member(), max, frame, now)?;
                self.settle(&new, shared, room, position, now);
                Ok((shared.clone(), Entry { online: room.online(), left_online: 0 }))
            })
            .map_err(|_| too_many_rooms(max_rooms))?
            .map_err(|e: JoinError| refused(e, max))
    }

    /// Out of the room and in again under another name, in one step.
    fn rename(
        &self,
        new: Newcomer,
        old: &Membership,
        frame: &Head<'_>,
    ) -> Result<(EngineRoom, Entry), PeerError> {
        let out = outbound::out(old.name.as_str());
        let now = self.now();
        self.registry
            .visit(&old.room, |shared, room| {
                room.reserve(&new.member(), usize::MAX)?;
                catch_up(room, shared, &*new.link);
                room.leave(new.id, &out, now);
                let left_online = room.online();
                self.counters.left.add(1);
                Ok(self.take_place(new, shared, room, frame, left_online))
            })
            .map_err(|e: JoinError| refused(e, self.config.limits.max_room_members))
    }

    /// A place is kept in the new room before the old one is left.
    fn change(
        &self,
        new: Newcomer,
        id: &RoomId,
        old: &Membership,
        frame: &Head<'_>,
    ) -> Result<(EngineRoom, Entry), PeerError> {
        let (max_rooms, max) = (self.config.limits.max_rooms, self.config.limits.max_room_members);
        let kept = self
            .registry
            .open(id, max_rooms, |shared, room| {
                room.reserve(&new.member(), max)?;
                Ok(shared.clone())
            })
            .map_err(|_| too_many_rooms(max_rooms))?
            .map_err(|e: JoinError| refused(e, max))?;
        let left_online = self.depart(old, new.id, &*new.link);
        Ok(self.registry.visit(&kept, |shared, room| self.take_place(new, shared, room, frame, left_online)))
    }

    fn take_place(
        &self,
        new: Newcomer,
        shared: &EngineRoom,
        room: &mut Room<Arc<dyn Recipient>>,
        frame: &Head<'_>,
        left_online: usize,
    ) -> (EngineRoom, Entry) {
        let now = self.now();
        let position = room.join_reserved(new.member(), frame, now);
        self.settle(&new, shared, room, position, now);
        self.tell_closed(room, &*new.link);
        (shared.clone(), Entry { online: room.online(), left_online })
    }

    /// From this position on the room's frames are his; by v1 he is told what was before.
    fn settle(
        &self,
        new: &Newcomer,
        shared: &EngineRoom,
        room: &mut Room<Arc<dyn Recipient>>,
        position: u64,
        now: Duration,
    ) {
        if new.wire == Wire::V1 {
            let at = Arrival { id: new.id, name: &new.name, since: new.since, position, resumed: false };
            let answer = at.answer(shared, room, now);
            guarded(&*new.link, |link| link.send(answer));
        }
        new.link.attach(shared, position, new.slow);
        self.start_flush(shared, room);
    }

    /// Ends a membership and returns how many remain. What was said before still reaches him.
    pub(crate) fn leave(&self, membership: &Membership, id: ConnectionId, link: &dyn Recipient) -> usize {
        let online = self.depart(membership, id, link);
        link.detach();
        online
    }

    fn depart(&self, membership: &Membership, id: ConnectionId, link: &dyn Recipient) -> usize {
        let out = outbound::out(membership.name.as_str());
        let now = self.now();
        let (unfinished, online) = self.registry.visit(&membership.room, |shared, room| {
            let unfinished = if link.is_reachable() { room.stream().unfinished() } else { Vec::new() };
            room.leave(id, &out, now);
            self.start_flush(shared, room);
            (unfinished, room.online())
        });
        for batch in &unfinished {
            guarded(link, |link| link.deliver(&membership.room, batch));
        }
        self.counters.left.add(1);
        online
    }

    /// Keeps a member's seat while his connection is gone: from now on he is reached by this.
    pub(crate) fn suspend(
        &self,
        membership: &Membership,
        id: ConnectionId,
        user: Option<Arc<User>>,
        absent: Arc<dyn Recipient>,
    ) {
        let mut room = membership.room.lock();
        room.relink(id, user, absent.clone());
        self.tell_closed(&room, &*absent);
    }

    /// The room was closed while somebody was on the way, so nobody else will tell him.
    fn tell_closed(&self, room: &Room<Arc<dyn Recipient>>, link: &dyn Recipient) {
        if room.is_closed() {
            link.close(if self.is_closing() { LeaveReason::Shutdown } else { LeaveReason::RoomClosed });
        }
    }

    /// A member has come back, by another connection or on the one he has: nobody else notices.
    /// He is told where the room stands and what he has missed.
    pub(crate) fn resume(&self, new: &Newcomer, membership: &Membership) {
        let shared = &membership.room;
        let now = self.now();
        let mut room = shared.lock();
        room.relink(new.id, new.user.clone(), new.link.clone());
        let position = room.stream().position();
        let at = Arrival { id: new.id, name: &new.name, since: new.since, position, resumed: true };
        let answer = at.answer(shared, &mut room, now);
        guarded(&*new.link, |link| link.send(answer));
        new.link.attach(shared, position, new.slow);
        self.tell_closed(&room, &*new.link);
    }

    /// Sends a member's frame to the room, unless the room is crowded, and returns its seq; `None`
    /// if the room was closed, and nobody hears it.
    pub(crate) fn publish(&self, membership: &Membership, body: &Body<'_>) -> Result<Option<u64>, Crowded> {
        let shared = &membership.room;
        let now = self.now();
        let mut room = shared.lock();
        if room.is_closed() {
            return Ok(None);
        }
        self.check_crowd(&mut room, body.as_str().len() + membership.tail.len())?;
        room.say(&body.head(&membership.tail), now);
        self.start_flush(shared, &mut room);
        Ok(Some(room.stream().position()))
    }

    /// Sends a frame of the host's, an object without its closing brace, to the room.
    pub(crate) fn announce(&self, shared: &EngineRoom, body: &Body<'_>) -> Result<(), Crowded> {
        let now = self.now();
        let mut room = shared.lock();
        self.check_crowd(&mut room, body.as_str().len())?;
        room.say(&body.head_of_host(), now);
        self.start_flush_at_home(shared, &mut room);
        Ok(())
    }

    /// What is gathered for one write must fit the queue of a member that had nothing to wait for.
    fn check_crowd(&self, room: &mut Room<Arc<dyn Recipient>>, more: usize) -> Result<(), Crowded> {
        let pending = room.stream().pending();
        let max = self.config.limits.max_queue_bytes;
        if pending > 0 && pending.saturating_add(more).saturating_add(96) > max {
            Err(Crowded)
        } else {
            Ok(())
        }
    }

    /// Repeats his own enter to a member, in its place among the room's frames.
    pub(crate) fn repeat(&self, membership: &Membership, body: &Body<'_>, link: &dyn Recipient) {
        let mut room = membership.room.lock();
        catch_up(&mut room, &membership.room, link);
        let text = format!("{}{}{}}}", body.as_str(), membership.tail, room.online());
        guarded(link, |link| link.send(frame::text(text.as_bytes())));
    }

    /// Closes a room: it is silent from now on and its members' connections end. Returns how
    /// many those are.
    pub(crate) fn close_room(&self, id: &str) -> Option<usize> {
        let shared = self.registry.close(id)?;
        let members = shared.lock().members().clone();
        for member in members.iter() {
            member.link.close(LeaveReason::RoomClosed);
        }
        Some(members.len())
    }
}

impl Newcomer {
    fn member(&self) -> Member<Arc<dyn Recipient>> {
        Member {
            id: self.id,
            name: self.name.clone(),
            user: self.user.clone(),
            wire: self.wire,
            link: self.link.clone(),
        }
    }
}

/// What a v1 client is told when it has come in.
struct Arrival<'a> {
    id: ConnectionId,
    name: &'a Name,
    since: Option<Since>,
    position: u64,
    resumed: bool,
}

impl Arrival<'_> {
    /// The answer, and the frames that were missed.
    fn answer(&self, shared: &EngineRoom, room: &mut Room<Arc<dyn Recipient>>, now: Duration) -> Bytes {
        let missed = self.since.and_then(|since| room.missed(since, self.position, now));
        let entered = EnteredFrame {
            room: shared.id().as_str(),
            name: self.name.as_str(),
            connection: self.id,
            epoch: room.epoch(),
            seq: self.position,
            num: room.online(),
            resumed: self.resumed,
            recovered: missed.is_some(),
        };
        let mut frames = Vec::new();
        frame::push_text(&mut frames, &[entered.encode().as_bytes()]);
        frames.extend(missed.unwrap_or_default());
        frames.into()
    }
}

/// Writes everything the room has queued so far to one member.
fn catch_up(room: &mut Room<Arc<dyn Recipient>>, shared: &EngineRoom, link: &dyn Recipient) {
    for batch in room.stream().unfinished() {
        guarded(link, |link| link.deliver(shared, &batch));
    }
}

fn too_many_rooms(max: usize) -> PeerError {
    let text = format!("there are {max} rooms, and no further one can be opened; enter one that exists");
    PeerError::new(ErrorCode::TooManyRooms, text)
}

fn refused(error: JoinError, max: usize) -> PeerError {
    match error {
        JoinError::Full => {
            let text = format!("the room is full ({max} members); try another, or again later");
            PeerError::new(ErrorCode::RoomFull, text)
        }
        JoinError::NameTaken => {
            PeerError::new(ErrorCode::NameTaken, "somebody in the room has this name; choose another")
        }
        JoinError::Closed => PeerError::new(ErrorCode::Denied, "the room is closed"),
    }
}

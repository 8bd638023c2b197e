//! What a client knows of a room log: its position, which of the frames are its own, and what is missing.

use serde_json::{Map, Value};

use super::RoomKey;
use super::backlog::Backlog;
use super::context::Context;
use super::membership::{Membership, Place};
use super::message_ids::MessageIds;
use super::own_members::OwnMembers;
use super::presence::{Entry, RoomPresence};
use crate::event::{ClientEvent, Position, RoomFrame};
use crate::incoming::{Entered, Recovered};

#[derive(Debug)]
pub(super) struct RoomLog {
    key: RoomKey,
    position: Option<Position>,
    members: OwnMembers,
    ids: MessageIds,
    /// `None` outside of the room.
    membership: Option<Membership>,
    backlog: Backlog,
    presence: RoomPresence,
}

/// Frames are missing that the server should have sent. They can be had on another connection.
#[derive(Debug)]
pub(super) struct FramesMissing;

impl RoomLog {
    pub(super) fn new(key: RoomKey, presence: RoomPresence) -> RoomLog {
        RoomLog {
            key,
            position: None,
            members: OwnMembers::default(),
            ids: MessageIds::default(),
            membership: None,
            backlog: Backlog::default(),
            presence,
        }
    }

    pub(super) fn presence(&self) -> &RoomPresence {
        &self.presence
    }

    pub(super) fn presence_mut(&mut self) -> &mut RoomPresence {
        &mut self.presence
    }

    pub(super) fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// The client's member id.
    pub(super) fn member(&self) -> Option<&std::sync::Arc<str>> {
        self.members.current()
    }

    /// The id of the latest message, if the server has a store.
    pub(super) fn last_id(&self) -> Option<u64> {
        self.ids.last()
    }

    /// Whether an earlier message is this client's own. One with a `seq` is of this epoch, all others are from the server's
    /// store.
    pub(super) fn was_own(&self, message: &Map<String, Value>) -> bool {
        let member = message.get("member");
        match message.contains_key("seq") {
            true => self.members.is_own(member, true),
            false => self.members.was_own(member),
        }
    }

    /// Whether the client is in the room, on this connection.
    pub(super) fn is_in(&self) -> bool {
        self.membership.is_some()
    }

    /// The client is in the room.
    pub(super) fn enter<T>(&mut self, entered: Entered, cx: &mut Context<T>) {
        let (last, missed) = self.go_on_from(&entered);
        let Entered { name, member, epoch, seq, num, resumed, recovered, history, stored, id, page, .. } =
            entered;
        let is_first = self.position.is_none();
        let is_same_epoch = self.position.as_ref().is_some_and(|before| *before.epoch() == *epoch);
        // An earlier enter whose answer was lost may have begun another session.
        let is_same_session = self.member().is_some_and(|current| **current == *member);
        let are_messages_known = resumed && cx.outgoing.are_known_to(self.key.into(), &member);
        if !(self.is_in() && resumed && is_same_session) {
            cx.outgoing.stop(self.key.into());
        }
        cx.outgoing.release(self.key.into());
        self.membership = Some(Membership::new(seq, last, history, are_messages_known));
        self.backlog.recover();
        if !is_same_epoch {
            self.members.clear();
        }
        self.members.add(&member);
        let entry = if resumed { Entry::Resumed } else { Entry::New };
        self.presence.enter(page, member.as_str().into(), entry, cx.now);
        let resumed = resumed && is_same_session && is_same_epoch;
        let is_recovered = recovered != Recovered::No;
        let entered = ClientEvent::Entered { name, member, num, resumed, recovered: is_recovered };
        cx.outputs.emit(self.key, entered);
        if missed != Some(0) && recovered != Recovered::FromStore {
            cx.outputs.emit(self.key, ClientEvent::Gap { missed });
        }
        self.ids.enter(id, seq);
        self.ids.reach(last);
        self.emit_stored(stored, is_first, cx);
        self.position = Some(Position::new(epoch.into(), last));
        self.presence.publish(cx);
        self.start_sending(cx);
    }

    /// The position from which the client continues, and how many frames it has missed for good.
    fn go_on_from(&self, entered: &Entered) -> (u64, Option<u64>) {
        let seq = entered.seq;
        let before = self.position.as_ref().filter(|before| *before.epoch() == *entered.epoch);
        let before = before.map(Position::seq);
        // A server may not say how much is replayed.
        let replayed = entered.replayed.unwrap_or_else(|| match before {
            Some(before) if entered.recovered == Recovered::Fully => seq.saturating_sub(before),
            _ => 0,
        });
        let start = seq.saturating_sub(replayed);
        match before {
            // More may be replayed than was requested.
            Some(before) if before <= seq => (start.max(before), Some(start.saturating_sub(before))),
            None if self.position.is_none() => (start, Some(0)),
            _ => (start, None),
        }
    }

    /// Messages may be sent once none of them can be in the replay any more.
    fn start_sending<T>(&self, cx: &mut Context<T>) {
        if self.membership.as_ref().is_some_and(Membership::may_send)
            && let Some(member) = self.member()
        {
            cx.outgoing.start(self.key.into(), member.clone());
        }
    }

    pub(super) fn on_frame<T>(
        &mut self,
        seq: u64,
        object: Map<String, Value>,
        cx: &mut Context<T>,
    ) -> Result<(), FramesMissing> {
        if self.membership.as_mut().is_some_and(|membership| membership.receive_history(seq)) {
            self.emit_history(object, cx);
            return Ok(());
        }
        let Some(is_replayed) = self.receive_place(seq, cx)? else { return Ok(()) };
        let is_own = self.members.is_own(object.get("member"), is_replayed);
        if is_own
            && let Some(cid) = object.get("cid").and_then(Value::as_str)
            && let Some(waiting) = cx.outgoing.acknowledge(cid)
        {
            cx.outputs.resolve(waiting, Ok(seq));
        }
        if !is_replayed {
            self.presence.on_frame(&object, cx.now);
        }
        // Frames that are dropped will be replayed.
        if self.advance(seq) && self.ids.receive(object.get("id").and_then(Value::as_u64)) {
            let frame = RoomFrame::new(object, is_own).replayed(is_replayed);
            let event = match frame.event() {
                "enter" => ClientEvent::Enter(frame),
                "out" => ClientEvent::Out(frame),
                _ => ClientEvent::Message(frame),
            };
            cx.outputs.emit(self.key, event);
        }
        self.presence.publish(cx);
        self.start_sending(cx);
        Ok(())
    }

    /// A message from before the client was in the room. It has no place among the frames that the client receives there,
    /// and no replay contains it.
    fn emit_history<T>(&mut self, object: Map<String, Value>, cx: &mut Context<T>) {
        let is_own = self.members.is_own(object.get("member"), false);
        if self.ids.receive(object.get("id").and_then(Value::as_u64)) {
            let frame = RoomFrame::new(object, is_own).of_history();
            self.emit_unrecoverable(ClientEvent::Message(frame), cx);
        }
    }

    /// Messages from the server's store, which come before all frames of the room. If the client was in the room before, it
    /// has missed them.
    fn emit_stored<T>(&mut self, messages: Vec<Map<String, Value>>, is_first: bool, cx: &mut Context<T>) {
        for message in messages {
            let is_own = self.was_own(&message);
            if !self.ids.receive(message.get("id").and_then(Value::as_u64)) {
                continue;
            }
            let frame = RoomFrame::new(message, is_own).of_store();
            let frame = if is_first { frame.of_history() } else { frame.replayed(true) };
            self.emit_unrecoverable(ClientEvent::Message(frame), cx);
        }
    }

    /// A frame that may get lost. It has no place in the room.
    pub(super) fn on_transient<T>(&mut self, object: Map<String, Value>, cx: &mut Context<T>) {
        if !self.backlog.drops_events() {
            cx.outputs.emit(self.key, ClientEvent::Transient(RoomFrame::new(object, false)));
        }
    }

    /// Whether frames from before the client was in the room are still to come.
    pub(super) fn is_replaying(&self) -> bool {
        self.membership.as_ref().is_some_and(Membership::is_replaying)
    }

    /// A frame that this client can't represent, and that may be one of the room. If it is, it is missed.
    pub(super) fn on_unreadable<T>(
        &mut self,
        seq: Option<u64>,
        cx: &mut Context<T>,
    ) -> Result<(), FramesMissing> {
        if let (Some(membership), Some(seq)) = (&mut self.membership, seq)
            && membership.receive_history(seq)
        {
            return Ok(());
        }
        let missed = match seq {
            Some(seq) => self.receive_place(seq, cx)?.map(|_| seq),
            None => self.membership.as_mut().and_then(Membership::receive_unreadable),
        };
        if let Some(seq) = missed {
            self.miss(seq, 1, cx);
            self.start_sending(cx);
        }
        Ok(())
    }

    /// Something that can't be read may be a frame of this room, or of another one.
    pub(super) fn note_unreadable(&mut self) {
        self.membership.iter_mut().for_each(Membership::note_unreadable);
    }

    /// The server has dropped the next frames of the room on purpose. The client does not request them again.
    pub(super) fn on_lagged<T>(&mut self, missed: u64, cx: &mut Context<T>) {
        let Some(membership) = &mut self.membership else { return };
        membership.skip(missed);
        let last = membership.last();
        self.miss(last, missed, cx);
        self.start_sending(cx);
    }

    /// Gives a frame its place in the room. Returns whether it is part of the replay; `None` if it is to be ignored.
    fn receive_place<T>(&mut self, seq: u64, cx: &mut Context<T>) -> Result<Option<bool>, FramesMissing> {
        let Some(membership) = &mut self.membership else { return Ok(None) };
        match membership.receive(seq) {
            Place::Old => Ok(None),
            Place::TooEarly => Err(FramesMissing),
            Place::Next { unread } => {
                let is_replayed = membership.is_replayed(seq);
                if unread > 0 {
                    self.miss(seq - 1, unread, cx);
                }
                Ok(Some(is_replayed))
            }
        }
    }

    /// This many frames up to this one will not arrive.
    fn miss<T>(&mut self, up_to: u64, missed: u64, cx: &mut Context<T>) {
        if self.membership.as_ref().is_some_and(|membership| !membership.is_replayed(up_to)) {
            self.presence.miss(cx.now);
        }
        // If the client itself drops frames, a replay will start before these.
        if self.advance(up_to) {
            cx.outputs.emit(self.key, ClientEvent::Gap { missed: Some(missed) });
        }
        self.presence.publish(cx);
    }

    /// The application is told of the frames up to this one, unless they are to be replayed later.
    fn advance(&mut self, seq: u64) -> bool {
        let emits = !self.backlog.drops_frames();
        if emits && let Some(position) = &mut self.position {
            position.advance(seq);
            self.ids.reach(seq);
        }
        emits
    }

    /// Emits an event that no replay contains.
    pub(super) fn emit_unrecoverable<T>(&mut self, event: ClientEvent, cx: &mut Context<T>) {
        if self.backlog.drops_events() {
            self.backlog.lose();
        } else {
            cx.outputs.emit(self.key, event);
        }
    }

    fn emit_overflow<T>(&mut self, cx: &mut Context<T>) {
        let lost = self.backlog.take_lost();
        if lost > 0 {
            cx.outputs.emit(self.key, ClientEvent::Overflow { lost });
        }
    }

    /// The application takes no events, and the queue is full. Returns `false` if this is known, or does not matter.
    pub(super) fn on_full(&mut self) -> bool {
        self.is_in() && self.backlog.fill()
    }

    pub(super) fn is_full(&self) -> bool {
        self.backlog.is_full()
    }

    /// The application takes events again. Returns whether frames have to be replayed.
    pub(super) fn on_capacity<T>(&mut self, cx: &mut Context<T>) -> bool {
        let has_dropped = self.backlog.free();
        self.emit_overflow(cx);
        has_dropped && self.is_in()
    }

    /// The client is out of the room.
    pub(super) fn leave<T>(&mut self, cx: &mut Context<T>) {
        self.membership = None;
        self.presence.leave();
        self.presence.publish(cx);
        cx.outgoing.stop(self.key.into());
    }

    /// The connection is lost.
    pub(super) fn on_lost<T>(&mut self, cx: &mut Context<T>) {
        self.emit_overflow(cx);
        self.backlog = Backlog::default();
        self.presence.on_lost();
        self.leave(cx);
    }
}

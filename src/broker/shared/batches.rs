//! Batches of messages that nodes store before they publish them.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::order::Shared;
use crate::broker::{
    BatchId, BatchMessage, BatchOutcome, BatchStart, EventKind, RoomPlace, Submitted, Unavailable,
};
use crate::ids::{MessageId, RoomId};
use crate::protocol::receipt::Receipt;

/// A batch that is not prolonged ends after this time.
const BATCH_TIME: Duration = Duration::from_secs(3);

/// A batch that has to wait comes before the next ones of other nodes if its node has asked for it within this time.
const WAIT_TIME: Duration = Duration::from_millis(200);

/// The batches of a room. They outlast the room.
#[derive(Default)]
pub(super) struct Batches {
    current: Option<Batch>,
    /// Which batch comes next, and until when.
    next: Option<(BatchId, Duration)>,
    /// The latest one that has ended, and what its node was told.
    ended: Option<(BatchId, Vec<Submitted>)>,
    /// No message has got a higher id; `None` until the ids in the store are known.
    last_id: Option<MessageId>,
    /// The broker knows what has become of messages from this id on.
    since: Option<MessageId>,
    /// Messages that the store may have although they were not published.
    missing: BTreeSet<MessageId>,
    /// The latest message that members got.
    published: Option<MessageId>,
    /// Messages that were published after others, and an id below which those have theirs.
    late: Vec<(MessageId, MessageId)>,
}

struct Batch {
    id: BatchId,
    first: MessageId,
    len: usize,
    until: Duration,
}

impl Batch {
    fn ids(&self) -> impl Iterator<Item = MessageId> {
        let first = self.first.as_u64();
        (first..first + self.len as u64).filter_map(MessageId::from_u64)
    }
}

impl Batches {
    fn is_waiting(&self, batch: BatchId, now: Duration) -> bool {
        self.next.is_some_and(|(next, until)| next != batch && now < until)
    }

    /// The current batch has ended by itself.
    fn give_up(&mut self) {
        if let Some(batch) = self.current.take() {
            self.missing.extend(batch.ids());
        }
    }

    /// Whether a message that the store has had before the batch was published. If not, the caller publishes it.
    fn was_published(&mut self, message: &BatchMessage) -> bool {
        let is_missing = self.missing.remove(&message.id);
        // Of earlier ones, nothing is known. A client repeats a message only if it got no answer; the host may do it always.
        let is_unknown = Some(message.id) < self.since && message.entry.is_some();
        !is_missing && !is_unknown
    }
}

impl Shared {
    pub(super) fn begin_batch(
        &mut self,
        room: &RoomId,
        id: BatchId,
        len: usize,
        floor: Option<MessageId>,
    ) -> Result<BatchStart, Unavailable> {
        if !self.nodes.contains_key(&id.node) || !self.rooms.contains_key(room) {
            return Err(Unavailable);
        }
        let (now, latest) = (self.clock.now(), self.last_id);
        let batches = self.batches.entry(room.clone()).or_default();
        if batches.ended.as_ref().is_some_and(|(ended, _)| *ended == id) {
            return Err(Unavailable);
        }
        if let Some(batch) = &mut batches.current
            && (batch.id == id || now < batch.until)
        {
            if batch.id == id {
                batch.until = now + BATCH_TIME;
                return Ok(BatchStart::Begun(batch.first));
            }
            if !batches.is_waiting(id, now) {
                batches.next = Some((id, now + WAIT_TIME));
            }
            return Ok(BatchStart::Busy);
        }
        if batches.is_waiting(id, now) {
            return Ok(BatchStart::Busy);
        }
        let Some(last) = batches.last_id.max(floor) else { return Ok(BatchStart::NeedsFloor) };
        batches.give_up();
        let first = MessageId::next(Some(last).max(latest), SystemTime::now());
        if batches.last_id.is_none() {
            batches.since = Some(first);
        }
        let batch = Batch { id, first, len, until: now + BATCH_TIME };
        let last = batch.ids().last().unwrap_or(first.previous());
        batches.last_id = Some(last);
        batches.next = None;
        batches.current = Some(batch);
        self.last_id = self.last_id.max(Some(last));
        Ok(BatchStart::Begun(first))
    }

    pub(super) fn finish_batch(
        &mut self,
        room: &RoomId,
        id: BatchId,
        outcome: BatchOutcome,
    ) -> Result<Vec<Submitted>, Unavailable> {
        let batches = self.batches.get_mut(room).ok_or(Unavailable)?;
        if let Some((ended, answer)) = &batches.ended
            && *ended == id
        {
            return Ok(answer.clone());
        }
        let batch = batches.current.take_if(|batch| batch.id == id).ok_or(Unavailable)?;
        if !self.nodes.contains_key(&id.node) || !self.rooms.contains_key(room) {
            batches.missing.extend(batch.ids());
            return Err(Unavailable);
        }
        if outcome.has_failed {
            let is_missing = |id: &MessageId| outcome.messages.iter().all(|message| message.id != *id);
            batches.missing.extend(batch.ids().filter(is_missing));
        }
        let mut answer = Vec::new();
        for message in outcome.messages {
            answer.push(self.publish_stored(room, message).ok_or(Unavailable)?);
        }
        if let Some(batches) = self.batches.get_mut(room) {
            batches.ended = Some((id, answer.clone()));
        }
        Ok(answer)
    }

    fn publish_stored(&mut self, id: &RoomId, message: BatchMessage) -> Option<Submitted> {
        let room = self.rooms.get(id)?;
        if let Some(Receipt { position, id }) = room.published.get(&message.key).copied() {
            return Some(Submitted { position, id, is_repeat: true });
        }
        let position = room.latest.position();
        if message.is_known && self.batches.get_mut(id)?.was_published(&message) {
            return Some(Submitted { position, id: message.id, is_repeat: true });
        }
        let BatchMessage { entry, key, id: message, body, .. } = message;
        let batches = self.batches.get_mut(id)?;
        if let Some(published) = batches.published.filter(|published| message < *published) {
            batches.late.push((message, MessageId::next(Some(published), SystemTime::UNIX_EPOCH)));
        }
        batches.published = batches.published.max(Some(message));
        let stamp = self.append_as(id, EventKind::Publish, entry, Some(message), body, false)?;
        let position = stamp.position();
        self.rooms.get_mut(id)?.published.insert(key, Receipt { position, id: message });
        Some(Submitted { position, id: message, is_repeat: false })
    }

    pub(super) fn place(&self, id: &RoomId, after: Option<MessageId>) -> RoomPlace {
        let position = self.rooms.get(id).map(|room| room.latest.position());
        let batches = self.batches.get(id);
        let last_id = batches.and_then(|batches| match &batches.current {
            Some(batch) => Some(batch.first.previous()),
            None => batches.last_id,
        });
        let after = after.unwrap_or(MessageId::ZERO);
        let late = batches.into_iter().flat_map(|batches| &batches.late);
        let late = late.filter(|(id, until)| *id <= after && after < *until).map(|(id, _)| *id);
        RoomPlace { position, last_id, late: Some(late.collect()) }
    }
}

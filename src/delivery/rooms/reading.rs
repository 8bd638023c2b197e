//! Reads earlier messages of rooms: from the store, and from the replay buffers.

use std::collections::BTreeMap;

use super::Rooms;
use crate::broker::{RoomPlace, Unavailable};
use crate::delivery::live_room::LiveRoom;
use crate::health::Health;
use crate::ids::{MessageId, RoomId};
use crate::protocol::history;
use crate::protocol::position::Position;
use crate::store::{MAX_PAGE, PageRange, StoredMessage};

/// The most bytes of messages that are read at once. The first message is read however long it is.
const MAX_BYTES: usize = 256 * 1024;

/// Messages of a room, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Each is an object as in `chat-rooms.v1`.
    pub(crate) messages: Vec<(MessageId, Box<str>)>,
    /// Whether there are further ones in the range.
    pub(crate) has_more: bool,
}

/// The most messages that are read one by one because they were published after others with higher ids.
const MAX_LATE: usize = 20;

/// The messages of a range that a room has in memory.
#[derive(Default)]
struct Kept {
    messages: BTreeMap<MessageId, Box<str>>,
    /// From this id on, these are all messages of the room. `None` if others may be in between.
    complete_from: Option<MessageId>,
}

/// Messages that were read for a member that is about to enter.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    pub(crate) page: Page,
    /// Where the room was before they were read; `None` if there was none. Later messages may be missing.
    pub(crate) at: Option<Position>,
}

impl Page {
    /// Takes at most `limit` of these messages: the oldest ones if the range is open at the end, the newest otherwise.
    fn of(messages: BTreeMap<MessageId, Box<str>>, range: PageRange, limit: usize, has_more: bool) -> Page {
        let mut bytes = 0;
        let mut fits = |text: &str| {
            bytes += text.len();
            bytes <= MAX_BYTES || bytes == text.len()
        };
        let all = messages.len();
        let mut taken: Vec<_> = match range {
            PageRange::After(_) => {
                messages.into_iter().take(limit).take_while(|(_, text)| fits(text)).collect()
            }
            PageRange::Latest | PageRange::Before(_) => {
                messages.into_iter().rev().take(limit).take_while(|(_, text)| fits(text)).collect()
            }
        };
        taken.sort_unstable_by_key(|(id, _)| *id);
        Page { has_more: has_more || taken.len() < all, messages: taken }
    }
}

impl Rooms {
    /// Whether messages are stored.
    pub(crate) fn has_store(&self) -> bool {
        self.keeper.is_some()
    }

    /// Whether the message store works. Healthy without a store.
    pub(crate) fn store_health(&self) -> Health {
        self.keeper.as_ref().map_or(Health::Healthy, |keeper| keeper.health())
    }

    /// Reads messages of a room. It fails if the store does.
    pub(crate) async fn read(
        &self,
        room: &RoomId,
        range: PageRange,
        limit: usize,
    ) -> Result<Page, Unavailable> {
        let limit = limit.min(MAX_PAGE - 1);
        let Kept { messages: kept, complete_from } = self.kept(room.as_str(), range);
        let is_enough = complete_from.is_some_and(|from| match range {
            PageRange::After(start) => from <= start,
            PageRange::Latest | PageRange::Before(_) => kept.range(from..).count() > limit,
        });
        let Some(keeper) = self.keeper.as_ref().filter(|_| !is_enough) else {
            return Ok(Page::of(kept, range, limit, false));
        };
        let stored = keeper.page(&self.tasks, room, range, limit + 1).await.ok_or(Unavailable)?;
        let fitting = fitting(&stored, range);
        let is_cut = stored.len() > limit || fitting.len() < stored.len();
        let stored = fitting;
        let (first, last) = (stored.first().map(StoredMessage::id), stored.last().map(StoredMessage::id));
        let mut messages: BTreeMap<_, _> =
            stored.iter().filter_map(|message| Some((message.id(), encode(room, message)?))).collect();
        // Those in memory also have a `seq`. Beyond a page that was cut, there may be others in between.
        messages.extend(kept.into_iter().filter(|(id, _)| match range {
            _ if !is_cut => true,
            PageRange::After(_) => Some(*id) <= last,
            PageRange::Latest | PageRange::Before(_) => Some(*id) >= first,
        }));
        Ok(Page::of(messages, range, limit, is_cut))
    }

    /// Reads messages for a member that is about to enter, or to enter again. They are those after an id, or the latest
    /// ones if there are too many or without an id.
    pub(crate) async fn read_ahead(
        &self,
        room: &RoomId,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<ReadAhead, Unavailable> {
        let RoomPlace { position, last_id, late } = self.place(room, after).await.ok_or(Unavailable)?;
        let mut page = self.read_after(room, after, late, limit).await?;
        // The others are about to be published, and follow.
        page.messages.retain(|(id, _)| last_id.is_none_or(|last| *id <= last));
        Ok(ReadAhead { page, at: position })
    }

    /// As [`Rooms::read_ahead`]. `late` are messages that were published after others with higher ids, if they are known.
    async fn read_after(
        &self,
        room: &RoomId,
        after: Option<MessageId>,
        late: Option<Vec<MessageId>>,
        limit: usize,
    ) -> Result<Page, Unavailable> {
        if let Some(after) = after {
            let page = self.read(room, PageRange::After(after), limit).await?;
            if !page.has_more
                && let Some(page) = self.add_late(room, late, page).await?
            {
                return Ok(page);
            }
        }
        let page = self.read(room, PageRange::Latest, limit).await?;
        Ok(Page { has_more: page.has_more || after.is_some(), ..page })
    }

    /// Adds the messages before the page that a client may have missed because they were published after others. `None` if
    /// there are too many.
    async fn add_late(
        &self,
        room: &RoomId,
        late: Option<Vec<MessageId>>,
        mut page: Page,
    ) -> Result<Option<Page>, Unavailable> {
        let Some(keeper) = &self.keeper else { return Ok(Some(page)) };
        let Some(late) = late.filter(|late| late.len() <= MAX_LATE) else { return Ok(None) };
        let mut messages = Vec::new();
        for id in late {
            let range = PageRange::After(id.previous());
            let stored = keeper.page(&self.tasks, room, range, 1).await.ok_or(Unavailable)?;
            // The host may have removed it.
            let stored = stored.iter().filter(|message| message.id() == id);
            messages.extend(stored.filter_map(|message| Some((id, encode(room, message)?))));
        }
        messages.append(&mut page.messages);
        Ok(Some(Page { messages, ..page }))
    }

    /// As [`RemoteBroker::place`](crate::broker::RemoteBroker::place).
    async fn place(&self, room: &RoomId, after: Option<MessageId>) -> Option<RoomPlace> {
        if let Some(broker) = self.broker() {
            return broker.place(room, after).await;
        }
        let late = self.keeper.as_ref().zip(after);
        let late = late.and_then(|(keeper, after)| keeper.doubts().late_for(room, after));
        Some(RoomPlace { position: self.position(room.as_str()), last_id: None, late })
    }

    /// Whether a room has kept all of its frames since this position. `None` if it did not exist. With several nodes, this is
    /// known only when the member has entered.
    pub(crate) fn has_kept_since(&self, room: &RoomId, at: Option<Position>) -> bool {
        match (self.get(room.as_str()), at) {
            _ if self.is_remote() => true,
            (None, None) => true,
            (None, Some(_)) => false,
            (Some(room), at) => room.lock().has_kept_since(at),
        }
    }

    /// The messages of a range that a room has in memory: those in its replay buffer, and those that are yet to be stored.
    fn kept(&self, room: &str, range: PageRange) -> Kept {
        let Some(room) = self.get(room) else { return Kept::default() };
        let behind = self.behind(room.id());
        let (chunks, unstored, in_order_after) = {
            let state = room.lock();
            let queue = state.store_queue.as_deref();
            let unstored: Vec<StoredMessage> = queue
                .map(|queue| queue.out().map(|(id, waiting)| waiting.draft.stored(id)).collect())
                .unwrap_or(behind);
            (state.kept_chunks(), unstored, queue.and_then(|queue| queue.in_order_after))
        };
        let buffered: BTreeMap<_, _> = history::messages_with_ids(&chunks).collect();
        // After a crash, the buffer may also have messages with earlier ids, which a client has sent once more.
        let complete_from = in_order_after.and_then(|after| buffered.keys().find(|id| **id > after)).copied();
        let mut messages: BTreeMap<_, _> =
            unstored.iter().filter_map(|message| Some((message.id(), encode(room.id(), message)?))).collect();
        // These also have a `seq`.
        messages.extend(buffered);
        messages.retain(|id, _| range.contains(*id));
        Kept { messages, complete_from }
    }
}

impl LiveRoom {
    /// Whether the room can replay all frames since this position.
    pub(crate) fn can_replay(&self, since: Position) -> bool {
        self.lock().can_replay(since)
    }
}

/// The messages of a page that may fit into an answer, so that the others are not encoded.
fn fitting(page: &[StoredMessage], range: PageRange) -> &[StoredMessage] {
    let mut bytes = 0;
    let mut fits = |message: &&StoredMessage| {
        bytes += message.body().len();
        bytes <= MAX_BYTES || bytes == message.body().len()
    };
    match range {
        PageRange::After(_) => &page[..page.iter().take_while(&mut fits).count()],
        PageRange::Latest | PageRange::Before(_) => {
            &page[page.len() - page.iter().rev().take_while(&mut fits).count()..]
        }
    }
}

/// A message as clients get it.
fn encode(room: &RoomId, message: &StoredMessage) -> Option<Box<str>> {
    history::encode(room, message.id(), message.name(), message.connection(), message.body())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_messages_are_encoded_than_may_fit_into_an_answer() {
        let third = "x".repeat(MAX_BYTES / 3);
        let page = |bodies: &[&str]| -> Vec<StoredMessage> {
            let id = |n| MessageId::from_u64(n).unwrap();
            (1..).zip(bodies).map(|(n, body)| StoredMessage::new(id(n), *body)).collect()
        };
        let ids = |page: &[StoredMessage], range| -> Vec<u64> {
            fitting(page, range).iter().map(|message| message.id().as_u64()).collect()
        };
        let (before, after) = (PageRange::Latest, PageRange::After(MessageId::ZERO));
        let many = page(&[&*third; 5]);
        assert_eq!((ids(&many, before), ids(&many, after)), (vec![3, 4, 5], vec![1, 2, 3]));
        let long = "x".repeat(2 * MAX_BYTES);
        let long = page(&[&*long, "a", &*long]);
        assert_eq!((ids(&long, before), ids(&long, after)), (vec![3], vec![1]));
        assert_eq!((ids(&[], before), ids(&[], after)), (vec![], vec![]));
    }
}

//! Reads earlier messages of rooms: from the store, and from the replay buffers.

use std::collections::BTreeMap;

use super::Rooms;
use crate::broker::Unavailable;
use crate::delivery::live_room::LiveRoom;
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

    /// Reads messages of a room. It fails if the store does.
    pub(crate) async fn read(
        &self,
        room: &RoomId,
        range: PageRange,
        limit: usize,
    ) -> Result<Page, Unavailable> {
        let limit = limit.min(MAX_PAGE - 1);
        let (kept, has_all) = self.kept(room.as_str(), range);
        let is_enough = match range {
            PageRange::After(_) => has_all,
            PageRange::Latest | PageRange::Before(_) => kept.len() > limit,
        };
        let Some(keeper) = self.keeper.as_ref().filter(|_| !is_enough) else {
            return Ok(Page::of(kept, range, limit, false));
        };
        let stored = keeper.page(&self.tasks, room, range, limit + 1).await.ok_or(Unavailable)?;
        let is_cut = stored.len() > limit;
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
        let at = self.position(room.as_str());
        if let Some(after) = after {
            let page = self.read(room, PageRange::After(after), limit).await?;
            if !page.has_more {
                return Ok(ReadAhead { page, at });
            }
        }
        let page = self.read(room, PageRange::Latest, limit).await?;
        Ok(ReadAhead { page: Page { has_more: page.has_more || after.is_some(), ..page }, at })
    }

    /// Whether a room has kept all of its frames since this position. `None` if it did not exist.
    pub(crate) fn has_kept_since(&self, room: &RoomId, at: Option<Position>) -> bool {
        match (self.get(room.as_str()), at) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some(room), at) => room.lock().has_kept_since(at),
        }
    }

    /// The messages of a range that the replay buffer of a room has, and whether it has all of those after the range's
    /// begin.
    fn kept(&self, room: &str, range: PageRange) -> (BTreeMap<MessageId, Box<str>>, bool) {
        let chunks = self.get(room).map(|room| room.lock().kept_chunks()).unwrap_or_default();
        let mut kept: BTreeMap<_, _> = history::messages_with_ids(&chunks).collect();
        let first = kept.keys().next().copied();
        kept.retain(|id, _| range.contains(*id));
        let has_all = matches!(range, PageRange::After(start) if first.is_some_and(|first| first <= start));
        (kept, has_all)
    }
}

impl LiveRoom {
    /// Whether the room can replay all frames since this position.
    pub(crate) fn can_replay(&self, since: Position) -> bool {
        self.lock().can_replay(since)
    }
}

/// A message as clients get it.
fn encode(room: &RoomId, message: &StoredMessage) -> Option<Box<str>> {
    history::encode(room, message.id(), message.name(), message.connection(), message.body())
}

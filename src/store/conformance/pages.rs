//! Order, ranges and limits.

use super::{Suite, ids};
use crate::ids::MessageId;
use crate::store::{MAX_APPEND, MAX_PAGE, PageRange};

impl Suite {
    pub(super) async fn check_pages(&self) {
        self.a_room_without_messages_has_empty_pages().await;
        self.pages_contain_their_range_in_order().await;
        self.the_largest_append_fits_into_the_largest_page().await;
    }

    async fn a_room_without_messages_has_empty_pages(&self) {
        let room = self.room();
        for range in [PageRange::Latest, PageRange::Before(MessageId::MAX), PageRange::After(number(0))] {
            assert_eq!(room.page(range, MAX_PAGE).await, [], "{range:?} of a room without messages");
        }
    }

    async fn pages_contain_their_range_in_order(&self) {
        let mut room = self.room();
        let mut all = Vec::new();
        for appended in [room.messages(["a", "b", "c"]), room.keyed(["d", "e", "f"])] {
            assert_eq!(room.append(&appended).await, ids(&appended), "the ids of new messages");
            all.extend(appended);
        }
        room.check("messages are read as they were appended, the lowest id first", &all).await;

        // Ids of messages, ids in between, and ids beyond both ends.
        let mut ends = vec![number(0), MessageId::MAX];
        for id in ids(&all) {
            ends.extend([number(id.as_u64() - 1), id, number(id.as_u64() + 1)]);
        }
        let mut ranges = vec![PageRange::Latest];
        ranges.extend(ends.iter().flat_map(|id| [PageRange::Before(*id), PageRange::After(*id)]));
        for range in ranges {
            for limit in [0, 1, 2, all.len() - 1, all.len(), all.len() + 1, MAX_PAGE] {
                let page = room.page(range, limit).await;
                assert_eq!(page, range.select(&all, limit), "{range:?} with the limit {limit}");
            }
        }
    }

    async fn the_largest_append_fits_into_the_largest_page(&self) {
        let mut room = self.room();
        let messages: Vec<_> = (0..MAX_APPEND)
            .map(|n| {
                let message = room.message("one of many");
                if n % 2 == 0 { message.with_key(n.to_string()) } else { message }
            })
            .collect();
        assert!(room.append(&messages).await == ids(&messages), "the ids of {MAX_APPEND} new messages");
        room.check("an append may have many messages", &messages).await;
    }
}

fn number(id: u64) -> MessageId {
    MessageId::from_u64(id).expect("the id is not too high")
}

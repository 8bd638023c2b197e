//! Stores the messages that the members of a room have already.

use std::time::Duration;

use super::{Work, WorkKind};
use crate::store::{MAX_APPEND, StoredMessage};

/// How long the task waits before it tries again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// After this many failures in a row, it gives up.
const MAX_RETRIES: u32 = 30;

impl Work {
    /// Has messages stored that were published.
    pub(super) fn store_behind(&self, messages: Vec<StoredMessage>) {
        if messages.is_empty() {
            return;
        }
        let work = self.with_queue(|queue| {
            queue.bytes += messages.iter().map(|message| message.body().len()).sum::<usize>();
            queue.behind.extend(messages);
            Work::begin(&self.rooms, &self.room, queue, WorkKind::StoringBehind)
        });
        if let Some(work) = work {
            self.rooms.tasks.spawn_for_host(work.store_all_behind());
        }
    }

    /// Stores the messages of the queue that are published, until there are none.
    async fn store_all_behind(mut self) {
        let rooms = self.rooms.clone();
        let Some(keeper) = &rooms.keeper else { return };
        let (tasks, max_bytes) = (&rooms.tasks, rooms.max_batch_bytes());
        let (mut wait, mut retries) = (RETRY.0, 0);
        loop {
            let next = self.next(|queue| {
                let mut bytes = 0;
                let fits = |message: &&StoredMessage| {
                    let is_first = bytes == 0;
                    bytes += message.body().len();
                    is_first || bytes <= max_bytes
                };
                let messages: Vec<_> =
                    queue.behind.iter().take(MAX_APPEND).take_while(fits).cloned().collect();
                (!messages.is_empty()).then_some(messages)
            });
            let Some(messages) = next else { return };
            if let Some(stored) = keeper.append(tasks, &self.room, &messages).await {
                // Those that the store refuses would be refused again.
                let lost = stored.iter().filter(|stored| stored.is_none()).count();
                if lost > 0 {
                    tracing::error!(room = %self.room, lost, "messages that the members have could not be stored");
                }
                let bytes = messages.iter().map(|message| message.body().len()).sum();
                self.with_queue(|queue| drop(queue.behind.drain(..messages.len())));
                self.free(bytes);
                (wait, retries) = (RETRY.0, 0);
                continue;
            }
            retries += 1;
            if tasks.is_closing_within(wait).await || retries == MAX_RETRIES {
                self.give_up_behind();
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }

    pub(super) fn give_up_behind(&self) {
        let lost = self.with_queue(|queue| std::mem::take(&mut queue.behind));
        self.free(lost.iter().map(|message| message.body().len()).sum());
        if !lost.is_empty() {
            let lost = lost.len();
            tracing::error!(room = %self.room, lost, "messages that the members have could not be stored");
        }
    }
}

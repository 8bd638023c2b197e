//! Reads what is in Redis: the logs of rooms in which events were missed, and which rooms there are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::cmd;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;

use crate::answers::RoomCount;
use crate::inner::Inner;
use crate::link::{Command, Link};
use crate::position::Position;
use crate::room::Page;
use crate::scripts::PAGE;
use crate::stamp::{Epoch, Stamp};
use crate::{RoomEvent, Unavailable};

/// Logs that are read at a time, each with one page in memory.
const AT_ONCE: usize = 16;
/// Rooms that are counted at a time.
const ROOMS_AT_ONCE: usize = 256;
/// Between two attempts to read the log of a room that Redis does not have.
const RETRY: Duration = Duration::from_millis(100);

impl Inner {
    /// Reads logs as they are asked for.
    pub(crate) async fn read_logs(self: Arc<Inner>, mut wanted: mpsc::UnboundedReceiver<Arc<str>>) {
        let limit = Arc::new(Semaphore::new(AT_ONCE));
        while let Some(room) = wanted.recv().await {
            let Ok(permit) = limit.clone().acquire_owned().await else { return };
            let inner = self.clone();
            self.spawn(async move {
                inner.read_log(&room).await;
                drop(permit);
            });
        }
    }

    async fn read_log(&self, room: &Arc<str>) {
        self.hub.queue().until_space().await;
        let Some(position) = self.hub.begin_read(room) else { return };
        match self.page_after(room, position).await {
            Ok(Some(page)) => self.hub.read(room, page),
            // Redis has lost the room, and this node has not entered its members again yet. Or all have left.
            Ok(None) => {
                sleep(RETRY).await;
                self.hub.room_missing(room);
            }
            Err(Unavailable) => {
                sleep(RETRY).await;
                self.hub.read_failed(room);
            }
        }
    }

    async fn page_after(&self, room: &Arc<str>, position: Position) -> Result<Option<Page>, Unavailable> {
        let node = self.registration.node();
        let read = self.scripts.read(position);
        Ok(self.call_as(&node, room, &read).await?.page(room))
    }

    /// The events with a frame after `seq`, up to `max`; `None` if not all of them can be had.
    pub(crate) async fn log_after(
        &self,
        room: &Arc<str>,
        epoch: Epoch,
        seq: u64,
        max: usize,
    ) -> Result<Option<Vec<RoomEvent>>, Unavailable> {
        let mut events: Vec<RoomEvent> = Vec::new();
        // An event's number is at least that of its frame.
        let mut position = Position::at(Stamp { epoch, event: seq, seq, num: 0 });
        loop {
            let Some(page) = self.page_after(room, position).await? else { return Ok(None) };
            if page.at.epoch != epoch || page.at.seq < seq {
                return Ok(None);
            }
            let is_last = page.events.len() < PAGE;
            if let Some(last) = page.events.last() {
                position = Position::at(last.stamp);
            }
            events.extend(page.events.into_iter().filter(|event| event.has_frame() && event.stamp.seq > seq));
            let first_seq = events.first().map(|event| event.stamp.seq);
            if first_seq.is_some_and(|first| first != seq + 1)
                || (is_last && events.is_empty() && page.at.seq != seq)
            {
                return Ok(None);
            }
            if is_last || events.len() >= max {
                events.truncate(max);
                return Ok(Some(events));
            }
        }
    }

    /// All rooms that have members.
    pub(crate) async fn rooms(&self) -> Result<Vec<RoomCount>, Unavailable> {
        let key = self.keys.nodes();
        let nodes = |_: &Link| Command::Plain(cmd("ZRANGE").arg(&key).arg(0).arg(-1).take());
        let mut rooms = BTreeSet::new();
        for node in self.commands.run::<Vec<String>>(None, nodes).await? {
            rooms.extend(self.rooms_of(&node).await?);
        }
        let rooms: Vec<String> = rooms.into_iter().collect();
        let mut counts = Vec::with_capacity(rooms.len());
        for batch in rooms.chunks(ROOMS_AT_ONCE) {
            let counted = join_all(batch.iter().map(|room| self.count(room))).await;
            for (room, num) in batch.iter().zip(counted) {
                // `None` if the last member has left meanwhile.
                counts.extend(num?.map(|num| RoomCount { room: room.clone(), num }));
            }
        }
        Ok(counts)
    }

    async fn count(&self, room: &str) -> Result<Option<u64>, Unavailable> {
        let key = self.keys.meta(room);
        let count = |_: &Link| Command::Plain(cmd("HGET").arg(&key).arg("num").take());
        self.commands.run(None, count).await
    }
}

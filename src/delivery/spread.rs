//! Writes the same frames to all members of a room: on several worker threads if there are many members.

use std::sync::Arc;

use tokio::runtime::Handle as Runtime;
use tokio::task::{JoinSet, unconstrained, yield_now};

use crate::delivery::batch::Batch;
use crate::delivery::flush::guarded;
use crate::delivery::live_room::{Handle, LiveRoom};
use crate::delivery::presence::PresenceBatch;
use crate::delivery::recipient::Recipient;
use crate::delivery::transient::TransientBatch;
use crate::room::MemberList;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// A task is worth its cost if it writes to this many members.
const MEMBERS_PER_TASK: usize = 256;

/// What all members get.
pub(super) enum Frames {
    Batch(Batch),
    Transients(Box<TransientBatch>),
    Presence(Box<PresenceBatch>),
}

impl Frames {
    fn deliver(&self, room: &LiveRoom, member: &dyn Recipient) {
        match self {
            Frames::Batch(batch) => member.deliver(room, batch),
            Frames::Transients(batch) => member.deliver_transients(room, batch),
            Frames::Presence(batch) => member.deliver_presence(room, batch),
        }
    }

    /// Writes to all members. When it is done, each of them has got the frames, so that the next ones come after them.
    pub(super) async fn deliver_to_all(self, room: &Arc<LiveRoom>, members: &MemberList<Handle>) {
        let work = Work { frames: self, next: AtomicUsize::new(0) };
        let tasks = match members.len() / MEMBERS_PER_TASK {
            0 | 1 => 1,
            tasks => tasks.min(workers()),
        };
        if tasks == 1 {
            return work.run(room, members).await;
        }
        let work = Arc::new(work);
        let mut others = JoinSet::new();
        for _ in 1..tasks {
            let (work, room, members) = (work.clone(), room.clone(), members.clone());
            others.spawn(unconstrained(async move { work.run(&room, &members).await }));
        }
        work.run(room, members).await;
        while others.join_next().await.is_some() {}
    }
}

/// Frames that one or more tasks write to the chunks of a room's members.
struct Work {
    frames: Frames,
    /// The first chunk that no task has taken.
    next: AtomicUsize,
}

impl Work {
    async fn run(&self, room: &LiveRoom, members: &MemberList<Handle>) {
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = members.chunks().nth(at) else { return };
            if at > 0 {
                // The other tasks get a turn.
                yield_now().await;
            }
            for member in chunk.iter() {
                guarded(&*member.handle, |member| self.frames.deliver(room, member));
            }
        }
    }
}

/// How many worker threads there are.
fn workers() -> usize {
    Runtime::try_current().map_or(1, |runtime| runtime.metrics().num_workers())
}

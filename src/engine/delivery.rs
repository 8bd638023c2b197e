//! The flusher: one task per room, for as long as something is queued there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::task::yield_now;

use crate::engine::recipient::Recipient;
use crate::protocol::close::LeaveReason;
use crate::room::registry::SharedRoom;

/// After so many members the other tasks get a turn.
const MEMBERS_PER_TURN: usize = 256;

/// Writes what a room has queued to each of its members, until nothing is queued.
///
/// It first lets the other tasks run: whatever they add goes out with the same writes.
pub(crate) fn flush(room: Arc<SharedRoom<Arc<dyn Recipient>>>) -> impl Future<Output = ()> + Send {
    let duty = Duty { room, over: false };
    async move {
        // All of it has to move in here, not its fields.
        let mut duty = duty;
        while !duty.over {
            yield_now().await;
            let (members, batch) = duty.room.lock().take();
            for (n, member) in members.iter().enumerate() {
                if n > 0 && n % MEMBERS_PER_TURN == 0 {
                    yield_now().await;
                }
                guarded(&*member.link, |link| link.deliver(&duty.room, &batch));
            }
            // To yield before this look would keep one task per busy room in the run queue, which
            // overflows at 256 and then starves some rooms.
            let mut room = duty.room.lock();
            if room.stream().finish_batch() {
                // Under the lock: whoever queues the next frame has to find nobody at work.
                duty.room.release_flush();
                duty.over = true;
            }
        }
    }
}

/// Works on a connection whose I/O may be the host's own, and panic: that ends it alone.
pub(crate) fn guarded(link: &dyn Recipient, work: impl FnOnce(&dyn Recipient)) {
    if catch_unwind(AssertUnwindSafe(|| work(link))).is_err() {
        tracing::error!("the I/O of a connection panicked; it is closed");
        link.close(LeaveReason::Lost);
    }
}

/// If the flusher is dropped, be it before it has begun, the room's next frame starts another.
struct Duty {
    room: Arc<SharedRoom<Arc<dyn Recipient>>>,
    over: bool,
}

impl Drop for Duty {
    fn drop(&mut self) {
        if !self.over {
            // Without the lock, which is held where a runtime that ends drops what is spawned.
            self.room.release_flush();
        }
    }
}

//! The flusher: one task per room, for as long as something is queued there.

use std::sync::Arc;

use tokio::task::yield_now;

use crate::engine::recipient::Recipient;
use crate::room::registry::SharedRoom;

/// After so many members the other tasks get a turn.
const MEMBERS_PER_TURN: usize = 256;

/// Writes what a room has queued to each of its members, until nothing is queued.
///
/// It first lets the other tasks run: whatever they add goes out with the same writes.
pub(crate) async fn flush(room: Arc<SharedRoom<Arc<dyn Recipient>>>) {
    let mut duty = Duty { room: &room, over: false };
    while !duty.over {
        yield_now().await;
        let (members, batch) = room.lock().take();
        for (n, member) in members.iter().enumerate() {
            if n > 0 && n % MEMBERS_PER_TURN == 0 {
                yield_now().await;
            }
            member.link.deliver(&room, &batch);
        }
        // To yield before this look would keep one task per busy room in the run queue, which
        // overflows at 256 and then starves some rooms.
        duty.over = room.lock().stream().finish_batch();
    }
}

/// If the flusher is dropped or panics, the room's next frame starts another.
struct Duty<'a> {
    room: &'a SharedRoom<Arc<dyn Recipient>>,
    over: bool,
}

impl Drop for Duty<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.room.lock().stream().relieve();
        }
    }
}

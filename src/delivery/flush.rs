//! The flush task: one per room, which runs while something is queued there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;

use crate::clock::Clock;
use crate::delivery::live_room::LiveRoom;
use crate::delivery::recipient::Recipient;
use crate::delivery::spread::Frames;
use crate::tasks::Tasks;

/// Writes what a room has queued to each of its members, until nothing is queued. Without a history, the clock is read
/// only for presence frames, and to measure how long the delivery of some messages takes.
///
/// It first lets the other tasks run: everything that they add goes out with the same writes.
pub(super) fn flush(room: Arc<LiveRoom>, clock: Clock, has_history: bool) -> impl Future<Output = ()> + Send {
    let now = move || if has_history { clock.now() } else { Duration::ZERO };
    let flushing = Flushing { room, is_over: false };
    async move {
        // The whole guard has to move in here, not its fields.
        let mut flushing = flushing;
        while !flushing.is_over {
            yield_now().await;
            let (measured, members, interrupted, batch, transients, announcement) = {
                let mut state = flushing.room.lock();
                let interrupted = state.pending.interrupted();
                let measured = state.pending.measure();
                let (members, batch) = state.take(now());
                let transients = state.take_transients();
                let announcement = flushing.room.take_announcement(&mut state, || clock.now());
                (measured, members, interrupted, batch, transients, announcement)
            };
            let room = &flushing.room;
            if let Some(batch) = interrupted {
                Frames::Batch(batch).deliver_to_all(room, &members).await;
            }
            if !batch.is_empty() {
                Frames::Batch(batch).deliver_to_all(room, &members).await;
                room.note_delivered(measured, clock);
            }
            // Only after all members got the batch, so that transient frames do not delay it.
            if let Some(transients) = transients {
                Frames::Transients(transients).deliver_to_all(room, &members).await;
            }
            // In count mode, this is at most one frame a second.
            if let Some(announcement) = announcement {
                let presence = Box::new(announcement.encode(room.id().as_str()));
                Frames::Presence(presence).deliver_to_all(room, &members).await;
            }
            // Yielding before this check would keep one task per busy room in the run queue, which
            // overflows at 256 and then starves some rooms.
            let mut state = flushing.room.lock();
            if state.finish(|| clock.now()) {
                // Under the lock: whoever queues the next frame must find that no task is at work.
                flushing.room.release_flush();
                flushing.is_over = true;
            }
        }
    }
}

/// Works on a member whose I/O may be the host's own and may panic. A panic ends only the member's own connection.
pub(crate) fn guarded(member: &dyn Recipient, work: impl FnOnce(&dyn Recipient)) {
    if catch_unwind(AssertUnwindSafe(|| work(member))).is_err() {
        tracing::error!("the I/O of a connection panicked; the connection is closed");
        member.fail();
    }
}

/// If the flush task is dropped, even before its first poll, the room's next frame starts another.
struct Flushing {
    room: Arc<LiveRoom>,
    is_over: bool,
}

impl Drop for Flushing {
    fn drop(&mut self) {
        if !self.is_over {
            // Without the room's lock: when a runtime ends, it drops spawned tasks while that lock may be held.
            self.room.release_flush();
        }
    }
}

/// Waits until a room's presence frames are due, and writes them. Ends when there are none left, and on shutdown.
pub(super) fn flush_later(
    room: Arc<LiveRoom>,
    clock: Clock,
    has_history: bool,
    tasks: Arc<Tasks>,
) -> impl Future<Output = ()> + Send {
    let timing = Timing { room, is_over: false };
    async move {
        let mut timing = timing;
        loop {
            let wait = {
                let state = timing.room.lock();
                match state.announcer.due().map(|due| due.saturating_sub(clock.now())) {
                    Some(wait) if !wait.is_zero() => wait,
                    // Under the lock, so that a later change sees that there is no timer and starts one. If a flush
                    // task is running, it finds what is due.
                    _ => {
                        timing.room.release_timer();
                        timing.is_over = true;
                        if !timing.room.claim_flush(&state, || clock.now()) {
                            return;
                        }
                        break;
                    }
                }
            };
            if tasks.is_closing_within(wait).await {
                return;
            }
        }
        flush(timing.room.clone(), clock, has_history).await;
    }
}

/// As [`Flushing`], for the timer.
struct Timing {
    room: Arc<LiveRoom>,
    is_over: bool,
}

impl Drop for Timing {
    fn drop(&mut self) {
        if !self.is_over {
            self.room.release_timer();
        }
    }
}

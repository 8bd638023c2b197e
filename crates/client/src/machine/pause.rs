//! Backpressure: the application takes no events, and the queue is full.
//!
//! At first nothing is read, so that the server has to wait. If this lasts, the client reads on to receive
//! acknowledgements and heartbeats, and drops the room's frames. It has them replayed later.

use std::time::Duration;

use super::{Machine, Now, Output};
use crate::error::ClientError;
use crate::event::ClientEvent;

/// Nothing is read for at most this long. After longer, the server considers the client dead or too slow.
const MAX_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Pause {
    /// When to read on.
    until: Now,
    /// When the next sign of life is due.
    pong_at: Now,
    drops_frames: bool,
    /// Dropped events that no replay contains.
    lost: u64,
}

impl Pause {
    pub(super) fn drops_frames(&self) -> bool {
        self.drops_frames
    }

    /// Dropped events that no replay contains.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) fn deadline(&self) -> Now {
        self.until.min(self.pong_at)
    }
}

impl<T> Machine<T> {
    /// Whether the connection should be read.
    pub(crate) fn may_read(&self) -> bool {
        self.pause().is_none_or(Pause::drops_frames)
    }

    /// Whether the application takes no events.
    pub(crate) fn is_paused(&self) -> bool {
        self.pause().is_some()
    }

    /// The application takes no events, and the queue is full.
    pub(crate) fn on_full(&mut self, now: Now) {
        let Some(link) = &mut self.link else { return };
        if let (Some(welcome), Some(_), None) = (&link.welcome, &link.membership, &link.pause) {
            let until = now.saturating_add(welcome.silence.min(MAX_PAUSE));
            let pong_at = now.saturating_add(welcome.interval);
            link.pause = Some(Pause { until, pong_at, drops_frames: false, lost: 0 });
        }
    }

    /// The application takes events again.
    pub(crate) fn on_capacity(&mut self, now: Now) {
        let Some(link) = &mut self.link else { return };
        let Some(pause) = link.pause.take() else { return };
        link.liveness.restart(now);
        let has_missed = pause.drops_frames && link.membership.is_some();
        self.emit_overflow(pause.lost);
        if has_missed {
            self.reconnect(now, "the application took no events for a while");
        }
    }

    /// Does what is due while nothing is read.
    pub(super) fn tick_pause(&mut self, now: Now) {
        let Some(link) = &mut self.link else { return };
        let (Some(welcome), Some(pause)) = (&link.welcome, &mut link.pause) else { return };
        if pause.drops_frames {
            return;
        }
        if pause.pong_at <= now {
            pause.pong_at = now.saturating_add(welcome.interval);
            self.outputs.push_back(Output::Pong);
        }
        if pause.until <= now {
            tracing::debug!("the application takes no events; dropping the room's frames");
            pause.drops_frames = true;
            link.liveness.restart(now);
        }
    }

    /// Emits an event that no replay contains.
    pub(super) fn emit_unrecoverable(&mut self, event: ClientEvent) {
        match self.link.as_mut().and_then(|link| link.pause.as_mut()) {
            Some(pause) if pause.drops_frames => pause.lost += 1,
            _ => self.emit(event),
        }
    }

    pub(super) fn emit_error(&mut self, error: ClientError) {
        self.emit_unrecoverable(ClientEvent::Error(error));
    }

    /// Whether the room's frames are dropped, to be replayed later.
    pub(super) fn drops_frames(&self) -> bool {
        self.pause().is_some_and(Pause::drops_frames)
    }

    pub(super) fn emit_overflow(&mut self, lost: u64) {
        if lost > 0 {
            self.emit(ClientEvent::Overflow { lost });
        }
    }

    fn pause(&self) -> Option<&Pause> {
        self.link.as_ref()?.pause.as_ref()
    }
}

//! A member that waits for the event of its enter.

use std::sync::Arc;

use super::Rooms;
use crate::broker::{BoxFuture, EntryId};
use crate::delivery::live_room::{Handle, LiveRoom};
use crate::delivery::refusal::Refused;
use crate::delivery::remote_room::Entered;
use crate::room::EnterError;

/// A member that is about to enter. If it is dropped before [`Entering::finish`], the member leaves.
pub(crate) struct Entering {
    rooms: Arc<Rooms>,
    room: Arc<LiveRoom>,
    stay: NewStay,
    handle: Handle,
    entered: Option<BoxFuture<'static, Result<Entered, Refused>>>,
    is_finished: bool,
}

/// The stay that begins with an enter.
pub(super) struct NewStay {
    pub(super) entry: EntryId,
    /// That of its session, or 0.
    pub(super) generation: u64,
    /// Whether the host knows of the member, under another name.
    pub(super) is_rename: bool,
}

impl Entering {
    pub(super) fn new(
        rooms: Arc<Rooms>,
        room: Arc<LiveRoom>,
        stay: NewStay,
        handle: Handle,
        entered: BoxFuture<'static, Result<Entered, Refused>>,
    ) -> Entering {
        Entering { rooms, room, stay, handle, entered: Some(entered), is_finished: false }
    }

    /// Waits until the member is in the room.
    pub(crate) async fn outcome(&mut self) -> Result<Entered, Refused> {
        let entered = match self.entered.take() {
            Some(entered) => entered.await,
            None => Err(Refused::Unavailable),
        };
        if let Err(Refused::Room(EnterError::Full | EnterError::NameTaken { .. })) = entered {
            // Nothing has changed.
            self.is_finished = true;
            self.rooms.registry.visit(&self.room, |_, state| state.cancel_expected(self.stay.entry));
        }
        entered
    }

    /// Whether the member is still in the room. The host may have removed it meanwhile.
    pub(crate) fn is_in(&self) -> bool {
        self.room.lock().remote.as_ref().is_some_and(|remote| remote.has(self.stay.entry))
    }

    /// Whether it is known what has become of the enter.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// The member stays in the room.
    pub(crate) fn finish(&mut self) {
        self.is_finished = true;
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        let (rooms, NewStay { entry, generation, is_rename }) = (&self.rooms, &self.stay);
        let Some(remote) = &rooms.remote else { return };
        rooms.registry.visit(&self.room, |room, state| {
            // Another connection may have resumed the session, and have entered the room with it.
            let is_current =
                state.remote.as_ref().is_some_and(|remote| remote.has_or_expects(*entry, *generation));
            if is_current {
                let before = state.counts();
                match is_rename {
                    true => drop(remote.leave(room.id(), state, entry.member)),
                    false => remote.undo_enter(room.id(), state, entry.member),
                }
                state.note_counts(before);
                self.handle.unsubscribe(room);
            }
        });
        rooms.start_tasks(&self.room);
    }
}

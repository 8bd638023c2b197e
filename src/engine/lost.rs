//! What the host is told of members and users whose node is gone.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::broker::LostMember;
use crate::engine::Engine;
use crate::hooks::events::{Left, RoomEvents, UserOffline, UserOnline};
use crate::hooks::guard;
use crate::hooks::user::User;
use crate::ids::{ConnectionId, RoomId};
use crate::protocol::close::LeaveReason;
use crate::stats::Hook;
use crate::sync::{Mutex, lock};

/// Something that the host has to be told.
#[derive(Debug)]
pub(super) enum Lost {
    Member(LostMember),
    /// The last session of the user has ended.
    Offline(Box<str>),
    /// Another node has taken this one for gone, and has told the host that the user is offline.
    Online(Box<str>),
    /// Another node has taken this one for gone, and has told the host that the member has left.
    EnteredAgain {
        room: RoomId,
        connection: ConnectionId,
    },
}

/// What the host has yet to be told. It is told in order, and without delaying the events of rooms.
#[derive(Default)]
pub(crate) struct LostQueue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    lost: VecDeque<Lost>,
    /// Whether a task is telling the host.
    is_running: bool,
}

impl LostQueue {
    /// The next one; `None` if there is no more.
    fn next(&self) -> Option<Lost> {
        let mut waiting = lock(&self.0);
        let next = waiting.lost.pop_front();
        waiting.is_running = next.is_some();
        next
    }
}

impl Engine {
    /// Tells the host, in a task of its own.
    pub(super) fn tell_of_lost(self: &Arc<Engine>, lost: Lost) {
        if self.sessions.events().is_none() {
            return;
        }
        let mut waiting = lock(&self.lost().0);
        waiting.lost.push_back(lost);
        // During a shutdown, the host is told at its end.
        if !waiting.is_running && !self.tasks.is_closing() {
            waiting.is_running = true;
            drop(waiting);
            let engine = self.clone();
            self.tasks.spawn(async move { engine.call_for_lost() });
        }
    }

    /// Tells the host all that it has to be told.
    pub(super) fn call_for_lost(&self) {
        let Some(events) = self.sessions.events() else { return };
        let times = &self.context.counters.hooks;
        while let Some(lost) = self.lost().next() {
            // No connection of this node has to do with it that a panic could end.
            let _ = match lost {
                Lost::Member(lost) => guard::call(times, Hook::Left, || events.left(&left(lost))),
                Lost::Offline(user) => {
                    let user = Arc::new(User::new(user));
                    guard::call(times, Hook::Offline, || events.offline(&UserOffline { user }))
                }
                Lost::Online(user) => self.call_online_again(events, &user),
                Lost::EnteredAgain { room, connection } => {
                    self.sessions.announce_again(connection, &room);
                    Ok(())
                }
            };
        }
    }

    fn call_online_again(&self, events: &dyn RoomEvents, user: &str) -> Result<(), guard::Panicked> {
        let session = self.sessions.users().sessions_of(user).into_iter().next();
        // It may have ended meanwhile, but its `offline` follows.
        let user = session.and_then(|session| session.user()).unwrap_or_else(|| Arc::new(User::new(user)));
        guard::call(&self.context.counters.hooks, Hook::Online, || events.online(&UserOnline { user }))
    }
}

fn left(lost: LostMember) -> Left {
    let LostMember { room, connection, name, user, is_hidden, num } = lost;
    Left {
        connection,
        peer: None,
        room,
        name,
        user: user.map(|id| Arc::new(User::new(&*id))),
        online: num as usize,
        reason: LeaveReason::NodeLost,
        is_hidden,
    }
}

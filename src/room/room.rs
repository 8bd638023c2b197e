//! One room: its members in the order in which they came, and its frames.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{History, UniqueNames};
use crate::hooks::user::User;
use crate::ids::{ConnectionId, Name};
use crate::protocol::outbound::Head;
use crate::protocol::wire::{Epoch, Since, Wire};
use crate::room::history::Past;
use crate::room::names::{NameBook, NameTaken};
use crate::room::stream::{Audience, Batch, Stream};

/// A member, with whatever it takes to reach him.
#[derive(Debug, Clone)]
pub(crate) struct Member<L> {
    pub(crate) id: ConnectionId,
    pub(crate) name: Name,
    pub(crate) user: Option<Arc<User>>,
    pub(crate) wire: Wire,
    pub(crate) link: L,
}

/// Why somebody can't enter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JoinError {
    Full,
    Closed,
    NameTaken,
}

/// Shared with the flusher while it works, and copied if somebody comes or goes meanwhile.
pub(crate) type Members<L> = Arc<Vec<Arc<Member<L>>>>;

#[derive(Debug)]
pub(crate) struct Room<L> {
    epoch: Epoch,
    members: Members<L>,
    audience: Audience,
    stream: Stream,
    past: Option<Box<Past>>,
    /// Present where each name may be here only once.
    names: Option<Box<NameBook>>,
    /// Places kept for members on their way from another room.
    reserved: usize,
    closed: bool,
}

impl<L> Room<L> {
    pub(crate) fn new(epoch: Epoch, history: Option<History>, unique_names: UniqueNames) -> Room<L> {
        Room {
            epoch,
            members: Arc::default(),
            audience: Audience::default(),
            stream: Stream::default(),
            past: history.map(|history| Box::new(Past::new(history))),
            names: NameBook::new(unique_names).map(Box::new),
            reserved: 0,
            closed: false,
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Members of the room.
    pub(crate) fn online(&self) -> usize {
        self.members.len()
    }

    /// Nobody is in it or on the way.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.reserved == 0
    }

    pub(crate) fn members(&self) -> &Members<L> {
        &self.members
    }

    pub(crate) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Keeps a place and a name until [`Room::join_reserved`].
    pub(crate) fn reserve(&mut self, member: &Member<L>, max: usize) -> Result<(), JoinError> {
        self.check(member, max)?;
        self.reserved += 1;
        Ok(())
    }

    /// Takes a member in and announces him with his own frame. Returns the position before that
    /// frame, which is the first one he is to get.
    pub(crate) fn join(
        &mut self,
        member: Member<L>,
        max: usize,
        frame: &Head<'_>,
        now: Duration,
    ) -> Result<u64, JoinError> {
        self.check(&member, max)?;
        Ok(self.admit(member, frame, now))
    }

    /// The same in the place that was kept, which can't be refused: the member has left his
    /// old room for it. If the room was closed meanwhile, he is in a silent room.
    pub(crate) fn join_reserved(&mut self, member: Member<L>, frame: &Head<'_>, now: Duration) -> u64 {
        self.reserved -= 1;
        self.admit(member, frame, now)
    }

    /// Takes a member out, announces it to the others, and returns whether he was one.
    pub(crate) fn leave(&mut self, id: ConnectionId, out: &str, now: Duration) -> bool {
        let Some(at) = self.members.iter().position(|m| m.id == id) else { return false };
        let member = self.members_mut().remove(at);
        *self.audience.of(member.wire) -= 1;
        if let Some(names) = &mut self.names {
            names.give_back(&member.name);
        }
        if !self.members.is_empty() {
            self.say(&Head { plain: "", v1: "", tail: out }, now);
        }
        true
    }

    /// Reaches a member by another link from now on, which nobody else notices.
    pub(crate) fn relink(&mut self, id: ConnectionId, user: Option<Arc<User>>, link: L) {
        let Some(at) = self.members.iter().position(|m| m.id == id) else { return };
        let Member { name, wire, .. } = &*self.members[at];
        let member = Member { id, name: name.clone(), user, wire: *wire, link };
        self.members_mut()[at] = Arc::new(member);
    }

    /// Queues a frame for all members, with the count. A closed room is silent.
    pub(crate) fn say(&mut self, head: &Head<'_>, now: Duration) {
        if self.closed {
            return;
        }
        let keep = self.past.as_mut().map(|past| |frame: &[u8]| past.push(now, frame));
        self.stream.push(head, self.members.len(), &self.audience, keep);
    }

    /// The frames that somebody who was here before has missed, up to a position; `None` if they
    /// can't all be had.
    pub(crate) fn missed(&mut self, since: Since, position: u64, now: Duration) -> Option<Vec<u8>> {
        if since.epoch != self.epoch {
            return None;
        }
        let n = position.checked_sub(since.seq)?;
        match &mut self.past {
            _ if n == 0 => Some(Vec::new()),
            Some(past) => {
                past.trim(now);
                past.frames(n, self.stream.position() - position)
            }
            None => None,
        }
    }

    /// Forgets frames that have become too old.
    pub(crate) fn trim(&mut self, now: Duration) {
        if let Some(past) = &mut self.past {
            past.trim(now);
        }
    }

    /// Nobody comes in any more, and nothing is said.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// What the flusher is to write next, and to whom.
    pub(crate) fn take(&mut self) -> (Members<L>, Batch) {
        (self.members.clone(), self.stream.take())
    }

    /// Whether there is a place for him, and takes his name for him.
    fn check(&mut self, member: &Member<L>, max: usize) -> Result<(), JoinError> {
        if self.closed {
            return Err(JoinError::Closed);
        }
        if self.members.len() + self.reserved >= max {
            return Err(JoinError::Full);
        }
        match &mut self.names {
            Some(names) => names.take(&member.name, member.id, member.user.as_deref()),
            None => Ok(()),
        }
        .map_err(|NameTaken| JoinError::NameTaken)
    }

    fn admit(&mut self, member: Member<L>, frame: &Head<'_>, now: Duration) -> u64 {
        let position = self.stream.position();
        *self.audience.of(member.wire) += 1;
        self.members_mut().push(Arc::new(member));
        self.say(frame, now);
        position
    }

    fn members_mut(&mut self) -> &mut Vec<Arc<Member<L>>> {
        Arc::make_mut(&mut self.members)
    }
}

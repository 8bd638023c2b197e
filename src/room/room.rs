//! One room: its members in the order in which they came, and its frames.

use std::sync::Arc;

use crate::hooks::user::User;
use crate::ids::{ConnectionId, Name};
use crate::room::stream::{Batch, Stream};

/// A member, with whatever it takes to reach him.
#[derive(Debug)]
pub(crate) struct Member<L> {
    pub(crate) id: ConnectionId,
    pub(crate) name: Name,
    pub(crate) user: Option<Arc<User>>,
    pub(crate) link: L,
}

/// Why somebody can't enter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JoinError {
    Full,
    Closed,
}

/// Shared with the flusher while it works, and copied if somebody comes or goes meanwhile.
pub(crate) type Members<L> = Arc<Vec<Arc<Member<L>>>>;

#[derive(Debug)]
pub(crate) struct Room<L> {
    members: Members<L>,
    stream: Stream,
    /// Places kept for members on their way from another room.
    reserved: usize,
    closed: bool,
}

impl<L> Room<L> {
    pub(crate) fn new() -> Room<L> {
        Room { members: Arc::default(), stream: Stream::default(), reserved: 0, closed: false }
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

    /// Keeps a place until [`Room::join_reserved`].
    pub(crate) fn reserve(&mut self, max: usize) -> Result<(), JoinError> {
        self.check(max)?;
        self.reserved += 1;
        Ok(())
    }

    /// Takes a member in and announces him with his own frame. Returns the position of that
    /// frame, which is the first one he is to get.
    pub(crate) fn join(&mut self, member: Member<L>, max: usize, frame: &[&[u8]]) -> Result<u64, JoinError> {
        self.check(max)?;
        Ok(self.admit(member, frame))
    }

    /// The same in the place that was kept, which can't be refused: the member has left his
    /// old room for it. If the room was closed meanwhile, he is in a silent room.
    pub(crate) fn join_reserved(&mut self, member: Member<L>, frame: &[&[u8]]) -> u64 {
        self.reserved -= 1;
        self.admit(member, frame)
    }

    /// Takes a member out, announces it to the others, and returns whether he was one.
    pub(crate) fn leave(&mut self, id: ConnectionId, out: &str) -> bool {
        let Some(at) = self.members.iter().position(|m| m.id == id) else { return false };
        self.members_mut().remove(at);
        if !self.members.is_empty() {
            self.say(&[out.as_bytes()]);
        }
        true
    }

    /// Queues a frame for all members: the parts, the count, a closing brace. A closed room is
    /// silent.
    pub(crate) fn say(&mut self, parts: &[&[u8]]) {
        if self.closed {
            return;
        }
        let mut digits = [0; 20];
        let num = decimal(self.members.len(), &mut digits);
        match parts {
            [a] => self.stream.push(&[a, num, b"}"]),
            [a, b] => self.stream.push(&[a, b, num, b"}"]),
            _ => {
                let all = parts.concat();
                self.stream.push(&[&all, num, b"}"]);
            }
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

    fn check(&self, max: usize) -> Result<(), JoinError> {
        if self.closed {
            return Err(JoinError::Closed);
        }
        if self.members.len() + self.reserved >= max {
            return Err(JoinError::Full);
        }
        Ok(())
    }

    fn admit(&mut self, member: Member<L>, frame: &[&[u8]]) -> u64 {
        let position = self.stream.position();
        self.members_mut().push(Arc::new(member));
        self.say(frame);
        position
    }

    fn members_mut(&mut self) -> &mut Vec<Arc<Member<L>>> {
        Arc::make_mut(&mut self.members)
    }
}

/// A count as decimal digits, without an allocation.
fn decimal(mut n: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            return &digits[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_in_decimal() {
        for n in [0, 7, 10, 99, 1234, usize::MAX] {
            assert_eq!(decimal(n, &mut [0; 20]), n.to_string().as_bytes());
        }
    }
}

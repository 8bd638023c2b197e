//! One room's members, in the order in which they entered.

use std::sync::Arc;

use crate::config::UniqueNames;
use crate::ids::{ConnectionId, Name};
use crate::room::names::{NameRegistry, NameTaken};

/// A member and the handle through which it is reached.
#[derive(Debug)]
pub(crate) struct Member<H> {
    pub(crate) id: ConnectionId,
    pub(crate) name: Name,
    pub(crate) handle: H,
}

/// Why a member can't enter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EnterError {
    Full,
    Closed,
    NameTaken {
        /// The member that has the name, if it is anonymous.
        anonymous: Option<ConnectionId>,
    },
}

/// Shared with the flush task while it delivers a batch, and copied if a member enters or leaves meanwhile.
pub(crate) type Members<H> = Arc<Vec<Arc<Member<H>>>>;

#[derive(Debug)]
pub(crate) struct Room<H> {
    members: Members<H>,
    /// The members' ids in the same order, so that a search does not touch the members' memory.
    ids: Vec<ConnectionId>,
    /// Present if each name may be used only once in the room.
    names: Option<Box<NameRegistry>>,
    /// Places reserved for members that are moving here from another room.
    reserved: usize,
    closed: bool,
}

impl<H> Room<H> {
    pub(crate) fn new(unique_names: UniqueNames) -> Room<H> {
        Room {
            members: Arc::default(),
            ids: Vec::new(),
            names: NameRegistry::new(unique_names).map(Box::new),
            reserved: 0,
            closed: false,
        }
    }

    /// Members of the room.
    pub(crate) fn online(&self) -> usize {
        self.members.len()
    }

    /// Whether no member is in it and none is about to enter.
    pub(crate) fn is_unused(&self) -> bool {
        self.members.is_empty() && self.reserved == 0
    }

    pub(crate) fn members(&self) -> &Members<H> {
        &self.members
    }

    /// Reserves a place and a name for a member. The caller must call [`Room::enter`] afterwards.
    ///
    /// `owner` is the user whose connections may share the name.
    pub(crate) fn reserve(
        &mut self,
        id: ConnectionId,
        name: &Name,
        owner: Option<&str>,
        max: usize,
    ) -> Result<(), EnterError> {
        if self.closed {
            return Err(EnterError::Closed);
        }
        if self.members.len() + self.reserved >= max {
            return Err(EnterError::Full);
        }
        if let Some(names) = &mut self.names {
            names
                .take(name, id, owner)
                .map_err(|NameTaken { anonymous }| EnterError::NameTaken { anonymous })?;
        }
        self.reserved += 1;
        Ok(())
    }

    /// The member that has this name, if it is anonymous and names are unique.
    pub(crate) fn anonymous_holder(&self, name: &Name) -> Option<ConnectionId> {
        self.names.as_ref()?.anonymous_holder(name)
    }

    /// Notes that a member has authenticated as this user, whose connections may share its name from now on, unless the
    /// user has another name of its own.
    pub(crate) fn set_owner(&mut self, name: &Name, id: ConnectionId, owner: &str, own_name: Option<&Name>) {
        if let Some(names) = &mut self.names {
            names.set_owner(name, id, owner, own_name);
        }
    }

    /// Adds a member, for which a place was reserved. If the room was closed meanwhile, the member is in a silent
    /// room.
    pub(crate) fn enter(&mut self, member: Member<H>) {
        self.reserved -= 1;
        self.ids.push(member.id);
        self.members_mut().push(Arc::new(member));
    }

    /// Removes a member; `None` if it is not one.
    pub(crate) fn leave(&mut self, id: ConnectionId) -> Option<Arc<Member<H>>> {
        // Searches from the end, because most members that leave have entered recently.
        let at = self.ids.iter().rposition(|member| *member == id)?;
        self.ids.remove(at);
        let member = self.members_mut().remove(at);
        self.release(&member.name);
        Some(member)
    }

    /// Closes the room: nobody may enter any more, and nothing is published.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    fn release(&mut self, name: &Name) {
        if let Some(names) = &mut self.names {
            names.release(name);
        }
    }

    fn members_mut(&mut self) -> &mut Vec<Arc<Member<H>>> {
        Arc::make_mut(&mut self.members)
    }
}

//! Rooms as pure state: no I/O, no clock, no tasks, no JSON, no hooks.

mod elsewhere;
mod member_list;
mod names;
mod replay;
#[allow(clippy::module_inception, reason = "the room is what the folder is named after")]
mod room;
mod roster;

pub(crate) use elsewhere::MemberElsewhere;
pub(crate) use member_list::MemberList;
pub(crate) use names::name_key;
pub(crate) use replay::ReplayBuffer;
pub(crate) use room::{Departed, EnterError, Entrant, Member, Page, Room};
pub(crate) use roster::{Profile, ProfileChange};

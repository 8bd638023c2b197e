//! Rooms as pure state: no I/O, no clock, no task.

pub(crate) mod history;
mod names;
pub(crate) mod registry;
#[allow(clippy::module_inception, reason = "the room stands in the floor of the same name")]
pub(crate) mod room;
pub(crate) mod stream;

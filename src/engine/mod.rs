//! Rooms at work: who is connected, who is where, and how frames reach them.

pub(crate) mod absent;
pub(crate) mod audit;
pub(crate) mod delivery;
#[allow(clippy::module_inception, reason = "the engine stands in the floor of the same name")]
pub(crate) mod engine;
pub(crate) mod handover;
pub(crate) mod memberships;
pub(crate) mod outbox;
pub(crate) mod peers;
pub(crate) mod pulse;
pub(crate) mod recipient;
pub(crate) mod standing;
pub(crate) mod stats;
pub(crate) mod table;
pub(crate) mod tickets;

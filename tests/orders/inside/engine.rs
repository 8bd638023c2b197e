//! Of the engine only what needs no runtime.

#[path = "../../../src/engine/absent.rs"]
pub(crate) mod absent;
#[path = "../../../src/engine/handover.rs"]
pub(crate) mod handover;
#[path = "../../../src/engine/recipient.rs"]
pub(crate) mod recipient;
#[path = "../../../src/engine/standing.rs"]
pub(crate) mod standing;
#[path = "../../../src/engine/table.rs"]
pub(crate) mod table;
#[path = "../../../src/engine/tickets.rs"]
pub(crate) mod tickets;

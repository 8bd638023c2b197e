//! The engine: what ties rooms, sessions and hooks together, and the tasks that run for it.

mod applier;
#[cfg(feature = "test-util")]
pub(crate) mod consistency;
mod direct;
mod drain;
mod elsewhere;
#[allow(clippy::module_inception, reason = "the engine is what the folder is named after")]
mod engine;
mod expiry;
mod host_calls;
mod lost;
mod nodes;
mod stall;
mod sweep;

pub(crate) use direct::DirectToSend;
pub use drain::{DrainProgress, Drained, Draining};
pub(crate) use engine::{Engine, Hooks};
pub(crate) use host_calls::MemberChange;
pub(crate) use nodes::Nodes;

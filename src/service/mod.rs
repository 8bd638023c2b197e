//! The HTTP edge: which requests are ours, whether their handshake is sound, and what becomes
//! of them.

pub(crate) mod body;
pub(crate) mod edge;
pub(crate) mod future;
mod handshake;
pub(crate) mod layer;
pub(crate) mod origin;
pub(crate) mod proxies;
pub(crate) mod refusal;
#[allow(clippy::module_inception, reason = "the service stands in the floor of the same name")]
pub(crate) mod service;

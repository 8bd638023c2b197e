//! The HTTP edge: which requests become connections, and how all others are answered.

pub(crate) mod body;
pub(crate) mod edge;
mod forwarded;
mod handshake;
pub(crate) mod layer;
pub(crate) mod origin;
pub(crate) mod path;
pub(crate) mod proxies;
pub(crate) mod refusal;
mod reports;
pub(crate) mod response_future;
pub(crate) mod service;
mod upgrade;

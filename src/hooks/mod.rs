//! What the host implements: authentication, the room policy, and callbacks.

pub(crate) mod auth;
pub(crate) mod channel;
pub(crate) mod events;
pub(crate) mod guard;
#[cfg(feature = "jwt")]
pub(crate) mod jwt;
pub(crate) mod message;
pub(crate) mod policy;
pub(crate) mod user;

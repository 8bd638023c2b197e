//! What the host supplies: who may come in, who may do what, and who wants to know.

pub(crate) mod auth;
pub(crate) mod channel;
pub(crate) mod events;
pub(crate) mod guard;
#[cfg(feature = "jwt")]
pub(crate) mod jwt;
pub(crate) mod policy;
pub(crate) mod user;

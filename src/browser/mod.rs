//! The browser client, an ES module, the chat page, and the services that serve them.

pub(crate) mod asset;
pub(crate) mod modules;
pub(crate) mod page;
pub(crate) mod script;

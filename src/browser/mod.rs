//! The browser client, an ES module, and the service that serves it.

pub(crate) mod script;

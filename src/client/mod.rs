//! What the other end of the wire runs.

pub(crate) mod script;
